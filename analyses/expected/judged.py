"""Hypotheses judged: each against the cells of a stored table, with the numbers and when it was registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analyses.expected.hypotheses import Hypothesis, parse
from analyses.expected.registration import Registered, registered_for
from analyses.expected.verdicts import FAILS, HOLDS, UNDECIDED, together
from analyses.frame import provenance, registry, tables
from analyses.frame.analysis import REFUSALS, Takes, in_one_line
from analyses.inputs.conditions import with_conditions
from probing.store import MismatchError
from taxogen.runs.run import Run
from taxogen.stages.sweeping.plan_file import known

__all__ = ["FAILS", "HOLDS", "UNDECIDED", "Judged", "judge", "of_registered"]
_RUNS = ("run", "condition", "seed")
"""Columns in which rows of one hypothesis may differ: it is about all of these runs."""
_USUAL = {
    "target": "mean",
    "contrast": "",
    "headline": True,
    "baseline": "",
    "split": "test",
    "modality": "image",
}
"""Column → the value that is meant where a hypothesis names none, as far as there are such rows."""
_NUMBERS = ("value", "lower", "upper", "n", "effective", "chance", "q")
_SHOWN = 3
_Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Judged:
    """A hypothesis with its verdict.

    Attributes:
        hypothesis: the statement and its bound.
        outcome: holds, fails, or undecided.
        because: the numbers, or what is missing.
        standing: when it was registered; empty where it was not.
    """

    hypothesis: Hypothesis
    outcome: str
    because: str
    standing: str = ""

    def __str__(self) -> str:
        known = self.standing or "never registered"
        return f"{self.hypothesis.name}: {self.outcome}. {self.hypothesis.says}: {self.because} ({known})"


def judge(
    of: Sequence[Hypothesis], runs: Sequence[Run], standing: str = "", computed: _Tables | None = None
) -> list[Judged]:
    """A verdict for each hypothesis, about some runs; where a table is not there, it is undecided.

    Args:
        of: the hypotheses.
        runs: that tables are about.
        standing: when they were registered, in words.
        computed: tables by analysis that were just computed, in place of stored ones.

    Raises:
        KeyError: a measure, column or value that the table does not have; the nearest is named.
        ValueError: several cells are meant.
    """
    verdicts = []
    for one in of:
        try:
            table = _table(one, runs, computed or {})
        except (FileNotFoundError, MismatchError) as missing:
            verdicts.append(Judged(one, UNDECIDED, in_one_line(missing), standing))
            continue
        rows = cells(one, table)
        outcomes = [one.outcome(row["lower"], row["upper"]) for row in rows]
        verdicts.append(Judged(one, together(outcomes), _because(one, rows), standing))
    return verdicts


def of_registered(
    runs: Sequence[Run], computed: _Tables | None = None, elsewhere: Sequence[Path] = ()
) -> list[Judged]:
    """Verdicts of all that was registered for some runs, as it was registered; a refusal is an undecided line.

    Args:
        runs: that tables are about.
        computed: as in `judge`.
        elsewhere: folders in which it was registered before the runs were moved.
    """
    texts: dict[str, tuple[Registered, dict[str, str]]] = {}
    for run in runs:
        for entry in registered_for(run, elsewhere):
            texts.setdefault(entry.sha256, (entry, {}))[1].setdefault(run.name, entry.standing(run))
    verdicts: list[Judged] = []
    for entry, of_run in texts.values():
        said = standing_of(of_run, runs)
        for one in parse(entry.text, entry.name):
            try:
                verdicts += judge([one], runs, said, computed)
            except REFUSALS as refusal:
                because = in_one_line(refusal).removeprefix(f"{one.name}: ")
                verdicts.append(Judged(one, UNDECIDED, because, said))
    return verdicts


def standing_of(of_run: Mapping[str, str], runs: Sequence[Run]) -> str:
    """When hypotheses were registered for several runs, in words; run by run where it differs."""
    each = {run.name: of_run.get(run.name, "not registered") for run in runs}
    if len(set(each.values())) == 1:
        return next(iter(each.values()))
    return "; ".join(f"{name}: {said}" for name, said in each.items())


def cells(of: Hypothesis, table: pd.DataFrame) -> list[dict[Any, Any]]:
    """The rows that a hypothesis is about: one, or one of each run and of each value in a list.

    Raises:
        KeyError: a measure, column or value that the table does not have; the nearest is named.
        ValueError: several cells are meant; the columns that distinguish them are named.
    """
    rows = table
    for column, wanted in {"measure": of.measure, **of.where}.items():
        known(f"{of.name}: {of.analysis} has no column {column!r}", column, map(str, table.columns))
        values = wanted if isinstance(wanted, list) else [wanted]
        for value in values:
            if not (table[column] == value).any():
                there = dict.fromkeys(map(str, table[column].unique()))
                known(f"{of.name}: no {column} {value!r} in {of.analysis}", str(value), there)
        if not (chosen := rows[column].isin(values)).any():
            raise ValueError(
                f"{of.name}: {of.analysis} has no row of {column} {wanted!r} beside the other keys"
            )
        rows = rows[chosen]
    for column, value in _USUAL.items():
        if column in rows and column not in of.where and (usual := rows[column] == value).any():
            rows = rows[usual]
    if "step" in rows and "step" not in of.where:
        rows = rows[rows["step"] == rows["step"].max()]
    _refuse_several(of, rows)
    return rows.to_dict("records")


def _refuse_several(of: Hypothesis, rows: pd.DataFrame) -> None:
    """Refuses rows that differ in more than the run and the columns of which several values are named."""
    free = [*_RUNS, *(column for column, value in of.where.items() if isinstance(value, list))]
    free = [column for column in free if column in rows]
    if len(rows.drop_duplicates(free) if free else rows[:1]) == len(rows):
        return
    labels = [column for column in rows if column not in (*free, *_NUMBERS)]
    differing = [str(column) for column in labels if rows[column].astype(str).nunique() > 1]
    said = "; ".join(f"{one} ({', '.join(map(str, rows[one].unique()[:4]))} …)" for one in differing)
    raise ValueError(
        f"{of.name} means {len(rows)} rows of {of.analysis}; name {said or 'a table without copies'}"
    )


def _table(of: Hypothesis, runs: Sequence[Run], computed: _Tables) -> pd.DataFrame:
    analysis = registry.load(of.analysis)
    name = of.table or analysis.table_name_of(analysis.options())
    if analysis.name in computed and not of.table:
        return computed[analysis.name]
    alone = analysis.takes is Takes.EACH_RUN
    parts = []
    for group in [[run] for run in runs] if alone else [runs]:
        paths = [analysis.table_path(run, name) for run in group]
        path = next((path for path in paths if path.is_file()), paths[0])
        stored = provenance.Stored(analysis, path, group)
        if not stored.path.is_file():
            raise FileNotFoundError(f"{group[0].name} has no table {name}; {stored.remedy({})}")
        stored.require()
        parts.append(pd.read_parquet(stored.path))
    return with_conditions(runs, parts) if alone else parts[0]


def _because(of: Hypothesis, rows: Sequence[Mapping[Any, Any]]) -> str:
    shown = [
        f"{tables.estimate_text(row, '.3f')} (n = {row['n']:g}"
        + (f", {row['run']})" if len(rows) > 1 and row.get("run") else ")")
        for row in rows[:_SHOWN]
    ]
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return f"{of.measure} {'; '.join(shown)}{more}, expected {of.bound_text}"
