"""Limits that a plain bootstrap over clusters draws too narrow: out-of-fold scores, few clusters, several runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats as distributions

from probing.stats.estimates import Estimate, interval
from probing.stats.seeding import stream

OUT_OF_FOLD = 1.6
"""How much wider limits of a mean of out-of-fold scores must be than their bootstrap with the probes held fixed.

Each leaf trains the probes that score the others, so that leaves are no independent draws (Bengio & Grandvalet 2004,
JMLR 5, on why no estimate from the folds alone is unbiased). Measured: docs/statistics.md, here and below.
"""
OUT_OF_FOLD_PARTLY = 1.25
"""The same of scores by probes of other rows of the leaves (another modality), or of rows of the leaf itself too."""
OUT_OF_FOLD_BAND = 1.6
"""The same for a band over layers where nothing is to be found."""
OUT_OF_FOLD_DECISIONS = 1.25
"""By how much more for rates of decisions and lengths of codes, since all leaves share thresholds and calibration."""


def expanded(
    value: Float[np.ndarray, "*k"],
    lower: Float[np.ndarray, "*k"],
    upper: Float[np.ndarray, "*k"],
    factor: float | Float[np.ndarray, "*k"],
) -> tuple[Float[np.ndarray, "*k"], Float[np.ndarray, "*k"]]:
    """Limits that are `factor` times as far from the value.

    >>> lower, upper = expanded(np.array(0.7), np.array(0.6), np.array(0.75), 2.0)
    >>> round(float(lower), 3), round(float(upper), 3)
    (0.5, 0.8)
    """
    return value + factor * (lower - value), value + factor * (upper - value)


def expanded_estimate(
    value: float, draws: Float[np.ndarray, " draws"], n: int, factor: float | Float[np.ndarray, ""]
) -> Estimate:
    """A value between the percentile limits of its draws, `factor` times as far from it.

    >>> str(expanded_estimate(0.5, np.arange(101) / 100, n=20, factor=1.2))
    '0.500 [-0.070, 1.070] (n = 20)'
    """
    lower, upper = expanded(np.array(value), *interval(draws), factor)
    return Estimate(float(value), float(lower), float(upper), n)


def few_clusters(m: Shaped[np.ndarray, "*k"], level: float = 0.95) -> Float[np.ndarray, "*k"]:
    """How much wider limits from a bootstrap over m clusters must be than the percentile interval: 1 for many.

    √(m / (m − 1)) mends the variance, which a bootstrap takes with divisor m, and Student's t the tails. Infinite
    of one cluster.

    >>> few_clusters(np.array([3, 10, 1000])).round(2)
    array([2.69, 1.22, 1.  ])

    Source: Hesterberg 2015, Am. Stat. 69(4), "narrowness bias".
    """
    m = np.asarray(m, np.float64)
    tail = (1 + level) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.sqrt(m / (m - 1)) * distributions.t.ppf(tail, m - 1) / distributions.norm.ppf(tail)
    return np.where(m > 1, factor, np.inf)


def over_runs(
    values: Float[np.ndarray, "runs *k"],
    drawn: Float[np.ndarray, "draws *k"],
    n: int,
    factor: float = 1.0,
    level: float = 0.95,
) -> tuple[Float[np.ndarray, "*k"], Float[np.ndarray, "*k"]]:
    """Limits of a mean over runs (seeds, or pairs of runs): the variance over clusters and that between runs, added.

    Args:
        values: of each run, on all clusters.
        drawn: of the mean over runs, under bootstrap weights that all runs share.
        n: clusters.
        factor: by which the standard error over clusters is multiplied (see `OUT_OF_FOLD`).
        level: of the interval.

    Returns:
        Lower and upper limits. Of a single run they are the percentile limits over clusters: differences between runs
        are then not included, and whoever prints them says so.

    The two standard errors, over clusters and s / √runs, are added by `half_width`. A bootstrap over three runs has ten
    different draws and sees two thirds of their variance.

    >>> drawn = 0.6 + 0.01 * np.random.default_rng(0).normal(size=(400, 1))  # leaves move the mean little
    >>> lower, upper = over_runs(np.array([[0.5], [0.6], [0.7]]), drawn, n=351)  # the runs differ much
    >>> lower.round(2), upper.round(2)
    (array([0.35]), array([0.85]))
    """
    values, drawn = np.asarray(values, np.float64), np.asarray(drawn, np.float64)
    mean = values.mean(axis=0)
    if len(values) == 1:
        return expanded(mean, *interval(drawn, level), factor)
    half = half_width(_parts(values, drawn, n, factor), (1 + level) / 2)
    return mean - half, mean + half


def curve_over_runs(
    values: Float[np.ndarray, "runs *k"],
    drawn: Float[np.ndarray, "draws *k"],
    n: int,
    factor: float = 1.0,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Float[np.ndarray, "draws *k"], Float[np.ndarray, "*k"]]:
    """Draws of a mean curve over several runs that vary as clusters and runs do, and the inflation of a band of them.

    Arguments as in `over_runs`. Every draw adds to that over clusters the deviations of the runs from their mean,
    times independent normal numbers over √(runs · (runs − 1)): the covariance along the curve is that of a mean over
    runs. A one-sided band is inflated by Student's t in the normal quantile's place.

    >>> drawn = 0.6 + 0.01 * np.random.default_rng(0).normal(size=(400, 1))
    >>> draws, inflation = curve_over_runs(np.array([[0.5], [0.6], [0.7]]), drawn, n=351)
    >>> draws.std(axis=0).round(2), inflation.round(1)
    (array([0.06]), array([1.8]))
    """
    values, drawn = np.asarray(values, np.float64), np.asarray(drawn, np.float64)
    mean, runs = values.mean(axis=0), len(values)
    parts = _parts(values, drawn, n, factor)
    share = stream(seed, "runs").normal(size=(len(drawn), runs)) / np.sqrt(runs * (runs - 1))
    between = np.tensordot(share, values - mean, axes=1)
    normal = half_width([(variance, np.inf) for variance, _ in parts], level)
    inflation = np.divide(half_width(parts, level), normal, out=np.ones_like(mean), where=normal > 0)
    return mean + factor * (drawn - mean) + between, inflation


def half_width(
    parts: Sequence[tuple[Float[np.ndarray, "*k"] | float, float]], tail: float = 0.975
) -> Float[np.ndarray, "*k"]:
    """How far limits are from a mean whose variance has several parts, each with its own degrees of freedom.

    Each standard error is multiplied by its own Student's t before they are added in squares. One t of Satterthwaite's
    degrees of freedom for their sum covers .87 to .95 where a part of two or three runs is the larger one.

    >>> half_width([(0.01, 350), (0.04, 2)]).round(2)  # three runs, between which most of the variance is
    np.float64(0.88)

    Source: Howe 1974, J. Am. Stat. Assoc. 69(347), of the first order.
    """
    return np.sqrt(sum(distributions.t.ppf(tail, freedom) ** 2 * variance for variance, freedom in parts))


def _parts(values, drawn, n, factor):
    """The variances of a mean over runs, over clusters and between runs, and their degrees of freedom."""
    runs = len(values)
    clusters, between = factor**2 * np.nanvar(drawn, axis=0, ddof=1), values.var(axis=0, ddof=1) / runs
    return [(clusters, n - 1), (between, runs - 1)]
