"""Table of the `published` analysis: every section of numbers, as a long table and as a nested mapping."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from analyses.inputs.published import scores as published_scores
from analyses.inputs.published.released import Released
from analyses.published import rows
from analyses.published.answers import lm_answers, questions
from analyses.published.design import design

log = logging.getLogger(__name__)
SECTIONS: dict[Callable[[Released], list[published_scores.Row]], tuple[str, ...]] = {
    published_scores.conditions: (),
    rows.runs: (),
    rows.as_printed: ("published_conditions.csv",),
    questions: (),
    lm_answers: ("lm_yes_no.csv.gz",),
    rows.majority: (),
    rows.coherence: (),
    rows.heights: (),
    design: ("things_leaf_hypernyms.json", published_scores.LISTS),
}
"""Sections, and the files that each needs of those that are in no public repository as such."""


def published_table(data: Released) -> pd.DataFrame:
    """A row per number: section, key (a condition, run or file), target, measure, value, lower, upper, n, sd.

    Intervals of macro_f1 are the study's t-intervals over hypernym × seed; those of macro_f1_crossed
    add the variances of hypernyms and seeds; those of single questions resample leaves. What files are lacking for is
    left out, and said.
    """
    table = pd.DataFrame([row for section, of in SECTIONS.items() if data.has(*of) for row in section(data)])
    optional = (published_scores.COUNTS, *dict.fromkeys(name for of in SECTIONS.values() for name in of))
    if lacking := [name for name in optional if not data.has(name)]:
        log.warning("left out, for %s has no %s: docs/published.md", data.folder, ", ".join(lacking))
    return table.assign(analysis="published")


def nested(table: pd.DataFrame) -> dict[str, Any]:
    """The table as section → key → target → measure → {value, lower, upper, n, sd}, limits where defined."""
    result: dict[str, Any] = {}
    for line in table.to_dict("records"):
        numbers = {
            name: line[name] for name in ("value", "lower", "upper", "sd") if not _undefined(line[name])
        }
        place = result.setdefault(line["section"], {}).setdefault(line["key"], {})
        place.setdefault(line["target"], {})[line["measure"]] = {**numbers, "n": int(line["n"])}
    return result


def _undefined(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
