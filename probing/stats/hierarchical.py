"""Intervals of a mean over hypernyms: the hierarchical bootstrap, and the study's t-interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats as distributions

from probing.stats.clusters import ClusterStatistic
from probing.stats.estimates import DRAWS, Estimate, check_paired, draw_weights, estimate
from probing.stats.seeding import stream
from probing.stats.undefined import divide, nan_mean

LEVELS = ("hypernym", "leaf", "seed")


def t_interval(values: Float[np.ndarray, "*any"], level: float = 0.95) -> Estimate:
    """The mean of all values and t(.975, n − 1) · sd / √n about it: the study's rule.

    It takes every hypernym of every seed for an independent draw, and leaves and pictures for fixed;
    expect it to be too narrow. Undefined values are left out.

    Raises:
        ValueError: fewer than 2 values are defined.
    """
    values = np.asarray(values, np.float64).ravel()
    values = values[~np.isnan(values)]
    if len(values) < 2:
        raise ValueError(f"a t-interval needs at least 2 values, found {len(values)}")
    mean = float(values.mean())
    half = float(
        distributions.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    )
    return Estimate(mean, mean - half, mean + half, len(values))


def hierarchical(
    runs: Sequence[ClusterStatistic], *, over: Sequence[str] = LEVELS, draws: int = DRAWS, seed: int = 0
) -> Estimate:
    """The mean over runs (seeds) and hypernyms, under resampled hypernyms, leaves and seeds.

    The levels are crossed: every run answers about the same leaves and hypernyms, so one draw of leaves,
    one of hypernyms and one of runs are combined. A level that is not in `over` stays fixed. Undefined
    values (a hypernym without a class in a draw) are left out. With few runs the seed level is too narrow:
    3 runs allow only 10 different draws.

    Args:
        runs: a statistic per training seed, on the same leaves, with the same hypernyms in the same columns.
        over: which of hypernym, leaf and seed are resampled.
        draws: number of bootstrap draws.
        seed: of the draws.

    Returns:
        The estimate; n is the number of leaves.

    Source: Owen 2007, Ann. Appl. Stat. 1(2), "The pigeonhole bootstrap" (crossed factors).
    """
    value, drawn = _resample(runs, over, draws, seed)
    return estimate(value, drawn, len(runs[0].clusters))


def hierarchical_contrast(
    first: Sequence[ClusterStatistic],
    second: Sequence[ClusterStatistic],
    *,
    over: Sequence[str] = LEVELS,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """The difference of the two means; both see the same hypernyms, leaves and seeds in every draw.

    Raises:
        ValueError: the two do not have the same leaves, hypernyms or number of runs.
    """
    if len(first) != len(second):
        raise ValueError(
            f"a paired contrast needs as many runs on each side, found {len(first)} and {len(second)}; give "
            "the runs of the seeds that both have"
        )
    check_paired(first[0], second[0])
    value, drawn = _resample(first, over, draws, seed)
    other, other_drawn = _resample(second, over, draws, seed)
    return estimate(value - other, drawn - other_drawn, len(first[0].clusters))


def bootstrap_table(values: Float[np.ndarray, "seeds k"], *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """The mean of a table of finished scores under resampled hypernyms and seeds; n counts hypernyms."""
    values = np.asarray(values, np.float64)
    fixed = np.broadcast_to(values, (draws, *values.shape))
    return mean_over(values, fixed, values.shape[1], over=("hypernym", "seed"), seed=seed)


def leaf_weights(n_leaves: int, draws: int = DRAWS, seed: int = 0) -> Float[np.ndarray, "draws leaves"]:
    """How often each leaf is drawn in each bootstrap sample of a hierarchical bootstrap with that seed."""
    return draw_weights(n_leaves, draws, _seed(seed, "leaf"))


def mean_over(
    values: Float[np.ndarray, "seeds k"],
    drawn: Float[np.ndarray, "draws seeds k"],
    n: int,
    *,
    over: Sequence[str] = ("hypernym", "leaf"),
    seed: int = 0,
) -> Estimate:
    """The mean over seeds and hypernyms of values that were already recomputed under resampled leaves."""
    value, means = _mean_draws(np.asarray(values), np.asarray(drawn), over, seed)
    return estimate(value, means, n)


def _resample(
    runs: Sequence[ClusterStatistic], over: Sequence[str], draws: int, seed: int
) -> tuple[float, Float[np.ndarray, " draws"]]:
    if not runs:
        raise ValueError("a hierarchical bootstrap needs at least one run, found none")
    for run in runs[1:]:
        check_paired(runs[0], run)
    values = np.stack([run.value for run in runs])
    if "leaf" in over:
        weights = leaf_weights(len(runs[0].clusters), draws, seed)
        drawn = np.stack([run.at(weights) for run in runs], axis=1)
    else:
        drawn = np.broadcast_to(values, (draws, *values.shape))
    return _mean_draws(values, drawn, over, seed)


def _mean_draws(
    values: Float[np.ndarray, "seeds k"],
    drawn: Float[np.ndarray, "draws seeds k"],
    over: Sequence[str],
    seed: int,
) -> tuple[float, Float[np.ndarray, " draws"]]:
    """The mean, and its bootstrap draws; undefined values are left out of both."""
    if unknown := sorted(set(over) - set(LEVELS)):
        raise KeyError(f"levels {unknown} were asked for; known: {', '.join(LEVELS)}")
    sides = []
    for level, size in (("hypernym", values.shape[1]), ("seed", values.shape[0])):
        chosen = draw_weights(size, len(drawn), _seed(seed, level)) if level in over else None
        sides.append(np.ones((len(drawn), size)) if chosen is None else chosen)
    weights = sides[1][:, :, None] * sides[0][:, None, :] * ~np.isnan(drawn)
    total = weights.sum(axis=(1, 2))
    summed = (weights * np.nan_to_num(drawn)).sum(axis=(1, 2))
    return float(nan_mean(values.ravel())), divide(summed, total)


def _seed(seed: int, level: str) -> int:
    return int(stream(seed, "bootstrap", level).integers(2**62))
