"""Minimum description length of labels given features: how much effort a probe needs, not only how well it does."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Shaped

from probing.probes.fitted import Array, FittedProbes
from probing.probes.linear import PENALTIES
from probing.probes.logistic import fit_logistic
from probing.probes.places import host, take_rows
from probing.stats import (
    OUT_OF_FOLD,
    OUT_OF_FOLD_DECISIONS,
    ClusterMean,
    Estimate,
    expanded,
    interval,
    nan_mean,
)

FRACTIONS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
_FIRST_GROUPS = 8  # a probe of fewer leaves is sure of what it does not know, and the code would measure that
_LEAST = 2.0**-20  # of a probability: no single label costs more than 20 bits


def online_code(
    features: Float[Array, "n d"],
    labels: Bool[np.ndarray, "n t"],
    groups: Shaped[np.ndarray, " n"],
    fit: Callable[..., FittedProbes] = fit_logistic,
    penalties: tuple[float, ...] = PENALTIES,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
) -> Float[np.ndarray, "n t"]:
    """Bits that each label costs when labels are sent in portions, each coded by a probe of all before it.

    Portions consist of whole groups (leaf concepts), so that remembering a leaf saves nothing. The first
    portion, and targets whose labels so far are all alike, cost one bit a label: the uniform code.

    Source: Voita & Titov 2020, EMNLP, eq. 3 (online code).

    Raises:
        ValueError: fractions that do not increase to 1, or fewer than four groups.
    """
    if list(fractions) != sorted(set(fractions)) or fractions[-1] != 1 or fractions[0] <= 0:
        raise ValueError(f"fractions must increase from above 0 to 1, found {tuple(fractions)}")
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 4:
        raise ValueError(f"an online code needs four groups or more, found {len(names)}")
    turn = np.random.Generator(np.random.PCG64(seed)).permutation(len(names))[codes]
    first = min(_FIRST_GROUPS, len(names) // 2)
    ends = np.unique([max(first, round(fraction * len(names))) for fraction in fractions])
    bits = np.ones(labels.shape)
    for start, end in pairwise(ends):
        sent, coming = np.flatnonzero(turn < start), np.flatnonzero((turn >= start) & (turn < end))
        probes = fit(take_rows(features, sent), labels[sent].astype(np.float64), codes[sent], penalties)
        chance = host(probes.probabilities(probes.scores(take_rows(features, coming))))
        right = np.clip(np.where(labels[coming], chance, 1 - chance), _LEAST, 1)
        varied = labels[sent].any(axis=0) & ~labels[sent].all(axis=0)
        bits[coming] = np.where(varied, -np.log2(right), 1.0)
    return bits


def compression(
    bits: Float[np.ndarray, "n t"],
    groups: Shaped[np.ndarray, " n"],
    weights: Float[np.ndarray, "draws clusters"],
) -> Estimate:
    """How many times shorter than the uniform code (one bit a label) the code is, over all targets; 1 is no gain.

    Its limits are `OUT_OF_FOLD` · `OUT_OF_FOLD_DECISIONS` times as far from it as those of the bootstrap, which holds
    the probes fixed, and above 0.
    """
    statistic = ClusterMean(bits, groups)
    value, draws = 1 / nan_mean(statistic.value), 1 / nan_mean(statistic.at(weights))
    lower, upper = expanded(value, *interval(draws), OUT_OF_FOLD * OUT_OF_FOLD_DECISIONS)
    return Estimate(float(value), max(float(lower), 0.0), float(upper), len(statistic.clusters))
