"""The few kinds of drawing, each from a long table's rows: curves, forests, heat maps, and their captions."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from analyses.frame.drawing.palette import MARKER_OF, colours, marker

_MARKS = 6
"""Markers on a curve."""


def curve(
    axes: Axes, rows: pd.DataFrame, x: str, colour: str, label: str | None = None, dashed: bool = False
) -> None:
    """A line of `value` over column `x` with a band from `lower` to `upper`; a dashed line has no band.

    A single value is a point with a bar.
    """
    rows = rows[rows[x].notna()].sort_values(x)
    name, shape = label and readable(label, " "), marker(colour)
    if len(rows) == 1:
        _point(axes, rows, x, shape, colour, name, dashed)
        return
    step = max(1, len(rows) // _MARKS)
    look: dict[str, Any] = {"marker": shape, "markersize": 3, "color": colour, "label": name}
    look["markevery"] = (list(MARKER_OF.values()).index(shape) % step if shape != "." else 0, step)
    if dashed:
        look |= {
            "linestyle": (0, (2, 2)),
            "linewidth": 0.8,
            "markerfacecolor": "white",
            "markeredgewidth": 0.6,
        }
    axes.plot(rows[x], rows["value"], **look)
    if not dashed:
        band = {"alpha": 0.18, "linewidth": 0, "color": colour}
        axes.fill_between(rows[x], rows["lower"].astype(float), rows["upper"].astype(float), **band)


def _point(
    axes: Axes, row: pd.DataFrame, x: str, shape: str, colour: str, name: str | None, dashed: bool
) -> None:
    value, lower, upper = row[["value", "lower", "upper"]].to_numpy(dtype=float)[0]
    reach = None if dashed else np.array([[value - lower], [upper - value]])
    drawn = axes.errorbar(
        row[x], [value], reach, fmt=shape, color=colour, markersize=4.5, elinewidth=1.4, label=name,
        markerfacecolor="white" if dashed else colour,
    )  # fmt: skip
    drawn.lines[0].set_gid("single")


def conditions(axes: Axes, rows: pd.DataFrame, x: str, palette: dict[str, str]) -> None:
    """A curve for each `run`, in the colour of its `condition` and named once for all runs of it."""
    for name, group in rows.groupby("condition", sort=False):
        for number, (_, mine) in enumerate(group.groupby("run", sort=False)):
            curve(axes, mine, x, palette[str(name)], str(name) if number == 0 else None)


def points(axes: Axes, rows: pd.DataFrame, label: str) -> None:
    """A forest plot: a row of the figure per row of the table, the first on top, `value` in numbers beside it.

    Args:
        axes: Where to draw.
        rows: With the columns value, lower, upper; NaN is shown as a dash.
        label: Column whose entries name the rows and give them their colour and marker.
    """
    names = [str(name) for name in rows[label]]
    palette = colours(names)
    numbers = rows[["value", "lower", "upper"]].to_numpy(dtype=float)
    # Numbers stand beside the panel, so that no interval, however long, can run into them.
    beside = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": "small"}
    for place, (name, (value, lower, upper)) in enumerate(zip(names, numbers, strict=True)):
        tint = palette[name]
        if np.isfinite(value):
            axes.plot([lower, upper], [place, place], color=tint, linewidth=1.6, solid_capstyle="butt")
            axes.plot(value, place, marker(tint), color=tint, mec="white", mew=0.5, markersize=5.5)
        axes.text(1.02, place, _two_places(value), color=tint, **beside)
    axes.set_yticks(range(len(names)), [readable(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _two_places(value: float) -> str:
    """A number with a true minus sign, and none before zero; a dash where there is none."""
    return f"{round(value, 2) + 0:.2f}".replace("-", "−") if np.isfinite(value) else "–"


def heat(
    axes: Axes,
    grid: pd.DataFrame,
    limits: tuple[float, float],
    label: str | None = None,
    diverging: bool = False,
) -> AxesImage:
    """A heat map of a table's cells, its first row at the bottom, with a colour bar where `label` says of what.

    An axis that is called `layer` has a place for each layer from the first to the last.

    Args:
        axes: Where to draw.
        grid: Numbers; index and columns name the ticks. Missing cells are grey.
        limits: Values at the ends of the colour scale; several panels with the same limits can share a bar.
        label: Of the colour bar; None for no bar.
        diverging: Colours away from the middle of the limits in two directions, rather than from low to high.
    """
    grid = _with_every_layer(grid, np.nan)
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


def dots(axes: Axes, cells: pd.DataFrame, marker: str = ".", colour: str = "black", size: float = 3) -> None:
    """A mark on each true cell; the index and columns of `cells` are those of the heat map's grid."""
    up, across = np.nonzero(_with_every_layer(cells, False).to_numpy(dtype=bool))
    axes.plot(across, up, marker, color=colour, markersize=size, markeredgewidth=0.7)


def auroc_limits(values: pd.Series) -> tuple[float, float]:
    """Ends of a colour scale of AUROCs: from chance, or from where the lowest lies, up to 1."""
    lowest = float(values.min())
    return (0.5 if np.isnan(lowest) else min(0.5, np.floor(lowest * 20) / 20)), 1.0


def caption(n: int, of: str, interval: str, null: str) -> str:
    """What a reader must be told under a figure: how many of what, what the interval is, what the null is."""
    return f"n = {n} {of}. Interval: {interval}. Null: {null}."


def readable(name: str, pause: str = "\n") -> str:
    """A name for the eye: `pretrained_minus_random_init` reads pretrained − random init."""
    return name.replace("_minus_", f" −{pause}").replace(" · ", pause).replace("_", " ")


def _with_every_layer(cells: pd.DataFrame, empty: Any) -> pd.DataFrame:
    """The cells with a line or column for each layer between the first and the last, of axes with that name."""
    for axis in (0, 1):
        labels = cells.axes[axis]
        if labels.name == "layer" and len(labels):
            every = range(int(labels.min()), int(labels.max()) + 1)
            cells = cells.reindex(every, axis=axis, fill_value=empty)
    return cells


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
