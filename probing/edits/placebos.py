"""Placebos that are drawn (edges, labels, directions): limits of an effect beyond theirs, and its rank among them."""

from __future__ import annotations

from itertools import product

import numpy as np
from jaxtyping import Float, Int

from probing.stats.estimates import Estimate
from probing.stats.limits import expanded_estimate, few_clusters, over_runs
from probing.stats.seeding import stream

FEWEST = 19
"""Draws below which a single group has no p as small as .05."""
_ASSIGNMENTS = 2_000
_ROUNDING = 1e-9  # of a standard deviation: sums of the same numbers in another order


def over_clusters(value: float, drawn: Float[np.ndarray, " draws"], m: int, n: int) -> Estimate:
    """An estimate whose limits are the percentile limits over clusters, wider where they are few; NaN for a single one.

    Args:
        value: the number.
        drawn: the same under bootstrap weights.
        m: clusters that it rests on, the smaller side of a difference.
        n: clusters in all.

    >>> str(over_clusters(0.5, np.arange(101) / 100, m=10, n=20))
    '0.500 [-0.078, 1.078] (n = 20)'
    """
    if m < 2:
        return Estimate(float(value), float("nan"), float("nan"), n)
    return expanded_estimate(value, drawn, n, few_clusters(np.array(m)))


def over_draws(
    values: Float[np.ndarray, " placebos"], drawn: Float[np.ndarray, " draws"], m: int, n: int
) -> Estimate:
    """An estimate of a mean over placebos, with limits over clusters and over draws of placebos; NaN for a single one.

    Args:
        values: with each placebo.
        drawn: their mean under bootstrap weights of the clusters.
        m: clusters that it rests on, the smaller side of a difference.
        n: clusters in all.

    The variance between draws is that of draws which all clusters share, and stays however many clusters there are.

    >>> drawn = 0.5 + 0.01 * np.random.default_rng(0).normal(size=400)
    >>> str(over_draws(np.array([0.2, 0.5, 0.8]), drawn, m=50, n=50))
    '0.500 [-0.246, 1.246] (n = 50)'
    """
    mean = float(np.mean(values))
    if len(values) < 2 or m < 2:
        return Estimate(mean, float("nan"), float("nan"), n)
    lower, upper = over_runs(values, drawn, n=m, factor=np.sqrt(m / (m - 1)))
    return Estimate(mean, float(lower), float(upper), n)


def rank_p(
    values: Float[np.ndarray, "groups sets cells"], seed: int = 0, corrected: bool = True
) -> Float[np.ndarray, " cells"]:
    """One-sided p that the first set is no larger than the others, in the mean over groups; NaN where none can be .05.

    Exact when, in each group, the first set could as well be any of the others: the observed mean is ranked among those
    with another set of each group in its place. `corrected` ranks it among the largest over all cells, each in standard
    deviations over sets. The smallest p of a single group is 1 / sets, so that it takes 19 draws. A cell with NaN in
    any set has none, and no part in the largest.

    >>> losses = np.array([[[5.0], *([float(draw)] for draw in range(-16, 3))]])  # one group, 1 + 19 sets, one cell
    >>> rank_p(losses)
    array([0.05])
    >>> rank_p(losses[:, :3])
    array([nan])

    Source: Westfall & Young 1993, Resampling-Based Multiple Testing, ch. 2; Phipson & Smyth 2010, Stat. Appl. Genet.
    Mol. Biol. 9(1), on counting the observed one.
    """
    values = np.asarray(values, float)
    groups, sets, cells = values.shape
    defined = ~np.isnan(values).any(axis=(0, 1))
    if sets**groups < FEWEST + 1 or not defined.any():
        return np.full(cells, np.nan)
    if not defined.all():
        p = np.full(cells, np.nan)
        p[defined] = rank_p(values[..., defined], seed, corrected)
        return p
    chosen = _assignments(groups, sets, seed)
    means = values[np.arange(groups), chosen].mean(axis=1)
    spread = np.sqrt(values.var(axis=1, ddof=1).mean(axis=0))
    scores = (means - values.mean(axis=(0, 1))) / np.where(spread > 0, spread, 1)
    reference = scores.max(axis=1, keepdims=True) if corrected else scores
    return (reference >= scores[0] - _ROUNDING).mean(axis=0)


def _assignments(groups: int, sets: int, seed: int) -> Int[np.ndarray, "assignments groups"]:
    """Which set of each group stands in the place of the first: all choices, or a draw of them; observed one first."""
    if sets**groups <= _ASSIGNMENTS:
        return np.array(list(product(range(sets), repeat=groups)))
    rng = stream(seed, "sets in the place of the first")
    drawn = rng.integers(sets, size=(_ASSIGNMENTS - 1, groups))
    return np.vstack([np.zeros((1, groups), int), drawn])
