"""Means over pairs of clusters: errors equal those of a sample drawn row by row; shared effects are seen; limits."""

import numpy as np
import pytest
from scipy import stats as distributions

from probing.stats import (
    ClusterMean,
    DyadMean,
    draw_weights,
    ratio_limits,
    studentised_band,
    studentised_interval,
)


def rows(seed, clusters=7, n=40, k=3):
    rng = np.random.default_rng(seed)
    ends = np.array([rng.choice(clusters, 2, replace=False) for _ in range(n)])
    shared = rng.normal(size=(clusters, k))
    return shared[ends[:, 0]] - 0.5 * shared[ends[:, 1]] + rng.normal(size=(n, k)), ends


def copied(values, ends, weights):
    """The mean and its standard error of one draw, every copy of a cluster and of a row written out."""
    nodes = [(cluster, copy) for cluster, count in enumerate(weights) for copy in range(int(count))]
    sample = [
        (first, second, row)
        for row, (one, other) in enumerate(ends)
        for first in nodes
        for second in nodes
        if (first[0], second[0]) == (one, other)
    ]
    rows_drawn = values[[row for *_, row in sample]]
    mean = rows_drawn.mean(0)
    residual, total = rows_drawn - mean, 0.0
    dyads: dict[frozenset, np.ndarray] = {}
    for node in nodes:
        total = total + residual[[node in (first, second) for first, second, _ in sample]].sum(0) ** 2
    for (first, second, _), one in zip(sample, residual):
        dyads[frozenset((first, second))] = dyads.get(frozenset((first, second)), 0.0) + one
    twice = sum(one**2 for one in dyads.values())
    return mean, np.sqrt(np.maximum(total - twice, twice)) / len(sample)


@pytest.mark.parametrize("seed", range(4))
def test_a_draw_is_the_sample_in_which_each_cluster_is_copied(seed):
    values, ends = rows(seed)
    mean, weights = DyadMean(values, ends), draw_weights(7, 12, seed)
    expected = [copied(values, ends, one) for one in [np.ones(7), *weights]]
    np.testing.assert_allclose(mean.value, expected[0][0])
    np.testing.assert_allclose(mean.error, expected[0][1])
    np.testing.assert_allclose(mean.at(weights), [one for one, _ in expected[1:]])
    errors = mean.errors(weights)
    few = np.array([len({tuple(sorted(e)) for e in ends if one[e].all()}) < 4 for one in weights])
    assert np.isnan(errors[few]).all()
    np.testing.assert_allclose(errors[~few], np.array([error for _, error in expected[1:]])[~few])


def test_sides_may_change_places_and_undefined_rows_are_left_out():
    values, ends = rows(0)
    np.testing.assert_allclose(DyadMean(values, ends[:, ::-1]).error, DyadMean(values, ends).error)
    values[3, 1] = np.nan
    left = np.delete(np.arange(40), 3)
    np.testing.assert_allclose(DyadMean(values, ends).error, DyadMean(values[left], ends[left]).error)
    assert DyadMean(values, ends).n == 39
    with pytest.raises(ValueError, match="1 have one cluster on both sides"):
        DyadMean(np.ones(2), np.array([["bird", "bird"], ["bird", "tool"]]))
    with pytest.raises(ValueError, match="0 of 1 rows are defined"):
        DyadMean(np.array([np.nan]), np.array([["bird", "tool"]]))


def test_the_error_of_a_clustered_mean_is_that_of_the_draw_written_out():
    values, ends = rows(1)
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


def test_at_the_limits_of_a_ratio_what_it_leaves_is_as_far_from_nothing_as_draws_are():
    values, ends = rows(2)
    over = np.random.default_rng(0).uniform(1, 3, 40)
    values += 2 * over[:, None]
    value, lower, upper = ratio_limits(values, over, ends, draws=300, seed=1)
    np.testing.assert_allclose(value, values.mean(0) / over.mean())
    weights, rest = draw_weights(7, 300, 1), DyadMean(values - value * over[:, None], ends)
    t = (rest.at(weights) - rest.value) / rest.errors(weights)
    for limit, tail in ((lower, 0.975), (upper, 0.025)):
        left = DyadMean(values - limit * over[:, None], ends)
        np.testing.assert_allclose(left.value / left.error, np.nanquantile(t, tail, axis=0), rtol=1e-3)
    assert (lower < value).all()
    assert (value < upper).all()
    turned = ratio_limits(-values, -over, ends, draws=300, seed=1)
    np.testing.assert_allclose(turned[0], value)
    assert (turned[1] < turned[2]).all()
    over[0] = np.nan
    without = ratio_limits(values[1:], over[1:], ends[1:], draws=300, seed=1)
    np.testing.assert_allclose(ratio_limits(values, over, ends, draws=300, seed=1), without)


def test_a_ratio_over_what_may_be_nothing_has_no_limits():
    values, ends = rows(2)
    over = np.random.default_rng(0).normal(0.01, 1, 40)
    value, lower, upper = ratio_limits(values, over, ends, draws=300)
    assert np.isfinite(value).all()
    assert np.isnan([lower, upper]).any(axis=0).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rows_of", ["dyads", "clusters"])
def test_draws_without_spread_have_no_error_and_do_not_stretch_the_limits(rows_of, seed):
    """A few pairs of 40 succeed: draws without any of them are all zeros, with a spread of rounding alone."""
    rng = np.random.default_rng(seed)
    clusters = int(rng.integers(12, 26))
    ends = np.array([rng.choice(clusters, 2, replace=False) for _ in range(40)])
    values = (np.arange(40) < rng.integers(2, 7)).astype(float)[:, None] * rng.choice([1.0, 0.3, 7e5])
    mean = DyadMean(values, ends) if rows_of == "dyads" else ClusterMean(values, ends[:, 0])
    weights = draw_weights(len(mean.clusters), 500, seed)
    none = np.isclose(mean.at(weights)[:, 0], 0, atol=1e-9)
    assert none.any()
    assert np.isin(np.nan_to_num(mean.errors(weights)[none]), 0).all()
    lower, upper = studentised_interval(
        mean.value, mean.error, mean.at(weights), mean.errors(weights), len(mean.clusters)
    )
    assert lower <= mean.value <= upper
    assert upper - mean.value < 40 * mean.error
