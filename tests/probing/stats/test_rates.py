import numpy as np
import pytest
from sklearn import metrics

from probing.stats import ClusterRates, draw_weights
from probing.stats.confusion import RATES
from probing.stats.rates import statistics
from tests.probing.stats.scored_rows import answers, row_weights, scored


def statistic(measure, *arguments, **options):
    return statistics([measure], *arguments, **options)[measure]


@pytest.mark.parametrize(
    "measure, peer",
    [
        ("f1_yes", metrics.f1_score),
        ("tpr", metrics.recall_score),
        ("balanced_accuracy", metrics.balanced_accuracy_score),
    ],
)
def test_rates_equal_scikit_learn_at_any_weights(measure, peer):
    scores, labels, names = scored(2)
    decisions = scores > 0.5
    statistic, weights = ClusterRates(decisions, labels, names, measure), draw_weights(12, 10, 0)
    draws = statistic.at(weights)
    for draw in range(10):
        rows = row_weights(weights[draw], names)
        for k in range(labels.shape[1]):
            expected = peer(labels[:, k], decisions[:, k], sample_weight=rows)
            assert draws[draw, k] == pytest.approx(expected, abs=1e-12)


def test_rates_of_one_hot_columns_are_macro_f1_and_balanced_accuracy():
    rng = np.random.default_rng(0)
    truth, chosen = rng.integers(0, 3, 60), rng.integers(0, 3, 60)
    hot, names = np.eye(3, dtype=bool), np.arange(60) // 4
    f1 = ClusterRates(hot[chosen], hot[truth], names, "f1_yes").value.mean()
    recall = ClusterRates(hot[chosen], hot[truth], names, "tpr").value.mean()
    assert f1 == pytest.approx(metrics.f1_score(truth, chosen, average="macro"))
    assert recall == pytest.approx(metrics.balanced_accuracy_score(truth, chosen))


@pytest.mark.parametrize("measure", ["auroc", *RATES[:5], "majority_macro_f1"])
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
    for measure in ("auroc", *RATES[:5]):
        alone = statistic(measure, scores[keep][:, [1]], labels[keep][:, [1]], leaves[keep])
        assert statistic(measure, scores, labels, leaves).value[1] == pytest.approx(alone.value[0])


def test_the_f1_of_an_answer_that_is_never_true_is_undefined_or_zero():
    never, given = np.zeros((4, 1), bool), np.ones((4, 1), bool)
    for measure, decisions, labels in (("f1_yes", given, never), ("f1_no", never, given)):
        undefined = ClusterRates(decisions, labels, np.arange(4), measure)
        assert np.isnan(undefined.value).all()
        study = ClusterRates(decisions, labels, np.arange(4), measure, single_class="study")
        assert study.value.tolist() == [0.0]


def test_columns_with_the_same_labels_may_be_counted_over_different_questions():
    yes, truth = (
        np.array([[True, True], [False, False], [True, True]]),
        np.array([[True, True]] * 2 + [[False] * 2]),
    )
    counted = np.array([[True, True], [True, False], [True, True]])
    rates = ClusterRates(yes, truth, np.arange(3), "tpr", counted=counted)
    assert rates.value.tolist() == [0.5, 1.0]
    assert rates.of("accuracy").value.tolist() == [1 / 3, 0.5]


def test_unknown_measures_are_refused_with_the_known_ones():
    scores, labels, leaves = answers()
    with pytest.raises(KeyError, match="measure 'f2' was asked for; known: auroc, macro_f1"):
        statistic("f2", scores, labels, leaves)
    with pytest.raises(KeyError, match=f"rate 'auroc' was asked for; known: {RATES[0]}"):
        ClusterRates(scores > 0, labels, leaves, "auroc")
    with pytest.raises(KeyError, match="rate 'f1' was asked for"):
        ClusterRates(scores > 0, labels, leaves).of("f1")
    with pytest.raises(ValueError, match="rows do not match"):
        ClusterRates(scores > 0, labels[:-1], leaves)
