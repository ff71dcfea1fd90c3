"""What is left to do where a figure is saved: its width, its caption, names that fit, forests of single points."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import AutoLocator, MaxNLocator
from scipy.optimize import isotonic_regression

from analyses.frame.drawing.palette import CHANCE
from analyses.frame.drawing.room import make_room
from analyses.frame.drawing.stacking import stacked

CAPTION = "caption"
_WIDEST = 0.2  # of a figure: names at the ends of curves, which take it from the panels
_SMALL = 6.5


def fit(figure: Figure, width: float, captioned: bool = True) -> None:
    """Makes a figure so wide, and what is written in it fit; names stand at the ends of curves where there is room."""
    engine: Any = figure.get_layout_engine()
    caption = str(figure.get_label())
    if engine is None:
        return
    own, height = map(float, figure.get_size_inches())
    panels = [axes for axes in figure.axes if axes.get_visible() and axes.get_label() != "<colorbar>"]
    if anew := bool(caption) and (width != own or not captioned):
        figure.set_size_inches(own, height - _remove_caption(figure))
    forests = _forests(figure, panels)
    if width != own:
        stacked(figure, panels, width)
        figure.set_size_inches(width, figure.get_size_inches()[1])
    if anew and captioned:
        footnote(figure, caption, grow=True)
    _whole_layers(panels)
    if not forests:
        figure.draw_without_rendering()
        _label_ends(figure, panels)
        _narrow_legends(figure)
    if width != own:
        _wrap(panels)
    make_room(figure, panels, _grow)


def footnote(figure: Figure, text: str, grow: bool = False) -> None:
    """A small text under a figure, wrapped to its width; the panels make room for it, or the figure grows.

    A legend of the whole figure must stand above or beside the panels ("outside upper center").
    """
    width, height = figure.get_size_inches()
    lines = [
        line
        for paragraph in text.split("\n")
        for line in textwrap.wrap(paragraph, int(width * 72 / (_SMALL * 0.58))) or [""]
    ]
    inches = _inches(len(lines))
    if grow:
        height += inches
        figure.set_size_inches(width, height)
    engine: Any = figure.get_layout_engine()
    if engine is None:
        figure.subplots_adjust(bottom=figure.subplotpars.bottom + inches / height)
    else:
        engine.set(rect=(0, inches / height, 1, 1 - inches / height))
    figure.set_label(text)
    look = {"fontsize": _SMALL, "color": "0.4", "va": "bottom", "linespacing": 1.25}
    figure.text(0.012, 3 / 72 / height, "\n".join(lines), gid=CAPTION, **look)


def caption_inches(figure: Figure) -> float:
    """The height of the caption of a figure; 0 where it has none."""
    return sum(_inches(text.get_text().count("\n") + 1) for text in figure.texts if text.get_gid() == CAPTION)


def _grow(figure: Figure, inches: float) -> None:
    """Makes a figure higher by so many inches; its caption stays as high as it is."""
    caption = str(figure.get_label()) if caption_inches(figure) else ""
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + inches - (_remove_caption(figure) if caption else 0))
    if caption:
        footnote(figure, caption, grow=True)


def _inches(lines: int) -> float:
    """The height of a caption of so many lines."""
    return (lines * _SMALL * 1.35 + 5) / 72


def _remove_caption(figure: Figure) -> float:
    """Takes the caption out of a figure, and gives the inches that it held."""
    (text,) = [text for text in figure.texts if text.get_gid() == CAPTION]
    text.remove()
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0, 0, 1, 1))
    return _inches(text.get_text().count("\n") + 1)


def _whole_layers(panels: Sequence[Axes]) -> None:
    """Ticks at whole numbers on axes of blocks, or of layers as an analysis of one's own may say."""
    for axes in panels:
        for axis in (axes.xaxis, axes.yaxis):
            numbered = re.search("block|layer", axis.get_label_text())
            if numbered and isinstance(axis.get_major_locator(), AutoLocator):
                axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def _label_ends(figure: Figure, panels: Sequence[Axes]) -> None:
    """Puts names beside the ends of the curves of the last panel of a line of panels, in place of the legend."""
    if len(figure.legends) != 1 or not all(map(_of_first_line, panels)) or panels[-1].images:
        return
    panel, (legend,) = panels[-1], figure.legends
    curves = {str(line.get_label()): line for line in panel.lines}
    names = [text.get_text() for text in legend.get_texts()]
    if not all(name in curves and len(_points(curves[name])) > 1 for name in names):
        return
    texts = [text.get_window_extent() for text in legend.get_texts()]
    legend.set_visible(False)
    figure.draw_without_rendering()
    box = panel.get_window_extent()
    ends = np.array([panel.transData.transform(_points(curves[name])[-1])[1] for name in names])
    gap = 1.1 * max(text.height for text in texts)
    order = np.argsort(ends, kind="stable")
    steps = gap * np.arange(len(names))
    places = np.empty(len(names))
    places[order] = isotonic_regression(ends[order] - steps).x + steps
    widest = max(text.width for text in texts)
    inside = places.min() > box.y0 - gap / 2 and places.max() < box.y1 + gap / 2
    if not inside or np.abs(places - ends).max() > gap or widest > _WIDEST * figure.bbox.width:
        legend.set_visible(True)
        return
    legend.remove()
    for name, place in zip(names, places):
        look: dict[str, Any] = {"color": curves[name].get_color(), "fontsize": "small", "va": "center"}
        at = (1.0, (place - box.y0) / box.height)
        panel.annotate(
            name,
            at,
            (5, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            annotation_clip=False,
            **look,
        )


def _of_first_line(axes: Axes) -> bool:
    place = axes.get_subplotspec()
    return place is not None and place.is_first_row()


def _points(line: Line2D) -> np.ndarray:
    """The points of a line that are numbers."""
    points = np.asarray(line.get_xydata(), dtype=float)
    return points[np.isfinite(points).all(axis=1)]


def _narrow_legends(figure: Figure) -> None:
    """Gives a legend over all panels as many columns as the figure has room for."""
    for legend in list(figure.legends):
        texts = [text.get_window_extent() for text in legend.get_texts()]
        handle = 4 * max(text.height for text in texts)
        columns = max(1, int(figure.bbox.width / (max(text.width for text in texts) + handle)))
        if legend.get_window_extent().width > figure.bbox.width:
            handles = [one for one in legend.legend_handles if one is not None]
            names = [text.get_text() for text in legend.get_texts()]
            legend.remove()
            title, size = legend.get_title(), legend.get_texts()[0].get_fontsize()
            characters = int(
                len(title.get_text()) * figure.bbox.width / max(title.get_window_extent().width, 1)
            )
            look: dict[str, Any] = {"fontsize": size, "title_fontsize": title.get_fontsize()}
            look["title"] = "\n".join(textwrap.wrap(title.get_text(), max(8, characters))) or None
            figure.legend(handles, names, loc="outside upper center", ncols=columns, **look)


def _wrap(panels: Sequence[Axes]) -> None:
    """Breaks titles and names of axes that are longer than their panel."""
    if not panels or (figure := panels[0].get_figure(root=True)) is None:
        return
    figure.draw_without_rendering()
    for axes in panels:
        box = axes.get_window_extent()
        texts = [(axes.title, box.width), (axes._left_title, box.width)]  # pyright: ignore
        texts += [(axes.xaxis.label, box.width), (axes.yaxis.label, box.height)]
        for text, room in texts:
            extent = text.get_window_extent()
            length = extent.height if text is axes.yaxis.label else extent.width
            if text.get_text() and length > room:
                widest = max(map(len, text.get_text().split("\n")))
                characters = max(8, int(widest * room / length))
                lines = [
                    textwrap.wrap(line, characters, break_long_words=False)
                    for line in text.get_text().split("\n")
                ]
                text.set_text("\n".join(part for line in lines for part in line))


def _forests(figure: Figure, panels: Sequence[Axes]) -> bool:
    """Turns a figure of single points, of one layer alone, into forest plots; says whether it was one."""
    points = {axes: [one for one in axes.containers if isinstance(one, ErrorbarContainer)] for axes in panels}
    if not all(
        own and len(own) > 1 and all(one.lines[0].get_gid() == "single" for one in own)
        for own in points.values()
    ):
        return False
    layer = next((axes.get_xlabel() for axes in panels if axes.get_xlabel()), "")
    limits = {axes: None if axes.get_autoscaley_on() else axes.get_ylim() for axes in panels}
    for axes, own in points.items():
        _forest(axes, own, layer)
    for axes, own in points.items():
        ends = [bar.get_segments() for one in own for bar in one.lines[2]]
        axes.relim()
        axes.update_datalim([point for segments in ends for segment in segments for point in segment])
    for axes in panels:  # they may share an axis: first all are turned
        if (own_limits := limits[axes]) is None:
            axes.autoscale_view(scaley=False)
        else:
            axes.set_xlim(own_limits)
    for legend in list(figure.legends):
        legend.remove()
    return True


def _forest(axes: Axes, points: Sequence[ErrorbarContainer], layer: str) -> None:
    """Single points of a panel below one another, with their names, instead of one over the other."""
    values, (at, _) = axes.get_ylabel(), _points(points[0].lines[0])[0]
    heights = [float(np.asarray(point.lines[0].get_ydata())[0]) for point in points]
    own = {point.lines[0] for point in points}
    for line in [line for line in axes.lines if line not in own and _points(line).size]:
        level = float(_points(line)[0, 1])
        if line.get_zorder() == CHANCE["zorder"]:
            line.remove()
            axes.axvline(level, **CHANCE)
        elif level in heights:  # a mark on a point
            line.set_data([level], [heights.index(level)])
    for place, point in enumerate(points):
        point.lines[0].set_data([heights[place]], [place])
        for bar in point.lines[2]:
            ends = [np.reshape(segment, (-1, 2))[:, 1] for segment in bar.get_segments()]
            bar.set_segments([np.stack([end, np.full_like(end, place)], axis=1) for end in ends])
    names = [str(point.get_label()) for point in points]
    axes.set_yticks(range(len(points)), ["" if name.startswith("_") else name for name in names])
    first = axes.get_subplotspec()
    ylabel = f"{layer} {at:g}" if first is None or first.is_first_col() else ""
    axes.set(xlabel=values, ylabel=ylabel, ylim=(len(points) - 0.5, -0.5))
    axes.set_autoscalex_on(True)
