"""Limits of shares and of their differences."""

import numpy as np
import pytest

from analyses.inputs.intervals import within
from probing.stats import Estimate


@pytest.mark.parametrize("least", [0.0, -1.0])
def test_limits_keep_to_the_range_of_a_share_and_undefined_ones_stay_undefined(least):
    wide = within(Estimate(0.5, -3.0, 3.0, 9), least)
    assert (wide.lower, wide.upper) == (least, 1.0)
    for value in (0.5, np.nan):
        none = within(Estimate(value, np.nan, np.nan, 9), least)
        assert np.isnan((none.lower, none.upper)).all()
