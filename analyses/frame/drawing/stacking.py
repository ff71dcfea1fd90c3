"""Panels that are too many for the width of a figure stand in fewer columns, with what they share written once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

_NARROW, _LEAST = 1.0, 0.4
"""Inches that a panel should be wide, and those below which nothing in it can be read."""
_PAGE = 9.0
"""Inches that a figure should not be higher than."""
_LOWER = 0.6
"""The height of a panel in a stack, as a share of that which it had."""
_GAP = 0.1
_PITCH = 1.1
"""Lines of names, in heights of their letters."""
Places = Mapping[tuple[int, int], Axes]
"""(Line, column) → panel."""


def stacked(figure: Figure, panels: Sequence[Axes], width: float) -> None:
    """Puts panels into as many columns as so wide a figure has room for, and makes it as high as that asks."""
    places = _places(panels)
    columns = 1 + max((column for _, column in places), default=0)
    if columns == 1:
        return
    figure.draw_without_rendering()
    counts = [count for count in range(1, columns + 1) if columns % count == 0]  # without an empty place
    heights = {count: _height(figure, places, columns, count) for count in counts}
    wide = {count: (width - _beside(places, count)) / count for count in heights}
    words = max(_widest_word(axes) for axes in panels)
    fit = [count for count in heights if wide[count] >= max(_NARROW, words) and heights[count] <= _PAGE]
    fit = fit or [count for count in heights if wide[count] >= max(_LEAST, words)]
    count = max(fit, default=1)
    if count < columns:
        _move(figure, places, count)
        figure.set_size_inches(figure.get_size_inches()[0], heights[count])


def lines_of(panels: Sequence[Axes]) -> int:
    """How many panels stand below one another."""
    places = [place for axes in panels if (place := axes.get_subplotspec()) is not None]
    return max((place.get_gridspec().nrows for place in places), default=1)


def names_inches(axes: Axes) -> float:
    """The height of the names that stand beside a panel, one below the other; 0 where there are numbers."""
    texts = [text for text in axes.get_yticklabels() if text.get_visible() and text.get_text()]
    if not axes.yaxis.get_tick_params().get("labelleft", True) or not any(map(_is_word, texts)):
        return 0.0
    return _PITCH * len(axes.get_yticks()) * max(_inches(text)[1] for text in texts)


def _places(panels: Sequence[Axes]) -> Places:
    """Panels of one grid, a cell each; none where they stand otherwise."""
    specs = [axes.get_subplotspec() for axes in panels]
    grids = {id(spec.get_gridspec()) for spec in specs if spec is not None}
    if len(grids) != 1 or any(spec is None or spec.num1 != spec.num2 for spec in specs):
        return {}
    places = {(spec.rowspan.start, spec.colspan.start): axes for spec, axes in zip(specs, panels) if spec}
    return places if len(places) == len(panels) else {}


def _beside(places: Places, count: int) -> float:
    """Inches beside the panels in so many columns: their names, numbers and colour bars."""
    room = np.full(count, _GAP)
    for (line, column), axes in places.items():
        left, right = _sides(axes)
        if column % count == 0 and column and not _named(axes):
            left = max(left, _sides(places[line, 0])[0])
        at = column % count
        room[at] = max(room[at], left + right + _GAP)
    return float(room.sum())


def _sides(axes: Axes) -> tuple[float, float]:
    """Inches to the left and to the right of a panel that it needs."""
    box, names = axes.get_window_extent(), axes.yaxis.get_tightbbox()
    left = 0.0 if names is None else box.x0 - names.x0
    right = max((text.get_window_extent().x1 - box.x1 for text in axes.texts), default=0.0)
    bar = axes.images[0].colorbar if axes.images else None
    more = bar.ax.get_tightbbox().width if bar is not None else 0.0  # pyright: ignore
    return max(left, 0) / _dots(axes), (max(right, 0) + more) / _dots(axes)


def _height(figure: Figure, places: Places, columns: int, count: int) -> float:
    """Inches of the height of a figure whose panels stand in so many columns."""
    lines, whole = 1 + max(line for line, _ in places), float(figure.get_size_inches()[1])
    if count == columns:
        return whole
    boxes = [(axes, axes.get_window_extent().height / _dots(axes)) for axes in places.values()]
    around = max(axes.get_tightbbox().height / _dots(axes) - height for axes, height in boxes) + _GAP  # pyright: ignore
    lower = max(max(_LOWER * height, names_inches(axes)) for axes, height in boxes)
    more = 1 + max(row for row, _ in _cells(places, count).values())
    return whole + (more - lines) * around + more * lower - lines * max(height for _, height in boxes)


def _cells(places: Places, count: int) -> dict[tuple[int, int], tuple[int, int]]:
    """Where each panel stands in fewer columns: those of each further column below, without an empty line."""
    rows = sorted({(column // count, line) for line, column in places})
    return {(line, column): (rows.index((column // count, line)), column % count) for line, column in places}


def _move(figure: Figure, places: Places, count: int) -> None:
    """Puts the panels of each further column below those of an earlier one."""
    lines, cells = 1 + max(line for line, _ in places), _cells(places, count)
    if lines == 1:
        _one_bar(figure, list(places.values()))
    grid = GridSpec(1 + max(row for row, _ in cells.values()), count, figure=figure)
    last: dict[int, Axes] = {}
    for (line, column), axes in sorted(places.items(), key=lambda one: one[0][1]):
        axes.set_subplotspec(grid[cells[line, column]])
        first = places[line, 0]
        if column % count == 0 and axes is not first and axes.get_shared_y_axes().joined(axes, first):
            _name_as(axes, first)
        if line == lines - 1:
            last[column % count] = axes
    if lines == 1 and len(set(map(_horizontal, places.values()))) == 1:
        for axes in set(places.values()) - set(last.values()):
            axes.set_xlabel("")
            axes.tick_params(labelbottom=False)


def _name_as(axes: Axes, first: Axes) -> None:
    """Writes beside a panel what stands beside the one that it shares a vertical axis with."""
    axes.set_ylabel(first.get_ylabel())
    axes.tick_params(labelleft=True)
    for text, other in zip(axes.get_yticklabels(), first.get_yticklabels()):
        text.set_color(other.get_color())


def _horizontal(axes: Axes) -> tuple:
    """What the horizontal axis of a panel says."""
    return axes.get_xlabel(), axes.get_xlim(), tuple(text.get_text() for text in axes.get_xticklabels())


def _widest_word(axes: Axes) -> float:
    """Inches of what no line break shortens: words of the title and of the horizontal axis's name, and a legend."""
    legend = axes.get_legend()
    words = [0.0 if legend is None else _inches(legend)[0]]
    for text in (axes.title, axes._left_title, axes.xaxis.label):  # pyright: ignore
        whole = text.get_text()
        for word in whole.split():
            text.set_text(word)
            words.append(_inches(text)[0])
        text.set_text(whole)
    return max(words)


def _named(axes: Axes) -> bool:
    return bool(axes.yaxis.get_tick_params().get("labelleft", True))


def _is_word(text: Any) -> bool:
    return any(letter.isalpha() for letter in text.get_text())


def _inches(text: Any) -> tuple[float, float]:
    """Width and height of a text or legend."""
    box = text.get_window_extent()
    return box.width / _dots(text), box.height / _dots(text)


def _dots(artist: Any) -> float:
    """Pixels an inch of the figure of something drawn."""
    return float(artist.get_figure(root=True).dpi)


def _one_bar(figure: Figure, panels: Sequence[Axes]) -> None:
    """The colour bar of the last panel as that of all."""
    if not all(axes.images for axes in panels):
        return
    image = panels[-1].images[0]
    if (bar := image.colorbar) is None or any(axes.images[0].colorbar for axes in panels[:-1]):
        return
    look: dict[str, Any] = {"label": bar.ax.get_ylabel(), "extend": bar.extend}
    bar.remove()
    figure.colorbar(image, ax=list(panels), **look).outline.set_visible(False)  # pyright: ignore[reportCallIssue]
