"""All checks, and what is printed without one."""

from __future__ import annotations

from collections.abc import Sequence

from tests.calibration.check import Check

CHECKS: Sequence[Check] = ()
