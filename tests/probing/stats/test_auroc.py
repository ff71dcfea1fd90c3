import numpy as np
import pytest
from sklearn import metrics

from probing.stats import ClusterAUROC, auroc, draw_weights
from tests.probing.stats.scored_rows import answers, row_weights, scored


@pytest.mark.parametrize("seed", range(5))
def test_auroc_equals_scikit_learn_at_any_weights(seed):
    scores, labels, names = scored(seed)
    statistic = ClusterAUROC(scores, labels, names)
    weights = draw_weights(12, 20, seed)
    draws = statistic.at(weights)
    for k in range(labels.shape[1]):
        assert statistic.value[k] == pytest.approx(
            metrics.roc_auc_score(labels[:, k], scores[:, k]), abs=1e-12
        )
        for draw in range(len(weights)):
            peer = metrics.roc_auc_score(
                labels[:, k], scores[:, k], sample_weight=row_weights(weights[draw], names)
            )
            assert draws[draw, k] == pytest.approx(peer, abs=1e-12)


def test_auroc_takes_fractional_weights():
    scores, labels, names = scored(0)
    weights = np.random.default_rng(1).random((3, 12))
    draws = ClusterAUROC(scores, labels, names).at(weights)
    for draw in range(3):
        peer = metrics.roc_auc_score(
            labels[:, 0], scores[:, 0], sample_weight=row_weights(weights[draw], names)
        )
        assert draws[draw, 0] == pytest.approx(peer, abs=1e-12)


def test_auroc_within_strata_is_the_mean_over_strata_weighted_by_pairs():
    scores, labels, names = scored(3)
    strata = np.unique(names, return_inverse=True)[1] % 3
    parts, pairs = [], []
    for stratum in range(3):
        here = strata == stratum
        parts.append(metrics.roc_auc_score(labels[here, 0], scores[here, 0]))
        pairs.append(labels[here, 0].sum() * (~labels[here, 0]).sum())
    value = ClusterAUROC(scores, labels, names, strata).value[0]
    assert value == pytest.approx(np.average(parts, weights=pairs), abs=1e-12)


def test_auroc_ignores_offsets_between_strata_and_pooling_does_not():
    scores, labels, names = scored(3)
    strata = np.unique(names, return_inverse=True)[1] % 3
    moved = scores + 100 * strata[:, None]
    np.testing.assert_array_equal(
        ClusterAUROC(moved, labels, names, strata).value, ClusterAUROC(scores, labels, names, strata).value
    )
    assert (ClusterAUROC(moved, labels, names).value != ClusterAUROC(scores, labels, names).value).any()


def test_auroc_is_undefined_where_a_class_is_missing():
    scores, labels, names = scored(0)
    labels[:, 0], labels[:, 1] = False, True
    labels[:, 2] = names == "leaf 3"
    statistic = ClusterAUROC(scores, labels, names)
    assert np.isnan(statistic.value).tolist() == [True, True, False, False]
    weights = draw_weights(12, 200, 0)
    without = weights[:, np.flatnonzero(statistic.clusters == "leaf 3")[0]] == 0
    np.testing.assert_array_equal(np.isnan(statistic.at(weights)[:, 2]), without)


def test_rows_with_undefined_scores_are_left_out_of_their_column():
    scores, labels, names = scored(0)
    lost = np.arange(len(scores)) % 3 == 0
    holed = np.where(lost[:, None] & (np.arange(4) == 1), np.nan, scores)
    value = ClusterAUROC(holed, labels, names).value
    assert value[1] == pytest.approx(metrics.roc_auc_score(labels[~lost, 1], scores[~lost, 1]), abs=1e-12)
    np.testing.assert_array_equal(value[[0, 2, 3]], ClusterAUROC(scores, labels, names).value[[0, 2, 3]])


def test_auroc_does_not_care_for_the_scale_of_the_scores():
    scores, labels, leaves = answers()
    first, second = (ClusterAUROC(kind, labels, leaves).value for kind in (scores, np.exp(3 * scores) - 7))
    assert first == pytest.approx(second, abs=0)
    assert ClusterAUROC(-scores, labels, leaves).value == pytest.approx(1 - first, abs=1e-12)


def _many_clusters(seed=4, clusters=200):
    """Rows of so many clusters that their pairs would be slower than sorting; with holes, ties and infinities."""
    rng = np.random.default_rng(seed)
    labels = rng.random((2 * clusters, 4)) < 0.5
    labels[:, 3] = False
    scores = np.round(rng.normal(size=labels.shape) + labels, 1)
    scores[rng.random(scores.shape) < 0.1] = np.nan
    scores[:3, 0], scores[3:6, 0] = -np.inf, np.inf
    return scores, labels, rng.permutation(np.arange(2 * clusters) // 2)


def _counting_pairs(monkeypatch):
    """A list that grows whenever pairs of clusters are compared."""
    calls, compare = [], auroc._concordance
    monkeypatch.setattr(auroc, "_concordance", lambda *given: (calls.append(1), compare(*given))[1])
    return calls


def test_both_ways_to_an_auroc_give_the_same_bits(monkeypatch):
    scores, labels, names = _many_clusters()
    calls = _counting_pairs(monkeypatch)
    weights = draw_weights(200, 20)
    monkeypatch.setattr(auroc, "_PAIRS_PER_ROW", 10)
    by_sorting = ClusterAUROC(scores, labels, names)
    assert not calls
    monkeypatch.setattr(auroc, "_PAIRS_PER_ROW", np.inf)
    by_pairs = ClusterAUROC(scores, labels, names)
    assert calls
    np.testing.assert_array_equal(by_sorting.at(weights), by_pairs.at(weights))
    for column in range(3):
        rows = ~np.isnan(scores[:, column])
        finite = np.clip(scores[rows, column], -99, 99)
        expected = metrics.roc_auc_score(labels[rows, column], finite)
        assert by_sorting.value[column] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(by_sorting.value[3])


def test_many_clusters_are_sorted_and_few_or_stratified_ones_compared_by_pairs(monkeypatch):
    calls = _counting_pairs(monkeypatch)
    scores, labels, _ = _many_clusters(clusters=500)
    each_its_own = np.arange(len(scores))
    ClusterAUROC(scores, labels, each_its_own)
    assert not calls
    ClusterAUROC(scores, labels, each_its_own // 50)
    assert calls
    calls.clear()
    ClusterAUROC(scores, labels, each_its_own, each_its_own % 20)
    assert calls


def test_a_sorted_column_without_any_score_is_undefined():
    scores, labels, _ = _many_clusters(clusters=500)
    scores[:, 1] = np.nan
    assert np.isnan(ClusterAUROC(scores, labels, np.arange(len(scores))).value).tolist() == [
        False,
        True,
        False,
        True,
    ]


def test_scores_and_labels_of_different_shapes_are_refused():
    scores, labels, leaves = answers()
    with pytest.raises(ValueError, match="give one label column per score column"):
        ClusterAUROC(scores, labels[:, :2], leaves)
