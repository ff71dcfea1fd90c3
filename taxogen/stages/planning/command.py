"""`taxoprobe plan`: its flags, and what it does."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from taxogen.runs import config, flags
from taxogen.runs.presets import preset

if TYPE_CHECKING:  # help and completion do not wait for torch
    from taxogen.stages.planning.counts import Counts

_OF_A_PLAN = ("machines", "between", "repair", "start", "price")
_OF_A_RUN = ("config", "preset", "card", "vary")


def add(command: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    flags.add_settings(command)
    command.add_argument(
        "plan",
        nargs="?",
        type=Path,
        metavar="PLAN",
        help="a plan file in TOML: all its runs (docs/clusters.md)",
    )
    cards = "h100, h200, a100, l40s, rtx4090, t4, or cpu: this machine"
    command.add_argument("--card", metavar="CARD", help=f"of one run: {cards} (default: cpu)")
    command.add_argument(
        "--machines", metavar="NxCARD",
        help=f"of a plan: 8xh100 for a machine of eight, 4x8xh100 for four such machines; {cards} (default: cpu)",
    )  # fmt: skip
    command.add_argument(
        "--world", metavar="NAME=N,…",
        help="leaves=…,hypernyms=…,pairs=…,pictures=… of a world that is not on this disk (default: of a plan its "
        "[world]; else pictures are counted)",
    )  # fmt: skip
    command.add_argument(
        "--vary", action="append", default=[], metavar="KEY=A,B",
        help="of one run: a table of its cost along a setting, such as model.image_tokens=1,4, or along world.NAME",
    )  # fmt: skip
    for name, what in (
        ("between", "hours from one death of a machine to its next, on average (default: 24)"),
        ("repair", "seconds without it (default: 600)"),
        (
            "start",
            "seconds that a task takes before its work begins or goes on (default: to load its weights)",
        ),
        ("price", "of an hour of a card, in any currency (default: none is assumed)"),
    ):
        command.add_argument(f"--{name}", type=float, metavar="N", help=f"of a plan: {what}")
    command.set_defaults(do=_plan)


def _plan(options: argparse.Namespace) -> None:
    if options.plan:
        _refuse(options, _OF_A_RUN, f"beside the plan {options.plan}, which names its own settings")
        sys.stdout.write(_of_plan(options))
    else:
        _refuse(options, _OF_A_PLAN, "without a plan file; one run is planned on one --card")
        sys.stdout.write(_of_run(options))


def _of_run(options: argparse.Namespace) -> str:
    from taxogen.stages import cards, plan
    from taxogen.stages.planning.census import Census
    from taxogen.stages.planning.growth import growth

    card, counts = cards.card(options.card or "cpu"), _stated(options.world)
    start = preset(options.preset or "default")
    if options.vary:
        return growth(config.settings(options.config, options.settings, start), options.vary, card, counts)
    wanted = config.read(options.config, options.settings, start)
    return plan.text(plan.plan(wanted, card, Census(counts)), str(counts or ""))


def _of_plan(options: argparse.Namespace) -> str:
    from taxogen.stages.planning import counts, machines
    from taxogen.stages.planning.census import Census
    from taxogen.stages.planning.text import text
    from taxogen.stages.planning.whole import whole
    from taxogen.stages.sweeping import plan_file
    from taxogen.stages.sweeping.run_stages import asking

    numbers = {"between": 24.0, "repair": 600.0}
    given = {name: getattr(options, name) for name in _OF_A_PLAN[1:]}
    numbers |= {name: value for name, value in given.items() if value is not None}
    for name, value in numbers.items():
        if not 0 <= value < math.inf or (value == 0 and name in ("between", "price")):
            raise ValueError(f"--{name} {value:g}: give a number above 0")
    file = plan_file.read(options.plan, options.settings, (), asking().check)
    world = _stated(options.world)
    if world is None and file.world:
        world = counts.from_numbers(file.world, f"[world] of {options.plan}")
    fleet = machines.Machines(
        *machines.parse(options.machines or "cpu"),
        between=3600 * numbers["between"],
        repair=numbers["repair"],
        start=numbers.get("start"),
        price=numbers.get("price"),
    )
    return text(whole(file, fleet, Census(world)), str(world or ""))


def _stated(text: str | None) -> Counts | None:
    """The world of a flag such as `leaves=1222,hypernyms=53,pairs=2040,pictures=17208`."""
    from taxogen.stages.planning import counts

    if text is None:
        return None
    parts = [part.partition("=") for part in text.split(",")]
    try:
        numbers = {name.strip(): float(value) for name, _, value in parts}
    except ValueError:
        numbers = {}
    return counts.from_numbers(numbers, f"--world {text!r}")


def _refuse(options: argparse.Namespace, names: tuple[str, ...], where: str) -> None:
    if given := [name for name in names if getattr(options, name) not in (None, [])]:
        raise ValueError(f"--{given[0]} was given {where}; leave it out")
