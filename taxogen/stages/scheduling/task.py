"""Task: something to do once others are done, with the room that it takes; and news of how it goes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from taxogen.runs.flags import REFUSALS

log = logging.getLogger("taxogen")


@dataclass(frozen=True)
class Room:
    """What a task takes, or what there is.

    Attributes:
        cpus: cores.
        gpus: accelerators, also a fraction of one.
        memory: bytes.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: float = 0.0

    def less(self, taken: Iterable[Room]) -> Room:
        """What is left where this is taken."""
        taken = list(taken)
        return Room(
            self.cpus - sum(one.cpus for one in taken),
            self.gpus - sum(one.gpus for one in taken),
            self.memory - sum(one.memory for one in taken),
        )

    def holds(self, other: Room) -> bool:
        """Whether another fits in."""
        return (
            self.cpus >= other.cpus - 1e-6  # tenths of a GPU do not add up to one
            and self.gpus >= other.gpus - 1e-6
            and self.memory >= other.memory
        )

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} CPU"]
        parts += [f"{self.gpus:g} GPU"] if self.gpus else []
        parts += [f"{self.memory / 1e9:.1f} GB"] if self.memory else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Task:
    """Something to do, in any process and again where a process was lost.

    Attributes:
        name: its kind, a blank, and of what it is.
        do: can be pickled; a second call goes on from what the first has stored.
        needs: tasks that must be done before; where one has failed, this one is left out.
        after: tasks that must have ended before, however they did.
        room: that it takes.
    """

    name: str
    do: Callable[[], object]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    room: Room = Room()


@dataclass(frozen=True)
class News:
    """What happened to a task.

    Attributes:
        task: its name.
        kind: it has begun somewhere, is done, has failed, its worker was lost and it is begun again, it is left out, or
            it waits for room that nothing takes.
        text: where it has begun (host and process); else why.
        seconds: that it took, where it is done.
    """

    task: str
    kind: Literal["begun", "done", "failed", "lost", "left out", "waits"]
    text: str = ""
    seconds: float = 0.0


class Workers(Protocol):
    """What does tasks: this process, others on this machine, or a cluster."""

    def room(self) -> Room:
        """All that there is now, taken or not."""
        ...

    def start(self, task: Task) -> None:
        """Begins a task, for which there is room."""

    def news(self, seconds: float) -> list[News]:
        """What has happened, once something has, or after this many seconds."""
        ...

    def close(self) -> None:
        """Ends what still runs."""


def attempt(task: Task) -> News:
    """Does a task; whatever it raises, this returns: other tasks go on."""
    start = time.monotonic()
    try:
        task.do()
    except REFUSALS as refusal:
        said = refusal.args[0] if isinstance(refusal, KeyError) and refusal.args else refusal
        return News(task.name, "failed", str(said))
    except Exception as failure:  # whatever it is, such as a full accelerator
        log.exception("%s failed", task.name)
        return News(task.name, "failed", f"{type(failure).__name__}: {failure}")
    return News(task.name, "done", "", time.monotonic() - start)
