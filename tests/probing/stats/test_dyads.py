"""Means over pairs of clusters: errors equal those of a sample drawn row by row; shared effects are seen; limits."""

import numpy as np
import pytest
from scipy import stats as distributions

from probing.stats import ClusterMean, DyadMean, draw_weights, studentised_band, studentised_interval


def rows(seed, clusters=7, n=40, k=3):
    rng = np.random.default_rng(seed)
    ends = np.array([rng.choice(clusters, 2, replace=False) for _ in range(n)])
    shared = rng.normal(size=(clusters, k))
    return shared[ends[:, 0]] - 0.5 * shared[ends[:, 1]] + rng.normal(size=(n, k)), ends, rng.uniform(1, 3, n)


def copied(values, ends, over, weights):
    """The mean and its standard error of one draw, every copy of a cluster and of a row written out."""
    nodes = [(cluster, copy) for cluster, count in enumerate(weights) for copy in range(int(count))]
    sample = [
        (first, second, row)
        for row, (one, other) in enumerate(ends)
        for first in nodes
        for second in nodes
        if (first[0], second[0]) == (one, other)
    ]
    x, y = values[[row for *_, row in sample]], over[[row for *_, row in sample]]
    mean = x.sum(0) / y.sum()
    residual, total = x - mean * y[:, None], 0.0
    dyads: dict[frozenset, np.ndarray] = {}
    for node in nodes:
        total = total + residual[[node in (first, second) for first, second, _ in sample]].sum(0) ** 2
    for (first, second, _), one in zip(sample, residual):
        dyads[frozenset((first, second))] = dyads.get(frozenset((first, second)), 0.0) + one
    twice = sum(one**2 for one in dyads.values())
    return mean, np.sqrt(np.maximum(total - twice, twice)) / y.sum()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ratio", [False, True])
def test_a_draw_is_the_sample_in_which_each_cluster_is_copied(seed, ratio):
    values, ends, over = rows(seed)
    over = over if ratio else np.ones(len(over))
    mean, weights = DyadMean(values, ends, over), draw_weights(7, 12, seed)
    expected = [copied(values, ends, over, one) for one in [np.ones(7), *weights]]
    np.testing.assert_allclose(mean.value, expected[0][0])
    np.testing.assert_allclose(mean.error, expected[0][1])
    np.testing.assert_allclose(mean.at(weights), [one for one, _ in expected[1:]])
    errors = mean.errors(weights)
    few = np.array([len({tuple(sorted(e)) for e in ends if one[e].all()}) < 4 for one in weights])
    assert np.isnan(errors[few]).all()
    np.testing.assert_allclose(errors[~few], np.array([error for _, error in expected[1:]])[~few])


def test_sides_may_change_places_and_undefined_rows_are_left_out():
    values, ends, over = rows(0)
    mean, turned = DyadMean(values, ends, over), DyadMean(values, ends[:, ::-1], over)
    np.testing.assert_allclose(turned.error, mean.error)
    values[3, 1], over[5] = np.nan, np.nan
    left = np.setdiff1d(np.arange(40), [3, 5])
    np.testing.assert_allclose(
        DyadMean(values, ends, over).error, DyadMean(values[left], ends[left], over[left]).error
    )
    assert DyadMean(values, ends, over).n == 38
    with pytest.raises(ValueError, match="1 have one cluster on both sides"):
        DyadMean(np.ones(2), np.array([["bird", "bird"], ["bird", "tool"]]))
    with pytest.raises(ValueError, match="0 of 1 rows are defined"):
        DyadMean(np.array([np.nan]), np.array([["bird", "tool"]]))


def test_the_error_of_a_clustered_mean_is_that_of_the_draw_written_out():
    values, ends, _ = rows(1)
    mean, weights = ClusterMean(values, ends[:, 0]), draw_weights(7, 20, 1)
    for one, error in zip(weights, mean.errors(weights)):
        residual = [values[ends[:, 0] == c] for c in range(7) for _ in range(int(one[c]))]
        whole = np.concatenate(residual)
        sums = np.array([(part - whole.mean(0)).sum(0) for part in residual])
        np.testing.assert_allclose(error, np.sqrt((sums**2).sum(0)) / len(whole), atol=1e-12)
    assert np.isnan(ClusterMean(values, np.zeros(40)).error).all()


def test_limits_of_few_clusters_are_students():
    value, error, draws = np.array([1.0, 2.0]), np.array([0.1, 0.3]), np.ones((10, 2))
    lower, upper = studentised_interval(value, error, draws, np.full((10, 2), np.nan), n=5)
    half = np.sqrt(5 / 3) * distributions.t.ppf(0.975, 3) * error
    np.testing.assert_allclose([lower[1], upper[1]], [2 - half[1], 2 + half[1]])
    band = studentised_band(value, error, draws + 1, np.full((10, 2), np.nan), n=5)
    np.testing.assert_allclose(band, value - np.sqrt(5 / 3) * distributions.t.ppf(0.975, 3) * error)
    assert np.isnan(studentised_band(value, error, draws, np.full((10, 2), np.nan), n=2)).all()


def test_skewed_draws_turn_the_limits_to_their_other_side():
    """Draws above the value have small errors, as where few rows are far below: the lower limit is the far one."""
    rng = np.random.default_rng(0)
    value, error, up = np.array([0.0]), np.array([1.0]), rng.exponential(size=(4000, 1)) - 1
    lower, upper = studentised_interval(value, error, up, np.ones((4000, 1)), n=30)
    np.testing.assert_allclose([lower[0], upper[0]], -np.quantile(up, [0.975, 0.025]))
    band = studentised_band(value, error, up, np.ones((4000, 1)), n=30)
    np.testing.assert_allclose(band, -np.quantile(up, 0.95, method="inverted_cdf"))
