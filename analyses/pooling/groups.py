"""Conditions with the stored effects of their runs, contrasts of two of them, and pictures against words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

from analyses.frame import registry
from analyses.inputs.conditions import contrasted, described, grouped_by_condition
from analyses.inputs.effects import Effects, effects_file, read_effects
from probing.store import MismatchError
from taxogen.runs.run import Run

IMAGE, TEXT = "image", "text"


@dataclass(frozen=True, eq=False)
class Group:
    """The effects of runs that differ only in their seed: of a condition, or differences of two, seed by seed.

    Attributes:
        name: of the condition, or `A − B`.
        about: the condition, as `analyses.inputs.conditions.described` does.
        seeds: of the runs.
        runs: their names.
        cells: that all runs have.
        units: that all runs have.
        values: of each run.
    """

    name: str
    about: dict[str, Any]
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    cells: pd.DataFrame
    units: pd.DataFrame
    values: Float[np.ndarray, "runs cells units"]

    @property
    def ends(self) -> Shaped[np.ndarray, "units *two"]:
        """The clusters of each unit: hypernyms; also leaves, where one leaf stands under several."""
        if "clean" in self.units:
            return self.units[["up", "down"]].to_numpy(str)
        hypernym = self.units["hypernym"].to_numpy(str)
        if not self.units["leaf"].duplicated().any():
            return hypernym
        leaf = "leaf " + self.units["leaf"].to_numpy(str).astype(object)
        return np.column_stack([leaf.astype(str), np.char.add("hypernym ", hypernym)])

    def of_seeds(self, seeds: Sequence[int]) -> Group:
        """The runs of these seeds only, in this order."""
        chosen = [self.seeds.index(seed) for seed in seeds if seed in self.seeds]
        return Group(
            self.name,
            self.about,
            tuple(self.seeds[at] for at in chosen),
            tuple(self.runs[at] for at in chosen),
            self.cells,
            self.units,
            self.values[chosen],
        )

    def minus(self, other: Group) -> Group:
        """The differences of the runs of equal seeds, in the cells and units that both have."""
        seeds = sorted(set(self.seeds) & set(other.seeds))
        name = f"{self.name} − {other.name}"
        if not seeds:
            raise MismatchError(
                f"{name} was asked for, seed by seed; {self.name} has seeds {self.seeds}, {other.name} "
                f"{other.seeds}: give runs of both with one seed"
            )
        first, second = self.of_seeds(seeds), other.of_seeds(seeds)
        cells, units = (
            _shared([getattr(first, what), getattr(second, what)], what, name) for what in ("cells", "units")
        )
        values = first.at(cells, units) - second.at(cells, units)
        runs = tuple(f"{one} − {two}" for one, two in zip(first.runs, second.runs))
        return Group(name, {}, tuple(seeds), runs, cells, units, values)

    def less(self, other: Group) -> Group:
        """The same runs less their effects of another table, in the cells and units that both have.

        Raises:
            MismatchError: the tables share no cell or unit.
        """
        own, others = (side.cells.drop(columns="modality") for side in (self, other))
        cells = _shared([own, others], "cells", self.name)
        units = _shared([self.units, other.units], "units", self.name)
        places = [_places(side, cells) for side in (own, others)]
        first, second = (
            side.values[:, place][:, :, _places(side.units, units)]
            for side, place in zip((self, other), places)
        )
        return replace(self, cells=cells.assign(modality=""), units=units, values=first - second)

    def at(self, cells: pd.DataFrame, units: pd.DataFrame) -> Float[np.ndarray, "runs cells units"]:
        """The values of some cells and units."""
        return self.values[:, _places(self.cells, cells)][:, :, _places(self.units, units)]

    @property
    def pictures_against_words(self) -> Group | None:
        """The differences of picture and word prompts, where the runs were asked with both."""
        sides = [self.cells[self.cells["modality"] == modality] for modality in (IMAGE, TEXT)]
        if any(side.empty for side in sides):
            return None
        cells = _shared([side.drop(columns="modality") for side in sides], "cells", self.name)
        image, text = (self.at(cells.assign(modality=modality), self.units) for modality in (IMAGE, TEXT))
        runs = tuple(f"{run}, {IMAGE} − {TEXT}" for run in self.runs)
        name = f"{self.name}, {IMAGE} − {TEXT}"
        labelled = cells.assign(modality=f"{IMAGE} − {TEXT}")
        return Group(name, {}, self.seeds, runs, labelled, self.units, image - text)


def effects_path(run: Run, of: str, table: str) -> Path:
    """Where the effects of an analysis lie in a run; `table` names another than its default table."""
    analysis = registry.load(of)
    beside = analysis.table_path(run, table)
    return beside.with_name(effects_file(analysis.name, beside.stem))


def groups_of(runs: Sequence[Run], of: str, table: str, minus: str = "") -> list[Group]:
    """The conditions among some runs, each with the stored effects of its runs, less those of a second table if any.

    Raises:
        FileNotFoundError: a run has none; the command that makes them is named.
        DamagedError, MismatchError: they are not as they were written, or of another table or run than there is now;
            two runs are one condition with one seed, or share no cell or unit.
    """
    groups = []
    for name, members in grouped_by_condition(runs).items():
        about = described(members[0], runs)
        group = _group(name, members, about, of, table)
        groups.append(group.less(_group(name, members, about, of, minus)) if minus else group)
    return groups


def contrasts_of(groups: Sequence[Group], asked: Sequence[str]) -> list[Group]:
    """Differences of conditions: those asked for as `A,B`, else of all that differ in one thing; then of modalities.

    Raises:
        KeyError: a condition that is not among the runs.
        MismatchError: two conditions without a common seed, cell or unit.
    """
    named = {group.name: group for group in groups}
    pairs = [_named(text, list(named)) for text in asked]
    chosen = [(named[one], named[two]) for one, two in pairs] if asked else contrasted(groups)
    differences = [first.minus(second) for first, second in chosen]
    return differences + [both for group in groups if (both := group.pictures_against_words) is not None]


def _named(text: str, known: Sequence[str]) -> tuple[str, str]:
    """The two conditions of `A,B`; a name may have commas itself."""
    parts = text.split(",")
    for at in range(1, len(parts)):
        first, second = ",".join(parts[:at]).strip(), ",".join(parts[at:]).strip()
        if first in known and second in known and first != second:
            return first, second
    raise KeyError(f"--contrast {text!r} was asked for; give two of the conditions A,B: {'; '.join(known)}")


def _group(name: str, runs: Sequence[Run], about: dict[str, Any], of: str, table: str) -> Group:
    effects = [read_effects(effects_path(run, of, table), run) for run in runs]
    cells, units = (
        _shared([getattr(one, what) for one in effects], what, name) for what in ("cells", "units")
    )
    values = np.stack([_values(one, cells, units) for one in effects]).astype(np.float64)
    seeds, names = tuple(run.config.seed for run in runs), tuple(run.name for run in runs)
    return Group(name, about, seeds, names, cells, units, values)


def _values(effects: Effects, cells: pd.DataFrame, units: pd.DataFrame) -> Float[np.ndarray, "cells units"]:
    return effects.values[_places(effects.cells, cells)][:, _places(effects.units, units)]


def _shared(tables: Sequence[pd.DataFrame], what: str, of: str) -> pd.DataFrame:
    """The rows that all tables have, in the order of the first.

    Raises:
        MismatchError: there is none.
    """
    shared = reduce(lambda left, right: left.merge(right, how="inner"), tables).reset_index(drop=True)
    if shared.empty:
        raise MismatchError(
            f"the runs of {of} share none of their {' / '.join(str(len(table)) for table in tables)} {what}; ask all "
            "of them in the same way"
        )
    return shared


def _places(table: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    """Where some rows of a table stand in it."""
    numbered = table.assign(place=np.arange(len(table)))
    return rows.merge(numbered, how="left")["place"].to_numpy(int)
