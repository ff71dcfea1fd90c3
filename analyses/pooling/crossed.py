"""Means over runs and units that share clusters: limits that hold over other hypernyms and other seeds at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy import stats as distributions

from probing.stats import (
    DRAWS,
    ClusterMean,
    DyadMean,
    draw_weights,
    studentised_band,
    studentised_interval,
)
from probing.stats.clusters import alike_columns
from probing.stats.undefined import nan_mean

LEVEL = 0.95


@dataclass(frozen=True)
class CrossedMean:
    """Means of cells over runs and units, each alone and all at once.

    Attributes:
        value: of each cell, the mean over runs of the mean over units.
        lower: of the 95 % interval of each cell alone.
        upper: likewise.
        band_lower: of the 95 % band of all cells at once.
        band_upper: likewise.
        each: of each run, the mean over units.
        n: units that each cell rests on.
        clusters: how many of them were drawn.
    """

    value: Float[np.ndarray, " cells"]
    lower: Float[np.ndarray, " cells"]
    upper: Float[np.ndarray, " cells"]
    band_lower: Float[np.ndarray, " cells"]
    band_upper: Float[np.ndarray, " cells"]
    each: Float[np.ndarray, "runs cells"]
    n: Int[np.ndarray, " cells"]
    clusters: Int[np.ndarray, " cells"]


@dataclass(frozen=True)
class _OverClusters:
    """Means over units with their standard errors, of all units and of bootstrap draws of their clusters."""

    value: Float[np.ndarray, " cells"]
    error: Float[np.ndarray, " cells"]
    drawn: Float[np.ndarray, "draws cells"]
    errors: Float[np.ndarray, "draws cells"]
    n: Int[np.ndarray, " cells"]
    clusters: Int[np.ndarray, " cells"]


def crossed_mean(
    values: Float[np.ndarray, "runs cells units"],
    ends: Shaped[np.ndarray, "units *two"],
    scales: Shaped[np.ndarray, " cells"],
    draws: int = DRAWS,
    seed: int = 0,
) -> CrossedMean:
    """The mean of each cell over runs and units; units without a number in one of the runs are left out of the cell.

    Two standard errors are multiplied by their own quantiles and added in squares, as in `probing.stats.half_width`:
    that over clusters, of the mean over runs, by those of a studentised bootstrap; that between runs, s / √runs, by
    Student's t. For the band the first quantile is that of the largest cell. Between runs a cell counts no spread less
    than the root mean square of all cells of its scale, since of few runs the smallest of many spreads is no estimate:
    Student's t is then wide enough where all cells go up and down together, the normal quantile of as many independent
    numbers where each goes its own way, and the larger of the two is taken.
    Of one run, differences between runs are not included.

    >>> values = np.random.default_rng(0).normal([[[2.0]], [[2.2]], [[1.8]]], 0.1, size=(3, 1, 40))
    >>> mean = crossed_mean(values, np.arange(40), np.array(["nats"]))
    >>> mean.value.round(1), mean.lower.round(1), mean.upper.round(1)
    (array([2.]), array([1.5]), array([2.5]))

    Args:
        values: of the same units in every run.
        ends: the cluster of each unit, or the two clusters between which it lies.
        scales: what each cell is measured in: spreads of cells of one scale are comparable.
        draws: bootstrap draws.
        seed: of the draws.

    Source: Howe 1974, J. Am. Stat. Assoc. 69(347) (the sum); Romano & Wolf 2005, JASA 100(469) (the band).
    """
    over = _over_clusters(values.mean(axis=0), ends, draws, seed)
    defined = ~np.isnan(values).any(axis=0)
    each = nan_mean(np.where(defined, values, np.nan))
    lower, upper = _alone(over)
    band_lower, band_upper = _at_once(over)
    limits = [over.value - lower, upper - over.value, over.value - band_lower, band_upper - over.value]
    if len(values) > 1:
        between, kinds = each.var(axis=0, ddof=1) / len(values), list(dict.fromkeys(scales))
        pooled = np.array([nan_mean(between[scales == scale]) for scale in scales])
        alone, at_once = (_student(1 - tail, len(values)) for tail in (0.025, 0.025 / len(kinds)))
        at_once = max(at_once, float(distributions.norm.ppf(1 - 0.025 / len(scales))))
        parts = [alone**2 * between] * 2 + [at_once**2 * np.maximum(between, pooled)] * 2
        limits = [np.sqrt(half**2 + part) for half, part in zip(limits, parts)]
    signs = (-1, 1, -1, 1)
    return CrossedMean(
        over.value,
        *(over.value + sign * half for sign, half in zip(signs, limits)),
        each=each,
        n=over.n,
        clusters=over.clusters,
    )


def error_over_clusters(
    values: Float[np.ndarray, "cells units"], ends: Shaped[np.ndarray, "units *two"]
) -> tuple[Float[np.ndarray, " cells"], Float[np.ndarray, " cells"], Int[np.ndarray, " cells"]]:
    """The mean of each cell over units, its standard error over their clusters, and the number of these."""
    over = _over_clusters(values, ends, 1, 0)
    return over.value, over.error, over.clusters


def _over_clusters(
    mean: Float[np.ndarray, "cells units"], ends: Shaped[np.ndarray, "units *two"], draws: int, seed: int
) -> _OverClusters:
    """Means over units, cells that miss the same units together; all are drawn by the same weights of clusters."""
    names, weights = _weights(ends, draws, seed)
    count = len(mean)
    over = _OverClusters(
        *(np.full(count, np.nan) for _ in range(2)),
        *(np.full((draws, count), np.nan) for _ in range(2)),
        *(np.zeros(count, int) for _ in range(2)),
    )
    missing = np.isnan(mean).T
    for cells in alike_columns(missing):
        units = ~missing[:, cells[0]]
        if not units.any():
            continue
        of = (ClusterMean if ends.ndim == 1 else DyadMean)(mean[cells][:, units].T, ends[units])
        own = weights[:, np.searchsorted(names, of.clusters)]
        over.value[cells], over.error[cells] = of.value, of.error
        over.drawn[:, cells], over.errors[:, cells] = of.at(own), of.errors(own)
        over.n[cells], over.clusters[cells] = units.sum(), len(of.clusters)
    return over


def _weights(
    ends: Shaped[np.ndarray, "units *two"], draws: int, seed: int
) -> tuple[np.ndarray, Float[np.ndarray, "draws clusters"]]:
    """All clusters, sorted, and how often each is drawn; two sides that share no cluster are drawn apart."""
    names = np.unique(ends)
    sides = [names] if ends.ndim == 1 else [np.unique(side) for side in ends.T]
    if len(sides) == 2 and np.isin(sides[0], sides[1]).any():
        sides = [names]
    weights = np.zeros((draws, len(names)))
    for at, side in enumerate(sides):
        weights[:, np.searchsorted(names, side)] = draw_weights(len(side), draws, seed + at)
    return names, weights


def _alone(over: _OverClusters) -> tuple[Float[np.ndarray, " cells"], Float[np.ndarray, " cells"]]:
    """Limits of each cell alone, over other clusters."""
    lower, upper = np.full((2, len(over.value)), np.nan)
    for clusters in np.unique(over.clusters):
        own = over.clusters == clusters
        numbers = (over.value[own], over.error[own], over.drawn[:, own], over.errors[:, own])
        lower[own], upper[own] = studentised_interval(*numbers, int(clusters), LEVEL)
    return lower, upper


def _at_once(over: _OverClusters) -> tuple[Float[np.ndarray, " cells"], Float[np.ndarray, " cells"]]:
    """Limits that hold for all cells at once, over other clusters; each side at half of what may go wrong."""
    defined: Bool[np.ndarray, " cells"] = ~np.isnan(over.error)
    lower, upper = np.full((2, len(over.value)), np.nan)
    if defined.any():
        value, drawn = over.value[defined], over.drawn[:, defined]
        error, errors = over.error[defined], over.errors[:, defined]
        rest = int(over.clusters[defined].min()), (1 + LEVEL) / 2
        lower[defined] = studentised_band(value, error, drawn, errors, *rest)
        upper[defined] = -studentised_band(-value, error, -drawn, errors, *rest)
    return lower, upper


def _student(level: float, runs: int) -> float:
    return float(distributions.t.ppf(level, runs - 1))
