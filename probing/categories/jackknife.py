"""The interval of a statistic of many leaves at once, from leaving out groups of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Shaped
from scipy.stats import t

from probing.stats import Estimate

GROUPS = 10


def jackknife(
    of: Callable[[np.ndarray], float], rows: Shaped[np.ndarray, "n *d"], groups: int = GROUPS
) -> Estimate:
    """A statistic of the rows with its 95 % interval from leaving out groups of rows in turn.

    For statistics in which each row's part depends on the other rows (its nearest neighbour, its category's mean): a
    bootstrap that holds the parts fixed is too narrow, and one that repeats rows makes each its own neighbour.

    >>> str(jackknife(np.mean, np.arange(100.0)))
    '49.500 [42.413, 56.587] (n = 100)'

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 11 (delete-d jackknife in groups).
    """
    groups = min(groups, len(rows))
    group = np.random.Generator(np.random.PCG64(0)).permutation(len(rows)) % groups
    left = np.array([of(rows[group != k]) for k in range(groups)])
    value = of(rows)
    spread = np.sqrt((groups - 1) / groups * ((left - left.mean()) ** 2).sum())
    half = float(t.ppf(0.975, groups - 1)) * spread
    return Estimate(value, value - half, value + half, len(rows))
