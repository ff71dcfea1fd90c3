"""Growth: the cost of a run along one setting, or along one number of its world, all else equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from taxogen.runs import config
from taxogen.stages.cards import Card
from taxogen.stages.plan import duration, plan
from taxogen.stages.planning.census import Census
from taxogen.stages.planning.counts import NAMES, Counts
from taxogen.stages.planning.text import aligned
from taxogen.stages.sweep import grid

WORLD = "world."
HEAD = ("items", "steps", "tokens a step", "s a step", "training", "scoring", "peak GB", "disk GB")


def growth(base: Mapping[str, Any], varied: Sequence[str], card: Card, counts: Counts | None) -> str:
    """Tables of costs, one for each text such as `model.lm=A,B` or `world.pictures=1000,2000`.

    Raises:
        ValueError: a text is spelled wrongly, or names a number of the world where none is stated.
        KeyError: a setting is not known.
    """
    tables = []
    for text in varied:
        key, _, values = (part.strip() for part in text.partition("="))
        if key.startswith(WORLD):
            worlds = _worlds(text, key, values, counts)
            cases = {value: (config.from_flat(base), world) for value, world in worlds.items()}
        else:
            names = [value.strip() for value in values.split(",") if value.strip()]
            cases = {
                name: (one, counts) for name, one in zip(names, grid(base, [text]).values(), strict=True)
            }
        rows = [[key, *HEAD]]
        rows += [[value, *_cells(one, card, world)] for value, (one, world) in cases.items()]
        tables.append("\n".join(aligned(rows, left=1)))
    return "\n\n".join(tables) + "\n"


def _worlds(text: str, key: str, values: str, counts: Counts | None) -> dict[str, Counts]:
    name = key.removeprefix(WORLD)
    if counts is None or name not in NAMES:
        raise ValueError(
            f"--vary {text!r}: of a world that --world states, {', '.join(WORLD + one for one in NAMES)} may vary"
        )
    numbers = [value.strip() for value in values.split(",")]
    if bad := [value for value in numbers if not value.isdigit()]:
        raise ValueError(f"--vary {text!r}: {key} takes whole numbers, found {bad[0]!r}")
    return {number: replace(counts, **{name: int(number)}) for number in numbers}


def _cells(wanted: config.Config, card: Card, counts: Counts | None) -> list[str]:
    cost = plan(wanted, card, Census(counts))
    counted, seconds = cost.counted, cost.seconds
    return [
        *(
            f"{counted.items:,}",
            f"{counted.steps:,}",
            f"{counted.step.tokens:,.0f}",
            f"{cost.step_seconds:.3g}",
        ),
        *(duration(seconds["train"]), duration(seconds["evaluate"])),
        *(f"{sum(cost.bytes.values()) / 1e9:.1f}", f"{sum(cost.disk.values()) / 1e9:,.1f}"),
    ]
