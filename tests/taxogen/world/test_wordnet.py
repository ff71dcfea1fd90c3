import re
import shutil
from pathlib import Path

import nltk.data
import numpy as np
import pytest
from nltk.corpus.reader.wordnet import WordNetError

from taxogen.__main__ import main
from taxogen.world import wordnet
from taxogen.world.concepts import Concept, read_concepts
from taxogen.world.taxonomy import Taxonomy

CUT_OUT = Path(__file__).parent / "data"
BUNDLED = Path(wordnet.__file__).parents[1] / "data"


def leaf(name: str, synset: str | None = None, **rest) -> Concept:
    return Concept(name, (synset or f"{name}.n.01",), **rest)


HYPERNYMS = [leaf("animal"), leaf("bird"), leaf("mammal"), leaf("vehicle"), leaf("container"), leaf("weapon")]


CUT_OUT_LEAVES = """
crow duck eagle penguin bat dog poodle cat mouse carrot pea apple tomato banana pear hammer knife axe
guitar rose car bicycle airplane sword dagger hat shoe sandal church house cup
"""
ORIGINAL_PATH = list(nltk.data.path)


@pytest.fixture(autouse=True)
def cut_out(monkeypatch):
    monkeypatch.setattr(nltk.data, "path", [str(CUT_OUT)])


class TestBuild:
    def test_only_what_was_asked_for_and_only_direct_edges(self):
        built = wordnet.build([leaf("crow"), leaf("dog")], HYPERNYMS)
        assert built.edges == (("bird", "animal"), ("crow", "bird"), ("dog", "mammal"), ("mammal", "animal"))
        assert built.synsets["bird"] == "bird.n.01"

    def test_polysemy_by_synset(self):
        built = wordnet.build([leaf("mouse"), leaf("computer mouse", "mouse.n.04")])
        assert "animal" in built.hypernyms_of("mouse")
        assert "animal" not in built.hypernyms_of("computer mouse")
        assert "electronic device" in built.hypernyms_of("computer mouse")

    def test_corrections(self):
        car = leaf("car", unlike=("container",))
        knife = leaf("knife", also=("weapon",))
        built = wordnet.build([leaf("bicycle"), car, knife], HYPERNYMS)
        assert built.hypernyms_of("bicycle") == ("container", "vehicle")
        assert built.hypernyms_of("car") == ("vehicle",)
        assert built.hypernyms_of("knife") == ("weapon",)

    def test_a_hypernym_may_join_synsets(self):
        joined = Concept("hardware", ("tool.n.01", "weapon.n.01"))
        built = wordnet.build([leaf("hammer", "hammer.n.02"), leaf("sword")], [joined])
        assert built.leaves_of("hardware") == ("hammer", "sword")
        assert built.synsets["hardware"] == "tool.n.01"

    def test_synonyms_of_an_id_are_one_synset(self):
        assert wordnet.build([leaf("axe")], [leaf("tool")]).synsets["axe"] == "ax.n.01"

    def test_instances_count(self):
        assert wordnet.build([leaf("excalibur")], HYPERNYMS).hypernyms_of("excalibur") == ("weapon",)

    def test_everything_above_equals_nltk(self):
        names = ["crow", "duck", "bat", "cat", "pea", "guitar", "car", "airplane"]
        built = wordnet.build([leaf(name) for name in names])
        reader = wordnet.reader()
        for one in names:
            first = reader.synset(f"{one}.n.01")
            above = {synset.name() for path in first.hypernym_paths() for synset in path} - {first.name()}
            assert {built.synsets[name] for name in built.hypernyms_of(one)} == above
            assert built.depth(one) == first.min_depth()
            for other in names:
                distance = first.shortest_path_distance(reader.synset(f"{other}.n.01"))
                assert built.path_distance(one, other) == distance

    def test_names_that_would_be_equal_carry_the_id(self):
        built = wordnet.build([leaf("crow"), leaf("instrumentality", "guitar.n.01")])
        assert "instrumentality (instrumentality.n.03)" in built.hypernyms


class TestTable:
    def test_written_table_is_the_taxonomy(self, tmp_path):
        (tmp_path / "leaves.csv").write_text("leaf,synset\ncrow,crow.n.01\nmouse,mouse.n.01\n")
        (tmp_path / "hypernyms.csv").write_text(
            "hypernym,synset,also\nanimal,animal.n.01,\nbird,bird.n.01,\n"
        )
        out = tmp_path / "taxonomy.csv"
        built = wordnet.build_table(tmp_path / "leaves.csv", out, tmp_path / "hypernyms.csv")
        assert Taxonomy.read(out) == built
        assert built.edges == (("bird", "animal"), ("crow", "bird"), ("mouse", "animal"))
        assert "entity" in wordnet.build_table(tmp_path / "leaves.csv", out).hypernyms

    def test_the_command_ends_with_what_it_wrote(self, tmp_path, capsys):
        leaves, hypernyms, out = (tmp_path / f"{name}.csv" for name in ("leaves", "hypernyms", "taxonomy"))
        leaves.write_text("leaf,synset\ncrow,crow.n.01\nduck,duck.n.01\nmouse,mouse.n.01\n")
        hypernyms.write_text("hypernym,synset\nanimal,animal.n.01\nbird,bird.n.01\n")
        asked = ["taxonomy", "--leaves", str(leaves), "--hypernyms", str(hypernyms), "--out", str(out)]
        assert main(asked) == 0
        said = f"{out} is written, 3 leaves under 2 hypernyms; next: taxoprobe prepare --set data.taxonomy={out} "
        assert capsys.readouterr().out == f"{said}--set data.pictures=FOLDER\n"
        assert Taxonomy.read(out).leaves == ("crow", "duck", "mouse")

    def test_the_bundled_table_is_what_wordnet_gives(self):
        """Over those of its leaves that the cut-out holds."""
        leaves = [
            c for c in read_concepts(BUNDLED / "leaves.csv", "leaf") if c.name in CUT_OUT_LEAVES.split()
        ]
        shipped = Taxonomy.read(BUNDLED / "taxonomy.csv").restrict(c.name for c in leaves)
        concepts = read_concepts(BUNDLED / "hypernyms.csv", "hypernym")
        wanted = [concept for concept in concepts if concept.name in shipped.hypernyms]
        assert len(leaves) == len(CUT_OUT_LEAVES.split())
        assert wordnet.build(leaves, wanted) == shipped

    def test_the_whole_bundled_table(self, monkeypatch):
        full = [path for path in ORIGINAL_PATH if (Path(path) / "corpora" / "wordnet" / "data.noun").exists()]
        if not full:
            pytest.skip("needs the whole WordNet in nltk's data path")
        monkeypatch.setattr(nltk.data, "path", full)
        leaves = read_concepts(BUNDLED / "leaves.csv", "leaf")
        wanted = read_concepts(BUNDLED / "hypernyms.csv", "hypernym")
        assert wordnet.build(leaves, wanted) == Taxonomy.read(BUNDLED / "taxonomy.csv")


class TestRefusals:
    @pytest.mark.parametrize(
        ("leaves", "hypernyms", "message"),
        [
            (
                [leaf("crow", "crow.n.99"), leaf("x", "nonsense")],
                HYPERNYMS,
                "in WordNet 3.0: crow.n.99 of crow, nonsense of x",
            ),
            (
                [leaf("crow"), leaf("crow", "duck.n.01")],
                HYPERNYMS,
                "more than once: the name 'crow' in crow and crow",
            ),
            (
                [leaf("axe"), leaf("ax")],
                HYPERNYMS,
                "more than once: ax.n.01 in axe and ax. A name and a synset",
            ),
            ([Concept("crow", ("crow.n.01", "duck.n.01"))], HYPERNYMS, "without exactly one synset: crow: 2"),
            (
                [leaf("crow"), leaf("house")],
                HYPERNYMS,
                "No hypernym above house: house.n.01. Name one under 'also'",
            ),
            ([leaf("crow", also=("brid",))], HYPERNYMS, "crow names brid, not among the 6 hypernyms"),
            ([leaf("dog"), leaf("poodle")], None, "Above other leaves in WordNet: dog: dog.n.01. Drop"),
            (
                [leaf("crow")],
                [leaf("animal", also=("bird",)), leaf("bird")],
                "A cycle in WordNet with the corrections",
            ),
        ],
    )
    def test_message(self, leaves, hypernyms, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            wordnet.build(leaves, hypernyms)

    def test_rows_are_named(self, tmp_path):
        (tmp_path / "leaves.csv").write_text("leaf,synset\ncrow,crow.n.01\nowl,crow.n.77\n")
        with pytest.raises(ValueError, match=r"crow\.n\.77 of owl \(leaf row 3\)"):
            wordnet.build_table(tmp_path / "leaves.csv", tmp_path / "out.csv")
        assert not (tmp_path / "out.csv").exists()

    def test_concept_files(self, tmp_path):
        with pytest.raises(
            FileNotFoundError, match=r"No list of leaf concepts at .*: give a CSV file with columns leaf"
        ):
            read_concepts(tmp_path / "none.csv", "leaf")
        (tmp_path / "leaves.csv").write_text("leaf,id\ncrow,1\n")
        with pytest.raises(ValueError, match=r"lacks the columns \['synset'\] \(found: leaf, id\)"):
            read_concepts(tmp_path / "leaves.csv", "leaf")
        (tmp_path / "leaves.csv").write_text("leaf,synset\ncrow,\n,owl.n.01\n")
        with pytest.raises(ValueError, match=r"A name or a synset is empty in .*, row 2, row 3"):
            read_concepts(tmp_path / "leaves.csv", "leaf")

    @pytest.mark.parametrize("seed", range(10))
    def test_only_ids_in_full_resolve(self, seed):
        """nltk takes other numbers for other senses: 00 and negative ones count from the last."""
        rng = np.random.default_rng(seed)
        synset = str(rng.choice(["bat.n.01", "mouse.n.04", "crow.n.01", "axe.n.01", "cup.n.01"]))
        word, kind, number = synset.rsplit(".", 2)
        senses = [at for at in range(1, 100) if is_known(f"{word}.{kind}.{at:02}")]
        beyond = rng.integers(max(senses) + 1, 100)
        wrong = [f"{word}.{kind}.{ending}" for ending in ("00", "0", "", "000", "+1", "0_1", " 1", "１", "x")]
        wrong += [f"{word}.{kind}.{-at}" for at in senses] + [f"{word}.{kind}.-0{at}" for at in senses]
        wrong += [f"{word}.{kind}.{beyond}", f"{word}.{kind}.0{number}", f"{word}.{kind}.{int(number)}"]
        wrong += [f"{word}.{number}", f"{word}.z.{number}", word, f"{synset} ", f" {synset}", f"{synset}\n"]
        assert is_known(synset)
        assert [name for name in wrong if is_known(name)] == []
        name = str(rng.choice(wrong))
        where = f"leaf row {rng.integers(2, 99)}"
        with pytest.raises(
            ValueError, match=re.escape(f"3.0: {name} of thing ({where}). Mend the ids: word.pos")
        ):
            wordnet.build([leaf("crow", "crow.n.01"), leaf("thing", name, where=where)], HYPERNYMS)


def is_known(synset: str) -> bool:
    """Whether an id has anything above it."""
    try:
        return bool(wordnet.above(synset))
    except (ValueError, WordNetError):
        return False


class TestWhereWordNetIs:
    def test_none(self, monkeypatch, tmp_path):
        monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
        with pytest.raises(
            FileNotFoundError, match=r"No WordNet in nltk's data path .*nltk\.download\('wordnet'\)"
        ):
            wordnet.reader()

    def test_incomplete(self, monkeypatch, tmp_path):
        shutil.copytree(CUT_OUT / "corpora", tmp_path / "corpora")
        (tmp_path / "corpora" / "wordnet" / "lexnames").unlink()
        monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
        with pytest.raises(FileNotFoundError, match=r"is incomplete .*lexnames.*nltk\.download\('wordnet'\)"):
            wordnet.reader()

    def test_zipped_as_nltk_downloads_it(self, monkeypatch, tmp_path):
        shutil.make_archive(str(tmp_path / "corpora" / "wordnet"), "zip", CUT_OUT / "corpora", "wordnet")
        monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
        assert "bird.n.01" in wordnet.closure("crow.n.01")
