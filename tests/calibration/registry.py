"""All checks by section of the page, and what is printed without one."""

from __future__ import annotations

from collections.abc import Mapping

from tests.calibration import (
    behaviour,
    categories,
    edits,
    lens,
    patching,
    pooling,
    power,
    probes,
    runs,
    similarity,
)
from tests.calibration.check import Check

ROOMS: Mapping[str, tuple[Check, ...]] = {
    "Layer probes within a run": probes.CHECKS,
    "Similarity": similarity.CHECKS,
    "Cohesion and geometry": categories.CHECKS,
    "Contrasts of probed runs, means over seeds": runs.CHECKS,
    "Answers": behaviour.CHECKS,
    "Patching": patching.CHECKS,
    "Pooling over runs": pooling.CHECKS,
    "Lenses": lens.CHECKS,
    "Knock-out, erasure, steering": edits.CHECKS,
    "Power": power.CHECKS,
}
"""Title of a section of docs/statistics.md → its checks."""
CHECKS: tuple[Check, ...] = tuple(check for checks in ROOMS.values() for check in checks)
UNCHECKED: Mapping[str, str] = {}
"""Printed numbers with limits (analysis.measure, with wildcards) that no check vouches for → why."""
