"""Intervals of a mean over hypernyms: variances of leaves, hypernyms and seeds added, and the study's t-interval."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats as distributions

from probing.stats.clusters import ClusterStatistic
from probing.stats.estimates import DRAWS, Estimate, check_paired, draw_weights, interval
from probing.stats.limits import expanded, few_clusters, half_width
from probing.stats.seeding import stream
from probing.stats.undefined import nan_mean

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
    """The mean over runs (seeds) and hypernyms, with a 95 % interval over other leaves, hypernyms and seeds.

    The levels are crossed: every run answers about the same leaves and hypernyms. The variance over leaves is that of
    the mean in a bootstrap; to it are added what hypernyms vary beyond their own leaves, and what runs vary, each with
    its own Student's t (`half_width`). A bootstrap of all levels at once would count what is peculiar to a leaf and a
    hypernym up to three times, and of three runs see two thirds of their variance. A level that is not in `over` stays
    fixed, as does the seed of a single run. Undefined values (a hypernym without a class in a draw) are left out.

    Args:
        runs: a statistic per training seed, on the same leaves, with the same hypernyms in the same columns.
        over: to which of hypernym, leaf and seed the interval generalises.
        draws: number of bootstrap draws of leaves.
        seed: of the draws.

    Returns:
        The estimate; n is the number of leaves.

    Source: Cameron, Gelbach & Miller 2011, J. Bus. Econ. Stat. 29(2), eq. 2.9 (two-way clusters); Owen
    2007, Ann. Appl. Stat. 1(2) (what a bootstrap of crossed factors counts too often).
    """
    return mean_over(*_resample(runs, over, draws, seed), len(runs[0].clusters), over=over)


def hierarchical_contrast(
    first: Sequence[ClusterStatistic],
    second: Sequence[ClusterStatistic],
    *,
    over: Sequence[str] = LEVELS,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """The difference of the two means, with an interval of the differences of each run and hypernym.

    Raises:
        ValueError: the two do not have the same leaves, hypernyms or number of runs.
    """
    if len(first) != len(second):
        raise ValueError(
            f"a paired contrast needs as many runs on each side, found {len(first)} and {len(second)}; give "
            "the runs of the seeds that both have"
        )
    check_paired(first[0], second[0])
    (one, drawn), (other, other_drawn) = (_resample(side, over, draws, seed) for side in (first, second))
    value = float(nan_mean(one.ravel())) - float(nan_mean(other.ravel()))
    n = len(first[0].clusters)
    return Estimate(value, *_limits(value, one - other, drawn - other_drawn, n, over), n)


def table_interval(values: Float[np.ndarray, "seeds k"]) -> Estimate:
    """The mean of a table of finished scores, with an interval over other hypernyms and seeds; n counts hypernyms."""
    values = np.asarray(values, np.float64)
    return mean_over(values, values[None], values.shape[1], over=("hypernym", "seed"))


def leaf_weights(n_leaves: int, draws: int = DRAWS, seed: int = 0) -> Float[np.ndarray, "draws leaves"]:
    """How often each leaf is drawn in each bootstrap sample of a hierarchical bootstrap with that seed."""
    return draw_weights(n_leaves, draws, int(stream(seed, "bootstrap", "leaf").integers(2**62)))


def mean_over(
    values: Float[np.ndarray, "seeds k"],
    drawn: Float[np.ndarray, "draws seeds k"],
    n: int,
    *,
    over: Sequence[str] = LEVELS,
    leaves: int | None = None,
) -> Estimate:
    """The mean over seeds and hypernyms of values that were already recomputed under resampled leaves.

    Args:
        values: of each seed and hypernym.
        drawn: the same under weights of leaves that all share.
        n: of the estimate.
        over: to which levels besides the leaves the interval generalises.
        leaves: on how many it rests, by default n; the few of a single hypernym widen its limits (`few_clusters`).
    """
    value = float(nan_mean(np.asarray(values).ravel()))
    return Estimate(value, *_limits(value, values, drawn, n if leaves is None else leaves, over), n)


def _resample(
    runs: Sequence[ClusterStatistic], over: Sequence[str], draws: int, seed: int
) -> tuple[Float[np.ndarray, "seeds k"], Float[np.ndarray, "draws seeds k"]]:
    """The values of runs, and the same under resampled leaves."""
    if not runs:
        raise ValueError("a hierarchical bootstrap needs at least one run, found none")
    for run in runs[1:]:
        check_paired(runs[0], run)
    values = np.stack([run.value for run in runs])
    if "leaf" not in over:
        return values, values[None]
    weights = leaf_weights(len(runs[0].clusters), draws, seed)
    return values, np.stack([run.at(weights) for run in runs], axis=1)


def _limits(
    value: float,
    values: Float[np.ndarray, "seeds k"],
    drawn: Float[np.ndarray, "draws seeds k"],
    leaves: int,
    over: Sequence[str],
) -> tuple[float, float]:
    """The 95 % limits of a mean: percentiles over leaves where nothing else varies, else Student's t."""
    if unknown := sorted(set(over) - set(LEVELS)):
        raise KeyError(f"levels {unknown} were asked for; known: {', '.join(LEVELS)}")
    if leaves < 2 or np.isnan(value):
        return float("nan"), float("nan")
    of_hypernym, of_draws = nan_mean(values.T), nan_mean(np.moveaxis(drawn, 1, 2))
    hypernyms, means = int((~np.isnan(of_hypernym)).sum()), nan_mean(of_draws)
    parts = [(_variance(means) * leaves / (leaves - 1), leaves - 1)]
    if "hypernym" in over and hypernyms > 1:
        own = np.nansum(_variance(of_draws)) / hypernyms**2
        parts.append((max(0.0, _variance(of_hypernym) / hypernyms - own), hypernyms - 1))
    if "seed" in over and len(values) > 1:
        parts.append((_variance(nan_mean(values)) / len(values), len(values) - 1))
    if len(parts) == 1:
        # About the value: draws can be biased, as those of a macro-F1 over leaves are, by two standard errors.
        about = means - nan_mean(means) + value
        lower, upper = expanded(np.array(value), *interval(about), few_clusters(np.array(leaves)))
        return float(lower), float(upper)
    half = float(half_width(parts))
    return value - half, value + half


def _variance(values: Float[np.ndarray, "n *k"]) -> Float[np.ndarray, "*k"]:
    """The sample variance along the first axis, undefined values left out; 0 of a single row."""
    if len(values) == 1:
        return np.zeros(values.shape[1:])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Degrees of freedom", RuntimeWarning)
        return np.nanvar(values, axis=0, ddof=1)
