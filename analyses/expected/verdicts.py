"""Verdicts: what an interval says about a bound, and what several say together."""

from __future__ import annotations

from collections.abc import Sequence

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"


def above(lower: float, upper: float, bound: float = 0.0) -> str:
    """Holds where the whole interval is above the bound, fails where none of it is; undecided with NaN.

    >>> above(0.1, 0.3), above(-0.3, -0.1), above(-0.1, 0.3)
    ('holds', 'fails', 'undecided')
    """
    if lower > bound:
        return HOLDS
    return FAILS if upper <= bound else UNDECIDED


def within(lower: float, upper: float, low: float, high: float) -> str:
    """Holds where the whole interval is between two bounds, fails where it is all on one side of both.

    Of a 95 % interval these are two one-sided tests at .025.

    >>> within(-0.01, 0.02, -0.03, 0.03), within(0.04, 0.1, -0.03, 0.03), within(0.01, 0.1, -0.03, 0.03)
    ('holds', 'fails', 'undecided')

    Source: Schuirmann 1987, J. Pharmacokinet. Biopharm. 15(6).
    """
    if low < lower and upper < high:
        return HOLDS
    return FAILS if lower > high or upper < low else UNDECIDED


def together(outcomes: Sequence[str]) -> str:
    """Holds where all hold, fails where one fails, else undecided, as where there is none."""
    if outcomes and set(outcomes) == {HOLDS}:
        return HOLDS
    return FAILS if FAILS in outcomes else UNDECIDED
