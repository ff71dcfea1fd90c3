"""Limits whose every bootstrap draw is measured by its own standard error (bootstrap-t), of one number or of many."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Float
from scipy import stats as distributions

_ENOUGH = 0.5
"""The share of draws that must have a standard error; with fewer, limits are those of Student's t."""


def studentised(
    value: Float[np.ndarray, " k"], draws: Float[np.ndarray, "draws k"], errors: Float[np.ndarray, "draws k"]
) -> Float[np.ndarray, "draws k"]:
    """By how many of its own standard errors each draw is above the value; NaN where it has none.

    >>> studentised(np.array([1.0]), np.array([[1.5], [1.0], [2.0]]), np.array([[0.25], [0.0], [0.0]])).ravel()
    array([ 2.,  0., nan])
    """
    away = draws - value
    t = np.where((away == 0) & (errors == 0), 0.0, np.nan)
    return np.divide(away, errors, out=t, where=errors > 0)


def studentised_interval(
    value: Float[np.ndarray, " k"],
    error: Float[np.ndarray, " k"],
    draws: Float[np.ndarray, "draws k"],
    errors: Float[np.ndarray, "draws k"],
    n: int,
    level: float = 0.95,
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Lower and upper limits of each number alone; percentile limits of skewed effects miss on one side.

    Args:
        value: of the sample.
        error: its standard error; the limits are NaN where it is.
        draws: the value in bootstrap draws.
        errors: the standard error of each draw, from that draw alone. Where it is NaN the draw is left out; where most
            are, as of very few clusters, the limits are those of Student's t.
        n: clusters.
        level: of the interval.

    >>> value, error = np.array([1.0]), np.array([0.1])
    >>> noise = np.random.default_rng(0).normal(size=(2000, 1))
    >>> lower, upper = studentised_interval(value, error, value + error * noise, np.full((2000, 1), 0.1), n=30)
    >>> lower.round(1), upper.round(1)
    (array([0.8]), array([1.2]))

    Source: Hall 1992, The Bootstrap and Edgeworth Expansion, section 3.5; Davison & Hinkley 1997, eq. 5.6.
    """
    t, tails = studentised(value, draws, errors), [(1 - level) / 2, (1 + level) / 2]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        drawn = np.nanquantile(t, tails, axis=0)
    low, high = np.where(np.isnan(t).mean(axis=0) > _ENOUGH, _student(np.array(tails)[:, None], n), drawn)
    return value - high * error, value - low * error


def studentised_band(
    value: Float[np.ndarray, " k"],
    error: Float[np.ndarray, " k"],
    draws: Float[np.ndarray, "draws k"],
    errors: Float[np.ndarray, "draws k"],
    n: int,
    level: float = 0.95,
) -> Float[np.ndarray, " k"]:
    """Lower limit that holds for all numbers at once with probability `level`; see `studentised_interval`.

    >>> value, error = np.array([0.0, 0.5]), np.array([0.1, 0.1])
    >>> draws = value + error * np.random.default_rng(0).normal(size=(500, 2))
    >>> studentised_band(value, error, draws, np.full((500, 2), 0.1), n=30) > 0
    array([False,  True])

    Source: Romano & Wolf 2005, JASA 100(469), algorithm 4.2: the statistic and each draw by their own standard errors.
    With very few clusters, Bonferroni's limit by Student's t.
    """
    largest = np.nan_to_num(studentised(value, draws, errors), nan=-np.inf).max(axis=1)
    largest = largest[np.isfinite(largest)]
    if len(largest) < _ENOUGH * len(draws):
        width = _student(1 - (1 - level) / len(value), n)
    else:
        width = np.quantile(largest, level, method="inverted_cdf")
    return value - width * error


def _student(tail, n: int):
    """Quantile of Student's t where n clusters stand on two sides of rows: each side takes a degree of freedom."""
    return np.sqrt(n / (n - 2)) * distributions.t.ppf(tail, n - 2) if n > 2 else np.full_like(tail, np.nan)
