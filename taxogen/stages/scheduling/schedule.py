"""Schedule: the tasks of a graph are begun in their order, as soon as those before are done and there is room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import TopologicalSorter

from taxogen.stages.scheduling.task import News, Task, Workers

TRIES = 5
"""How often a task is begun at most: again only where its worker was lost, never where it failed by itself."""
PATIENCE = 2.0
"""Seconds after which lost workers are looked for, though nothing was heard."""


def schedule(
    tasks: Sequence[Task],
    workers: Workers,
    hear: Callable[[News], object],
    tick: Callable[[], object] = lambda: None,
    tries: float = TRIES,
) -> dict[str, str]:
    """Why each task that is not done is not: it failed, its worker was lost `tries` times, or one that it needs is not.

    Of the tasks that are ready the first in their order is begun first; a later one that fits goes ahead of one that
    does not. A task that fails ends no other but those that need it.

    Args:
        tasks: those that are to be done; of what they need, what is not among them is done.
        workers: do them; closed at the end, also at a failure.
        hear: is called with all news.
        tick: is called every few seconds.
        tries: how often a task is begun at most.

    Raises:
        ValueError: tasks wait for each other in a circle.
    """
    graph = TopologicalSorter[str]()
    names = {task.name for task in tasks}
    for task in tasks:
        graph.add(task.name, *names.intersection([*task.needs, *task.after]))
    graph.prepare()
    work = _Work({task.name: task for task in tasks}, graph, workers, hear, tries)
    try:
        while graph.is_active():
            if work.begin():
                for news in workers.news(PATIENCE):
                    work.take(news)
                tick()
    finally:
        workers.close()
    return work.faults


@dataclass
class _Work:
    tasks: dict[str, Task]
    graph: TopologicalSorter[str]
    workers: Workers
    hear: Callable[[News], object]
    most: float
    ready: list[str] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    tries: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)
    waits: bool = False

    @cached_property
    def order(self) -> dict[str, int]:
        """The place of each task among all."""
        return {name: number for number, name in enumerate(self.tasks)}

    def begin(self) -> bool:
        """Begins what is ready and fits; whether news is to be waited for."""
        self.ready = sorted([*self.ready, *self.graph.get_ready()], key=self.order.__getitem__)
        for name in [one for one in self.ready if self.faults.keys() & self.tasks[one].needs]:
            fault = next(one for one in self.tasks[name].needs if one in self.faults)
            self.ready.remove(name)
            self._end(News(name, "left out", f"it needs `{fault}`, which is not done"))
        free = self.workers.room().less(self.tasks[name].room for name in self.running)
        for name in list(self.ready):
            if free.holds(room := self.tasks[name].room):
                free = free.less([room])
                self.ready.remove(name)
                self.running.add(name)
                self.tries[name] += 1
                self.workers.start(self.tasks[name])
        self._say_what_waits()
        return bool(self.running or self.ready)

    def take(self, news: News) -> None:
        """Takes note of what happened to a task."""
        if news.kind == "begun":
            self.hear(news)
            return
        self.running.discard(news.task)
        if news.kind == "lost" and self.tries[news.task] < self.most:
            self.ready.append(news.task)
            self.hear(news)
        elif news.kind == "lost":
            self._end(News(news.task, "failed", f"{news.text}, {self.most} times: it is not begun again"))
        else:
            self._end(news)

    def _end(self, news: News) -> None:
        if news.kind != "done":
            self.faults[news.task] = news.text
        self.graph.done(news.task)
        self.hear(news)

    def _say_what_waits(self) -> None:
        """Says once where nothing runs and nothing fits, as after the loss of the only machine with an accelerator."""
        if (waits := bool(self.ready and not self.running)) and not self.waits:
            first = self.tasks[self.ready[0]]
            self.hear(News(first.name, "waits", f"it takes {first.room}, there is {self.workers.room()}"))
        self.waits = waits
