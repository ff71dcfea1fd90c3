"""Runs of a plan: one name for each, which says what the run is, and the groups that it counts in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taxogen.runs import config
from taxogen.runs.config import Config

_UNPLAIN = re.compile(r"[^A-Za-z0-9._+=-]")  # what no name has (`taxogen.runs.names.plain_name`)


@dataclass(frozen=True)
class Group:
    """Runs that answer one question together.

    Attributes:
        about: what the question is.
        runs: run → what distinguishes it in this group, in words; a run may be in several groups.
    """

    about: str
    runs: Mapping[str, str]


@dataclass
class Runs:
    """Runs by name; one that equals an earlier one, or differs from it in its seed alone, has the name of that.

    Attributes:
        plan: with whose name every run begins.
        overrides: settings that all runs have instead of their own.
        runs: run → its config.
        groups: name → the runs of it.
        conditions: run → its name without the seed.
    """

    plan: str
    overrides: Mapping[str, Any]
    runs: dict[str, Config] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    conditions: dict[str, str] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _settings: dict[str, str] = field(default_factory=dict)

    def add(
        self, group: str, about: str, words: Sequence[str], settings: Mapping[str, Any], seeds: Sequence[int]
    ) -> None:
        """Adds the runs of one combination of values in a group, for each seed.

        Raises:
            ValueError: two different runs would have one name, or the group has such a run already.
        """
        own = unplain(_joined([self.plan, group, *words]))
        label = " · ".join(words) or group
        members = {**self.groups[group].runs} if group in self.groups else {}
        for seed in seeds:
            wanted = {**settings, **self.overrides, "name": f"{own}-{seed}", "seed": seed}
            same = json.dumps(config.from_flat(wanted).to_dict() | {"name": "", "seed": 0}, sort_keys=True)
            condition = self._names.setdefault(same, own)
            name = f"{condition}-{seed}"
            if self._settings.setdefault(condition, same) != same:
                raise ValueError(f"two runs would be called {name}; give every value once")
            if name in members:
                raise ValueError(f"{members[name]!r} and {label!r} are the same run; leave one out")
            self.runs.setdefault(name, config.from_flat(wanted | {"name": name}))
            self.conditions[name], members[name] = condition, label
        self.groups[group] = Group(about, members)

    def only(self, groups: Iterable[str]) -> Runs:
        """Those of some groups, under the names that they have among all."""
        chosen = {name: group for name, group in self.groups.items() if name in set(groups)}
        names = {name for group in chosen.values() for name in group.runs}
        runs = {name: run for name, run in self.runs.items() if name in names}
        return Runs(self.plan, self.overrides, runs, chosen, {name: self.conditions[name] for name in runs})


def unplain(text: str) -> str:
    """A text with _ in place of everything that no run's name has."""
    return _UNPLAIN.sub("_", text)


def word(value: Any) -> str:
    """A value as a word of a run's name: .5, graded, true."""
    if isinstance(value, float):
        return f"{value:g}".removeprefix("0") or "0"
    return "+".join(value) if isinstance(value, tuple) else str(value).lower()


def _joined(words: Sequence[str]) -> str:
    """Words with dashes between, but a number right behind a word that ends in a letter: random.5-pretrained."""
    name = words[0]
    for one in words[1:]:
        name += one if one[:1] in ".0123456789" and name[-1].isalpha() else f"-{one}"
    return name
