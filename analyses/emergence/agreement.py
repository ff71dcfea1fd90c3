"""Whether kinds of evidence begin at the same layers: spread, the probability to lie close, and their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from analyses.emergence.curves import HALF, ONSET, Curve
from analyses.frame.tables import CAUSES, PICTURES, SHARED, row
from probing.stats import Estimate

CLOSE = 2
"""Blocks within which places are said to agree."""
SPREAD, WITHIN, BEFORE = "spread", "within", "before"
ALL = "all"
LEVEL = 0.95
Record = dict[str, Any]


def agreement_rows(curves: Sequence[Curve]) -> Iterator[Record]:
    """Rows about the kinds of evidence about pictures at one place and step: of all kinds, and of those alike.

    `spread` is the number of blocks from the earliest to the latest onset (or half-rise), `within` the share of draws
    in which they lie within `CLOSE` blocks; draws are of leaves, the same for all kinds. A share that is not known has
    bounds and no value: where layers were left out, or windows were looked at, places lie somewhere between two blocks
    (`Curve.blocks_of`); and of kinds known by an interval alone there is no joint distribution, so that each lies
    anywhere in its interval, and 5 % more is allowed for its lying outside. `before` is by how many blocks one kind is
    earlier than another, between limits that hold for all pairs at once. Kinds that have no such place, or no onset,
    are left out, and are no evidence of agreement.
    """
    for about in (ALL, PICTURES, SHARED, CAUSES):
        members = [one for one in curves if about in (ALL, one.about)]
        for name in (ONSET, HALF):
            begun = [
                one for one in members if all(np.isfinite(one.places()[of].value) for of in (ONSET, name))
            ]
            joint = [one for one in begun if one.draws is not None]
            alone = [one for one in begun if one.draws is None and not np.isnan(_limits(one, name)).any()]
            if len(joint) > 1:
                yield _spread(joint, name, about)
                yield _within(joint, [], name, about)
            if joint and alone:
                yield _within(joint, alone, name, about)
            if about == ALL and len(joint) > 1:
                yield from _order(joint, name)


def _spread(joint: Sequence[Curve], name: str, about: str) -> Record:
    least, most = _apart(*_blocks(joint, name))
    lower = float(np.quantile(least, (1 - LEVEL) / 2, method="inverted_cdf"))
    upper = float(np.quantile(most, (1 + LEVEL) / 2, method="inverted_cdf"))
    value = float(np.ptp([one.places()[name].value for one in joint]))
    return row(SPREAD, Estimate(value, lower, upper, _n(joint)), **_labels(joint, name, about))


def _within(joint: Sequence[Curve], alone: Sequence[Curve], name: str, about: str) -> Record:
    low, high = _blocks(joint, name)
    for one in alone:
        (first, _), (_, last) = one.blocks_of(np.array(_limits(one, name))).T
        low = np.column_stack([low, np.full(len(low), first)])
        high = np.column_stack([high, np.full(len(high), last)])
    least, most = _apart(low, high)
    missed = (1 - LEVEL) * len(alone)
    lower = max(float((most <= CLOSE).mean()) - missed, 0.0)
    upper = min(float((least <= CLOSE).mean()) + missed, 1.0)
    number = Estimate(lower if lower == upper else np.nan, lower, upper, _n(joint))
    return row(WITHIN, number, **_labels([*joint, *alone], name, about))


def _apart(
    low: Float[np.ndarray, "draws kinds"], high: Float[np.ndarray, "draws kinds"]
) -> tuple[Float[np.ndarray, " draws"], Float[np.ndarray, " draws"]]:
    """Fewest and most blocks from the earliest to the latest of places that lie between two blocks each.

    Infinite where one of them is not reached, also where none is.
    """
    with np.errstate(invalid="ignore"):
        fewest = np.maximum(low.max(axis=1) - high.min(axis=1), 0)
        apart = high[:, :, None] - low[:, None]
    apart[
        :, np.eye(apart.shape[1], dtype=bool)
    ] = -np.inf  # a kind is not apart from itself, however wide its window
    most = apart.max(axis=(1, 2))
    unreached = [~np.isfinite(side).all(axis=1) for side in (low, high)]
    return np.where(unreached[0], np.inf, fewest), np.where(unreached[1], np.inf, most)


def _order(known: Sequence[Curve], name: str) -> Iterator[Record]:
    """By how many blocks each kind with draws is before each other, the earlier one first."""
    known = sorted(known, key=lambda one: one.places()[name].value)
    low, high = _blocks(known, name)
    first, second = np.array(list(combinations(range(len(known)), 2))).T
    with np.errstate(invalid="ignore"):  # where neither is reached neither is before the other
        apart = low[:, second] - high[:, first], high[:, second] - low[:, first]
    least, most = (np.nan_to_num(side, nan=0.0, posinf=np.inf, neginf=-np.inf) for side in apart)
    for one, two, lower, upper in zip(first, second, at_once(least)[0], at_once(most)[1]):
        pair = [known[one], known[two]]
        value = pair[1].places()[name].value - pair[0].places()[name].value
        number = Estimate(float(value), float(lower), float(upper), _n(pair))
        yield row(BEFORE, number, **_labels(pair, name, ALL))


def at_once(draws: Float[np.ndarray, "draws k"]) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Limits of many numbers between which at least 95 % of the draws lie with all of them at once.

    They are order statistics of the draws, of one rank for all numbers, so that infinite and whole numbers may be among
    them.

    >>> lower, upper = at_once(np.random.default_rng(0).normal(size=(1000, 2)))
    >>> lower.round(1), upper.round(1)
    (array([-2.3, -2.2]), array([2.2, 2.3]))

    Source: Besag, Green, Higdon & Mengersen 1995, Stat. Sci. 10(1), section 6.3.
    """
    ordered = np.sort(draws, axis=0)
    below, above = (
        np.column_stack([np.searchsorted(own, each, side) for own, each in zip(ordered.T, draws.T)])
        for side in ("right", "left")
    )
    depth = np.minimum(below, len(draws) - above).min(axis=1)
    rank = int(np.sort(depth)[int((1 - LEVEL) * len(draws))])
    return ordered[rank - 1], ordered[-rank]


def _blocks(joint: Sequence[Curve], name: str) -> Float[np.ndarray, "2 draws kinds"]:
    """The earliest and the latest block of a place in each draw, of kinds that have draws."""
    drawn = [(one, one.draws_of(name)) for one in joint]
    return np.stack([one.blocks_of(places) for one, places in drawn if places is not None], axis=-1)


def _n(members: Sequence[Curve]) -> int:
    return min(one.n for one in members)


def _labels(members: Sequence[Curve], name: str, about: str) -> Record:
    first = members[0]
    return {
        "kind": "; ".join(one.kind for one in members),
        "about": about,
        "of": name,
        "span": first.place,
        "step": max(one.step for one in members),
        "seeds": min(one.seeds for one in members),
        "interval": "draws",
    }


def _limits(one: Curve, name: str) -> tuple[float, float]:
    number = one.places()[name]
    return number.lower, number.upper
