"""The style of figures: where they are shown, how wide they are, how they are saved."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

from analyses.frame.drawing import fitting
from analyses.frame.drawing.palette import INK, OTHERS
from analyses.frame.drawing.room import collapse_refused, collapse_unsaid
from probing.store import records


@dataclass(frozen=True)
class Style:
    """Where figures are shown.

    Attributes:
        widths: of one and of two columns in inches.
        size: of text, in points.
        kinds: of files.
        dots: an inch of a PNG.
        captioned: whether the caption stands in the figure; else in NAME.txt beside it.
    """

    widths: Mapping[str, float]
    size: float
    kinds: tuple[str, ...]
    dots: int
    captioned: bool


STYLES = {
    "screen": Style({"one": 4.2, "two": 8.4}, 8.4, ("png", "svg"), 200, True),
    "paper": Style({"one": 3.35, "two": 6.9}, 7.2, ("png", "svg", "pdf"), 300, False),
    "talk": Style({"one": 2.7, "two": 5.4}, 8.4, ("png", "svg", "pdf"), 400, False),
}
"""For a page of a report, for a journal's column (85 and 175 mm), and for a slide, which is enlarged."""
WIDTHS = ("one", "two")
_AUTOMATIC = ""
_CURRENT: ContextVar[tuple[str, str]] = ContextVar("style", default=("screen", _AUTOMATIC))
_RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # travels with matplotlib: the same figure on every machine
    "axes.titlesize": "medium",
    "axes.labelsize": "medium",
    "xtick.labelsize": "small",
    "ytick.labelsize": "small",
    "legend.fontsize": "small",
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "axes.prop_cycle": cycler(color=OTHERS),
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,  # whole letters, which other programs can edit and search
    "svg.fonttype": "none",
    "svg.hashsalt": "taxoprobe",
}


@contextmanager
def style(name: str = "", width: str = "") -> Iterator[None]:
    """Context in which figures are made and saved.

    Args:
        name: of the style; by default that of the context around, at last `screen`.
        width: one or two columns; by default as many as the panels ask for, and for the screen their own width.

    Raises:
        ValueError: there is no such style or width.
    """
    around, columns = _CURRENT.get()
    for what, value, known in (("style", name, STYLES), ("width", width, WIDTHS)):
        if value and value not in known:
            raise ValueError(f"{what} {value!r} was asked for; known: {', '.join(known)}")
    token = _CURRENT.set((name or around, width or (_AUTOMATIC if name else columns)))
    try:
        with matplotlib.rc_context({**_RC, "font.size": STYLES[name or around].size}):
            yield
    finally:
        _CURRENT.reset(token)


def add_style_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of a command that draws."""
    said = "where figures are shown: " + ", ".join(STYLES)
    parser.add_argument("--style", default="", metavar="NAME", help=f"{said} (default: screen)")
    said = "of figures, in columns: one or two (default: as the panels ask)"
    parser.add_argument("--width", dest="columns", default="", metavar="COLUMNS", help=said)


def save(figure: Figure, folder: Path, name: str, made_from: Mapping[str, Any]) -> None:
    """Writes name.png, name.svg and, to print, name.pdf with their records; the same figure gives the same bytes."""
    metadata: dict[str, dict[str, Any]] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None, "Title": name},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None, "Title": name},
    }
    with style():
        chosen, caption = STYLES[_CURRENT.get()[0]], str(figure.get_label())
        lay_out(figure)
        for kind in {*metadata, "txt"} - {*chosen.kinds}:  # of another style: they would be of an older table
            (folder / f"{name}.{kind}").unlink(missing_ok=True)
        for kind in chosen.kinds:
            with collapse_refused(name):
                records.write(
                    folder / f"{name}.{kind}",
                    lambda part, kind=kind: figure.savefig(
                        part, format=kind, dpi=chosen.dots, metadata=metadata[kind]
                    ),
                    made_from,
                )
        if caption and not chosen.captioned:
            text = caption + "\n"
            records.write(
                folder / f"{name}.txt", lambda part: part.write_text(text, encoding="utf-8"), made_from
            )


def lay_out(figure: Figure) -> None:
    """Fits a figure to the style and width of this context, as `save` does before it writes."""
    with collapse_unsaid():
        fitting.fit(figure, _inches(figure), STYLES[_CURRENT.get()[0]].captioned)


def captioned(figure: Figure) -> tuple[str, float, tuple[int, int]]:
    """The caption of a figure, the share of its height that it takes on the screen, and the pixels of its PNG there."""
    (width, height), dots = figure.get_size_inches(), STYLES["screen"].dots
    share = fitting.caption_inches(figure) / height
    return str(figure.get_label()), share, (round(width * dots), round(height * dots))


def _inches(figure: Figure) -> float:
    """The width of a figure in the style of this context."""
    name, columns = _CURRENT.get()
    own, widths = float(figure.get_size_inches()[0]), STYLES[name].widths
    if name == "screen" and not columns:
        return own
    return widths[columns or ("one" if own <= widths["one"] * 1.3 else "two")]
