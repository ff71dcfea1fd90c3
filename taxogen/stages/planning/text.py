"""Costs in words: a plan's runs by their models, and what all of them take."""

from __future__ import annotations

import math
from collections.abc import Sequence

from taxogen.stages.counting import TOKENS_PER_WORD
from taxogen.stages.plan import Plan, duration
from taxogen.stages.planning.whole import Whole
from taxogen.stages.sweeping.plan_tasks import FEATURES


def text(whole: Whole, world: str = "") -> str:
    """The cost of a plan as lines to read; `world` is how large it was stated to be."""
    machines, card, costs = whole.machines, whole.machines.card, list(whole.costs.values())
    conditions = len({*whole.file.conditions.values()})
    guessed = any(run.counted.estimated for run in costs)
    per_machine = machines.slots(whole.gpus)
    peaks = ", ".join(f"{dtype} {peak / 1e12:.3g}" for dtype, peak in sorted(card.peaks.items()))
    head = {
        "plan": f"{whole.file.name}: {len(costs):,} runs of {conditions:,} conditions, {len(whole.tasks):,} tasks",
        "machines": f"{machines}, {per_machine * machines.count} tasks at once; TFLOP/s {peaks} ({card.about}); "
        f"{card.share:.2f} of them assumed",
        "world": f"{world}, as stated" if world else "counted",
        "tokens": f"of words estimated at {TOKENS_PER_WORD} a word" if guessed else "counted",
    }
    return "\n".join([*_lines(head), "", *_models(whole), "", *_lines(_totals(whole)), ""])


def _totals(whole: Whole) -> dict[str, str]:
    machines, unit = whole.machines, whole.machines.unit
    share = min(1.0, whole.gpus)  # of a card that a slot has
    kinds = {kind: share * seconds / 3600 for kind, seconds in whole.of_kind.items()}
    largest = sum(whole.costs[whole.largest].bytes.values()) / 1e9
    room = machines.memory(whole.gpus) / 1e9
    fits = f"of {room:.0f}" if largest <= room else f"{largest - room:.1f} too many of {room:.0f}"
    hours, busy = whole.hours()
    best, own = whole.best_interval, whole.interval
    cards = machines.count * machines.each
    deaths = [
        f"{hours:,.1f} h, {lost:.1%} of the {unit}s' time lost, {how}"
        for how, (hours, lost) in (
            (f"saved every {own:.0f} s as the plan says", whole.with_deaths(own)),
            (f"saved every {best:.0f} s, which loses least by Daly", whole.with_deaths(best)),
            ("never saved", whole.with_deaths(math.inf)),
        )
    ]
    dying = whole.with_deaths(own)[0] * cards
    price = (
        f"{machines.price * dying:,.0f} at {machines.price:g} each"
        if machines.price
        else "--price gives a price"
    )
    return {
        "work": f"{sum(kinds.values()):,.1f} {unit}-hours: "
        + ", ".join(f"{kind} {value:,.1f}" for kind, value in kinds.items())
        + f" ({whole.start:.1f} s a task)",
        "memory": f"{largest:.1f} GB at most ({whole.largest}), {fits} for a task",
        "disk": f"{sum(whole.disk.values()) / 1e9:,.0f} GB: "
        + ", ".join(f"{part} {size / 1e9:,.1f}" for part, size in whole.disk.items()),
        "hours": f"{hours:,.1f} if no machine dies, saved every {own:.0f} s; {busy:.1%} of the {unit}s' time at work "
        "(simulated)",
        "deaths": f"of a machine every {machines.between / 3600:g} h on average, {machines.repair:.0f} s away; "
        f"{whole.checkpoint:.1f} s to save a projector (simulated):",
        **{" " * (at + 1): line for at, line in enumerate(deaths)},
        "cost": f"{dying:,.1f} {unit}-hours are paid for, to the end, with these deaths: {price}",
    }


def _models(whole: Whole) -> list[str]:
    """A row for the runs of each encoder and language model, with means of a run."""
    of_model: dict[tuple[str, str], list[Plan]] = {}
    for run in whole.costs.values():
        of_model.setdefault((run.config.model.encoder, run.config.model.lm), []).append(run)
    rows = [["encoder", "language model", "runs", "train", "evaluate", "all runs", "peak GB", "disk GB"]]
    for (encoder, lm), runs in of_model.items():
        train, evaluate = (sum(run.seconds[stage] for run in runs) for stage in ("train", "evaluate"))
        disk = sum(size for run in runs for part, size in run.disk.items() if part != FEATURES)
        peak = max(sum(run.bytes.values()) for run in runs)
        rows.append(
            [
                *(encoder, lm, f"{len(runs)}", duration(train / len(runs)), duration(evaluate / len(runs))),
                *(duration(train + evaluate), f"{peak / 1e9:.1f}", f"{disk / 1e9:,.0f}"),
            ]
        )
    return aligned(rows, left=2)


def aligned(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Rows of cells as lines whose columns stand under each other, the first `left` of them to the left."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _lines(texts: dict[str, str]) -> list[str]:
    return [f"{name:<10}{line}" for name, line in texts.items()]
