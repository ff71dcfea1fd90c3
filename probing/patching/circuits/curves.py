"""Curves of a circuit over its size: faithfulness, completeness, minimality, and the areas under them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from probing.stats.undefined import divide


def nested(order: Int[np.ndarray, " parts"], sizes: Sequence[int]) -> Bool[np.ndarray, "sizes parts"]:
    """The sets of the first parts of an order.

    >>> nested(np.array([2, 0, 1]), [1, 2]).astype(int)
    array([[0, 0, 1],
           [1, 0, 1]])

    Raises:
        ValueError: a size that no set of these parts has.
    """
    rank = np.argsort(order)
    if wrong := [size for size in sizes if not 0 <= size <= len(order)]:
        raise ValueError(f"a set of {wrong[0]} parts was asked for; there are {len(order)}")
    return rank[None] < np.asarray(sizes)[:, None]


def drawn_order(
    rng: np.random.Generator,
    like: Int[np.ndarray, " parts"],
    strata: Sequence[object] | None = None,
) -> Int[np.ndarray, " parts"]:
    """A random order; with strata each rank has a part of the stratum that `like` has there.

    Sets of its first parts then have as many parts of every stratum (layer and kind, say) as those of `like`.

    >>> drawn_order(np.random.default_rng(0), np.array([3, 0, 1, 2]), ["a", "b", "a", "a"])
    array([2, 3, 1, 0])
    """
    if strata is None:
        return rng.permutation(len(like))
    of = np.array([str(one) for one in strata])
    order = np.array(like)
    for name in sorted(set(of.tolist())):
        places = np.flatnonzero(of[order] == name)
        order[places] = rng.permutation(order[places])
    return order


def shares(
    values: Float[np.ndarray, "*sets leaves"],
    none: Float[np.ndarray, " leaves"],
    whole: Float[np.ndarray, " leaves"],
    weights: Float[np.ndarray, "draws leaves"],
) -> Float[np.ndarray, "draws *sets"]:
    """The share of the model's effect that is left: (m(set) − m(none)) / (m(whole) − m(none)), of weighted means m.

    Of runs in which all but the set is ablated it is faithfulness, of runs in which the set is ablated the share that
    the set is not needed for: a complete set leaves 0. NaN where the whole does nothing.

    >>> shares(np.array([[2.0, 3.0]]), np.zeros(2), np.full(2, 5.0), np.ones((1, 2)))
    array([[0.5]])

    Args:
        values: of each leaf, with each set.
        none: with everything ablated.
        whole: with nothing ablated.
        weights: how often each leaf counts; ones for the value itself.

    Source: Mueller et al. 2025 (MIB), arXiv:2504.13151; Wang et al. 2023, arXiv:2211.00593, section 4.
    """
    values = np.asarray(values, float)
    top = np.moveaxis((values - none) @ np.asarray(weights, float).T, -1, 0)
    base = weights @ (whole - none)
    return divide(top, np.broadcast_to(base.reshape(-1, *[1] * (values.ndim - 1)), top.shape))


def area(
    share: Float[np.ndarray, "*sets sizes"],
    sizes: Sequence[int],
    parts: int,
    ends: tuple[float, float] = (0, 1),
) -> Float[np.ndarray, "*sets"]:
    """The area under a curve over the share of parts in the set, by trapezoids: CPR of faithfulness (MIB).

    1 is what parts would have whose first already does all; half is what parts of equal contributions have.

    >>> area(np.array([0.5]), [2], 4)
    array(0.5)

    Args:
        share: at each size.
        sizes: increasing, between 0 and all parts.
        parts: how many there are.
        ends: of the curve, with no part and with all of them.

    Raises:
        ValueError: sizes that do not increase, or lie outside.

    Source: Mueller et al. 2025, arXiv:2504.13151 (there over the share of edges).
    """
    x, y = _curve(share, sizes, parts, ends)
    return np.asarray(np.trapezoid(y, x, axis=-1))


def distance_area(
    share: Float[np.ndarray, "*sets sizes"], sizes: Sequence[int], parts: int
) -> Float[np.ndarray, "*sets"]:
    """The area between faithfulness and 1: CMD (MIB), 0 at best; a set that does more than the model loses as well.

    >>> distance_area(np.array([1.0]), [1], 4)
    array(0.125)

    Source: Mueller et al. 2025, arXiv:2504.13151.
    """
    x, y = _curve(share, sizes, parts, (0, 1))
    return np.asarray(np.trapezoid(np.abs(1 - y), x, axis=-1))


def _curve(share, sizes, parts, ends):
    """Shares of parts, and the curve with its ends."""
    share, x = np.asarray(share, float), np.array([0, *sizes, parts], float)
    if (np.diff(x) <= 0).any():
        raise ValueError(
            f"sizes {list(sizes)} of {parts} parts were given; they increase between 0 and all parts"
        )
    first, last = (np.full((*share.shape[:-1], 1), float(end)) for end in ends)
    return x / parts, np.concatenate([first, share, last], axis=-1)
