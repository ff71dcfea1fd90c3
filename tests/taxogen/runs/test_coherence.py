"""Realised coherence: follows the dose, is that of the analysis, and lies beside the names of a run."""

import json

import numpy as np
import pytest

from analyses.visual_coherence.coherence import Options, Shown
from analyses.visual_coherence.coherence import coherence as analysed
from probing.store.records import DamagedError
from taxogen.models.features import FeatureRows
from taxogen.runs import coherence
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.world import shuffle
from taxogen.world.taxonomy import Taxonomy
from tests.world import toy_config, toy_folder

KINDS = {
    "animal": ("bird", "fish"),
    "food": ("dish", "fruit"),
    "gear": ("tool", "weapon"),
    "transport": ("boat", "car"),
    "wear": ("hat", "shoe"),
    "place": ("home", "shop"),
}
ZOO = Taxonomy(
    tuple(
        edge
        for name, kinds in KINDS.items()
        for kind in kinds
        for edge in ((kind, name), *((f"{kind}{number}", kind) for number in range(8)))
    )
)
MANY = Taxonomy(tuple((f"c{name:02}-{number}", f"c{name:02}") for name in range(20) for number in range(8)))
PICTURES, WIDTH = 3, 200


def pictures(world, seed):
    """Features of pictures of every leaf: its hypernyms, itself and noise, each a drawn direction."""
    rng = np.random.default_rng(seed)
    of_node = {node: rng.normal(size=WIDTH) for node in world.nodes}
    leaves = np.repeat(world.leaves, PICTURES)
    rows = [sum((of_node[name] for name in world.hypernyms_of(leaf)), of_node[leaf]) for leaf in leaves]
    return leaves, np.array(rows) + rng.normal(size=(len(rows), WIDTH))


def shown(world, kind, seed, dose=0.5):
    """The realised coherence of a shuffle of such pictures."""
    leaves, rows = pictures(world, seed)
    names = shuffle.leaf_map(world, kind, seed, coherence=dose)
    stay = np.isin(leaves, list(names))
    features = FeatureRows.of(rows[stay].reshape(-1, 2, WIDTH // 2).astype(np.float32))
    return coherence.realised(world.restrict(names), names, features, [names[leaf] for leaf in leaves[stay]])


@pytest.mark.parametrize("seed", range(3))
def test_coherence_follows_the_dose(seed):
    doses = [shown(MANY, "graded", seed, dose) for dose in (0.25, 0.5, 0.75)]
    across, within = (shown(MANY, kind, seed) for kind in ("across", "within"))
    values = [one["coherence"] for one in (across, *doses, within)]
    assert values == sorted(values)
    assert abs(values[0]) < 0.01 < 0.25 < values[-1]
    assert [one["inside"] for one in doses] == pytest.approx([0.25, 0.5, 0.75], abs=1.5 / 160)
    assert (across["inside"], within["inside"]) == (0, 1)


@pytest.mark.parametrize("dose", [0.3, 0.6, 0.8])
def test_coherence_grows_with_the_square_of_the_dose(dose):
    """Both of two pictures must stay: against C categories of one size, (dose − 1/C)² of what within has."""
    whole = shown(MANY, "within", 0)["coherence"] / (1 - 1 / 20) ** 2
    assert shown(MANY, "graded", 0, dose)["coherence"] / whole == pytest.approx((dose - 0.05) ** 2, abs=0.04)


def test_a_category_exchange_is_coherent_and_nothing_of_it_is_true():
    found = shown(ZOO, "category", 0)
    assert found["inside"] == 0
    assert found["n"] == 96
    assert found["coherence"] > shown(ZOO, "within", 0)["coherence"] - 0.1
    assert {row["purity"] for row in found["hypernyms"]} == {1.0}
    assert {row["true"] for row in found["hypernyms"]} == {0.0}
    partners = {row["hypernym"]: row["shown"] for row in found["hypernyms"]}
    assert partners[partners["animal"]] in ("animal", "bird", "fish")


def test_the_table_says_what_each_hypernym_shows():
    taxonomy = Taxonomy(
        (("a", "p"), ("b", "p"), ("c", "p"), ("c", "small"), ("d", "q"), ("e", "q"), ("d", "rare"))
    )
    names = {"a": "b", "b": "c", "c": "d", "d": "a", "e": "e"}
    features = FeatureRows.of(np.eye(5, dtype=np.float32)[:, None])
    found = coherence.realised(taxonomy, names, features, [names[leaf] for leaf in "abcde"])
    table = {
        row["hypernym"]: (row["leaves"], row["true"], row["shown"], row["purity"])
        for row in found["hypernyms"]
    }
    assert table == {
        "p": (3, pytest.approx(2 / 3, abs=1e-6), "p", pytest.approx(2 / 3, abs=1e-6)),
        "q": (2, 0.5, "small", 0.5),  # e shows q, c shows p and small: the smallest of three of one share
        "rare": (1, 0.0, "small", 1.0),
        "small": (1, 0.0, "p", 1.0),
    }
    assert found["inside"] == 0.6


def test_it_is_the_mean_of_the_analysis_of_visual_coherence():
    leaves, rows = pictures(ZOO, 5)
    names = shuffle.leaf_map(ZOO, "graded", 5)
    called = np.array([names[leaf] for leaf in leaves])
    whole = analysed(Shown(rows, rows, called), ZOO, "centred", Options(draws=20, permutations=20))
    found = coherence.realised(ZOO, names, FeatureRows.of(rows[:, None].astype(np.float32)), called.tolist())
    assert found["coherence"] == pytest.approx(whole.value.mean(), abs=2e-6)
    assert [row["within"] for row in found["hypernyms"]] == pytest.approx(whole.within, abs=2e-6)


def test_pictures_without_a_direction_have_no_coherence():
    names = {leaf: leaf for leaf in ZOO.leaves}
    alike = FeatureRows.of(np.ones((len(names), 1, 4), np.float32))
    found = coherence.realised(ZOO, names, alike, list(names))
    assert found["coherence"] is None
    assert {row["within"] for row in found["hypernyms"]} == {None}
    assert found["inside"] == 1


@pytest.fixture(scope="module")
def settings(tmp_path_factory, asking_lm):
    with toy_folder(tmp_path_factory.mktemp("coherence"), asking_lm) as given:
        yield given


def test_a_category_run_lists_the_leaves_that_it_leaves_out(settings, caplog):
    with caplog.at_level("INFO", logger="taxogen"):
        bench = open_bench(Run.create("category", toy_config(settings, "data.shuffle=category")))
    left_out = bench.world.left_out
    assert f"shuffle category leaves out {len(left_out)} of 11 leaves: {', '.join(left_out)}" in caplog.text
    run = Run.open("category")
    assert open_bench(run).world.left_out == left_out == tuple(run.world["left_out"])
    assert 0 < len(left_out) < 6
    for frame in (bench.world.table, *(manifest.frame for manifest in bench.world.manifests.values())):
        assert not set(left_out) & {*frame["leaf"], *frame["shown_leaf"]}
    assert not set(left_out) & set(run.taxonomy.leaves)
    stored = coherence.read(run)
    assert stored["left_out"] == list(left_out)
    assert stored["dose"] is None
    assert stored["n"] == len(run.taxonomy.leaves) == 11 - len(left_out)


def test_it_is_recorded_when_a_run_is_prepared_and_for_older_runs_on_request(settings, monkeypatch):
    config = toy_config(settings, "data.shuffle=graded", "data.coherence=.6")
    bench = open_bench(run := Run.create("graded", config))
    stored = coherence.read(run)
    assert (stored["shuffle"], stored["dose"]) == ("graded", 0.6)
    leaves = bench.world.table["leaf"].tolist()
    again = coherence.realised(bench.world.taxonomy, bench.world.leaf_map, bench.features, leaves)
    assert json.loads(json.dumps(again)).items() <= stored.items()
    path = run.file(coherence.FILE)
    text = path.read_text()
    path.write_text(text.replace("0.6", "0.7"))
    with pytest.raises(DamagedError, match=r"coherence\.json is damaged"):
        coherence.read(run)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"`python -m taxogen prepare --run graded` makes it"):
        coherence.read(run)
    monkeypatch.setattr(Run, "complete", property(lambda _: True))
    open_bench(run)
    assert not path.exists(), "reading a finished run writes nothing"
    open_bench(run, adopt=True)  # as `prepare` does
    assert path.read_text() == text
