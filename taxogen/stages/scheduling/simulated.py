"""Simulated machines, which die at random: what `schedule` loses with them, and how often to save what is trained.

    python -m taxogen.stages.scheduling.simulated --machines 64 --slots 8 --tasks 2000 --hours 2 --between 24

Writes: for several intervals between checkpoints, the share of the machines' time that is lost, and the hours of all.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from taxogen.stages.scheduling.schedule import schedule
from taxogen.stages.scheduling.task import News, Room, Task


@dataclass(frozen=True)
class Fleet:
    """Machines, how they die, and what tasks do about it; all times in seconds.

    Attributes:
        machines: how many.
        slots: tasks that each does at once, of one core each.
        between: mean time from one death of a machine to its next (exponential).
        repair: until another is there in its place.
        start: that a task takes before its work begins or goes on: imports, weights.
        checkpoint: that it takes to save.
        interval: of work between two checkpoints.
    """

    machines: int = 1
    slots: int = 1
    between: float = math.inf
    repair: float = 0.0
    start: float = 0.0
    checkpoint: float = 0.0
    interval: float = math.inf


class Simulated:
    """Workers whose time passes at once.

    Args:
        fleet: the machines.
        work: task → seconds of its work, on a machine that never dies.
        rng: draws when machines die.
        unsaved: tasks that save nothing on their way, and begin again from nothing.

    Attributes:
        now: seconds since the beginning.
        busy: slot-seconds in which tasks were at work, for nothing or not.
    """

    def __init__(
        self,
        fleet: Fleet,
        work: Mapping[str, float],
        rng: np.random.Generator,
        unsaved: Collection[str] = (),
    ) -> None:
        self.now = self.busy = 0.0
        self._unsaved = frozenset(unsaved)
        self._fleet, self._rng, self._rest = fleet, rng, dict(work)
        self._free = [machine for machine in range(fleet.machines) for _ in range(fleet.slots)]
        self._running: dict[str, tuple[int, float, int]] = {}
        self._events: list[tuple[float, int, str, int | str]] = []
        self._number = itertools.count()
        for machine in range(fleet.machines):
            self._die_later(machine)

    def room(self) -> Room:
        """A core for each slot of the machines that are there."""
        return Room(len(self._free) + len(self._running), math.inf, math.inf)

    def start(self, task: Task) -> None:
        """Begins a task, which will end if its machine does not die before."""
        number, rest, fleet = next(self._number), self._rest[task.name], self._fleet
        saves = max(0, math.ceil(rest / self._interval(task.name)) - 1)  # none at the end
        self._running[task.name] = (self._free.pop(), self.now, number)
        ends = self.now + fleet.start + rest + saves * fleet.checkpoint
        heapq.heappush(self._events, (ends, number, "end", task.name))

    def news(self, seconds: float) -> list[News]:
        """What happens next."""
        self.now, number, kind, what = heapq.heappop(self._events)
        if isinstance(what, str):
            if self._running.get(what, (0, 0, -1))[2] != number:
                return []  # it was lost meanwhile
            self._free.append(self._leave(what))
            return [News(what, "done")]
        if kind == "back":
            self._free += [what] * self._fleet.slots
            self._die_later(what)
            return []
        lost = [name for name, (machine, *_) in self._running.items() if machine == what]
        for name in lost:
            segments = max(0.0, self.now - self._running[name][1] - self._fleet.start)
            saved = segments // (self._interval(name) + self._fleet.checkpoint)
            self._rest[name] -= saved * self._interval(name) if saved else 0.0
            self._leave(name)
        self._free = [machine for machine in self._free if machine != what]
        heapq.heappush(self._events, (self.now + self._fleet.repair, next(self._number), "back", what))
        return [News(name, "lost") for name in lost]

    def close(self) -> None:
        """Nothing runs."""

    def _interval(self, name: str) -> float:
        return math.inf if name in self._unsaved else self._fleet.interval

    def _leave(self, name: str) -> int:
        machine, begun, _ = self._running.pop(name)
        self.busy += self.now - begun
        return machine

    def _die_later(self, machine: int) -> None:
        if self._fleet.between < math.inf:
            at = self.now + self._rng.exponential(self._fleet.between)
            heapq.heappush(self._events, (at, next(self._number), "death", machine))


def simulate(
    fleet: Fleet,
    work: Mapping[str, float],
    rng: np.random.Generator,
    tasks: Sequence[Task] | None = None,
    unsaved: Collection[str] = (),
) -> tuple[float, float]:
    """Seconds until all tasks are done, and the share of the slots' busy time that was not work that counts.

    Args:
        fleet: the machines.
        work: task → seconds.
        rng: draws when machines die.
        tasks: those of the work, with what each waits for; by default none waits for another.
        unsaved: as `Simulated`.
    """
    workers = Simulated(fleet, work, rng, unsaved)
    graph = [Task(name, print) for name in work] if tasks is None else tasks
    schedule([replace(task, room=Room()) for task in graph], workers, lambda news: None, tries=math.inf)
    return workers.now, 1 - sum(work.values()) / workers.busy


def young(checkpoint: float, between: float) -> float:
    """The interval between checkpoints that loses least, to first order.

    Source: Young 1974, "A first order approximation to the optimum checkpoint interval", CACM 17(9).
    """
    return math.sqrt(2 * checkpoint * between)


def daly(checkpoint: float, between: float) -> float:
    """The interval that loses least, to a higher order; where saving is dear, the time between deaths.

    Source: Daly 2006, "A higher order estimate of the optimum checkpoint interval for restart dumps", FGCS 22, eq. 37.
    """
    if checkpoint >= 2 * between:
        return between
    part = math.sqrt(checkpoint / (2 * between))
    return young(checkpoint, between) * (1 + part / 3 + part**2 / 9) - checkpoint


def main(argv: list[str] | None = None) -> None:
    """Prints what is lost at several intervals between checkpoints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--machines", type=int, default=64, help="how many (default: 64)")
    parser.add_argument(
        "--slots", type=int, default=8, help="tasks at once on each, such as its GPUs (default: 8)"
    )
    parser.add_argument("--tasks", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--hours", type=float, default=2.0, help="of work of a task (default: 2)")
    parser.add_argument(
        "--between", type=float, default=24.0, help="hours between deaths of a machine (default: 24)"
    )
    parser.add_argument("--repair", type=float, default=600.0, help="seconds without it (default: 600)")
    parser.add_argument("--start", type=float, default=60.0, help="seconds before work goes on (default: 60)")
    parser.add_argument("--checkpoint", type=float, default=1.0, help="seconds to save (default: 1)")
    given = parser.parse_args(argv)
    between = 3600 * given.between
    fleet = Fleet(given.machines, given.slots, between, given.repair, given.start, given.checkpoint)
    work = {f"train {number}": 3600 * given.hours for number in range(given.tasks)}
    best = daly(given.checkpoint, between)
    sys.stdout.write(f"Young {young(given.checkpoint, between):.0f} s, Daly {best:.0f} s\n")
    sys.stdout.write("interval      lost   hours\n")
    for interval in (best / 16, best / 4, best, 4 * best, 16 * best, math.inf):
        seconds, lost = simulate(replace(fleet, interval=interval), work, np.random.default_rng(0))
        sys.stdout.write(f"{interval:>8.0f} {lost:>9.2%} {seconds / 3600:>7.2f}\n")


if __name__ == "__main__":
    main()
