"""Blocks of a report section: a grid of cells, a figure with its caption, or lines of text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analyses.frame import drawing
from probing.sites import EMBED
from probing.stats import bounds_text


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
    return f"{row['value']:.{places}f} {bounds_text(row['lower'], row['upper'], '.2f')}"


_SITE = re.compile(r"blocks\.(\d+)\.([\w.]*\w)|hook_embed|ln_final\.hook_normalized")
_NAME = re.compile(r"(?<![\w./=-])[a-z][a-z0-9]*(?:_[a-z0-9]+)+(?![\w/=]|[.-]\w)")
_POINTS = {
    "hook_resid_pre": "the input of block {}",
    "hook_resid_mid": "block {} between attention and MLP",
    "hook_resid_post": "block {}",
    "hook_attn_out": "the attention of block {}",
    "attn.hook_z": "the heads of block {}",
    "attn.hook_pattern": "the attention pattern of block {}",
    "mlp.hook_post": "the neurons of block {}",
    "hook_mlp_out": "the MLP of block {}",
}


def prose(text: str) -> str:
    """A text for people: sites and names of measures and conditions in words; flags, settings and paths as they are.

    >>> prose("taxonomic_rsa: best at blocks.3.hook_resid_post; random_init, data.task=yes_no, runs/demo-random_init")
    'taxonomic rsa: best at block 3; random init, data.task=yes_no, runs/demo-random_init'
    """

    def place(site: re.Match[str]) -> str:
        if site[1] is None:
            return "the input" if site[0] == EMBED else "the last norm"
        return _POINTS[site[2]].format(site[1]) if site[2] in _POINTS else site[0]

    words = _SITE.sub(place, text).replace("macro_f1", "macro-F1")
    return _NAME.sub(lambda name: drawing.readable(name[0], " "), words)
