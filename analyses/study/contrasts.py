"""Which conditions of a plan are contrasted: pairs by the names of groups and of what varies in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analyses.inputs.conditions import INITS
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
    """A row for each pair and measure whose runs are finished; and one without numbers where they are not.

    `effective` is the share of evidence that the first of the pair was really trained without.
    """
    groups = {str(group): study.members(str(group)) for group in study.plan["group"].unique()}
    sizes, shares = transfer.sizes(tables, study.plan), study.effective
    rows: list[dict[str, Any]] = []
    for pair in pairs(groups):
        found = {measure: study.contrast(pair.first, pair.second, measure) for measure in MEASURES}
        found[SIZE] = transfer.size_contrast(sizes.get(pair.first), sizes.get(pair.second))
        about = {**vars(pair), "effective": shares.get(pair.first, float("nan"))}
        rows += [{**about, "measure": measure, **(numbers or {})} for measure, numbers in found.items()]
    columns = [*vars(Pair("", "", "", "")), "effective", "measure", "value", "lower", "upper", "n", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def level_of(label: str) -> tuple[str, str]:
    """The init that a label names, empty where it names none, behind everything else that it says."""
    words = label.split(_LEVEL)
    init = next((word for word in words if word in INITS), "")
    return _LEVEL.join(word for word in words if word != init), init


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
    """At each level above 0 pretrained less random init; and of pretrained the largest level less the smallest.

    Where something else varies too, each value of it has its own levels.
    """
    places: dict[str, dict[str, str]] = {}
    for label, condition in members.items():
        place, init = level_of(label)
        places.setdefault(place, {})[init] = condition
    levels: dict[str, list[tuple[float, str, str]]] = {}
    for place, inits in places.items():
        share, word, rest = _share(place)
        if share > 0 and {"pretrained", "random"} <= set(inits):
            yield Pair(f"{group}.init", place, inits["pretrained"], inits["random"])
        if share > 0 and "pretrained" in inits:
            levels.setdefault(rest, []).append((share, word, inits["pretrained"]))
    for rest, own in levels.items():
        (_, least, second), (_, most, first) = min(own), max(own)
        if first != second:
            yield Pair(
                f"{group}.level", _LEVEL.join(filter(None, (f"{most} − {least}", rest))), first, second
            )


def _share(place: str) -> tuple[float, str, str]:
    """The level in a label: the first share in it, that share's own word, and what else it says."""
    words = place.split(_LEVEL)
    word = next((one for one in words if 0 <= _number(one) <= 1), "")
    return _number(word), word, _LEVEL.join(one for one in words if one != word)


def _number(word: str) -> float:
    """The number that a word is; below 0 where it is none."""
    try:
        return float(word)
    except ValueError:
        return -1.0


def _dose(name: str) -> float:
    return _number(name.removeprefix(_GRADED))
