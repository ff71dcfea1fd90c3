"""Every printed interval, p and band holds as often as it says (`make calibration`)."""

from fnmatch import fnmatch

import pandas as pd
import pytest

from analyses.frame import registry
from tests.calibration.check import Check, Rate
from tests.calibration.page import PAGE, page
from tests.calibration.registry import CHECKS, UNCHECKED
from tests.test_frozen import FROZEN


@pytest.mark.nightly
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_printed_number_holds_as_often_as_it_says(check: Check):
    rate = check.measure()
    rate.write(check)
    assert check.holds(rate.value), f"{check.says}: {rate.value:.3f} ± {rate.error:.3f}, {check.kind}"


def test_every_printed_number_with_limits_has_a_check_or_a_reason():
    known = [pattern for check in CHECKS for pattern in check.of] + list(UNCHECKED)
    for path in sorted(FROZEN.glob("*.parquet")):
        table = pd.read_parquet(path)
        inferred = table["lower"].notna() | table["measure"].str.contains(r"(?:^|_)[pq](?:_|$)|band|limit")
        for analysis, measure in (
            table.loc[inferred, ["analysis", "measure"]].drop_duplicates().itertuples(index=False)
        ):
            assert any(fnmatch(f"{analysis}.{measure}", pattern) for pattern in known), (
                f"{analysis}.{measure}"
            )


def test_every_analysis_has_a_check_or_a_reason():
    patterns = [pattern for check in CHECKS for pattern in check.of] + list(UNCHECKED)
    assert not {*registry.questions(), "power"} - {pattern.partition(".")[0] for pattern in patterns}


def test_the_page_shows_what_was_measured():
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.calibration writes it again"
    for check in CHECKS:
        if rate := Rate.read(check):
            assert check.holds(rate.value), check.name
            assert rate.trials >= 0.9 * check.trials, check.name
