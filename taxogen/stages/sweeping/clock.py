"""Clock: the seconds of every stage of many runs, and an estimate of the time left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from probing.store import files

News = tuple[str, float | None]
"""A stage, such as `train study-full-pretrained-0`, and its seconds where it has ended; None where it begins."""


@dataclass
class Clock:
    """Seconds of each stage, stored so that a second start still has them, and an estimate of the time left.

    Attributes:
        path: of the file with the seconds.
        stages: stage → the seconds that are expected, or a share; the first word of a stage is its kind.
        jobs: how many stages are worked on at once.
        say: is given a line when a stage begins.
        seconds: of the stages that have ended.
        begun: stages that have.
    """

    path: Path
    stages: Mapping[str, float]
    jobs: int
    say: Callable[[str], object]
    seconds: dict[str, float] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.path.exists():
            self.seconds = json.loads(self.path.read_text(encoding="utf-8"))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announces a stage with the time left, and keeps its seconds."""
        self.hear((name, None))
        start = time.monotonic()
        yield
        self.hear((name, time.monotonic() - start))

    def hear(self, news: News) -> None:
        """A stage begins, or (with its seconds) has ended."""
        name, seconds = news
        if seconds is None:
            number = list(self.stages).index(name) + 1
            left = self.left(
                [one for one in self.stages if one not in self.seconds and one not in self.begun]
            )
            self.say(f"[{number}/{len(self.stages)}] {name}{f'   (about {left} left)' if left else ''}")
            self.begun.add(name)
            return
        # A stage whose work is done takes no time; its first duration stays.
        self.seconds[name] = round(max(seconds, self.seconds.get(name, 0.0)), 1)
        files.write_json(self.path, self.seconds)

    def left(self, ahead: Collection[str]) -> str:
        """How long some stages will take together, in words; empty where there are none, or none has ended.

        A stage takes as long as those of its kind took on average; without one, its expected seconds times by how much
        the others differed from theirs.
        """
        ended = [name for name in self.stages if name in self.seconds]
        if not ended or not ahead:
            return ""
        rate = sum(self.seconds[name] for name in ended) / sum(self.stages[name] for name in ended)
        of_kind: dict[str, list[float]] = {}
        for name in ended:
            of_kind.setdefault(_kind(name), []).append(self.seconds[name])
        means = {kind: sum(seconds) / len(seconds) for kind, seconds in of_kind.items()}
        return words(sum(means.get(_kind(name), rate * self.stages[name]) for name in ahead) / self.jobs)


def words(seconds: float) -> str:
    """A duration in words: 80 s, 12 min, 3.4 h."""
    if seconds <= 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds <= 5400 else f"{seconds / 3600:.1f} h"


def _kind(stage: str) -> str:
    return stage.partition(" ")[0]
