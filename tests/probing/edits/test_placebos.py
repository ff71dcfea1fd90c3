"""Placebos that are drawn: ranks are exact among exchangeable sets, limits hold the variance between draws."""

import numpy as np
import pytest
from scipy.stats import norm, t

from probing.edits.placebos import FEWEST, over_clusters, over_draws, rank_p


@pytest.mark.parametrize(("groups", "sets"), [(1, 20), (1, 40), (3, 6), (6, 6)])
def test_a_p_is_as_small_as_it_says_where_the_first_set_is_one_of_many(groups, sets):
    rng = np.random.default_rng(0)
    worlds = rng.normal(size=(400, 1, 1, 1)) + rng.exponential(size=(400, groups, sets, 5)) * [
        1,
        1,
        10,
        0.1,
        1,
    ]
    for corrected in (False, True):
        p = np.array([rank_p(world, seed, corrected) for seed, world in enumerate(worlds)])
        rate = (p <= 0.05).any(axis=1).mean() if corrected else (p <= 0.05).mean()
        assert rate == pytest.approx(0.05, abs=0.03 if corrected else 0.015)


def test_the_rank_counts_the_first_set_and_ties():
    values = np.arange(20.0)[None, ::-1, None]  # the first is the largest
    assert rank_p(values) == 1 / 20
    assert rank_p(-values) == 1
    assert rank_p(0 * values) == 1
    tied = values.copy()
    tied[0, 1] = tied[0, 0]
    assert rank_p(tied) == 2 / 20


def test_corrected_is_the_rank_among_the_largest_over_cells_in_deviations_of_the_sets():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(1, 20, 3))
    values[0, 0, 1] = 50
    p = rank_p(values)
    assert p[1] == 1 / 20
    np.testing.assert_allclose(rank_p(values * [1e6, 1, 1e-6] + [0, 7, 0]), p)
    scores = (values[0] - values[0].mean(0)) / values[0].std(0, ddof=1)
    np.testing.assert_allclose(p, (scores.max(1)[:, None] >= scores[0]).mean(0))


def test_fewer_sets_than_a_p_of_one_in_twenty_takes_give_none():
    assert np.isnan(rank_p(np.zeros((1, FEWEST, 2)))).all()
    assert not np.isnan(rank_p(np.zeros((1, FEWEST + 1, 2)))).any()
    assert np.isnan(rank_p(np.zeros((2, 4, 1)))).all()
    assert not np.isnan(rank_p(np.zeros((2, 5, 1)))).any()
    assert rank_p(np.zeros((1, 20, 0))).shape == (0,)


def test_limits_over_draws_add_their_variance_to_that_over_clusters():
    drawn = 3 + 0.1 * np.random.default_rng(0).normal(size=1000)
    values, m = np.array([2.0, 3.0, 4.0]), 10
    clusters, between = m / (m - 1) * drawn.var(ddof=1), 1 / 3
    half = (t.ppf(0.975, 9) ** 2 * clusters + t.ppf(0.975, 2) ** 2 * between) ** 0.5
    one = over_draws(values, drawn, m, n=25)
    np.testing.assert_allclose([one.value, one.lower, one.upper, one.n], [3, 3 - half, 3 + half, 25])
    same = over_draws(np.full(3, 3.0), drawn, m, n=25)
    np.testing.assert_allclose(same.upper - 3, t.ppf(0.975, 9) * clusters**0.5)


def test_limits_over_few_clusters_are_wider_and_over_one_not_known():
    drawn = np.linspace(0, 1, 1001)
    one = over_clusters(0.5, drawn, m=4, n=9)
    wider = (4 / 3) ** 0.5 * t.ppf(0.975, 3) / norm.ppf(0.975)
    np.testing.assert_allclose(
        [one.value, one.lower, one.upper], [0.5, 0.5 - wider * 0.475, 0.5 + wider * 0.475]
    )
    assert one.n == 9
    for unknown in (
        over_clusters(0.5, drawn, 1, 9),
        over_draws(np.ones(3), drawn, 1, 9),
        over_draws(np.ones(1), drawn, 5, 9),
    ):
        assert np.isnan([unknown.lower, unknown.upper]).all()
        assert np.isfinite(unknown.value)


def test_a_cell_with_an_undefined_set_has_no_p_and_takes_no_part_in_the_correction():
    values = np.random.default_rng(0).normal(size=(1, 20, 3))
    undefined = values.copy()
    undefined[0, 7, 1] = np.nan
    for corrected in (False, True):
        p = rank_p(undefined, corrected=corrected)
        assert np.isnan(p[1])
        np.testing.assert_array_equal(p[[0, 2]], rank_p(values[..., [0, 2]], corrected=corrected))
    assert np.isnan(rank_p(np.full((1, 20, 2), np.nan))).all()
