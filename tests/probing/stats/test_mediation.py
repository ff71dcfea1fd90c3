"""Mediation: effects add up, slopes are those of least squares with fixed effects, pairs are the best ones."""

import itertools

import numpy as np
import pytest

from probing.stats import ClusterMean, draw_weights
from probing.stats.mediation import (
    EFFECTS,
    ClusterSlope,
    Combined,
    CurveGap,
    WithSlope,
    matched_pairs,
    natural_effects,
)

CLUSTERS = np.repeat([f"leaf{number:02}" for number in range(12)], 3)


def means(rng, columns=4):
    return ClusterMean(rng.normal(size=(len(CLUSTERS), columns)), CLUSTERS)


@pytest.mark.parametrize("seed", range(3))
def test_direct_and_indirect_add_to_the_total_and_state_and_meaning_to_the_indirect(seed):
    rng = np.random.default_rng(seed)
    cells = {cell: means(rng) for cell in itertools.product((0, 1), repeat=3)}
    found, weights = natural_effects(cells), draw_weights(12, 20)
    assert set(found) == set(EFFECTS)
    for numbers in (
        {name: one.value for name, one in found.items()},
        {n: o.at(weights) for n, o in found.items()},
    ):
        total = numbers["total"]
        assert np.allclose(numbers["direct"] + numbers["indirect"], total)
        assert np.allclose(numbers["direct_if_second"] + numbers["indirect_if_first"], total)
        assert np.allclose(numbers["direct_if_first"] + numbers["indirect_if_second"], total)
        assert np.allclose(numbers["state"] + numbers["meaning"], numbers["indirect"])
    assert np.allclose(found["total"].value, cells[1, 1, 1].value - cells[0, 0, 0].value)


def test_effects_of_cells_that_are_not_given_are_left_out():
    rng = np.random.default_rng(0)
    cells = {cell: means(rng) for cell in ((0, 0, 0), (1, 1, 1), (0, 1, 1), (1, 0, 0))}
    assert set(natural_effects(cells)) == set(EFFECTS) - {"state", "meaning"}


def test_a_part_that_is_alike_on_both_sides_has_no_effect():
    rng = np.random.default_rng(1)
    by_direct = {side: means(rng) for side in (0, 1)}
    found = natural_effects({cell: by_direct[cell[0]] for cell in itertools.product((0, 1), repeat=3)})
    assert np.allclose(found["indirect"].value, 0)
    assert np.allclose(found["direct"].value, found["total"].value)


def test_a_sum_of_other_clusters_is_refused():
    with pytest.raises(ValueError, match="restrict both to the clusters they share"):
        Combined([(1.0, ClusterMean(np.ones(2), ["a", "b"])), (1.0, ClusterMean(np.ones(2), ["a", "c"]))])


@pytest.mark.parametrize("within", [True, False])
def test_the_slope_is_that_of_least_squares_with_an_intercept_for_each_cluster_and_column(within):
    """Oracle: a regression with dummies, each row as often as its cluster was drawn."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(36, 2)) + 3 * rng.normal(size=(12, 2))[np.repeat(np.arange(12), 3)]
    y = 0.7 * x + rng.normal(size=(36, 2)) + 5 * rng.normal(size=(12, 2))[np.repeat(np.arange(12), 3)]
    y[3, 1] = np.nan
    slope = ClusterSlope(y, x, CLUSTERS, within)
    times = draw_weights(12, 1)[0] if within else np.ones(12)
    groups = np.repeat(np.arange(12), 3) if within else np.zeros(36, int)
    label = (groups[:, None] * 2 + np.arange(2)).ravel()
    design = np.column_stack([x.ravel(), np.equal.outer(label, np.arange(24)).astype(float)])
    root = np.sqrt(np.repeat(times, 3)[:, None] * np.ones((1, 2))).ravel()
    known = ~np.isnan(y.ravel())
    fit = np.linalg.lstsq(
        (design * root[:, None])[known], (np.nan_to_num(y).ravel() * root)[known], rcond=None
    )
    assert slope.at(times[None])[0, 0] == pytest.approx(fit[0][0])


def test_what_rows_of_a_cluster_share_has_no_part_in_the_slope():
    rng = np.random.default_rng(4)
    shared = np.repeat(rng.normal(size=12), 3)
    x, noise = shared + 0.5 * rng.normal(size=36), 0.1 * rng.normal(size=36)
    assert ClusterSlope(4 * shared + noise, x, CLUSTERS).value[0] == pytest.approx(0, abs=0.15)
    assert ClusterSlope(4 * shared + noise, x, CLUSTERS, within=False).value[0] > 2


def test_a_slope_on_what_does_not_vary_is_undefined():
    assert np.isnan(ClusterSlope(np.arange(36.0), np.zeros(36), CLUSTERS).value).all()


def test_draws_carry_the_error_of_the_slope_to_first_order():
    """A statistic that is linear in the slope: its draws are exactly those made anew with the slope of each draw."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=36), rng.normal(size=36)
    slope, base, times = ClusterSlope(y, x, CLUSTERS), means(rng, 2), draw_weights(12, 30)
    gradient = np.array([2.0, -1.0])
    at = Combined([(1.0, base), (1.0, ClusterMean(np.tile(slope.value * gradient, (36, 1)), CLUSTERS))])
    found = WithSlope(at, slope, gradient)
    assert np.allclose(found.value, base.value + slope.value * gradient)
    assert np.allclose(found.at(times), base.at(times) + slope.at(times) * gradient)


def curve(xs, heights):
    """Points whose coordinates are the same in every cluster."""
    return [
        (ClusterMean(np.full(36, x), CLUSTERS), ClusterMean(np.tile([y, -y], (36, 1)), CLUSTERS))
        for x, y in zip(xs, heights, strict=True)
    ]


def test_the_gap_of_two_curves_is_read_between_their_points_in_any_order():
    first, second = curve([0.4, 0.0, 0.2], [3.0, 0.0, 1.0]), curve([0.0, 0.4], [0.0, 1.0])
    for level, gap in ((0.2, 0.5), (0.3, 2.0 - 0.75), (0.4, 2.0), (0.1, 0.25)):
        assert CurveGap(first, second, np.array([level])).value == pytest.approx([gap, -gap])
    both = CurveGap(first, second, np.array([0.2, 0.4]))
    assert both.value == pytest.approx([1.25, -1.25])
    assert both.at(draw_weights(12, 5)) == pytest.approx(np.tile([1.25, -1.25], (5, 1)))


def test_curves_that_are_one_curve_have_no_gap_wherever_their_points_are():
    xs, others = np.array([0.0, 0.1, 0.5, 0.9]), np.array([0.05, 0.3, 0.8])
    gap = CurveGap(curve(xs, 2 * xs), curve(others, 2 * others), np.array([0.1, 0.4, 0.7]))
    assert gap.value == pytest.approx([0, 0])


@pytest.mark.parametrize("seed", range(5))
def test_as_many_pairs_as_can_be_and_the_closest_of_these(seed):
    """Oracle: all ways to pair."""
    rng = np.random.default_rng(seed)
    first, second, caliper = rng.normal(size=4), rng.normal(size=3), rng.uniform(0.1, 1)
    pairs = matched_pairs(first, second, caliper)
    best = (0, 0.0)
    for order in itertools.permutations(range(4), 3):
        near = [
            abs(first[row] - second[at])
            for at, row in enumerate(order)
            if abs(first[row] - second[at]) <= caliper
        ]
        best = max(best, (len(near), -sum(near)))
    gaps = np.abs(first[pairs[:, 0]] - second[pairs[:, 1]])
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs) == best[0]
    assert gaps.sum() == pytest.approx(-best[1])
    assert (gaps <= caliper).all()
