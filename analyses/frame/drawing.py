"""The look of every figure: one style, fixed colours, and the few kinds of drawing, each from a long table's rows."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from probing.store import records

# Okabe & Ito 2008, "Color universal design": told apart under every common colour blindness.
COLOURS = {
    "pretrained": "#0072B2",
    "random_init": "#595959",
    "pretrained embeddings": "#56B4E9",
    "within": "#009E73",
    "across": "#D55E00",
    "image": "#0072B2",
    "text": "#009E73",
    "text→image": "#D55E00",
    "image→text": "#CC79A7",
}
MARKERS = {"pretrained": "o", "random_init": "s", "within": "^", "across": "D"}
CHANCE: dict[str, Any] = {"color": "0.55", "linestyle": (0, (4, 3)), "linewidth": 0.8, "zorder": 0.5}
"""How a line at chance, or at no difference, is drawn."""

_OTHERS = ("#E69F00", "#56B4E9", "#CC79A7", "#000000", "#F0E442", "#6A3D9A", "#8B4513", "#006D5B")
_INK = "0.25"
_SMALL = 6.5
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # travels with matplotlib: the same figure on every machine
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "axes.prop_cycle": cycler(color=_OTHERS),
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "taxoprobe",
}


@contextmanager
def style() -> Iterator[None]:
    """Context in which figures are made: sizes for a printed column, thin spines, no clutter."""
    with matplotlib.rc_context(_STYLE):
        yield


def save(figure: Figure, folder: Path, name: str, made_from: Mapping[str, Any]) -> None:
    """Writes name.png (200 dots an inch) and name.svg with their records; the same figure gives the same bytes."""
    metadata: dict[str, dict[str, Any]] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None, "Title": name},
    }
    with style():
        for kind, facts in metadata.items():
            records.write(
                folder / f"{name}.{kind}",
                lambda part, kind=kind, facts=facts: figure.savefig(
                    part, format=kind, dpi=200, metadata=facts
                ),
                made_from,
            )


def colour(name: str) -> str:
    """The colour of a condition or modality; one without a fixed colour gets one by its name."""
    if name in COLOURS:
        return COLOURS[name]
    return _OTHERS[int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % len(_OTHERS)]


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name, fixed where the name has one, different for all others as long as there are any."""
    unique = list(dict.fromkeys(names))
    others = [name for name in unique if name not in COLOURS]
    return {name: COLOURS.get(name) or _OTHERS[others.index(name) % len(_OTHERS)] for name in unique}


def curve(
    axes: Axes, rows: pd.DataFrame, x: str, colour: str, label: str | None = None, dashed: bool = False
) -> None:
    """A line of `value` over column `x` with a band from `lower` to `upper`; a dashed line has no band.

    A single value is a point with a bar.
    """
    rows = rows[rows[x].notna()].sort_values(x)
    fine: dict[str, Any] = {"linestyle": (0, (2, 2)), "linewidth": 0.8} if dashed else {}
    if len(rows) == 1:
        fine |= {"marker": "o", "markersize": 4, "markerfacecolor": "white" if dashed else colour}
        if not dashed:
            axes.vlines(rows[x], rows["lower"].astype(float), rows["upper"].astype(float), color=colour)
    axes.plot(rows[x], rows["value"], color=colour, label=label and readable(label, " "), **fine)
    if not dashed:
        band = {"alpha": 0.18, "linewidth": 0, "color": colour}
        axes.fill_between(rows[x], rows["lower"].astype(float), rows["upper"].astype(float), **band)


def conditions(axes: Axes, rows: pd.DataFrame, x: str, palette: dict[str, str]) -> None:
    """A curve for each `run`, in the colour of its `condition` and named once for all runs of it."""
    for name, group in rows.groupby("condition", sort=False):
        for number, (_, mine) in enumerate(group.groupby("run", sort=False)):
            curve(axes, mine, x, palette[str(name)], str(name) if number == 0 else None)


def points(axes: Axes, rows: pd.DataFrame, label: str) -> None:
    """A forest plot: a row of the figure per row of the table, the first on top, `value` in numbers beside it.

    Args:
        axes: Where to draw.
        rows: With the columns value, lower, upper; a value that is not a number is shown as a dash.
        label: Column whose entries name the rows and give them their colour and marker.
    """
    names = [str(name) for name in rows[label]]
    palette = colours(names)
    numbers = rows[["value", "lower", "upper"]].to_numpy(dtype=float)
    # Numbers stand beside the panel, so that no interval, however long, can run into them.
    beside = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": _SMALL + 0.5}
    for place, (name, (value, lower, upper)) in enumerate(zip(names, numbers, strict=True)):
        tint = _INK if "_minus_" in name else palette[name]
        if np.isfinite(value):
            axes.plot([lower, upper], [place, place], color=tint, linewidth=1.6, solid_capstyle="butt")
            axes.plot(value, place, MARKERS.get(name, "o"), color=tint, mec="white", mew=0.5, markersize=5.5)
        axes.text(1.02, place, f"{value:.2f}" if np.isfinite(value) else "–", color=tint, **beside)
    axes.set_yticks(range(len(names)), [readable(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def heat(
    axes: Axes,
    grid: pd.DataFrame,
    limits: tuple[float, float],
    label: str | None = None,
    diverging: bool = False,
) -> AxesImage:
    """A heat map of a table's cells, its first row at the bottom, with a colour bar where `label` says of what.

    Args:
        axes: Where to draw.
        grid: Numbers; index and columns name the ticks. Missing cells are grey.
        limits: Values at the ends of the colour scale; several panels with the same limits can share a bar.
        label: Of the colour bar; None for no bar.
        diverging: Colours away from the middle of the limits in two directions, rather than from low to high.
    """
    colourmap = matplotlib.colormaps["RdBu_r" if diverging else "viridis"].with_extremes(bad="0.9")
    low, high = limits
    image = axes.imshow(grid, origin="lower", aspect="auto", vmin=low, vmax=high, cmap=colourmap)
    axes.set_xticks(*_ticks(list(grid.columns)))
    axes.set_yticks(*_ticks(list(grid.index)))
    axes.spines[:].set_visible(False)
    if label is not None and axes.figure is not None:
        values = np.asarray(grid, dtype=float)
        values = values[np.isfinite(values)]
        beyond = (bool((values < low).any()), bool((values > high).any()))
        extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
        bar: Any = axes.figure.colorbar(image, ax=axes, label=label, extend=extend[beyond])
        bar.outline.set_visible(False)
    return image


def caption(n: int, of: str, interval: str, null: str) -> str:
    """What a reader must be told under a figure: how many of what, what the interval is, what the null is."""
    return f"n = {n} {of}. Interval: {interval}. Null: {null}."


def footnote(figure: Figure, text: str) -> None:
    """A small text under a figure, wrapped to its width; the panels make room for it.

    A legend of the whole figure must stand above or beside the panels ("outside upper center").
    """
    width, height = figure.get_size_inches()
    lines = [
        line
        for paragraph in text.split("\n")
        for line in textwrap.wrap(paragraph, int(width * 72 / (_SMALL * 0.58))) or [""]
    ]
    share = (len(lines) * _SMALL * 1.35 + 5) / 72 / height
    engine: Any = figure.get_layout_engine()
    if engine is None:
        figure.subplots_adjust(bottom=figure.subplotpars.bottom + share)
    else:
        engine.set(rect=(0, share, 1, 1 - share))
    figure.text(
        0.012, 3 / 72 / height, "\n".join(lines), fontsize=_SMALL, color="0.4", va="bottom", linespacing=1.25
    )


def readable(name: str, pause: str = "\n") -> str:
    """A name for the eye: `pretrained_minus_random_init` reads pretrained − random init."""
    return name.replace("_minus_", f" −{pause}").replace(" · ", pause).replace("_", " ")


def _ticks(names: list[Any], most: int = 8) -> tuple[list[int], list[str]]:
    """Places and texts of ticks: every word; of numbers at most about eight, round ones where they are counted."""
    if not all(isinstance(name, (int, float, np.number)) for name in names):
        return list(range(len(names))), [str(name) for name in names]
    values = np.asarray(names, dtype=float)
    step = next((step for step in (1, 2, 5, 10, 20, 50) if len(values) / step <= most), 100)
    places = np.flatnonzero(values % step == 0)
    if len(values) <= most or (np.diff(values) != 1).any():
        places = np.unique(np.linspace(0, len(values) - 1, min(len(values), most)).round().astype(int))
    return places.tolist(), [f"{value:g}".replace("-", "−") for value in values[places]]
