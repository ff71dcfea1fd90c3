"""What a question and its result show of themselves in a notebook: words, options, and the rows that differ."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import pandas as pd

from analyses.frame import registry
from analyses.frame.command_line import flags_of
from analyses.frame.section import cell_text
from probing.store.notebook import facts, folded, grid
from taxogen.runs.setting import help_of

if TYPE_CHECKING:
    from analyses.frame.analysis import Analysis
    from analyses.frame.results import Result

ROWS = 12
"""Rows of a table that are shown."""
_ESTIMATE = ("value", "lower", "upper", "n")


def analysis_html(analysis: Analysis) -> str:
    """A question: what it takes, an example, and folded below, its options with their defaults."""
    lines = help_of(analysis.options)
    options = [
        (flag, _word(field.default), lines.get(field.name, ""))
        for flag, field in flags_of(analysis.options).items()
    ]
    about = {"takes": analysis.takes.value, "example": analysis.example}
    asked = grid("", ["option", "default", "meaning"], options)
    return facts(f"{analysis.name}: {analysis.question}", about) + folded(f"{len(options)} options", asked)


def result_html(result: Result) -> str:
    """A result: the summary of its question, and the first rows of its table."""
    table = result.table
    names = set(table["analysis"]) if "analysis" in table and len(table) else set()
    told = ""
    if len(names) == 1 and (name := names.pop()) in registry.questions():
        told = f"<pre>{escape(registry.load(name).summary(table))}</pre>"
    return told + table_html(table)


def table_html(table: pd.DataFrame) -> str:
    """The first rows of a long table: columns that are the same in all rows stand in the caption.

    A value and its limits stand in one cell; a column without an entry in these rows is left out.
    """
    estimates = set(_ESTIMATE) <= set(table)
    labels = [name for name in table if not (estimates and name in _ESTIMATE)]
    same = [name for name in labels if len(table) > 1 and table[name].nunique(dropna=False) == 1]
    records = table.head(ROWS).to_dict("records")
    shown = [name for name in labels if name not in same and any(_word(row[name]) for row in records)]
    rows = [[*(_word(row[name]) for name in shown), *(_numbers(row) if estimates else [])] for row in records]
    header = [*shown, *(["value [limits]", "n"] if estimates else [])]
    words = [f"{name} {_word(records[0][name])}" for name in same if _word(records[0][name])]
    left = f" (the first {ROWS} are shown)" if len(table) > ROWS else ""
    return grid("; ".join([f"{len(table):,} rows{left}", *words]), header, rows)


def _numbers(row: Mapping[Any, Any]) -> list[str]:
    return [cell_text(row), _word(row["n"])]


def _word(value: Any) -> str:
    """An entry in words; nothing for NaN, and a whole number without its point."""
    if isinstance(value, tuple | list):
        return ", ".join(map(_word, value))
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
