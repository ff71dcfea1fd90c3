"""Overlap of two sets of parts against chance, and how stable a set is when other leaves are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import hypergeom

from probing.patching.circuits.curves import nested
from probing.patching.circuits.gates import order_of


def jaccard(first: Bool[np.ndarray, "*sets parts"], second: Bool[np.ndarray, "*sets parts"]) -> np.ndarray:
    """Shared parts over parts in either set; NaN of two empty sets.

    >>> jaccard(np.array([True, True, False]), np.array([False, True, True])).round(2)
    np.float64(0.33)
    """
    either = (first | second).sum(-1)
    return np.where(either > 0, (first & second).sum(-1) / np.maximum(either, 1), np.nan)


@dataclass(frozen=True)
class Overlap:
    """The number of parts that two sets share, and what chance gives.

    Attributes:
        shared: parts in both.
        expected: under the null.
        p: of as many or more under the null, exact.
        jaccard: shared over parts in either.
    """

    shared: int
    expected: float
    p: float
    jaccard: float


def overlap(
    first: Bool[np.ndarray, " parts"],
    second: Bool[np.ndarray, " parts"],
    strata: Sequence[object] | None = None,
) -> Overlap:
    """The overlap of two sets beside that of sets of the same size drawn at random.

    Without strata the number of shared parts is hypergeometric. With strata (layer and kind, say) the drawn sets have
    as many parts of each as the second set has: the number is a sum of independent hypergeometric ones, and two sets
    that merely lie in the same layers share no more than chance.

    >>> first, second = (np.arange(10) < size for size in (3, 4))
    >>> one = overlap(first, second)
    >>> one.shared, round(one.expected, 2), round(one.p, 4)
    (3, 1.2, 0.0333)

    Raises:
        ValueError: sets over other parts.
    """
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(
            f"sets over {first.shape} and {second.shape} parts were given; they have the same parts"
        )
    of = (
        np.array([str(one) for one in strata])
        if strata is not None
        else np.zeros(len(first), int).astype(str)
    )
    chances, expected = np.ones(1), 0.0
    for name in sorted(set(of.tolist())):
        inside = of == name
        size, in_first, in_second = int(inside.sum()), int(first[inside].sum()), int(second[inside].sum())
        chances = np.convolve(chances, hypergeom.pmf(np.arange(in_second + 1), size, in_first, in_second))
        expected += in_first * in_second / size
    shared = int((first & second).sum())
    p = float(min(1.0, chances[shared:].sum()))
    return Overlap(shared, expected, p, float(jaccard(first, second)))


def redrawn(
    contributions: Float[np.ndarray, "parts leaves"], size: int, weights: Float[np.ndarray, "draws leaves"]
) -> Bool[np.ndarray, "draws parts"]:
    """The set of the largest mean contributions with leaves drawn again.

    Leaves that are drawn again lie around the ones at hand, so that the sets differ more from each other than from the
    set of these, and less from that than the set of new leaves would.

    >>> redrawn(np.array([[1.0, 0.0], [0.0, 1.0]]), 1, np.array([[2.0, 0.0], [0.0, 2.0]]))
    array([[ True, False],
           [False,  True]])

    Source: Méloux, Portet & Peyrard 2025, arXiv:2510.00845.
    """
    scores = np.asarray(weights, float) @ np.asarray(contributions, float).T
    return np.stack([nested(order_of(one), [size])[0] for one in scores])
