"""Blocks of a report section: a grid of cells, lines of text, or a paragraph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
class Paragraph:
    """A sentence or two."""

    text: str


Block = Grid | Lines | Paragraph
