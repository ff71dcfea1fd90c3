"""Every printed interval, p and band holds as often as it says (`make calibration`)."""

import pytest

from tests.calibration.check import Check
from tests.calibration.registry import CHECKS


@pytest.mark.nightly
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_printed_number_holds_as_often_as_it_says(check: Check):
    rate = check.measure()
    rate.write(check)
    assert check.holds(rate.value), f"{check.says}: {rate.value:.3f} ± {rate.error:.3f}, {check.kind}"
