"""Effects of one run on disk: a number for each cell and unit, from which `analyses.pooling` pools many runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.frame import registry
from analyses.frame.analysis import Analysis, Extras
from analyses.frame.command_line import TABLE, flags_of, role_of
from analyses.frame.provenance import Stored
from probing.store import MismatchError, records
from taxogen.runs.run import Run
from taxogen.world.taxonomy import Taxonomy

FILE = "effects.h5"
STORING = ("circuits", "erasure", "interchange", "knockout", "lens", "patching")
"""Analyses that store effects."""
CELLS = ("target", "measure", "state", "modality", "site", "span")
"""Columns that cells always have; empty where they say nothing."""
LEAF, PAIR = ("leaf", "hypernym"), ("clean", "corrupted", "up", "down")
"""Columns of units that are leaves, and of units that are pairs of leaves."""


@dataclass(frozen=True, eq=False)
class Effects:
    """The effects of one run, a number for each cell and unit.

    >>> cells = pd.DataFrame({"measure": ["effect"], "site": ["blocks.3.hook_resid_post"], "span": ["cue"]})
    >>> units = pd.DataFrame({"leaf": ["crow", "oak"], "hypernym": ["bird", "tree"]})
    >>> effects = Effects(cells, units, np.array([[0.5, 0.1]]))
    >>> effects.paired, effects.values.shape
    (False, (1, 2))

    Attributes:
        cells: what was done where, and what was measured of it: at least `CELLS`, and whatever else distinguishes two
            cells, such as layers or head. Numbers are 0 where nothing is to be found; the state is `clean` or empty,
            or the placebo that the number is an excess over.
        units: `LEAF` columns, or `PAIR` columns: leaves, and the hypernyms that are drawn in place of them. A leaf
            that is asked about several hypernyms is a unit for each.
        values: of each cell and unit, in the unit that `measure` has; NaN where it is not defined.

    Raises:
        ValueError: values of another shape, units that are neither, or two cells, or two units, that are one.
    """

    cells: pd.DataFrame
    units: pd.DataFrame
    values: Float[np.ndarray, "cells units"]

    def __post_init__(self) -> None:
        labels = {name: "" for name in CELLS if name not in self.cells}
        object.__setattr__(self, "cells", self.cells.assign(**labels).reset_index(drop=True))
        object.__setattr__(self, "units", self.units.astype(str).reset_index(drop=True))
        object.__setattr__(self, "values", np.asarray(self.values, np.float32))
        if self.values.shape != (len(self.cells), len(self.units)):
            raise ValueError(
                f"effects of {len(self.cells)} cells in {len(self.units)} units were given as {self.values.shape}"
            )
        if set(self.units.columns) not in (set(LEAF), set(PAIR)):
            raise ValueError(
                f"units have columns {', '.join(self.units.columns)}; give {' and '.join(LEAF)}, or {', '.join(PAIR)}"
            )
        for what, table in (("cells", self.cells), ("units", self.units)):
            if twice := int(table.duplicated().sum()):
                raise ValueError(f"{twice} of {len(table)} {what} are there twice; give each once")

    @property
    def paired(self) -> bool:
        """Whether units are pairs of leaves."""
        return "clean" in self.units


def leaf_units(leaves: Sequence[str], taxonomy: Taxonomy) -> pd.DataFrame:
    """Units that are leaves, each with its most special hypernym: that of the fewest leaves."""
    hypernyms = [
        min(taxonomy.hypernyms_of(leaf), key=lambda name: (len(taxonomy.leaves_of(name)), name))
        for leaf in leaves
    ]
    return pd.DataFrame({"leaf": list(leaves), "hypernym": hypernyms})


def effects_file(analysis: str, table: str) -> str:
    """The name of the file of effects beside a table: `effects.h5` where the table has the name of its analysis."""
    return FILE if table == analysis else f"{table}-{FILE}"


def with_effects(effects: Effects, analysis: str, table: str = "") -> Extras:
    """What an analysis adds to its result, so that its effects are written beside its table."""
    return Extras(files={effects_file(analysis, table or analysis): partial(fill, effects=effects)})


def write_effects(path: Path, effects: Effects, made_from: Mapping[str, Any]) -> None:
    """Writes effects whole or not at all, with the record of what they were made from."""
    records.write(path, partial(fill, effects=effects), made_from)


def fill(path: Path, effects: Effects) -> None:
    """Writes effects to a path, without a record; `frame.analysis` keeps that of what an analysis adds."""
    with h5py.File(path, "w") as file:
        file.attrs["what"] = "effects of one run: values [cells, units], and a column of each label"
        for name, table in (("cells", effects.cells), ("units", effects.units)):
            group = file.create_group(name, track_order=True)
            for label, column in table.items():
                numeric = column.dtype.kind in "biuf"
                group[str(label)] = column.to_numpy() if numeric else column.astype(str).tolist()
        file.create_dataset("values", data=effects.values, compression="gzip", shuffle=True)


def read_effects(path: Path, run: Run | None = None) -> Effects:
    """The effects that a file has, of the run in whose folder it lies unless given.

    Raises:
        ValueError: its analysis stores no effects.
        KeyError: there is none, and its analysis has no such table.
        FileNotFoundError: there is none; the command that makes it is named.
        DamagedError: its bytes are not those that were written, or it has no record.
        MismatchError: it was made from another projector, world or captures than the run has now, or not together with
            the table beside it.
    """
    analysis = registry.load(path.parent.name.partition("-")[0])
    if analysis.name not in STORING:
        raise ValueError(
            f"effects of {analysis.name} were asked for, which stores none; give {', '.join(STORING)}"
        )
    run = run or Run.open(path.parents[2])
    table = path.name.removesuffix(FILE).rstrip("-") or analysis.name
    beside = Stored(analysis, path.with_name(f"{table}.parquet"), [run])
    before = beside.require() if beside.path.is_file() else None
    stored = Stored(analysis, path, [run])
    remedy = stored.remedy(before["options"] if before else _asking(analysis).get(table, {}))
    if not path.is_file():
        if before is None and table not in (known := _asking(analysis)):
            raise KeyError(f"table {table!r} of {analysis.name} was asked for; known: {', '.join(known)}")
        raise FileNotFoundError(f"{run.name} has no {path.name} of {analysis.name}; {remedy}")
    made_from = stored.require()
    if made_from is None:
        raise records.DamagedError(f"{path} has no record of what it was made from; {remedy}")
    if made_from != before:
        raise MismatchError(f"{path} was not made with the table beside it; {remedy}")
    return _read(path)


def _asking(analysis: Analysis) -> dict[str, dict[str, Any]]:
    """Table of an analysis → the values of its options that ask for that table, the default one first."""
    fields = [field for field in flags_of(analysis.options).values() if role_of(field) == TABLE]
    choices = [field.metadata["flag"]["choices"] or (False, True) for field in fields]
    asked = [dict(zip([field.name for field in fields], values)) for values in product(*choices)]
    tables = {analysis.table_name_of(analysis.options()): {}}
    return tables | {analysis.table_name_of(analysis.options(**values)): values for values in asked}


def _read(path: Path) -> Effects:
    with h5py.File(path) as file:
        cells, units = (_table(cast(h5py.Group, file[name])) for name in ("cells", "units"))
        return Effects(cells, units, np.asarray(file["values"]))


def _table(group: h5py.Group) -> pd.DataFrame:
    columns = {name: cast(h5py.Dataset, group[name]) for name in group}
    return pd.DataFrame(
        {name: np.asarray(c.asstr()[:] if c.dtype.kind == "O" else c[:]) for name, c in columns.items()}
    )
