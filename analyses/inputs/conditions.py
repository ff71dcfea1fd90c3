"""Conditions of the `behaviour` analysis: runs that differ only in their seed, and which of them are contrasted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import pandas as pd

from analyses.inputs.answers import Answers, Part
from probing.store import MismatchError
from taxogen.questions import ablation
from taxogen.runs import config
from taxogen.runs.run import Run
from taxogen.world import shuffle

INITS = {
    "pretrained": "pretrained",
    "pretrained-embeddings": "pretrained-embeddings",
    "random": "random_init",
}
"""Names of inits in tables, in order of decreasing knowledge."""
RELEASED = "released"
"""The name of a model that was not trained here."""
GRADED = "graded"
SHUFFLE_CONTRASTS = (
    ("none", "category"),
    ("within", "category"),
    ("category", "across"),
    (GRADED, "across"),
    *(("within", name) for name in shuffle.KINDS if name.startswith("across")),
)
"""First and second of the shuffles that are contrasted; `graded` stands for each of its doses."""
_EVIDENCE = ("data.ablation", "data.fraction", "data.rule", "data.held_out")
_NAMED_ELSEWHERE = (*_EVIDENCE, "data.shuffle", "data.coherence", "model.init", "model.lm", "model.encoder")


class Seeded(Protocol):
    """Runs that differ only in their seed, described as `described` does."""

    @property
    def about(self) -> Mapping[str, Any]:
        """The description."""
        ...

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs."""
        ...

    def of_seeds(self, seeds: Sequence[int]) -> Self:
        """The same with the runs of these seeds only."""
        ...


Group = TypeVar("Group", bound=Seeded)


@dataclass(frozen=True, eq=False)
class Condition:
    """Runs that differ only in their seed, sorted by seed, with their description in the terms of the tables."""

    name: str
    about: Mapping[str, Any]
    answers: tuple[Answers, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs."""
        return tuple(one.seed for one in self.answers)

    @property
    def headline(self) -> Part:
        """The part that the condition's ablation and shuffle say is to be scored."""
        found = self.answers[0].pairs
        scored = next((name for name in ("held_out", "seen", "all") if name in found), "all")
        leaves = "named" if self.about["shuffle"].endswith("-matched") else "all"
        return Part(scored=scored, leaves=leaves, decision=self.answers[0].decisions[0])

    def of_seeds(self, seeds: Sequence[int]) -> Condition:
        """The condition with the runs of these seeds only."""
        return replace(self, answers=tuple(one for one in self.answers if one.seed in seeds))


def conditions(runs: Sequence[Run]) -> list[Condition]:
    """The runs grouped by everything but the seed, in the order given; each named by its differences from the others.

    Raises:
        MismatchError: two runs of a condition have the same seed.
        FileNotFoundError: a run was not evaluated; the command is named.
    """
    found = []
    for name, members in grouped_by_condition(runs).items():
        answers = tuple(Answers.of(run) for run in members)
        effective = float(np.mean([one.effective for one in answers]))
        about = described(members[0], runs) | {"effective": effective}
        found.append(Condition(name, about, answers))
    return found


def grouped_by_condition(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each condition, sorted by seed, by its name; in the order given.

    Raises:
        MismatchError: two runs of a condition have the same seed.
    """
    grouped: dict[str, list[Run]] = {}
    for run in runs:
        grouped.setdefault(condition_of(run, runs), []).append(run)
    for name, members in grouped.items():
        members.sort(key=lambda run: run.config.seed)
        seeds = [run.config.seed for run in members]
        if len(set(seeds)) < len(seeds):
            raise MismatchError(
                f"{', '.join(run.name for run in members)} are one condition ({name}) with seeds {seeds}: the same "
                "run twice would count as two; give each seed once"
            )
    return grouped


def condition_of(run: Run, among: Sequence[Run]) -> str:
    """The name of a run's condition: its init or shuffle, and each other setting that differs among the runs."""
    return " · ".join([_short_name(run), *_varying(run, among).values()])


def with_conditions(runs: Sequence[Run], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The tables of runs as one, with the `condition` of each run among them."""
    return pd.concat(
        [table.assign(condition=condition_of(run, runs)) for run, table in zip(runs, tables, strict=True)],
        ignore_index=True,
    )


def contrasted(found: Sequence[Group]) -> list[tuple[Group, Group]]:
    """The pairs that differ in one thing: init, shuffle (`SHUFFLE_CONTRASTS`), encoder or language model.

    Both come with the runs of the seeds that both have; a pair without one is left out.
    """
    pairs = []
    for first, second in permutations(found, 2):
        keys = ("init", "shuffle", "encoder", "lm", "evidence", "other")
        differing = [key for key in keys if first.about[key] != second.about[key]]
        seeds = sorted(set(first.seeds) & set(second.seeds))
        if len(differing) == 1 and seeds and _in_order(first, second, differing[0], found):
            pairs.append((first.of_seeds(seeds), second.of_seeds(seeds)))
    return pairs


def _in_order(first: Group, second: Group, key: str, found: Sequence[Group]) -> bool:
    one, other = first.about[key], second.about[key]
    if key == "init" and RELEASED not in (one, other):
        return list(INITS.values()).index(one) < list(INITS.values()).index(other)
    if key == "shuffle":
        return (one.partition(" ")[0], other) in SHUFFLE_CONTRASTS
    return key in ("encoder", "lm") and found.index(first) < found.index(second)


def described(run: Run, among: Sequence[Run]) -> dict[str, Any]:
    """What distinguishes a run's condition from those of the others, in the terms of the tables."""
    data, varying = run.config.data, _varying(run, among)
    series = [_short_name(run), *(text for key, text in varying.items() if key != "evidence")]
    return {
        "series": " · ".join(series),
        "lm": _lm(run),
        "encoder": run.config.model.vlm or run.config.model.encoder,
        "init": RELEASED if run.config.model.vlm else INITS.get(run.config.model.init, run.config.model.init),
        "shuffle": shuffle_of(run),
        "evidence": _evidence(run),
        "fraction": {"none": 0.0, "full": 1.0}.get(data.ablation, data.fraction),
        "other": " · ".join(
            text for key, text in varying.items() if key not in ("evidence", "lm", "encoder")
        ),
    }


def _short_name(run: Run) -> str:
    if run.config.model.vlm:
        return RELEASED
    name, exchanged = INITS.get(run.config.model.init, run.config.model.init), shuffle_of(run)
    if exchanged == "none":
        return name
    return exchanged if name == "pretrained" else f"{name} {exchanged}"


def shuffle_of(run: Run) -> str:
    """The shuffle of a run; of a graded one with its dose, such as `graded .5`."""
    data = run.config.data
    return (
        data.shuffle if data.shuffle != GRADED else f"{GRADED} {_share(data.coherence)}".replace(" 0.", " .")
    )


def _lm(run: Run) -> str:
    """The language model of a run; a GGUF file by its recorded content, wherever it lies."""
    name = run.config.model.vlm or run.config.model.lm
    return run.record["lm"]["revision"] if name.lower().endswith(".gguf") else name


def _share(value: float) -> str:
    """A share with all its digits, so that two that differ are not one condition."""
    return np.format_float_positional(value, trim="-")


def _varying(run: Run, among: Sequence[Run]) -> dict[str, str]:
    """A run's values of the settings in which the runs differ, apart from init, shuffle and seed."""
    own, all_of_them = _particulars(run), [_particulars(other) for other in among]
    return {key: own[key] for key in own if len({other[key] for other in all_of_them}) > 1}


def _particulars(run: Run) -> dict[str, str]:
    """Every setting that decides the numbers, in words; init, shuffle and seed left out."""
    flat = dict(config.flatten(run.config.to_dict()))
    deciding = {
        key: f"{key.partition('.')[2].replace('_', ' ')} {_text(value)}"
        for key, value in flat.items()
        if key.startswith(config.DECIDING) and key not in (*config.INCIDENTAL, *_NAMED_ELSEWHERE)
    }
    return {
        "evidence": _evidence(run),
        "lm": _lm(run),
        "encoder": run.config.model.vlm or run.config.model.encoder,
        **deciding,
    }


def _evidence(run: Run) -> str:
    """The evidence that was removed from training, in words; of a released model it is not known."""
    data = run.config.data
    if run.config.model.vlm:
        return "not known"
    parts = ["ablation", data.ablation]
    if data.ablation in ("random", "systematic"):
        parts.append(", ".join(sorted(data.held_out)) or _share(data.fraction))
    if data.rule and data.rule != ablation.RULES[data.ablation][0]:
        parts.append(f"(rule {data.rule})")
    return " ".join(parts)


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
