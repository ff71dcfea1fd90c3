import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score

from taxogen.answers import baselines
from taxogen.answers.completion import Completions
from taxogen.answers.evaluate import Scores, asked_pictures
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from taxogen.world.taxonomy import Taxonomy
from tests.world import toy_config, write_world

WORLD = Taxonomy(
    tuple((f"{kind}{number}x", kind) for kind in ("bird", "beast", "fruit") for number in range(12))
)


def rows_of(seed=0, shared=1.0, own=1.0, per_leaf=8, width=24):
    """Pictures whose features say their hypernym (`shared`) and their leaf (`own`), and the table of them."""
    rng = np.random.default_rng(seed)
    leaves = np.repeat(WORLD.leaves, per_leaf)
    kinds, codes = rng.normal(size=(3, width)), np.unique(leaves, return_inverse=True)[1]
    features = shared * WORLD.labels(leaves.tolist()) @ kinds + own * rng.normal(size=(36, width))[codes]
    split = np.tile(["train"] * 6 + ["test"] * 2, 36)
    return features + 0.3 * rng.normal(size=features.shape), pd.DataFrame({"leaf": leaves, "split": split})


def areas(scores, leaves):
    labels = np.asarray(WORLD.labels(list(leaves)))
    return np.array([roc_auc_score(labels[:, k], scores[:, k]) for k in range(labels.shape[1])])


def probed(**how):
    features, table = rows_of(**how)
    test = np.flatnonzero(table["split"] == "test")
    known, held_out = baselines.probe_scores(features, table, test.tolist(), WORLD, seed=0)
    return (areas(scores, table["leaf"].iloc[test]).mean() for scores in (known, held_out))


def test_a_probe_that_has_seen_the_leaves_reads_what_says_nothing_of_categories():
    """Features that tell leaves but share nothing: known leaves are read, leaves held out are not.

    With more features than leaves any sorting of the leaves can be read off.
    """
    found = np.array([tuple(probed(seed=seed, shared=0.0, width=96)) for seed in range(12)])
    known, held_out = found.T
    assert known.min() > 0.9
    assert abs(held_out.mean() - 0.5) < 3 * held_out.std(ddof=1) / np.sqrt(12)


def test_a_planted_category_is_read_from_leaves_held_out():
    known, held_out = probed(shared=2.0, own=0.5)
    assert held_out > 0.95
    assert known > 0.95


def test_the_probe_decides_as_a_ridge_classifier_does():
    features, table = rows_of()
    train, test = (np.flatnonzero(table["split"] == name) for name in ("train", "test"))
    labels = np.asarray(WORLD.labels(table["leaf"].tolist()))
    known, _ = baselines.probe_scores(features, table, test.tolist(), WORLD, seed=0)
    oracle = RidgeClassifier(alpha=1.0).fit(features[train], labels[train, 0]).predict(features[test])
    assert ((known[:, 0] > 0) == oracle).mean() > 0.95


def test_majority_is_the_same_everywhere_and_says_the_commoner_answer():
    table = pd.DataFrame({"leaf": ["bird0x"] * 3 + ["fruit0x"], "split": ["train"] * 3 + ["test"]})
    found = baselines.majority(table, WORLD, 5)
    assert found.shape == (5, 3)
    assert (found == found[0]).all()
    assert found[0].tolist() == pytest.approx([-np.log(7), np.log(7), -np.log(7)])  # beast, bird, fruit


def test_blind_rows_show_another_leaf_and_no_order_matters():
    leaves = np.repeat(WORLD.leaves, np.arange(36) % 3 + 1)
    found = baselines.other_pictures(leaves, seed=3)
    assert (leaves[found] != leaves).all()
    assert len(set(leaves[found])) == 36
    back = np.argsort(np.random.default_rng(0).permutation(len(leaves)), kind="stable")
    assert (
        leaves[back][baselines.other_pictures(leaves[back], seed=3)].tolist() == leaves[found][back].tolist()
    )
    assert (baselines.other_pictures(leaves, seed=4) != found).any()


@pytest.fixture(scope="module")
def done(tmp_path_factory, toy_lm):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("baselines")
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        more = ("capture.at=last", "capture.pictures_per_leaf=1")
        run = Run.create(folder / "run", toy_config(write_world(folder, toy_lm), *more))
        bench = open_bench(run)
        pipeline.train_run(run, bench)
        pipeline.evaluate_run(run, bench)
        yield run, bench


def test_a_run_has_every_baseline_beside_its_scores(done):
    run, _ = done
    scores, found = Scores.read(run), baselines.baselines(run)
    assert set(found) == set(baselines.ABOUT)
    for values in found.values():
        assert values.shape == scores.image_scores.shape
        assert np.isfinite(values).all()
    place = {leaf: row for row, leaf in enumerate(scores.text["leaf"])}
    gold = scores.text_scores[[place[leaf] for leaf in scores.image["leaf"]]]
    np.testing.assert_array_equal(found["gold"], gold)
    named = scores.text_scores[[place[leaf] for leaf in baselines.named_leaves(run)]]
    np.testing.assert_array_equal(found["cascade"], named)
    blind = {tuple(row) for row in found["blind"]}
    assert blind <= {tuple(row) for row in scores.image_scores}


def test_the_cascade_takes_the_best_of_all_names(done):
    """With a beam as wide as the world, the names found are those with the highest read-out of all."""
    run, bench = done
    ask = Completions(run, bench.vlm, bench.features, bench.picture_index)
    shown = asked_pictures(run)["picture"].tolist()
    everything = ask.names_of_pictures(shown, "called", np.ones((len(shown), 11), bool))
    exact = [run.taxonomy.leaves[at] for at in everything.argmax(1)]
    assert baselines.named_leaves(run) == exact


def test_missing_baselines_name_the_command_and_are_made_by_it(done):
    run, bench = done
    before = run.file("baselines.h5").read_bytes()
    run.file("baselines.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"no baselines\.h5; `python -m taxogen evaluate --run"):
        baselines.baselines(run)
    pipeline.evaluate_run(run, bench)
    assert run.file("baselines.h5").read_bytes() == before
