import numpy as np
import pytest
from sklearn import metrics as oracle

from probing.stats import ClusterAUROC, draw_weights
from probing.stats.confusion import MEASURES, RATES, Confusion, by_hypernym, confusion
from probing.stats.rates import ClusterConfusion, SortedAUROC, statistics
from taxogen.answers.calibration import thresholds


def statistic(measure, *arguments, **options):
    return statistics([measure], *arguments, **options)[measure]


def answers(seed=0, rows=300, k=5, leaves=30):
    rng = np.random.default_rng(seed)
    labels = rng.random((rows, k)) < np.linspace(0.1, 0.8, k)
    scores = np.round(rng.normal(size=(rows, k)) + labels, 1)
    return scores, labels, rng.integers(0, leaves, rows)


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
    expected = oracle.f1_score(labels[:, 0], decisions[:, 0], average="macro", zero_division=0)
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


@pytest.mark.parametrize("measure", [name for name in (*MEASURES, "majority_macro_f1")])
def test_cluster_weights_repeat_rows(measure):
    scores, labels, leaves = answers()
    scores[np.random.default_rng(1).random(scores.shape) < 0.2] = np.nan
    found = statistic(measure, scores, labels, leaves, threshold=0.25)
    weights = draw_weights(30, 4)
    for draw, row in zip(found.at(weights), weights, strict=True):
        repeated = np.repeat(np.arange(len(leaves)), row[leaves].astype(int))
        again = statistic(measure, scores[repeated], labels[repeated], leaves[repeated], threshold=0.25)
        assert draw == pytest.approx(again.value, abs=1e-12)


def test_rows_that_were_not_asked_do_not_count():
    scores, labels, leaves = answers()
    scores[::3, 1] = np.nan
    keep = ~np.isnan(scores[:, 1])
    for measure in MEASURES:
        alone = statistic(measure, scores[keep][:, [1]], labels[keep][:, [1]], leaves[keep])
        assert statistic(measure, scores, labels, leaves).value[1] == pytest.approx(alone.value[0])


def test_auroc_by_sorting_is_auroc_by_pairs_and_scikit_learns():
    scores, labels, leaves = answers(k=4)
    labels[:, 3] = False
    scores[np.random.default_rng(2).random(scores.shape) < 0.1] = np.nan
    sorted_way, pairs_way = (kind(scores, labels, leaves) for kind in (SortedAUROC, ClusterAUROC))
    weights = draw_weights(30, 20)
    np.testing.assert_allclose(sorted_way.at(weights), pairs_way.at(weights), atol=1e-12)
    for column in range(3):
        keep = ~np.isnan(scores[:, column])
        expected = oracle.roc_auc_score(labels[keep, column], scores[keep, column])
        assert sorted_way.value[column] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(sorted_way.value[3])


def test_auroc_does_not_care_for_the_scale_of_the_scores():
    scores, labels, leaves = answers()
    first, second = (SortedAUROC(kind, labels, leaves).value for kind in (scores, np.exp(3 * scores) - 7))
    assert first == pytest.approx(second, abs=0)
    assert SortedAUROC(-scores, labels, leaves).value == pytest.approx(1 - first, abs=1e-12)


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
    scores, labels, leaves = answers()
    with pytest.raises(KeyError, match="measure 'f2' was asked for; known: auroc, macro_f1"):
        statistic("f2", scores, labels, leaves)
    with pytest.raises(KeyError, match="known: nan, study"):
        confusion(labels, labels).macro_f1("zero")  # pyright: ignore[reportArgumentType]
    with pytest.raises(KeyError, match=f"rate 'auroc' was asked for; known: {RATES[0]}"):
        confusion(labels, labels).rate("auroc")
    with pytest.raises(ValueError, match="they must match"):
        confusion(labels, labels[:, :2])
    with pytest.raises(ValueError, match="give a row each"):
        SortedAUROC(scores, labels[:, :2], leaves)
    assert isinstance(statistic("tpr", scores, labels, leaves), ClusterConfusion)
