"""Board: a live table of many tasks, items × stages, with what runs where, in the lines that a terminal has."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from taxogen.stages.scheduling.task import News

LEFT, DONE, FAILED, WITHOUT = "·", "done", "FAILED", "–"


@dataclass
class Board:
    """What is known of each task, drawn anew in place.

    Attributes:
        tasks: names of all, of a stage and an item with a blank between.
        done: those that are done.
        running: task → where it runs, and since when (seconds of the monotonic clock).
        failed: those that have failed or are left out.
        stream: a terminal.
    """

    tasks: Sequence[str]
    done: set[str]
    running: dict[str, tuple[str, float]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    stream: TextIO = sys.stderr
    _lines: int = 0

    def hear(self, news: News) -> None:
        """Takes note of what happened to a task."""
        self.running.pop(news.task, None)
        if news.kind == "begun":
            self.running[news.task] = (news.text, time.monotonic())
        elif news.kind == "done":
            self.done.add(news.task)
        elif news.kind in ("failed", "left out"):
            self.failed.add(news.task)

    def draw(self, left: str) -> None:
        """Puts the table in the place of the one before; `left` is the time that is left, in words."""
        self.clear()
        size = shutil.get_terminal_size()
        lines = [line[: size.columns - 1] for line in self.text(left, size.lines - 2).splitlines()]
        self.stream.write("".join(f"{line}\n" for line in lines))
        self.stream.flush()
        self._lines = len(lines)

    def clear(self) -> None:
        """Takes the table away, so that other lines can be written."""
        if self._lines:
            self.stream.write(f"\x1b[{self._lines}F\x1b[J")
        self._lines = 0

    def text(self, left: str, height: int) -> str:
        """The table, of at most `height` lines: items where something runs or has failed come before others."""
        cells: dict[str, dict[str, str]] = {}
        for task in self.tasks:
            stage, _, item = task.partition(" ")
            cells.setdefault(item, {})[stage] = self._cell(task)
        stages = list(dict.fromkeys(stage for row in cells.values() for stage in row))
        items = self._shown(cells, max(1, height - 3))
        rows = [
            ["", *stages],
            *([item, *(cells[item].get(stage, WITHOUT) for stage in stages)] for item in items),
        ]
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        if hidden := len(cells) - len(items):
            lines.append(f"… and {hidden} more")
        ahead = len(self.tasks) - len(self.done) - len(self.failed) - len(self.running)
        lines.append(
            f"{len(self.done)} of {len(self.tasks)} done, {len(self.running)} running, {ahead} left"
            + (f", {len(self.failed)} failed or left out" if self.failed else "")
            + (f"; about {left} left" if left else "")
        )
        return "\n".join(lines)

    def _cell(self, task: str) -> str:
        if task in self.running:
            where, since = self.running[task]
            minutes, seconds = divmod(int(time.monotonic() - since), 60)
            return f"{where} {minutes}:{seconds:02d}"
        return DONE if task in self.done else FAILED if task in self.failed else LEFT

    def _shown(self, cells: Mapping[str, Mapping[str, str]], most: int) -> list[str]:
        """The items that are shown, in their order: at work or failed first, then those to come, then those done."""

        def rank(item: str) -> int:
            states = set(cells[item].values()) - {WITHOUT}
            return 0 if states - {LEFT, DONE} else 2 if states == {DONE} else 1

        return [item for item in cells if item in set(sorted(cells, key=rank)[:most])]
