"""Clock: the seconds of every stage of many runs, and an estimate of the time left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from probing.store import files

OF_A_QUESTION = 20.0
"""Seconds that a question to a run is expected to take where nothing states them."""


@dataclass
class Clock:
    """Seconds of each stage, stored so that a second start still has them, and an estimate of the time left.

    Attributes:
        path: of the file with the seconds.
        stages: stage, such as `train study-full-0` → the seconds that are expected, or a share; its first word is its
            kind. Where none are expected (0), as where a cache decides, it says nothing about how fast others are.
        jobs: how many stages are worked on at once.
        say: is given a line when a stage begins.
        without: stages that are not to be done, or that were done without a clock.
        seconds: of the stages that have ended.
        begun: stage → when it began (seconds of the monotonic clock), where it has not ended.
    """

    path: Path
    stages: Mapping[str, float]
    jobs: int
    say: Callable[[str], object]
    without: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.exists():
            self.seconds = json.loads(self.path.read_text(encoding="utf-8"))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announces a stage with the time left, and keeps its seconds."""
        self.begin(name)
        yield
        self.end(name, time.monotonic() - self.begun[name])

    def begin(self, name: str, where: str = "") -> None:
        """A stage begins."""
        number = list(self.stages).index(name) + 1
        self.begun[name] = time.monotonic()
        left = self.left()
        self.say(f"[{number}/{len(self.stages)}] {name}{where}{f'   (about {left} left)' if left else ''}")

    def end(self, name: str, seconds: float) -> None:
        """A stage has ended, and took some seconds; where its work was done before, its first duration stays."""
        self.begun.pop(name, None)
        self.seconds[name] = round(max(seconds, self.seconds.get(name, 0.0)), 1)
        files.write_json(self.path, self.seconds)

    def drop(self, name: str, again: bool) -> None:
        """A stage that has begun does not end: it will begin again, or never."""
        self.begun.pop(name, None)
        if not again:
            self.without.add(name)

    def left(self) -> str:
        """How long the stages ahead will take together, in words; empty where there are none, or none has ended.

        A stage takes as long as those of its kind took on average; without one, its expected seconds times by how much
        the others differed from theirs. One that has begun takes the rest of that. All end no sooner than the longest.
        """
        ended = [name for name in self.stages if name in self.seconds]
        ahead = [name for name in self.stages if name not in self.seconds and name not in self.without]
        expected = sum(self.stages[name] for name in ended)
        if not expected or not ahead:
            return ""
        rate = sum(self.seconds[name] for name in ended if self.stages[name]) / expected
        of_kind: dict[str, list[float]] = {}
        for name in ended:
            of_kind.setdefault(_kind(name), []).append(self.seconds[name])
        means = {kind: sum(seconds) / len(seconds) for kind, seconds in of_kind.items()}
        now = time.monotonic()
        rests = [
            max(0.0, means.get(_kind(name), rate * self.stages[name]) - (now - self.begun.get(name, now)))
            for name in ahead
        ]
        return words(max(sum(rests) / self.jobs, *rests))


def words(seconds: float) -> str:
    """A duration in words: 80 s, 12 min, 3.4 h."""
    if seconds <= 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds <= 5400 else f"{seconds / 3600:.1f} h"


def _kind(stage: str) -> str:
    return stage.partition(" ")[0]
