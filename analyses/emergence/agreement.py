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

    Of kinds with draws: `spread`, the blocks from the earliest to the latest onset (or half-rise), and `within`, the
    share of draws in which they lie within `CLOSE` blocks; the draws are of leaves, the same for all of them. Where
    kinds are known by an interval alone no joint distribution is: `within` of these and the others has no value but
    bounds, between which the share lies wherever in their intervals the places are, 5 % the further apart for each.
    `before` is by how many blocks one kind is earlier than another, its limits corrected over all pairs. Kinds that
    have no such place are left out, and are no evidence of agreement.
    """
    for about in (ALL, PICTURES, SHARED, CAUSES):
        members = [one for one in curves if about in (ALL, one.about)]
        for name in (ONSET, HALF):
            yield from _agreement(
                [one for one in members if np.isfinite(one.places()[name].value)], name, about
            )
            if about == ALL:
                yield from _order(members, name)


def _agreement(members: Sequence[Curve], name: str, about: str) -> Iterator[Record]:
    joint = [one for one in members if one.draws is not None]
    alone = [one for one in members if one.draws is None and not np.isnan(_limits(one, name)).any()]
    drawn = np.column_stack([_reached(one, name) for one in joint]) if joint else np.empty((0, 0))
    n = min((one.n for one in joint), default=0)
    if len(joint) > 1:
        labels = _labels(joint, name, about)
        values = [one.places()[name].value for one in joint]
        spreads = _spread(drawn.min(axis=1), drawn.max(axis=1))
        lower, upper = np.quantile(spreads, [0.025, 0.975], method="inverted_cdf")
        yield row(SPREAD, Estimate(float(np.ptp(values)), float(lower), float(upper), n), **labels)
        yield row(WITHIN, float((spreads <= CLOSE).mean()), n, **labels)
    if joint and alone:
        lower, upper = _bounds(drawn, np.array([_limits(one, name) for one in alone]))
        yield row(WITHIN, Estimate(np.nan, lower, upper, n), **_labels([*joint, *alone], name, about))


def _bounds(
    drawn: Float[np.ndarray, "draws joint"], limits: Float[np.ndarray, "alone 2"]
) -> tuple[float, float]:
    """Least and largest probability that all are close, whatever the joint distribution of those known by limits."""
    low, high = drawn.min(axis=1), drawn.max(axis=1)
    worst = _spread(np.minimum(low, limits[:, 0].min()), np.maximum(high, limits[:, 1].max()))
    best = _spread(np.minimum(low, limits[:, 1].min()), np.maximum(high, limits[:, 0].max()))
    missed = (1 - LEVEL) * len(limits)
    least, most = float((worst <= CLOSE).mean()) - missed, float((best <= CLOSE).mean()) + missed
    return max(least, 0.0), min(most, 1.0)


def _order(members: Sequence[Curve], name: str) -> Iterator[Record]:
    """By how many blocks each kind with draws is before each other, the earlier one first."""
    known = [one for one in members if one.draws is not None and np.isfinite(one.places()[name].value)]
    known = sorted(known, key=lambda one: one.places()[name].value)
    pairs = list(combinations(known, 2))
    if not pairs:
        return
    with np.errstate(invalid="ignore"):  # where neither is reached neither is before the other
        apart = [_reached(second, name) - _reached(first, name) for first, second in pairs]
    limits = at_once(np.nan_to_num(np.column_stack(apart), nan=0.0, posinf=np.inf, neginf=-np.inf))
    for (first, second), lower, upper in zip(pairs, *limits):
        value = second.places()[name].value - first.places()[name].value
        number = Estimate(float(value), float(lower), float(upper), min(first.n, second.n))
        yield row(BEFORE, number, **_labels([first, second], name, ALL))


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


def _reached(one: Curve, name: str) -> Float[np.ndarray, " draws"]:
    """A place in each draw of a kind that has draws."""
    drawn = one.draws_of(name)
    assert drawn is not None
    return drawn


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


def _spread(
    low: Float[np.ndarray, " draws"], high: Float[np.ndarray, " draws"]
) -> Float[np.ndarray, " draws"]:
    """Infinite where a place is not reached, also where none is."""
    return np.where(np.isfinite(high), high - np.where(np.isfinite(low), low, 0), np.inf)
