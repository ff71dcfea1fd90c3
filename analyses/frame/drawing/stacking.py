"""Heat maps side by side that are too many for the width of a figure stand below one another, under one colour bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

_FEWEST = 3
_NARROW = 1.4
"""Inches, below which names and numbers of a heat map run into one another."""
_LOWER = 0.6
"""The height of a panel in a stack, as a share of that which it had."""


def stacked(figure: Figure, panels: Sequence[Axes], width: float) -> float:
    """Puts heat maps below one another where so wide a figure has no room for them side by side.

    Names that the panels share stand once.

    Returns:
        By how much higher the figure has to be.
    """
    if len(panels) < _FEWEST or width / len(panels) >= _NARROW or not all(map(_in_one_line, panels)):
        return 1.0
    _one_bar(figure, panels)
    places = GridSpec(len(panels), 1, figure=figure)
    for at, axes in enumerate(panels):
        axes.set_subplotspec(places[at])
        axes.set_ylabel(panels[0].get_ylabel())
        axes.tick_params(labelleft=True)
    if (
        len({(axes.get_xlabel(), *(text.get_text() for text in axes.get_xticklabels())) for axes in panels})
        == 1
    ):
        for axes in panels[:-1]:
            axes.set_xlabel("")
            axes.tick_params(labelbottom=False)
    return _LOWER * len(panels)


def _in_one_line(axes: Axes) -> bool:
    """Whether it is a heat map among panels side by side."""
    place = axes.get_subplotspec()
    return bool(axes.images) and place is not None and place.get_gridspec().nrows == 1


def _one_bar(figure: Figure, panels: Sequence[Axes]) -> None:
    """The colour bar of the last panel as that of all."""
    image = panels[-1].images[0]
    if (bar := image.colorbar) is None or any(axes.images[0].colorbar for axes in panels[:-1]):
        return
    look: dict[str, Any] = {"label": bar.ax.get_ylabel(), "extend": bar.extend}
    bar.remove()
    figure.colorbar(image, ax=list(panels), **look).outline.set_visible(False)  # pyright: ignore[reportCallIssue]
