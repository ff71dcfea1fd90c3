"""Results as they are saved: a table, its figures and what is beside it, never mixed with those of another question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import pandas as pd
from matplotlib.figure import Figure

from analyses.frame import drawing, notebook, provenance, tables
from probing.store import records
from taxogen.runs.flags import note
from taxogen.runs.run import EARLIER, Run

_Result = TypeVar("_Result", bound="Result")
QUICK = "quick"
"""The column of the tables of a quick look, and the end of the name of their folder."""


@dataclass(frozen=True)
class Extras:
    """What is saved beside a table.

    Attributes:
        tables: further tables, by name.
        figures: figures that need more than the table, by name.
        files: file name → what writes it at a path.
        notes: lines printed under the summary.
    """

    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    files: Mapping[str, Callable[[Path], object]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def save(self, folder: Path, made_from: Mapping[str, Any], quick: bool = False) -> None:
        """Writes all of it, each with its record."""
        for name, table in self.tables.items():
            tables.save(table.assign(**{QUICK: True}) if quick else table, folder, name, made_from)
        for name, figure in self.figures.items():
            drawing.save(marked(figure) if quick else figure, folder, name, made_from)
        for name, write in self.files.items():
            records.write(folder / name, write, made_from)


@dataclass(frozen=True)
class Result:
    """What an analysis computes: its long table, and what is saved beside it."""

    table: pd.DataFrame
    extras: Extras = Extras()
    _repr_html_ = notebook.result_html


def one_or_several(compute: Callable[[Sequence[Any], Any], _Result]) -> Callable[..., _Result]:
    """What computes an answer, as it is called by hand: also with one run, and without options for the defaults."""

    @wraps(compute)
    def computed(runs: Run | Sequence[Any], options: Any = None) -> _Result:
        if options is None:
            options = get_type_hints(compute)["options"]()
        return compute([runs] if isinstance(runs, Run) else runs, options)

    return computed


def marked(figure: Figure) -> Figure:
    """A figure across which stands that it is of a quick look."""
    look: dict[str, Any] = {"fontsize": 34, "color": "0.5", "alpha": 0.3, "rotation": 25}
    figure.text(0.5, 0.5, "quick look", ha="center", va="center", zorder=10, **look)
    return figure


@contextmanager
def replacing(
    folder: Path, names: Iterable[str], options: type, made_from: Mapping[str, Any]
) -> Iterator[None]:
    """A block that writes tables of these names, and more, into a folder; a line says what becomes of older ones.

    What was made with a table of another question moves with it to a folder of its own. What was made from another
    state of the same runs or stores, and is not written again, is removed.
    """
    provenance.set_aside_unreadable(folder)
    older: list[Path] = []
    for name in names:
        path = folder / f"{name}.parquet"
        before = records.last(path)
        if before is None or "options" not in before or before == made_from:
            continue
        paths = records.made_alike(folder, before)
        how, other = provenance.difference(options, before, made_from)
        where = folder / EARLIER / records.digest_of([before["options"], sorted(before["runs"])])[:8]
        fate = f"it lies in {where} now, with its figures" if other else "it is replaced"
        if how:
            note(f"{made_from['analysis']}: {path} was made {how}; {fate}")
        if other:
            for one in paths:
                records.move(one, where)
        else:
            older += paths
    yield
    for path in older:
        if records.last(path) != made_from:
            records.remove(path)
