"""Naturalness: new natural states have uniform percentiles, edited ones high ones, in wide and in narrow spaces."""

import numpy as np
import pytest
from scipy.stats import kstest

from probing.edits.naturalness import Naturalness

RANKS = ("percentile", "neighbour_percentile")


def natural(rng, leaves, width, tokens=2, each=2):
    """States of `each` pictures of new leaves: a spiked spectrum, one massive feature, means of the tokens apart."""
    scale = np.sqrt(1 / (1 + np.arange(width)))
    scale[0] = 500
    own = rng.normal(size=(leaves, 1, tokens, width)) + 0.7 * rng.normal(size=(leaves, each, tokens, width))
    offset = 5 * np.arange(tokens)[:, None]
    return (own * scale + offset).reshape(-1, tokens, width), np.repeat(np.arange(leaves), each)


@pytest.mark.parametrize(("leaves", "width"), [(60, 300), (200, 20)])
def test_new_natural_states_have_uniform_percentiles_with_few_rows_and_with_many(leaves, width):
    means, far = {rank: [] for rank in RANKS}, {rank: [] for rank in RANKS}
    for seed in range(3):
        rng = np.random.default_rng([seed, width])
        fitted = Naturalness.fit(*natural(rng, leaves, width), seed=seed)
        new, _ = natural(rng, 100, width, each=1)
        for rank in RANKS:
            percentiles = getattr(fitted, rank)(new)
            means[rank].append(kstest(percentiles, "uniform", args=(0, 100)).statistic)
            far[rank].append((percentiles > 99).mean())
    for rank in RANKS:
        assert np.mean(means[rank]) < 0.15, rank
        assert np.mean(far[rank]) < 0.04, rank


def test_states_that_were_fitted_on_are_ranked_by_the_folds_that_hold_them_out():
    rng = np.random.default_rng(0)
    states, leaves = natural(rng, 60, 300)
    fitted = Naturalness.fit(states, leaves)
    for rank in RANKS:
        own = getattr(fitted, rank)(states, leaves)
        assert kstest(own, "uniform", args=(0, 100)).pvalue > 0.05
        assert getattr(fitted, rank)(states).mean() < own.mean() - 10  # without names they are too near
    reordered = rng.permutation(len(states))
    np.testing.assert_allclose(
        fitted.percentile(states[reordered], leaves[reordered]), fitted.percentile(states, leaves)[reordered]
    )


def test_a_step_off_the_natural_directions_is_far_and_one_that_is_as_long_along_them_is_not():
    rng = np.random.default_rng(1)
    states, leaves = natural(rng, 80, 200)
    fitted, step = Naturalness.fit(states, leaves), np.zeros(200)
    along, off = step.copy(), step.copy()
    along[0], off[150] = 100.0, 100.0
    assert (fitted.percentile(states + off, leaves) == 100).all()
    assert (fitted.neighbour_percentile(states + off, leaves) == 100).all()
    assert fitted.percentile(states + along, leaves).mean() == pytest.approx(50, abs=6)


def test_distances_are_those_of_the_shrunk_covariance():
    rng = np.random.default_rng(2)
    states, leaves = natural(rng, 30, 10)
    other = next(iter(Naturalness.fit(states, leaves).others.values()))
    x = other.scaled(states[:5]).reshape(-1, 10)
    precision = np.eye(10) / other.rest + other.directions.T * other.excess @ other.directions
    expected = np.sqrt(np.einsum("nd,de,ne->n", x, precision, x).reshape(5, 2).sum(1))
    np.testing.assert_allclose(other.distances(states[:5]), expected)
    covariance = other.rows.reshape(-1, 10).T @ other.rows.reshape(-1, 10) / (2 * len(other.rows))
    share = other.rest / (covariance.trace() / 10)
    np.testing.assert_allclose(
        np.linalg.inv(precision), (1 - share) * covariance + other.rest * np.eye(10), atol=1e-8
    )
    nearest = np.sqrt(((other.scaled(states[:5]).reshape(5, -1)[:, None] - other.rows) ** 2).sum(-1)).min(1)
    np.testing.assert_allclose(other.to_neighbour(states[:5]), nearest, atol=1e-5)


def test_what_cannot_be_ranked_is_refused():
    rng = np.random.default_rng(3)
    states, leaves = natural(rng, 12, 5)
    fitted = Naturalness.fit(states, leaves)
    with pytest.raises(ValueError, match=r"shape \(5,\)|shape \(1, 5\)"):
        fitted.percentile(states[:, 0])
    with pytest.raises(ValueError, match="24 states and 23 leaves"):
        Naturalness.fit(states, leaves[:-1])
    with pytest.raises(ValueError, match="all rows of a leaf in the same"):
        Naturalness.fit(states, leaves, fold=np.arange(24) % 2)
    with pytest.raises(ValueError, match="the edited states"):
        fitted.percentile(np.full_like(states, np.nan), leaves)
