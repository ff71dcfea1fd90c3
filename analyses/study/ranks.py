"""Signed ranks: read-outs in the fewest bytes that leave every AUROC and every decision as it is."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Float, Int

_UNDEFINED = -(2**15)


def signed_ranks(values: Float[np.ndarray, "n k"]) -> Int[np.ndarray, "n k"]:
    """Each column's values by their rank: 1, 2, … for those above 0, 0, −1, … for the others; equal ones are equal.

    >>> signed_ranks(np.array([[-3.0], [0.5], [0.5], [np.nan], [7.0]])).ravel().tolist()
    [0, 1, 1, -32768, 2]
    """
    ranks = np.full(values.shape, _UNDEFINED, dtype=np.int16)
    for column, own in enumerate(np.asarray(values, dtype=np.float64).T):
        defined = ~np.isnan(own)
        levels = np.unique(own[defined])
        ranks[defined, column] = np.searchsorted(levels, own[defined]) - np.sum(levels <= 0) + 1
    return ranks


def threshold_ranks(
    thresholds: Float[np.ndarray, " k"], values: Float[np.ndarray, "n k"]
) -> Int[np.ndarray, " k"]:
    """For each column the rank above which its values are above its threshold."""
    levels = [np.unique(own[~np.isnan(own)]) for own in np.asarray(values, dtype=np.float64).T]
    pairs = zip(levels, thresholds, strict=True)
    return np.array([np.sum(own <= limit) - np.sum(own <= 0) for own, limit in pairs], dtype=np.int16)


def readouts(ranks: Int[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Ranks as read-outs: numbers in the same order, on the same side of 0; NaN where there was none."""
    return np.where(ranks == _UNDEFINED, np.nan, ranks)


def key_of(ranks: Int[np.ndarray, "n k"], names: np.ndarray) -> str:
    """A key of ranks and the names of their rows, by content."""
    text = "\n".join(map(str, names)).encode()
    return hashlib.sha256(ranks.astype("<i2").tobytes() + text).hexdigest()[:16]
