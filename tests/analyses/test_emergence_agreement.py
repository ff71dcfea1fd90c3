"""Where evidence begins and ends, and how far kinds of it agree: planted places come back, bounds are honest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analyses.emergence.agreement import agreement_rows, at_once
from analyses.emergence.curves import Curve
from analyses.emergence.sentences import verdict
from analyses.frame.tables import CAUSES, PICTURES, SHARED
from probing.stats import Estimate

DRAWS, LAYERS = 200, np.arange(-1.0, 12)


def curve(kind: str, first: float, about: str = PICTURES, shift: np.ndarray | None = None, **more) -> Curve:
    """A kind that begins at a block, a step of 1; in each draw it begins `shift` blocks later."""
    value = (first <= LAYERS).astype(float)
    draws = None if shift is None else (first + shift[:, None] <= LAYERS).astype(float)
    held = None if draws is None else draws > 0
    labels = {"analysis": "planted", "place": "cue", "step": 10, "n": 40, "seeds": 1}
    numbers = {
        "layers": LAYERS,
        "value": value,
        "lower": value - 0.5,
        "upper": value + 0.5,
        "holds": value > 0,
    }
    return Curve(kind=kind, about=about, **labels, **numbers, draws=draws, held=held, **more)


def cause(held: str, values: list[float]) -> dict[str, float]:
    """Places of a cause whose layers hold where there's an x."""
    marks = np.array([mark == "x" for mark in held])
    level = np.array(values)
    numbers = {"value": level, "lower": level, "upper": level, "holds": marks}
    one = replace(curve("cause", 0, CAUSES), layers=np.arange(len(level)) * 2.0, **numbers)
    return blocks(one.places())


def blocks(places: Mapping[str, Estimate]) -> dict[str, float]:
    """The places without their limits."""
    return {name: number.value for name, number in places.items()}


@pytest.mark.parametrize(
    ("held", "values", "onset", "half", "end"),
    [
        (".xx.xxx", [0, 1, 1, 0, 2, 4, 3], 8, 8, 12),  # the stretch of the largest, not the first
        ("xxx....", [4, 4, 3, 1, 0, 0, 0], 0, 0, 4),  # at the slot it ends
        ("...x...", [0, 0, 1, 3, 2, 0, 0], 6, 6, 6),
        (".......", [0, 0, 1, 3, 1, 0, 0], np.nan, 6, np.nan),
        ("xx.....", [1, 1, 1, 3, 1, 0, 0], 0, 6, 2),  # the largest does not hold
    ],
)
def test_a_cause_begins_and_ends_with_the_stretch_of_its_largest_value(held, values, onset, half, end):
    assert cause(held, values) == pytest.approx({"onset": onset, "half_rise": half, "end": end}, nan_ok=True)


def test_what_is_read_begins_where_it_holds_to_the_last_layer():
    value = np.array([0.2, 1, 0, 0.2, 0.4, 1, 1, 0.9, 0.8, 1, 1, 1, 1])
    numbers = {"value": value, "lower": value - 0.3, "upper": value + 0.3, "holds": value >= 0.2}
    one = replace(curve("cohesion", 0), **numbers)
    assert one.places() == {
        "onset": Estimate(2.0, -1.0, 3.0, 40),
        "half_rise": Estimate(4.0, np.nan, np.nan, 40),
    }
    stored = replace(one, stored={"onset": Estimate(5.0, 4.0, 6.0, 40)})
    assert stored.places()["onset"] == Estimate(5.0, 4.0, 6.0, 40)
    never = replace(one, holds=np.zeros(len(value), bool))
    assert np.isnan(never.places()["onset"].value)


def agreement(*curves: Curve, about: str = "all") -> pd.DataFrame:
    """Rows about onsets, by measure and kinds."""
    rows = pd.DataFrame(
        [row for row in agreement_rows(curves) if row["of"] == "onset" and row["about"] == about]
    )
    return rows.set_index(["measure", "kind"]) if len(rows) else rows


def test_agreement_is_the_share_of_joint_draws_within_two_blocks():
    shift = np.array([0, 0, 3, 3] * 50)
    together = agreement(curve("a", 4, shift=shift), curve("b", 5, SHARED, shift=shift))
    assert tuple(together.loc[("within", "a; b"), ["value", "n"]]) == (1.0, 40)
    assert tuple(together.loc[("spread", "a; b"), ["value", "lower", "upper"]]) == (1, 1, 1)
    # The same two margins, drawn against each other: a joint distribution is none of the margins.
    apart = agreement(curve("a", 4, shift=shift), curve("b", 5, SHARED, shift=shift[::-1]))
    assert apart.loc[("within", "a; b"), "value"] == 0.5
    assert tuple(apart.loc[("spread", "a; b"), ["value", "lower", "upper"]]) == (1, 2, 4)


def test_a_kind_without_an_onset_is_no_agreement_and_one_that_draws_do_not_reach_lies_apart():
    still = np.zeros(DRAWS)
    lost = np.where(np.arange(DRAWS) < 60, 99, 0)  # in 60 draws there is none
    rows = agreement(curve("a", 4, shift=still), curve("b", 4, shift=lost), curve("c", 99, shift=still))
    assert set(rows.xs("within").index) == {"a; b"}
    assert rows.loc[("within", "a; b"), "value"] == pytest.approx(0.7)
    assert rows.loc[("spread", "a; b"), "upper"] == np.inf
    assert agreement(curve("a", 4, shift=still), curve("c", 99, shift=still)).empty


def test_kinds_known_by_an_interval_give_bounds_and_never_a_value():
    still = np.zeros(DRAWS)

    def bounds(first: float, lower: float, upper: float) -> tuple[float, float, float]:
        stored = {"onset": Estimate(first, lower, upper, 40)}
        rows = agreement(curve("a", 4, shift=still), curve("cka", first, SHARED, stored=stored))
        return tuple(rows.loc[("within", "a; cka"), ["value", "lower", "upper"]])

    np.testing.assert_allclose(
        bounds(5, 4, 6), (np.nan, 0.95, 1.0)
    )  # wherever in its interval it is, it is close
    np.testing.assert_allclose(bounds(5, 4, 9), (np.nan, 0.0, 1.0))  # it may be or not
    np.testing.assert_allclose(bounds(8, 7, 9), (np.nan, 0.0, 0.05))  # it is not, unless its interval misses
    np.testing.assert_allclose(bounds(5, 4, np.inf), (np.nan, 0.0, 1.0))
    alone = agreement(*(curve(name, 5, stored={"onset": Estimate(5.0, 5.0, 5.0, 40)}) for name in "ab"))
    assert alone.empty


def test_limits_at_once_hold_for_all_pairs_together():
    rng = np.random.default_rng(1)
    draws = rng.normal(size=(4000, 6))
    lower, upper = at_once(draws)
    inside = ((draws >= lower) & (draws <= upper)).all(axis=1).mean()
    assert 0.95 <= inside < 0.956
    assert (lower < -2.3).all()  # wider than 1.96 each
    assert at_once(np.full((100, 3), np.inf))[0].tolist() == [np.inf] * 3


def test_order_is_corrected_over_pairs_and_said_only_where_limits_exclude_none():
    rng = np.random.default_rng(0)
    kinds = [curve(name, 5, shift=rng.integers(-1, 2, DRAWS)) for name in "abcdef"]
    rows = agreement(*kinds, curve("late", 9, CAUSES, shift=rng.integers(-1, 2, DRAWS)))
    before = rows.xs("before")
    assert len(before) == 21
    assert {kinds for kinds, row in before.iterrows() if row["lower"] > 0} == {
        f"{name}; late" for name in "abcdef"
    }
    assert (before.loc[[kinds for kinds in before.index if "late" in kinds], "value"] == 4).all()


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ((0.95, 0.95), "they lie within 2 blocks (probability 0.95)"),
        ((0.94, 0.94), "whether they lie within 2 blocks is open (probability 0.94)"),
        ((0.06, 0.06), "whether they lie within 2 blocks is open (probability 0.06)"),
        ((0.05, 0.05), "they do not lie within 2 blocks (probability 0.05)"),
        ((0.96, 1.0), "they lie within 2 blocks (probability between 0.96 and 1.00)"),
        ((0.0, 1.0), "whether they lie within 2 blocks is open (probability between 0.00 and 1.00)"),
        ((0.0, 0.04), "they do not lie within 2 blocks (probability between 0.00 and 0.04)"),
    ],
)
def test_a_verdict_needs_both_bounds_on_one_side(bounds, said):
    assert verdict(dict(zip(("lower", "upper"), bounds))) == said


def test_layers_left_out_and_windows_are_no_order_and_no_agreement():
    """Every fourth layer: what is first seen at 7 begins behind 3; in windows of four, anywhere in one."""
    still, every = np.zeros(DRAWS), slice(0, None, 4)
    sparse = curve("sparse", 7, shift=still)
    names = ("layers", "value", "lower", "upper", "holds")
    sparse = replace(sparse, **{name: getattr(sparse, name)[every] for name in names})
    sparse = replace(sparse, draws=sparse.draws[:, every], held=sparse.held[:, every])
    assert sparse.places()["onset"].value == 7
    for first, bounds in ((5, (1, 1)), (4, (0, 1)), (2, (0, 1)), (1, (0, 0))):
        rows = agreement(curve("fine", first, shift=still), sparse)
        share = rows.loc[("within", "fine; sparse")]
        assert (share["lower"], share["upper"]) == bounds, first
        assert np.isnan(share["value"]) == (bounds[0] < bounds[1])
        assert rows.loc[("before", "fine; sparse"), "lower"] == 4 - first
    window = replace(sparse, windows=np.array([[-1, 2], [3, 6], [7, 10], [11, 11]], float))
    rows = agreement(curve("fine", 9, shift=still), window)
    assert tuple(rows.loc[("within", "fine; sparse"), ["lower", "upper"]]) == (1, 1)
    assert rows.loc[("spread", "fine; sparse"), ["value", "lower", "upper"]].tolist() == [2, 0, 2]
