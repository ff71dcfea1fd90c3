"""Which conditions of a plan are contrasted: pairs by the names of groups and of what varies in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analyses.study import transfer
from analyses.study.estimates import Study
from analyses.study.tables import Tables

FULL, RANDOM, SYSTEMATIC, SHUFFLE = "full", "random", "systematic", "shuffle"
"""Groups that the study's questions are about; those of `ALIKE` are compared in pairs."""
ALIKE = ("encoder", "projector", "format")
MEASURES = ("auroc", "leaf_naming")
SIZE = "transfer"
"""The measure of the size of the transfer (`analyses.study.transfer`)."""
_LEVEL, _GRADED = " · ", "graded"


@dataclass(frozen=True)
class Pair:
    """Two conditions that differ in one thing.

    Attributes:
        key: of the contrasts of one kind, such as `random.init`.
        label: what the two share or are, for figures.
        first: condition.
        second: condition that is subtracted.
    """

    key: str
    label: str
    first: str
    second: str


def pairs(groups: Mapping[str, Mapping[str, str]]) -> list[Pair]:
    """The contrasts that a plan's groups call for; `groups` has the conditions by label."""
    return list(_pairs(groups))


def table(study: Study, tables: Tables) -> pd.DataFrame:
    """A row for each pair and measure whose runs are finished; and one without numbers where they are not."""
    groups = {str(group): study.members(str(group)) for group in study.plan["group"].unique()}
    sizes = transfer.sizes(tables, study.plan)
    rows: list[dict[str, Any]] = []
    for pair in pairs(groups):
        found = {measure: study.contrast(pair.first, pair.second, measure) for measure in MEASURES}
        found[SIZE] = transfer.size_contrast(sizes.get(pair.first), sizes.get(pair.second))
        rows += [{**vars(pair), "measure": measure, **(numbers or {})} for measure, numbers in found.items()]
    columns = [*vars(Pair("", "", "", "")), "measure", "value", "lower", "upper", "n", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def level_of(label: str) -> tuple[str, str]:
    """The first and the last word of a label: a level, and what else varies."""
    level, _, rest = label.partition(_LEVEL)
    return level, rest.rpartition(_LEVEL)[2]


def _pairs(groups: Mapping[str, Mapping[str, str]]) -> Iterator[Pair]:
    full, shuffle = groups.get(FULL, {}), groups.get(SHUFFLE, {})
    for key, first, second in (
        ("full.init", "pretrained", "random"),
        ("full.embeddings", "pretrained", "pretrained-embeddings"),
        ("full.table", "pretrained-embeddings", "random"),
    ):
        if {first, second} <= set(full):
            yield Pair(key, f"{first} − {second}", full[first], full[second])
    for group in (RANDOM, SYSTEMATIC):
        yield from _levels(group, groups.get(group, {}))
    for key, first, second in (
        ("shuffle.coherence", "within", "across"),
        ("shuffle.truth", "none", "category"),
        ("shuffle.coherent", "category", "across"),
        ("shuffle.names", "none", "within"),
    ):
        if {first, second} <= set(shuffle):
            yield Pair(key, f"{first} − {second}", shuffle[first], shuffle[second])
    doses = sorted((name for name in shuffle if name.startswith(_GRADED)), key=_dose)
    if len(doses) > 1:
        yield Pair("shuffle.dose", f"{doses[-1]} − {doses[0]}", shuffle[doses[-1]], shuffle[doses[0]])
    for group in ALIKE:
        members = list(groups.get(group, {}).items())
        for label, condition in members[1:]:
            yield Pair(group, f"{label} − {members[0][0]}", condition, members[0][1])


def _levels(group: str, members: Mapping[str, str]) -> Iterator[Pair]:
    """At each level above 0 pretrained less random init; and of pretrained the largest level less the smallest."""
    levels: dict[str, dict[str, str]] = {}
    for label, condition in members.items():
        level, init = level_of(label)
        levels.setdefault(level, {})[init] = condition
    for level, inits in levels.items():
        if _number(level) > 0 and {"pretrained", "random"} <= set(inits):
            yield Pair(f"{group}.init", level, inits["pretrained"], inits["random"])
    removed = sorted(
        (level for level, inits in levels.items() if _number(level) > 0 and "pretrained" in inits),
        key=_number,
    )
    if len(removed) > 1:
        first, second = removed[-1], removed[0]
        yield Pair(
            f"{group}.level", f"{first} − {second}", levels[first]["pretrained"], levels[second]["pretrained"]
        )


def _number(level: str) -> float:
    try:
        return float(level)
    except ValueError:
        return 0.0


def _dose(name: str) -> float:
    return _number(name.removeprefix(_GRADED))
