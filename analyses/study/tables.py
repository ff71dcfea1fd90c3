"""The stored tables of a study: seven parquet files, from which every figure and answer is made."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from probing.store import MismatchError, files

COLUMNS: dict[str, tuple[str, ...]] = {
    "plan": ("plan", "group", "about", "condition", "seed", "run", "hash", "label", "equivalence"),
    "runs": (
        *("run", "hash", "made_from", "code", "config", "effective", "coherence", "steps"),
        *("training_items", "seconds", "about", "leaf_choices", "hypernyms", "thresholds", "probed_leaves"),
        *("taxonomy", "words", "probe", "probe_held_out"),
    ),
    "pictures": ("run", "picture", "leaf", "shown_leaf", "leaf_correct", "named_leaf", "top1", "ranks"),
    "readouts": ("readout", "row", "leaf", "ranks"),
    "taxonomies": ("taxonomy", "node", "hypernym"),
    "numbers": (
        *("run", "analysis", "step", "site", "layer", "span", "modality", "target", "measure"),
        *("value", "lower", "upper", "n"),
    ),
    "draws": ("run", "step", "span", "modality", "probe", "site", "value", "scale", "deviations"),
}
"""Table → its columns.

plan: which runs a plan has, by group; a run stands in each of its groups. equivalence: the bound of AUROC.
runs: one row for each finished run: hashes of its config and of what its rows are made from, version of the code,
    the config as JSON; effective: share of hypernym questions that was really removed;
    coherence: realised (`taxogen.runs.coherence`; NaN where it was not recorded).
pictures: of each test picture the read-outs of all hypernyms as signed ranks (`analyses.study.ranks`); top1: whether
    the highest of those that the run is scored on is true.
readouts: signed ranks of the baselines of several runs: of names in words, and of linear probes.
numbers: curves of layer probes and of cohesion, and of each hypernym the size of the transfer.
draws: some bootstrap draws of the curve of the transfer, above its control, less its value, in units of `scale`.
"""
_LISTS: dict[str, pa.DataType] = {"ranks": pa.int16(), "deviations": pa.int8(), "thresholds": pa.int16()}
_LISTS |= {"hypernyms": pa.string(), "probed_leaves": pa.string()}
_WHOLE = ("seed", "steps", "training_items", "leaf_choices", "row", "step", "n")
_TYPES: dict[str, pa.DataType] = dict.fromkeys(_WHOLE, pa.int32())
_TYPES |= dict.fromkeys(("value", "lower", "upper", "scale", "layer", "top1"), pa.float32())
_TYPES |= dict.fromkeys(("effective", "coherence", "seconds", "equivalence"), pa.float64())
_TYPES |= {"leaf_correct": pa.bool_(), **{name: pa.list_(kind) for name, kind in _LISTS.items()}}
"""Column → its type, of those that are no text: an empty list has none of its own."""
RUN_TABLES = ("pictures", "numbers", "draws")
"""Tables with rows that belong to one run."""


WHOLE = "whole"
"""The folder, beside the tables, of new ones that are all written but not all in their places."""


def path_of(folder: Path, name: str) -> Path:
    """Where a table lies."""
    new = folder / WHOLE / f"{name}.parquet"
    return new if new.is_file() else folder / f"{name}.parquet"


@dataclass(frozen=True)
class Tables:
    """The stored tables of one or several plans."""

    plan: pd.DataFrame
    runs: pd.DataFrame
    pictures: pd.DataFrame
    readouts: pd.DataFrame
    taxonomies: pd.DataFrame
    numbers: pd.DataFrame
    draws: pd.DataFrame

    @classmethod
    def empty(cls) -> Tables:
        """Tables without a row."""
        return cls(**{name: pd.DataFrame(columns=list(columns)) for name, columns in COLUMNS.items()})

    @classmethod
    def read(cls, folder: Path) -> Tables:
        """The tables in a folder.

        Raises:
            FileNotFoundError: one is not there; the command that makes them is named.
            MismatchError: one lacks a column, since another version wrote it.
        """
        missing = [name for name in COLUMNS if not path_of(folder, name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{folder} has no {missing[0]}.parquet; `python -m analyses.study --plan PLAN.toml --runs DIR --out "
                f"{folder}` collects the results of a plan's runs"
            )
        tables = {name: pd.read_parquet(path_of(folder, name)) for name in COLUMNS}
        for name, table in tables.items():
            if lacking := [column for column in COLUMNS[name] if column not in table]:
                raise MismatchError(
                    f"{path_of(folder, name)} has no column {lacking[0]}, as tables of other versions; collect the "
                    "results of the runs into another folder with `python -m analyses.study --plan … --out DIR`"
                )
        return cls(**tables)

    @classmethod
    def read_whole(cls, folder: Path) -> Tables:
        """The tables in a folder; tables without a row where one is missing."""
        return cls.read(folder) if all(path_of(folder, name).is_file() for name in COLUMNS) else cls.empty()

    def write(self, folder: Path) -> None:
        """Writes all of them or none; the same tables give the same bytes.

        They are written to a folder of their own, which gets the name `WHOLE` when the last is there; from then on they
        are those that `read` gives, wherever the process ends while they are moved to their places.
        """
        whole, part = folder / WHOLE, folder / f"{WHOLE}.part"
        _move(whole, folder)
        shutil.rmtree(part, ignore_errors=True)
        for name, columns in COLUMNS.items():
            schema = pa.schema([(column, _TYPES.get(column, pa.string())) for column in columns])
            table = pa.Table.from_pandas(getattr(self, name)[list(columns)], schema, preserve_index=False)
            table = table.replace_schema_metadata(
                None
            )  # which says of what types the frame was, read or made
            files.write_whole(
                part / f"{name}.parquet",
                lambda path, table=table: parquet.write_table(table, path, compression="zstd"),
            )
        part.replace(whole)
        _move(whole, folder)

    def with_rows(self, run: str, rows: dict[str, pd.DataFrame]) -> Tables:
        """These tables with the rows of a run in place of those that it had; and the shared ones that it needs."""
        own = {name: _replaced(getattr(self, name), run, rows[name]) for name in (*RUN_TABLES, "runs")}
        shared = {
            name: _joined(getattr(self, name), rows[name]).drop_duplicates(key, ignore_index=True)
            for name, key in _KEYS.items()
        }
        return replace(self, **own, **shared)

    def with_plan(self, rows: pd.DataFrame) -> Tables:
        """These tables with the rows of a plan in place of those that it had."""
        others = self.plan[~self.plan["plan"].isin(rows["plan"])]
        return replace(self, plan=_joined(others, rows))

    def tidy(self) -> Tables:
        """The same in one order, whatever the order in which runs came, without read-outs that no run needs."""
        used = set(self.runs[["words", "probe", "probe_held_out"]].to_numpy().ravel())
        parts: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        parts["readouts"] = parts["readouts"][parts["readouts"]["readout"].isin(used)]
        parts["taxonomies"] = parts["taxonomies"][parts["taxonomies"]["taxonomy"].isin(self.runs["taxonomy"])]
        for name, key in {**dict.fromkeys((*RUN_TABLES, "runs"), "run"), **_FIRST}.items():
            parts[name] = parts[name].sort_values(key, kind="stable", ignore_index=True)
        return Tables(**parts)


def _move(whole: Path, folder: Path) -> None:
    """Puts new tables in their places, `runs` last: whoever reads that alone does not find a run before its rows."""
    if whole.is_dir():
        for path in sorted(whole.iterdir(), key=lambda path: path.stem == "runs"):
            path.replace(folder / path.name)
        whole.rmdir()


_KEYS = {"readouts": ["readout", "row"], "taxonomies": ["taxonomy", "node", "hypernym"]}
_FIRST = {"readouts": "readout", "taxonomies": "taxonomy", "plan": "plan"}


def _replaced(table: pd.DataFrame, run: str, rows: pd.DataFrame) -> pd.DataFrame:
    return _joined(table[table["run"] != run], rows)


def _joined(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Both below each other; an empty table has no types to keep."""
    parts = [part for part in (table, rows) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else table
