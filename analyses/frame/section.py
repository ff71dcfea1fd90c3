"""Blocks of a report section: a grid of cells, a figure with its caption, or lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from probing.stats import limits_text


@dataclass(frozen=True)
class Grid:
    """A table for the eye.

    Attributes:
        header: a text for every column.
        rows: texts; the first cell names the row.
        caption: one sentence: unit, interval, n, chance level.
        folded: whether the reader opens it.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Lines:
    """Text whose line breaks and columns matter."""

    text: str


@dataclass(frozen=True)
class Shown:
    """A figure of the analysis, by name, and what its reader must know."""

    figure: str
    caption: str = ""


Block = Grid | Shown | Lines


def number_text(value: float, places: int = 2) -> str:
    """A number for a cell; a dash for NaN."""
    return "–" if pd.isna(value) else f"{value:.{places}f}"


def cell_text(row: Mapping[Any, Any], places: int = 2) -> str:
    """The value of a table row with its interval, such as `0.904 [0.87, 0.93]`; a dash for NaN."""
    if pd.isna(row["value"]):
        return "–"
    return f"{row['value']:.{places}f} {limits_text(row['lower'], row['upper'], '.2f')}"
