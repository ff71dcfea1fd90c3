"""Rooms: what a task of each run of a plan takes on a cluster, from its cost plan and the plan file."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict

from taxogen.models.lms import native_dtype
from taxogen.runs.config import Config
from taxogen.runs.flags import REFUSALS
from taxogen.stages.cards import Card
from taxogen.stages.plan import plan as cost
from taxogen.stages.scheduling.task import Room
from taxogen.stages.sweeping.plan_file import PlanFile

log = logging.getLogger("taxogen")
BESIDE = 1_000_000_000
"""Bytes of a process beside the peak of training: libraries, pictures, tables."""


def rooms(plan: PlanFile, largest: Room) -> dict[str, Room]:
    """What a task of each run takes: a core, the memory of training at its peak, and a GPU where it may use one.

    Runs that differ in their data alone take as much as the first of them. On a GPU the memory of the cost plan is
    the card's, which Ray does not count; a share of a GPU, and of the host's memory, is given in the plan file.

    Args:
        plan: its `resources` are taken where it gives them.
        largest: the most that one machine has.

    Raises:
        ValueError: a run takes more than the largest machine has.
    """
    of_model: dict[str, float] = {}
    every: dict[str, Room] = {}
    for name, config in plan.runs.items():
        on_gpu = largest.gpus > 0 if config.model.device == "auto" else config.model.device != "cpu"
        gpus = plan.resources.get("gpus", 1.0) if on_gpu else 0.0
        key = str({**asdict(config.model), **asdict(config.train), "pictures": config.data.pictures})
        if "memory" not in plan.resources and not gpus and key not in of_model:
            of_model[key] = _memory(config)
        every[name] = room = Room(1.0, gpus, plan.resources.get("memory", of_model.get(key, 0.0)))
        if not largest.holds(room):
            raise ValueError(
                f"{name} takes {room}; the largest machine of the cluster has {largest}: add a larger one, or give "
                f"[resources] in the plan"
            )
    return every


def _memory(config: Config) -> float:
    """Bytes of training at its peak, in a process of its own; 0, and a line, where the cost plan cannot tell."""
    card = Card("a worker", math.inf, {"float32": 1.0}, str(native_dtype()).removeprefix("torch."), 1.0, "")
    try:
        return BESIDE + sum(cost(config, card).bytes.values())
    except REFUSALS as refusal:
        log.warning("%s: no memory is asked for: %s", config.name, refusal)
        return 0.0
