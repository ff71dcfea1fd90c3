"""Hypotheses: one TOML file of statements, each about a cell of a result table, with the bound that it must keep."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyses.expected import verdicts
from analyses.frame import registry
from analyses.inputs.measures import MEASURES
from taxogen.runs.config.toml_file import line_of, tables, text_of
from taxogen.runs.setting import shown
from taxogen.stages.sweeping.plan_file import known

RELATIONS = ("above", "below", "within")
OWN = ("says", "analysis", "table", "measure", *RELATIONS)
"""Keys of a hypothesis; all others are columns of the result table, which say which cell is meant."""
EXAMPLE = "examples/expected.toml"


@dataclass(frozen=True)
class Hypothesis:
    """A statement about cells of a result table.

    Attributes:
        name: of its table in the file.
        says: the statement.
        analysis: whose table it is about.
        table: the name of the table; empty for the main one.
        measure: an entry of the column `measure`.
        relation: above or below a bound, or within two.
        bounds: one number, or two.
        where: column → the value that its rows have, or several.
    """

    name: str
    says: str
    analysis: str
    table: str
    measure: str
    relation: str
    bounds: tuple[float, ...]
    where: Mapping[str, Any]

    def outcome(self, lower: float, upper: float) -> str:
        """Whether an interval keeps the bound: holds, fails, or undecided."""
        if self.relation == "within":
            return verdicts.within(lower, upper, *self.bounds)
        if self.relation == "below":
            return verdicts.above(-upper, -lower, -self.bounds[0])
        return verdicts.above(lower, upper, self.bounds[0])

    @property
    def bound_text(self) -> str:
        """The relation in words."""
        return f"{self.relation} {' and '.join(f'{one:g}' for one in self.bounds)}"


def read(path: str | Path) -> list[Hypothesis]:
    """The hypotheses of a TOML file.

    Raises:
        FileNotFoundError: there is no such file.
        KeyError: an unknown analysis, or an unknown measure of one whose measures are known before a run.
        ValueError: the file is no TOML, or a hypothesis lacks a key or has no bound, or several.
    """
    return parse(text_of(path, "hypotheses", f"{EXAMPLE} is one"), path)


def parse(text: str, path: str | Path) -> list[Hypothesis]:
    """The hypotheses of a text; `path` stands in refusals, which name the line."""
    tree = tables(path, text, "hypotheses")
    if not tree:
        raise ValueError(f"hypotheses {path} has none; give a table [NAME] for each, as {EXAMPLE} does")
    hypotheses = []
    for name, entry in tree.items():
        try:
            hypotheses.append(_hypothesis(name, entry))
        except (ValueError, KeyError) as refusal:
            line = line_of(text, (name,))
            raise type(refusal)(f"hypotheses {path}, line {line}: {name}: {refusal.args[0]}") from None
    return hypotheses


def _hypothesis(name: str, entry: Any) -> Hypothesis:
    if not isinstance(entry, Mapping):
        raise ValueError(f"it is a table [{name}], found {shown(entry)}; {EXAMPLE} has some")
    given = {key: entry.get(key, "") for key in OWN[:4]}
    for key, value in given.items():
        if not isinstance(value, str) or (not value and key != "table"):
            raise ValueError(f"it needs a text `{key}`, found {shown(value)}")
    relations = [key for key in RELATIONS if key in entry]
    if len(relations) != 1:
        near = "; ".join(relations) or "none"
        raise ValueError(f"it needs one bound, above, below or within = [low, high]; found {near}")
    (relation,) = relations
    bounds = _bounds(relation, entry[relation])
    analysis = given["analysis"].replace("-", "_")
    registry.load(analysis)
    if analysis == "behaviour":
        known(f"measure {given['measure']!r} is not one of behaviour", given["measure"], MEASURES)
    where = {key: value for key, value in entry.items() if key not in OWN}
    if odd := [key for key, value in where.items() if isinstance(value, (Mapping, datetime.date))]:
        raise ValueError(f"{odd[0]} is a value of a column, or a list of some, found {shown(where[odd[0]])}")
    return Hypothesis(
        name, given["says"], analysis, given["table"], given["measure"], relation, bounds, where
    )


def _bounds(relation: str, value: Any) -> tuple[float, ...]:
    numbers = value if isinstance(value, list) else [value]
    right = all(
        isinstance(one, (int, float)) and not isinstance(one, bool) and math.isfinite(one) for one in numbers
    )
    if not right or len(numbers) != (2 if relation == "within" else 1):
        form = "two numbers [low, high]" if relation == "within" else "a number"
        raise ValueError(f"{relation} is {form}, found {shown(value)}")
    if relation == "within" and not numbers[0] < numbers[1]:
        raise ValueError(f"within is [low, high] with low below high, found {shown(value)}")
    return tuple(float(one) for one in numbers)
