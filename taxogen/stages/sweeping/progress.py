"""Progress of a sweep: lines or a live table of its tasks, the time left, and `sweep.csv`, which is always current."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from probing.store import files
from taxogen.runs.run import Run
from taxogen.stages.scheduling.board import Board
from taxogen.stages.scheduling.task import News
from taxogen.stages.sweeping.clock import Clock
from taxogen.stages.sweeping.main_scores import NAMES, main_scores
from taxogen.stages.sweeping.plan_file import STAGES
from taxogen.stages.sweeping.run_stages import evaluated
from taxogen.stages.sweeping.sweep_table import TABLE

log = logging.getLogger("taxogen")
FINAL = ("failed", "left out")
"""What happens to a task that is not done, and will not be."""
STORED = "in the tables"
"""The state of a run whose results are stored already, and which is not made again."""


@dataclass
class Progress:
    """Hears how tasks go, says so, and keeps the table.

    Attributes:
        runs: of the sweep, by name.
        varied: run → the settings in which the runs differ.
        stages: of each run, in order.
        left: tasks that are not done.
        stored: runs whose results are kept elsewhere.
        clock: of all tasks.
        out: holds the table.
        live: whether the table is drawn in a terminal.
    """

    runs: Mapping[str, Run]
    varied: Mapping[str, Mapping[str, Any]]
    stages: tuple[str, ...]
    left: set[str]
    stored: Collection[str]
    clock: Clock
    out: Path
    live: bool
    failed: dict[str, str] = field(default_factory=dict)
    _board: Board = field(init=False)
    _scores: dict[str, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._board = Board(list(self.clock.stages), set(self.clock.stages) - self.left)
        self._scores = {name: _scores_of(run) for name, run in self.runs.items()}
        self._write()

    def hear(self, news: News) -> None:
        """Takes note of news of a task."""
        self._board.hear(news)
        self._board.clear()
        if news.kind == "begun":
            self.clock.begin(news.task, f" on {news.text}")
        elif news.kind == "done":
            self.left.discard(news.task)
            self.clock.end(news.task, news.seconds)
        else:
            log.info("%s: %s: %s", news.task, news.kind, news.text)
            self.clock.drop(news.task, again=news.kind not in FINAL)
        if news.kind in FINAL:
            self.failed[news.task] = news.text
        stage, _, name = news.task.partition(" ")
        if name in self.runs and news.kind == "done" and stage == STAGES[1]:
            self._scores[name] = _scores_of(self.runs[name])
        self._write()
        self.tick()

    def tick(self) -> None:
        """Draws the live table anew, with the time as it is."""
        if self.live:
            self._board.draw(self.clock.left())

    def table(self) -> pd.DataFrame:
        """A line for each run: its state, the settings in which the runs differ, and its main scores."""
        return pd.DataFrame(
            [
                {"run": run.name, "state": self._state(name), **self.varied[name], **self._scores[name]}
                for name, run in self.runs.items()
            ]
        )

    def _state(self, name: str) -> str:
        if name in self.stored:
            return STORED
        left = [stage for stage in self.stages if f"{stage} {name}" in self.left]
        if fault := next(
            (self.failed[one] for stage in left if (one := f"{stage} {name}") in self.failed), ""
        ):
            return f"failed: {fault}"
        if not left:
            return "done"
        return f"to {left[0]}" if left[0] in STAGES else f"to be asked {left[0]}"

    def _write(self) -> None:
        files.write_whole(self.out / TABLE, lambda part: self.table().to_csv(part, index=False))


def _scores_of(run: Run) -> dict[str, float]:
    return main_scores(run) if evaluated(run) else dict.fromkeys(NAMES, float("nan"))
