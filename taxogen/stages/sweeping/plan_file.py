"""Plan files: one TOML text that names every run of a study, in groups, and the questions that each is asked."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taxogen.runs import config
from taxogen.runs.config import Config
from taxogen.runs.config.toml_file import line_of, tables, text_of
from taxogen.runs.names import plain_name
from taxogen.runs.setting import flatten, shown
from taxogen.stages.planning import counts
from taxogen.stages.sweeping.captured import refuse_uncaptured
from taxogen.stages.sweeping.plan_runs import Group, Runs, word

KEYS = (
    *("name", "seeds", "common", "questions", "together", "seconds", "resources", "world", "equivalence"),
    "groups",
)
KEYS_OF_GROUP = ("about", "seeds", "settings", "cases", "vary")
STAGES = ("train", "evaluate")
"""The stages of every run; those of the plan's questions follow."""
REPORT = "report"
"""Asked of all runs together, it is a page about them."""
RESOURCES = ("gpus", "memory")
"""What a stage takes on a cluster: a share of a GPU (or several), and bytes."""
BOUNDS = ("auroc",)
CHANCE = 0.5
"""AUROC by chance; no score lies further from it, and bounds of equivalence are narrower."""
_EXAMPLE = "examples/study-embedded.toml in the source is one"


@dataclass(frozen=True)
class PlanFile:
    """The runs of a study.

    Attributes:
        name: of the plan, with which the name of every run begins.
        runs: run → its config, each once.
        groups: name → the runs of it.
        questions: analysis → its options, as the file gives them.
        together: analysis → its options; asked of all runs together.
        seconds: stage → core-seconds of a run that the file expects; of a question to all runs, of all.
        resources: what every stage takes on a cluster (`RESOURCES`), where the file says so.
        world: how large the world is (`counts.NAMES`), for `taxoprobe plan` without the pictures.
        equivalence: measure → the bound within which a difference counts as none, stated before the runs.
        conditions: run → its name without the seed.
    """

    name: str
    runs: Mapping[str, Config]
    groups: Mapping[str, Group]
    questions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    equivalence: Mapping[str, float] = field(default_factory=dict)
    conditions: Mapping[str, str] = field(default_factory=dict)
    together: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)
    world: Mapping[str, float] = field(default_factory=dict)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of each run, in order."""
        return (*STAGES, *self.questions)


Check = Callable[[str, Mapping[str, Any], bool], None]
"""Refuses a question or its options, as asked of each run or (true) of all together."""


def read(
    path: str | Path,
    overrides: Iterable[str] = (),
    only: Sequence[str] = (),
    check: Check = lambda question, options, together: None,
) -> PlanFile:
    """The plan of a TOML file.

    Args:
        path: of the file.
        overrides: such as `model.lm=…`: a setting that all runs have instead of their own, but none that runs are named
            after; `name=…` is the plan's, and `seed=0` leaves one seed.
        only: the groups that are wanted, with the names that they have among all; none for all.
        check: refuses a question or its options.

    Raises:
        FileNotFoundError: the file does not exist.
        KeyError: a key, group or setting is not known; the file, the line and the nearest known one are named.
        ValueError: the file is no TOML, a value is refused, or two runs would have one name.
    """
    text = text_of(path, "plan", _EXAMPLE)
    reader = _Reader(path, text, tables(path, text, "plan"))
    return reader.plan(config.settings(None, overrides), only, check)


def grid(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of one value of each axis, the first varying slowest."""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


@dataclass(frozen=True)
class _Reader:
    path: str | Path
    text: str
    tree: Mapping[str, Any]

    def plan(self, overrides: Mapping[str, Any], only: Sequence[str], check: Check) -> PlanFile:
        self._known((), KEYS)
        with self._at("name"):
            name = plain_name(self._of_type(str, "a text", "name"), "name")
        name = str(overrides.get("name", name))
        common, every = self._settings("common"), self._table("groups")
        if not every:
            raise ValueError(f"plan {self.path} has no group of runs; give a table [groups.NAME]")
        for wanted in only:
            known(f"group {wanted!r} was asked for", wanted, every, f"plan {self.path}: ")
        made = Runs(name, {key: value for key, value in overrides.items() if key not in ("name", "seed")})
        for group in every:
            self._add(made, group, common, overrides.get("seed"))
        made = made.only(only or every)  # a group alone has the names that it has in the whole plan
        questions = self._questions(check, made.runs.values())
        together = self._questions(check, made.runs.values(), "together")
        if twice := sorted(questions.keys() & together.keys()):
            raise ValueError(
                f"plan {self.path}: {twice[0]} is asked of each run and of all together; once is enough"
            )
        return PlanFile(
            name,
            made.runs,
            made.groups,
            questions,
            self._numbers("seconds", (*STAGES, *questions, *together)),
            self._numbers("equivalence", BOUNDS, CHANCE),
            made.conditions,
            together,
            self._numbers("resources", RESOURCES),
            self._numbers("world", counts.NAMES),
        )

    def _questions(
        self, check: Check, runs: Collection[Config], table: str = "questions"
    ) -> dict[str, Mapping[str, Any]]:
        questions: dict[str, Mapping[str, Any]] = {}
        for question in self._table(table):
            name, options = question.replace("_", "-"), self._table(table, question)
            with self._at(table, question):
                if name in questions:
                    raise ValueError(f"{name} is asked twice, as {question} too; once is enough")
                check(question, options, table == "together")
                refuse_uncaptured(name, options, runs)
            questions[name] = options
        return questions

    def _add(self, made: Runs, group: str, common: Mapping[str, Any], seed: int | None) -> None:
        """Adds the runs of a group."""
        place = ("groups", group)
        with self._at(*place):
            plain_name(group, "a group")
        self._known(place, KEYS_OF_GROUP)
        about = self._of_type(str, "a text", *place, "about") if "about" in self._table(*place) else ""
        own = {**common, **self._settings(*place, "settings")}
        axes: dict[str, Sequence[Any]] = {}
        if cases := {case: self._settings(*place, "cases", case) for case in self._table(*place, "cases")}:
            axes["cases"] = list(cases)
        axes |= {key: self._values(key, values, *place, "vary") for key, values in self._vary(*place)}
        seeds = self._seeds(*(place if "seeds" in self._table(*place) else ()), "seeds")
        if seed is not None:
            seeds = [seed]
        self._refuse_twice(made.overrides, cases, axes, *place)
        with self._at(*place):
            for chosen in grid(axes):
                words = [word(value) for value in chosen.values()]
                settings = own | cases.get(chosen.pop("cases", ""), {}) | chosen
                made.add(group, about, words, settings, seeds)

    def _refuse_twice(
        self,
        overrides: Mapping[str, Any],
        cases: Mapping[str, Mapping[str, Any]],
        axes: Mapping[str, Sequence[Any]],
        *place: str,
    ) -> None:
        """Refuses a setting that would not have the value of which the name of a run tells."""
        for case, settings in cases.items():
            for key in settings:
                with self._at(*place, "cases", case, *key.split(".")):
                    if key in axes:
                        raise ValueError(f"{key} is given by a case and varies too; give it in one of them")
        with self._at(*place):
            for key in overrides:
                if key in axes or any(key in settings for settings in cases.values()):
                    raise ValueError(
                        f"--set {key} was given, but runs of this group are named after its values; leave it out"
                    )

    def _vary(self, *place: str) -> list[tuple[str, Any]]:
        table = self._table(*place, "vary")
        return [(key, value) for key, value in flatten(table) if table]

    def _values(self, key: str, values: Any, *place: str) -> list[Any]:
        with self._at(*place, *key.split(".")):
            if not isinstance(values, list) or not values:
                raise ValueError(f"{key} varies over a list of values, found {shown(values)}")
            found = [_converted(key, value) for value in values]
            if twice := [value for value in found if found.count(value) > 1]:
                raise ValueError(f"{key} takes {shown(twice[0])} twice; once is enough")
            return found

    def _settings(self, *place: str) -> dict[str, Any]:
        """The settings of a table, converted to their own types."""
        table = self._table(*place)
        found: dict[str, Any] = {}
        for key, value in flatten(table) if table else ():
            with self._at(*place, *key.split(".")):
                found[key] = _converted(key, value)
        return found

    def _seeds(self, *place: str) -> list[int]:
        if place == ("seeds",) and "seeds" not in self.tree:
            return [0]
        seeds = self._of_type(list, "a list of whole numbers", *place)
        with self._at(*place):
            for seed in seeds:
                config.catalogue()["seed"].check(seed)
            if not seeds or len(set(seeds)) < len(seeds):
                raise ValueError(f"seeds is a list of different whole numbers, found {shown(seeds)}")
        return seeds

    def _numbers(self, table: str, names: Sequence[str], below: float = math.inf) -> dict[str, float]:
        self._known((table,), names)
        found = {}
        for name, value in self._table(table).items():
            with self._at(table, name):
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < below:
                    top = f" and below {below:g}" if below < math.inf else ""
                    raise ValueError(f"{table}.{name} is a number above 0{top}, found {shown(value)}")
            found[name] = float(value)
        return found

    def _known(self, place: Sequence[str], names: Sequence[str]) -> None:
        for key in self._table(*place):
            with self._at(*place, key):
                known(f"{'.'.join(place) or 'plan'} key {shown(key)} is not known", key, names)

    def _table(self, *place: str) -> Mapping[str, Any]:
        """The table at a place; empty where there is none."""
        return self._of_type(dict, "a table", *place) if self._has(place) else {}

    def _has(self, place: Sequence[str]) -> bool:
        tree: Any = self.tree
        for key in place:
            if not isinstance(tree, Mapping) or key not in tree:
                return False
            tree = tree[key]
        return True

    def _of_type(self, kind: type, words: str, *place: str) -> Any:
        value: Any = self.tree
        if not self._has(place):
            raise ValueError(f"plan {self.path} gives no {'.'.join(place)}; {_EXAMPLE}")
        for key in place:
            value = value[key]
        with self._at(*place):
            if not isinstance(value, kind):
                raise ValueError(f"{'.'.join(place)} is {words}, found {shown(value)}")
        return value

    @contextmanager
    def _at(self, *place: str) -> Iterator[None]:
        """A block whose refusals name the file and the line of a key."""
        try:
            yield
        except (ValueError, KeyError) as refusal:
            said = str(refusal.args[0])
            if not said.startswith(f"plan {self.path}"):
                said = f"plan {self.path}, line {line_of(self.text, place)}: {said}"
            raise type(refusal)(said) from None


def known(said: str, name: str, names: Iterable[str], before: str = "") -> None:
    """Raises a KeyError with what is said and the nearest name, unless the name is one of them."""
    names = list(names)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
        raise KeyError(f"{before}{said}; {hint}")


def _converted(key: str, value: Any) -> Any:
    """The value of a setting in its own type."""
    if key in ("name", "seed"):
        given = {"name": "a run's name follows from its group and values", "seed": "`seeds` lists them"}
        raise ValueError(f"{key} is not given here: {given[key]}")
    if key in config.RETIRED:
        raise KeyError(f"config key {key!r} is retired: {config.RETIRED[key]}; leave it out")
    known(f"config key {shown(key)} is not known", key, config.catalogue())
    one = config.catalogue()[key]
    found = one.convert(value)
    one.check(found)
    return found
