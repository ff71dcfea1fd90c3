import numpy as np
import pytest
from sklearn import metrics as oracle

from probing.stats.confusion import RATES, Confusion, by_hypernym, confusion
from taxogen.answers.calibration import thresholds
from tests.probing.stats.scored_rows import answers


def test_rates_are_those_of_scikit_learn():
    scores, labels, _ = answers()
    found = confusion(scores > 0, labels)
    for column in range(labels.shape[1]):
        truth, given = labels[:, column], scores[:, column] > 0
        recall = oracle.recall_score(truth, given)
        expected = {
            "macro_f1": oracle.f1_score(truth, given, average="macro"),
            "balanced_accuracy": oracle.balanced_accuracy_score(truth, given),
            "accuracy": oracle.accuracy_score(truth, given),
            "tpr": recall,
            "tnr": oracle.recall_score(~truth, ~given),
            "f1_yes": oracle.f1_score(truth, given),
            "f1_no": oracle.f1_score(~truth, ~given),
        }
        for name, value in expected.items():
            assert found.rate(name)[column] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("given", ["all", "none", "some"])
def test_a_single_class_is_undefined_or_as_scikit_learn_has_it(truth, given):
    labels = np.full((6, 1), truth)
    decisions = {
        "all": np.ones((6, 1), bool),
        "none": np.zeros((6, 1), bool),
        "some": np.eye(6, 1, dtype=bool),
    }[given]
    found = confusion(decisions, labels)
    assert np.isnan(found.macro_f1("nan")[0])
    expected = oracle.f1_score(labels[:, 0], decisions[:, 0], average="macro", zero_division=0)  # pyright: ignore[reportArgumentType]
    assert found.macro_f1("study")[0] == pytest.approx(expected)


def test_the_majority_baseline_has_its_closed_form():
    yes, no = np.array([702.0, 5, 3, 8, 0]), np.array([127.0, 5, 9, 0, 4])
    found = Confusion(yes, np.zeros(5), np.zeros(5), no).majority()
    most, least = np.maximum(yes, no), np.minimum(yes, no)
    assert found.macro_f1("study")[:3] == pytest.approx((most / (2 * most + least))[:3])
    assert found.macro_f1("study")[3:].tolist() == [1.0, 1.0]
    assert np.isnan(found.macro_f1()[3:]).all()
    assert found.balanced_accuracy[:3] == pytest.approx(0.5)
    assert found.rate("majority_macro_f1", "study") == pytest.approx(found.macro_f1("study"))


def test_long_and_wide_counts_agree():
    scores, labels, _ = answers()
    names = np.array([f"h{column}" for column in range(labels.shape[1])])
    long = np.broadcast_to(names, labels.shape).ravel()
    found, counts = by_hypernym((scores > 0).ravel(), labels.ravel(), long)
    wide = confusion(scores > 0, labels)
    assert found == tuple(names)
    assert (counts.hit == wide.hit).all()
    assert (counts.rejection == wide.rejection).all()
    assert counts.n.tolist() == [300.0] * 5


def test_a_planted_threshold_is_found_and_balances_a_model_that_says_no():
    rng = np.random.default_rng(3)
    labels = rng.random((4000, 2)) < 0.3
    scores = rng.normal(size=labels.shape) + 2 * labels - np.array([3.0, 0.0])
    found = thresholds(scores, labels)
    assert found == pytest.approx([-2.0, 1.0], abs=0.25)
    fresh = rng.normal(size=labels.shape) + 2 * labels - np.array([3.0, 0.0])
    assert confusion(fresh > 0, labels).tpr[0] < 0.2
    assert confusion(fresh > found, labels).balanced_accuracy == pytest.approx([0.841, 0.841], abs=0.02)


def test_thresholds_without_both_classes_are_borrowed():
    scores = np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0], [4.0, np.nan]])
    labels = np.array([[False, True], [False, True], [True, True], [True, False]])
    assert thresholds(scores, labels).tolist() == [2.5, 2.5]
    assert thresholds(scores[:, 1:], labels[:, 1:]).tolist() == [0.0]


def test_scores_that_say_nothing_still_get_a_threshold():
    labels = np.array([[True], [False], [True], [False]])
    assert thresholds(np.zeros((4, 1)), labels).tolist() == [-1.0]
    backwards = thresholds(np.array([[0.0], [1.0], [0.0], [1.0]]), labels)
    assert np.isfinite(backwards).all()


def test_bad_requests_are_refused():
    _, labels, _ = answers()
    with pytest.raises(KeyError, match="known: nan, study"):
        confusion(labels, labels).macro_f1("zero")  # pyright: ignore[reportArgumentType]
    with pytest.raises(KeyError, match=f"rate 'auroc' was asked for; known: {RATES[0]}"):
        confusion(labels, labels).rate("auroc")
    with pytest.raises(ValueError, match="they must match"):
        confusion(labels, labels[:, :2])
