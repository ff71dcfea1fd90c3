"""Measures of answers: each against a plain computation, on all rows, on some pairs, on some leaves."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from analyses.inputs.answers import Answers, Part
from analyses.inputs.conditions import Condition
from analyses.inputs.measures import Frame, measured
from taxogen.answers.scores import Scores
from taxogen.answers.yes_no import YesNo
from taxogen.questions import ablation
from taxogen.world.taxonomy import Taxonomy

WORLD = Taxonomy(
    tuple((f"{kind}{number}x", kind) for kind in ("bird", "beast", "fruit") for number in range(12))
)
DEEP = Taxonomy((("crow", "bird"), ("bird", "animal"), ("oak", "plant")))


def of(values, leaves, world=WORLD, removal=None, **more) -> Condition:
    """A condition of one run with these read-outs of pictures that are called so."""
    table = pd.DataFrame({"item_id": np.arange(len(leaves)).astype(str), "leaf": leaves})
    text = pd.DataFrame({"leaf": world.leaves})
    right = more.pop("right", np.ones(len(leaves), bool))
    words = np.zeros((len(text), len(world.hypernyms)))
    scores = Scores(table, text, world.hypernyms, np.asarray(values, np.float64), words, right, 4, **more)
    removal = ablation.plan(world, "full") if removal is None else removal
    about = {"series": "a", "shuffle": "none", "effective": removal.effective}
    return Condition("a", about, (Answers(0, scores, world, removal, removal.effective),))


def planted(seed=0, signal=1.0, per_leaf=4):
    """Read-outs in which a true hypernym stands `signal` standard deviations above a false one, and their leaves."""
    leaves = np.repeat(WORLD.leaves, per_leaf)
    labels = WORLD.labels(leaves.tolist())
    return np.random.default_rng(seed).normal(size=labels.shape) + signal * labels, leaves


EVERYTHING = Part()


def value(condition, measure, part=EVERYTHING):
    """A measure of the one run, and the number of leaves it rests on."""
    found = measured(condition, part, measure, Frame.of([condition]))
    return found.statistics[0].value, found.n


def test_auroc_and_rates_are_those_of_scikit_learn():
    values, leaves = planted()
    labels = np.asarray(WORLD.labels(leaves.tolist()))
    yes_no, zero = of(values, leaves, about=YesNo.about), Part(decision="zero")
    for measure, oracle in (
        ("auroc", lambda truth, scores: roc_auc_score(truth, scores)),
        ("macro_f1", lambda truth, scores: f1_score(truth, scores > 0, average="macro")),
        ("balanced_accuracy", lambda truth, scores: balanced_accuracy_score(truth, scores > 0)),
        ("tpr", lambda truth, scores: (scores > 0)[truth].mean()),
        ("tnr", lambda truth, scores: (scores <= 0)[~truth].mean()),
    ):
        expected = [oracle(labels[:, k], values[:, k]) for k in range(3)]
        found, n = value(yes_no, measure, zero)
        assert found == pytest.approx(expected), measure
        assert n == 36


def test_rows_in_any_order_give_the_same_numbers():
    values, leaves = planted()
    order = np.random.default_rng(1).permutation(len(leaves))
    for measure in ("auroc", "macro_f1", "top1"):
        first, second = of(values, leaves), of(values[order], leaves[order])
        assert value(first, measure)[0] == pytest.approx(value(second, measure)[0], abs=1e-12)


def test_as_many_are_answered_yes_as_have_the_hypernym():
    """Then wrong Yes and wrong No are equally many, whatever the read-outs' level."""
    values, leaves = planted()
    labels = np.asarray(WORLD.labels(leaves.tolist()))
    for level in (-100.0, 0.0):
        found, _ = value(of(values + level, leaves), "tpr")
        highest = np.argsort(-values, axis=0)[: 4 * 12]
        assert found == pytest.approx(np.take_along_axis(labels, highest, 0).mean(0))


def test_an_always_no_has_the_macro_f1_of_the_majority():
    values, leaves = planted()
    always_no = of(np.full_like(values, -1.0), leaves, about=YesNo.about)
    found, _ = value(always_no, "macro_f1", Part(decision="zero"))
    majority, _ = value(always_no, "macro_f1", Part(baseline="majority"))
    assert found == pytest.approx(majority)
    assert majority == pytest.approx(
        [96 / (2 * 96 + 48)] * 3
    )  # F1(No) alone, of 96 No and 48 Yes, and F1(Yes) = 0


def test_thresholds_stand_apart_for_every_hypernym():
    values, leaves = planted()
    cut = of(values, leaves, about=YesNo.about, thresholds=np.array([9.0, -9.0, 0.0]))
    assert WORLD.hypernyms == ("beast", "bird", "fruit")
    found, _ = value(cut, "tpr", Part(decision="calibrated"))
    zero, _ = value(cut, "tpr", Part(decision="zero"))
    assert found.tolist() == [0.0, 1.0, zero[2]]
    assert 0 < zero[0] < 1


def test_the_first_answer_is_right_with_any_hypernym_of_the_leaf():
    assert DEEP.hypernyms == ("animal", "bird", "plant")
    values = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]], float)
    leaves = np.array(["crow", "crow", "oak", "oak"])
    assert value(of(values, leaves, DEEP), "top1")[0] == [0.75]


def test_a_picture_without_a_scored_true_pair_has_no_first_answer():
    """Of a crow whose hypernyms both kept their evidence only what it is not is scored: no answer can be right."""
    removal = ablation.plan(DEEP, "systematic", held_out=["plant"])
    values = np.array([[0, 0, 1], [0, 0, -1], [0, 0, 1], [1, 0, -1]], float)
    leaves = np.array(["crow", "crow", "oak", "oak"])
    condition = of(values, leaves, DEEP, removal)
    held_out = Part(scored="held_out")
    scores, labels, _ = condition.answers[0].read(held_out)
    assert np.isnan(scores[:, :2]).all()
    assert not (labels & ~np.isnan(scores))[:2].any()
    assert value(condition, "top1", held_out)[0] == [1.0]  # the oaks; a crow would be a wrong answer


def test_pairs_that_kept_their_evidence_are_not_scored_as_held_out():
    values, leaves = planted()
    truth = np.asarray(WORLD.labels(leaves.tolist()))
    half = of(values, leaves, removal=ablation.plan(WORLD, "random", fraction=0.5))
    scores, labels, _ = half.answers[0].read(Part(scored="held_out"))
    assert (labels == truth).all()
    assert (~np.isnan(scores)).sum() == (~truth).sum() + truth.sum() / 2
    listed = of(values, leaves, removal=ablation.plan(WORLD, "systematic", held_out=["bird"]))
    found, n = value(listed, "auroc", Part(scored="held_out"))
    assert np.isnan(found).tolist() == [True, False, True]
    assert found[1] == pytest.approx(roc_auc_score(truth[:, 1], values[:, 1]))
    assert n == 36


def test_leaves_that_the_model_cannot_name_are_left_out_but_stay_clusters():
    values, leaves = planted()
    right = np.char.endswith(leaves, ("0x",)) & (np.arange(len(leaves)) % 4 != 0)
    condition = of(values, leaves, right=right)
    named = Part(leaves="named")
    assert condition.answers[0].named == tuple(leaf for leaf in WORLD.leaves if leaf.endswith("0x"))
    rows = np.char.endswith(leaves, "0x")
    labels = np.asarray(WORLD.labels(leaves.tolist()))
    expected = [roc_auc_score(labels[rows, k], values[rows, k]) for k in range(3)]
    found = measured(condition, named, "auroc", Frame.of([condition]))
    assert found.statistics[0].value == pytest.approx(expected)
    assert found.n == len(condition.answers[0].named) == 6
    assert len(found.statistics[0].clusters) == 36


def test_in_a_contrast_only_leaves_that_both_name_are_scored():
    values, leaves = planted()
    first = of(values, leaves, right=np.char.startswith(leaves, "bird"))
    second = of(values, leaves, right=~np.char.endswith(leaves, "1x"))
    both = measured(first, Part(leaves="both_named"), "auroc", Frame.of([first, second]), second)
    assert both.n == 10
    assert measured(first, Part(leaves="named"), "auroc", Frame.of([first, second])).n == 12
