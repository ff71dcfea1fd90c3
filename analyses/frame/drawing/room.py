"""Room for what is written: ticks that do not run into one another, lines for names, and no panel without an extent."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from analyses.frame.drawing.stacking import lines_of, names_inches

_COLLAPSED = "constrained_layout not applied"
_STEP, _TRIES = 0.5, 8
_TICKS = 9
"""The most ticks on an axis of numbers."""


@contextmanager
def collapse_unsaid() -> Iterator[None]:
    """Context that lays a figure out, in which its panels may have no room for a time."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_COLLAPSED)
        yield


@contextmanager
def collapse_refused(name: str) -> Iterator[None]:
    """Context that writes a figure, or refuses to where its panels have no room.

    Raises:
        ValueError: they have none.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=_COLLAPSED)
        try:
            yield
        except UserWarning as fault:
            if not str(fault).startswith(_COLLAPSED):
                raise
            raise ValueError(
                f"figure {name} has no room for its panels at this width; give --width two, or a style "
                "whose figures are wider"
            ) from None


def make_room(figure: Figure, panels: Sequence[Axes], grow: Callable[[Figure, float], None]) -> None:
    """Makes a figure higher where names or panels ask for it, and leaves out ticks that would overlap.

    Args:
        figure: laid out at its width.
        panels: of it.
        grow: makes it higher by so many inches.
    """
    lines = lines_of(panels)
    for _ in range(_TRIES):
        if not _collapses(figure):
            break
        grow(figure, lines * _STEP)
    dots = figure.dpi
    short = max((names_inches(axes) - axes.get_window_extent().height / dots for axes in panels), default=0)
    short = max(lines * short, *map(_short_bar, figure.axes), 0)
    if short > 0:
        grow(figure, short)
        figure.draw_without_rendering()
    for axes in panels:
        for one in (axes, *axes.child_axes):
            _thin(one.xaxis)


def _short_bar(axes: Axes) -> float:
    """By how many inches a colour bar is shorter than what is written along it; 0 for what is no colour bar."""
    if axes.get_label() != "<colorbar>":
        return 0.0
    return (axes.yaxis.label.get_window_extent().height - axes.get_window_extent().height) / axes.figure.dpi  # pyright: ignore


def _collapses(figure: Figure) -> bool:
    with warnings.catch_warnings(record=True) as said:
        warnings.filterwarnings("always", message=_COLLAPSED)
        figure.draw_without_rendering()
    return any(str(one.message).startswith(_COLLAPSED) for one in said)


def _thin(axis: Axis) -> None:
    """Fewer ticks on an axis of numbers as long as two of them overlap."""
    for count in range(_TICKS, 0, -1):
        locator = axis.get_major_locator()
        if not _overlap(axis):
            return
        if isinstance(locator, MaxNLocator):
            locator.set_params(nbins=count, min_n_ticks=1)
        elif isinstance(locator, FixedLocator):
            names = [text.get_text() for text in axis.get_ticklabels()]
            if any(letter.isalpha() for name in names for letter in name):
                return
            axis.set_ticks(list(axis.get_ticklocs())[::2], names[::2])


def _overlap(axis: Axis) -> bool:
    low, high = sorted(axis.get_view_interval())
    ticks = zip(axis.get_ticklocs(), axis.get_ticklabels())
    boxes = [text.get_window_extent() for at, text in ticks if low <= at <= high and text.get_text()]
    return any(
        one.x1 + 2 > other.x0 for one, other in itertools.pairwise(sorted(boxes, key=lambda box: box.x0))
    )
