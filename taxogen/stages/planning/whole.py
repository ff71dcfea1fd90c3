"""Whole plans: the work, memory and disk of every run of a plan file, and how long some machines take for all."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from taxogen.runs.run import Run
from taxogen.stages.plan import Plan
from taxogen.stages.plan import plan as cost
from taxogen.stages.planning.census import Census
from taxogen.stages.planning.machines import LOADED, SAVED, Machines
from taxogen.stages.scheduling.simulated import Fleet, daly, simulate
from taxogen.stages.scheduling.task import Task
from taxogen.stages.sweeping.clock import OF_A_QUESTION
from taxogen.stages.sweeping.plan_file import PlanFile
from taxogen.stages.sweeping.plan_tasks import FEATURES, TRAIN, features_of, graph

DRAWS = 3
"""Simulations with deaths that a mean is over."""


@dataclass(frozen=True)
class Whole:
    """The cost of a plan.

    Attributes:
        file: its runs, and what they are asked.
        machines: that do it.
        costs: run → its cost; runs that differ in their seed alone have that of the first of them.
        tasks: by name, with what each waits for.
    """

    file: PlanFile
    machines: Machines
    costs: Mapping[str, Plan]
    tasks: Mapping[str, Task]

    @property
    def gpus(self) -> float:
        """Cards that a task takes, or its share of one."""
        return self.file.resources.get("gpus", 1.0)

    @cached_property
    def work(self) -> dict[str, float]:
        """Task → seconds in a slot, without its start. On a share of a card its work takes as many times longer.

        Questions take the plan's `seconds`, or 20.
        """
        slower = max(1.0, 1 / self.gpus)
        seconds: dict[str, float] = {}
        for task in self.tasks:
            kind, _, name = task.partition(" ")
            of_run = self.costs[name].seconds if name in self.costs else {}
            asked = self.file.seconds.get(kind, OF_A_QUESTION)
            seconds[task] = slower * of_run[kind] if kind in of_run else asked
        return seconds

    @property
    def of_kind(self) -> dict[str, float]:
        """Kind of task → seconds of all such tasks, and of all starts."""
        kinds: dict[str, float] = {}
        for task, seconds in self.work.items():
            kind = task.partition(" ")[0]
            kinds[kind] = kinds.get(kind, 0.0) + seconds
        return kinds | {"starts": self.start * len(self.tasks)}

    @property
    def start(self) -> float:
        """Seconds that a task takes before its work, on average over runs: weights are loaded."""
        if self.machines.start is not None:
            return self.machines.start
        return float(np.mean([run.bytes["weights"] for run in self.costs.values()])) / LOADED

    @property
    def disk(self) -> dict[str, float]:
        """Bytes on disk by their parts: of features once for all runs that read the same, of the rest of each run."""
        parts: dict[str, float] = {}
        seen: set[tuple[object, ...]] = set()
        for name, run in self.costs.items():
            own = dict(run.disk)
            if (read := features_of(self.file.runs[name])) in seen:
                del own[FEATURES]
            seen.add(read)
            for part, size in own.items():
                parts[part] = parts.get(part, 0.0) + size
        return parts

    @property
    def largest(self) -> str:
        """The run whose training takes most memory."""
        return max(self.costs, key=lambda name: sum(self.costs[name].bytes.values()))

    @property
    def checkpoint(self) -> float:
        """Seconds to save a projector with its optimiser, on average over the time of training."""
        runs = list(self.costs.values())
        weights = np.array([run.seconds[TRAIN] for run in runs])
        return float(np.average([12 * run.learned for run in runs], weights=weights)) / SAVED

    @property
    def interval(self) -> float:
        """Seconds between checkpoints, the longest that a run of the plan has."""
        return max(run.train.checkpoint_seconds for run in self.file.runs.values())

    @property
    def best_interval(self) -> float:
        """Seconds between checkpoints that lose least."""
        return daly(self.checkpoint, self.machines.between)

    def hours(self) -> tuple[float, float]:
        """Hours until all is done where no machine dies, and the share of the slots' time that they work.

        That is with the plan's interval between checkpoints.
        """
        fleet = replace(self._fleet, between=np.inf, interval=self._saves(self.interval))
        seconds, lost = simulate(fleet, self.work, np.random.default_rng(0), self._graph, self._unsaved)
        busy = sum(self.work.values()) / (1 - lost)
        return seconds / 3600, busy / (seconds * fleet.machines * fleet.slots)

    def with_deaths(self, interval: float) -> tuple[float, float]:
        """Hours until all is done where machines die, and the share of the busy time that was not work that counts.

        Means over three draws of deaths.
        """
        fleet = replace(self._fleet, interval=self._saves(interval))
        drawn = [
            simulate(fleet, self.work, np.random.default_rng(seed), self._graph, self._unsaved)
            for seed in range(DRAWS)
        ]
        hours, lost = np.mean(drawn, axis=0) / (3600, 1)
        return float(hours), float(lost)

    @property
    def _fleet(self) -> Fleet:
        one = self.machines
        slots = one.slots(self.gpus)
        return Fleet(one.count, slots, one.between, one.repair, self.start, self.checkpoint)

    @cached_property
    def _graph(self) -> list[Task]:
        return list(self.tasks.values())

    @cached_property
    def _unsaved(self) -> Collection[str]:
        """Tasks that begin again from nothing: all but training."""
        return {task for task in self.tasks if not task.startswith(f"{TRAIN} ")}

    def _saves(self, interval: float) -> float:
        """An interval that is no shorter than a step: a checkpoint is saved after one."""
        return max(interval, min(run.step_seconds for run in self.costs.values()))


def whole(file: PlanFile, machines: Machines, census: Census) -> Whole:
    """The cost of a plan on some machines; no picture is read where the census has counts, and no model is loaded.

    Raises:
        ValueError, KeyError, FileNotFoundError: as `taxogen.stages.plan.plan`, with the run's name before it.
    """
    machines.slots(file.resources.get("gpus", 1.0))
    costs: dict[str, Plan] = {}
    alike: dict[object, Plan] = {}
    for name, config in file.runs.items():
        same = replace(config, name="run", seed=0)
        if same not in alike:
            try:
                alike[same] = cost(config, machines.card, census)
            except (ValueError, KeyError, FileNotFoundError) as refusal:
                raise type(refusal)(f"{name}: {refusal.args[0]}") from None
        costs[name] = alike[same]
    runs = {name: Run(Path(name), config) for name, config in file.runs.items()}
    return Whole(file, machines, costs, graph(file, runs, Path(file.name)))
