import math
import os
import pickle
import subprocess
import sys

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxogen.world.taxonomy import Taxonomy

CROW = Taxonomy(
    (
        ("crow", "bird"),
        ("owl", "bird"),
        ("bird", "animal"),
        ("dog", "animal"),
        ("dog", "pet"),
        ("apple", "fruit"),
    ),
    (("crow", "crow.n.01"), ("bird", "bird.n.01")),
)


@st.composite
def edge_lists(draw):
    """Edges of a random acyclic graph: each node may stand under later ones only."""
    size = draw(st.integers(2, 9))
    pairs = [(a, b) for a in range(size) for b in range(a + 1, size)]
    chosen = draw(st.lists(st.sampled_from(pairs), min_size=1, unique=True))
    names = draw(st.permutations([f"n{at}" for at in range(size)]))
    return tuple((names[a], names[b]) for a, b in chosen)


class TestShape:
    def test_toy(self, toy_taxonomy):
        assert toy_taxonomy.hypernyms == ("bird", "fruit", "vegetable")
        assert len(toy_taxonomy.leaves) == 11
        assert toy_taxonomy.hypernyms_of("tomato") == ("fruit", "vegetable")
        assert toy_taxonomy.leaves_of("bird") == ("crow", "duck", "eagle", "owl")

    def test_hypernyms_are_the_closure(self):
        assert CROW.hypernyms_of("crow") == ("animal", "bird")
        assert CROW.leaves_of("animal") == ("crow", "dog", "owl")
        assert CROW.above("crow") == ("bird",)

    def test_labels_say_what_hypernyms_of_says(self):
        labels = CROW.labels(["dog", "apple", "dog"])
        assert labels.dtype == bool
        assert CROW.hypernyms == ("animal", "bird", "fruit", "pet")
        np.testing.assert_array_equal(labels, [[1, 0, 0, 1], [0, 0, 1, 0], [1, 0, 0, 1]])

    def test_restrict_drops_hypernyms_without_a_leaf(self):
        small = CROW.restrict(["crow", "apple"])
        assert small.leaves == ("apple", "crow")
        assert small.hypernyms == ("animal", "bird", "fruit")
        assert small.synsets == {"bird": "bird.n.01", "crow": "crow.n.01"}

    def test_immutable(self):
        with pytest.raises(AttributeError):
            CROW.edges = ()  # type: ignore[misc]
        CROW.synsets["crow"] = "changed"
        assert Taxonomy(CROW.edges, CROW.node_synsets) == CROW
        assert hash(CROW) == hash(Taxonomy(CROW.edges, CROW.node_synsets))

    def test_pickles(self):
        assert pickle.loads(pickle.dumps(CROW)).hypernyms_of("dog") == ("animal", "pet")

    @given(edge_lists(), st.randoms(use_true_random=False))
    def test_order_of_edges_does_not_matter(self, edges, random):
        shuffled = random.sample(edges, len(edges))
        assert Taxonomy(tuple(shuffled)) == Taxonomy(edges)


class TestDistances:
    @given(edge_lists())
    def test_against_networkx(self, edges):
        taxonomy, graph = Taxonomy(edges), nx.DiGraph(edges)
        assert set(taxonomy.leaves) == {node for node in graph if graph.in_degree(node) == 0}
        assert set(taxonomy.hypernyms) == {node for node in graph if graph.in_degree(node) > 0}
        for leaf in taxonomy.leaves:
            assert set(taxonomy.hypernyms_of(leaf)) == nx.descendants(graph, leaf)
        for node in graph:
            below = graph.subgraph(nx.ancestors(graph, node) | {node})
            assert taxonomy.height(node) == nx.dag_longest_path_length(below)
            steps = nx.single_source_shortest_path_length(graph, node)
            assert taxonomy.depth(node) == min(n for top, n in steps.items() if graph.out_degree(top) == 0)

    @given(edge_lists())
    def test_path_distance_is_symmetric_and_zero_on_the_diagonal(self, edges):
        taxonomy = Taxonomy(edges)
        for one in taxonomy.nodes:
            assert taxonomy.path_distance(one, one) == 0
            for other in taxonomy.nodes:
                assert taxonomy.path_distance(one, other) == taxonomy.path_distance(other, one)

    def test_path_goes_over_a_common_hypernym(self):
        assert CROW.path_distance("crow", "owl") == 2
        assert CROW.path_distance("crow", "dog") == 3
        assert CROW.path_distance("crow", "animal") == 2
        assert CROW.path_distance("crow", "apple") == math.inf
        assert CROW.path_distance("pet", "animal") == math.inf, "dog is below both, which joins nothing"


class TestTable:
    def test_round_trip(self, tmp_path):
        CROW.write(tmp_path / "t.csv")
        assert Taxonomy.read(tmp_path / "t.csv") == CROW
        assert sorted(os.listdir(tmp_path)) == ["t.csv"]

    def test_two_columns_and_spaces_suffice(self, tmp_path):
        (tmp_path / "t.csv").write_text(
            "\ufeffhypernym, leaf\nbird, crow\n".replace(", ", ","), encoding="utf-8"
        )
        assert Taxonomy.read(tmp_path / "t.csv") == Taxonomy((("crow", "bird"),))

    def test_same_bytes_whatever_the_hash_seed_and_row_order(self, tmp_path):
        rows = [f"{leaf},{up}" for leaf, up in CROW.edges]
        code = "import sys; from taxogen.world.taxonomy import Taxonomy; Taxonomy.read(sys.argv[1]).write(sys.argv[2])"
        written = set()
        for seed, order in (("0", rows), ("1", rows[::-1]), ("2", rows[3:] + rows[:3])):
            (tmp_path / "in.csv").write_text("leaf,hypernym\n" + "\n".join(order))
            arguments = [sys.executable, "-c", code, str(tmp_path / "in.csv"), str(tmp_path / "out.csv")]
            subprocess.run(arguments, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
            written.add((tmp_path / "out.csv").read_bytes())
        assert len(written) == 1

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "leaf,hypernym\na,b\nb,c\nc,a\n",
                r"A cycle .*: (.* → .* \(row \d\), ){2}.* → .* \(row \d\)\. Remove",
            ),
            ("leaf,hypernym\na,b\na,a\n", r"its own hypernym .*, row 3 \(a\): remove"),
            ("leaf,hypernym\na,b\nc,b\na,b\n", r"Duplicate rows .*: a → b \(row 2, row 4\)\. Keep one"),
            ("leaf,hypernym\na,\n,b\n", r"A name is empty .*, row 2, row 3:"),
            ("leaf,hypernym\n", r"There is no edge in .*: a taxonomy needs"),
            ("leaf,class\na,b\n", r"lacks the columns \['hypernym'\] \(found: leaf, class\)"),
            ("leaf,hypernym,synset\na,b,a.n.01\na,c,a.n.02\n", r"'a' is a.n.01 in row 2 but a.n.02 in row 3"),
            ("leaf,hypernym,synset\na,b,a.n.01\nc,b,a.n.01\n", r"a.n.01 is 'a' in row 2 but 'c' in row 3"),
        ],
    )
    def test_refuses(self, tmp_path, text, message):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            Taxonomy.read(tmp_path / "t.csv")

    def test_refuses_a_missing_file(self, tmp_path):
        with pytest.raises(
            FileNotFoundError, match=r"No taxonomy table at .*none\.csv: give a CSV file with columns"
        ):
            Taxonomy.read(tmp_path / "none.csv")


class TestUnknownNames:
    @pytest.mark.parametrize(
        "ask", [CROW.hypernyms_of, lambda name: CROW.labels([name]), lambda n: CROW.restrict([n])]
    )
    def test_leaf(self, ask):
        with pytest.raises(KeyError, match=r"No leaf 'crov' among the 4 of this taxonomy; the nearest: crow"):
            ask("crov")

    def test_a_hypernym_is_no_leaf(self):
        with pytest.raises(KeyError, match="No leaf 'bird'"):
            CROW.hypernyms_of("bird")

    def test_hypernym(self):
        with pytest.raises(KeyError, match=r"No hypernym 'brid' .* the nearest: bird"):
            CROW.leaves_of("brid")

    def test_node(self):
        for ask in (CROW.height, CROW.depth, CROW.above, lambda n: CROW.path_distance(n, "crow")):
            with pytest.raises(KeyError, match="No node 'stone' among the 8"):
                ask("stone")

    def test_constructor(self):
        with pytest.raises(ValueError, match=r"A cycle in this taxonomy: .*\(edge \d\)"):
            Taxonomy((("a", "b"), ("b", "a")))
        with pytest.raises(ValueError, match=r"Synsets were given for \['c'\], which no edge names"):
            Taxonomy((("a", "b"),), (("c", "c.n.01"),))
        with pytest.raises(ValueError, match=r"restrict\(\) was given no leaf"):
            CROW.restrict([])


def test_a_taxonomy_is_shown_in_one_line():
    few = Taxonomy((("crow", "bird"), ("owl", "bird")))
    assert repr(few) == "Taxonomy(2 leaves (crow, owl) under 1 hypernyms)"
    many = Taxonomy(tuple((f"leaf {number:03d}", "thing") for number in range(400)))
    assert repr(many) == "Taxonomy(400 leaves (leaf 000, leaf 001, leaf 002, …) under 1 hypernyms)"
