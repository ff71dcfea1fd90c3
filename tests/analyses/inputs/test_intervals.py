"""Limits of shares and of their differences."""

import numpy as np
import pytest

from analyses.inputs.intervals import limits_text, within
from probing.stats import Estimate


@pytest.mark.parametrize("least", [0.0, -1.0])
def test_limits_keep_to_the_range_of_a_share_and_undefined_ones_stay_undefined(least):
    wide = within(Estimate(0.5, -3.0, 3.0, 9), least)
    assert (wide.lower, wide.upper) == (least, 1.0)
    for value in (0.5, np.nan):
        none = within(Estimate(value, np.nan, np.nan, 9), least)
        assert np.isnan((none.lower, none.upper)).all()


@pytest.mark.parametrize(
    ("runs", "given", "text"),
    [
        ([3, 3], {}, "95 %, over leaf concepts, hypernyms and seeds"),
        ([1, 1], {}, "95 %, over leaf concepts and hypernyms; differences between seeds not included"),
        (
            [1, 3],
            {},
            "95 %, over leaf concepts, hypernyms and seeds; of one seed, differences between seeds not included",
        ),
        (
            [1],
            {"over": ("leaf concepts",)},
            "95 %, over leaf concepts; differences between seeds not included",
        ),
        ([2], {"over": ("leaf concepts",)}, "95 %, over leaf concepts and seeds"),
        ([2], {"rule": "study"}, "95 %, the study's t-interval over hypernym × seed"),
    ],
)
def test_seeds_are_named_where_limits_are_over_them(runs, given, text):
    assert limits_text(iter(runs), **given) == text
