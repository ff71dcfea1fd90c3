"""The live table: what runs where, what is done and left, in as many lines as there are; and drawn over itself."""

import io

import pytest

from taxogen.stages.scheduling.board import Board
from taxogen.stages.scheduling.task import News

TASKS = [f"{stage} run-{number}" for number in range(4) for stage in ("train", "evaluate")] + ["report plan"]


@pytest.fixture
def board(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    board = Board(TASKS, {"train run-0", "evaluate run-0"}, stream=io.StringIO())
    board.hear(News("train run-1", "begun", "ash:12"))
    board.hear(News("train run-2", "begun", "elm:7"))
    board.hear(News("train run-2", "failed", "why"))
    board.hear(News("evaluate run-2", "left out", "why"))
    board.hear(News("train run-3", "begun", "elm:8"))
    board.hear(News("train run-3", "lost", "why"))
    now[0] += 75.5
    return board


def test_every_task_has_a_cell(board):
    assert [line.split() for line in board.text("3 min", 20).splitlines()] == [
        ["train", "evaluate", "report"],
        ["run-0", "done", "done", "–"],
        ["run-1", "ash:12", "1:15", "·", "–"],
        ["run-2", "FAILED", "FAILED", "–"],
        ["run-3", "·", "·", "–"],
        ["plan", "–", "–", "·"],
        [
            "2",
            "of",
            "9",
            "done,",
            "1",
            "running,",
            "4",
            "left,",
            "2",
            "failed",
            "or",
            "left",
            "out;",
            "about",
            "3",
            "min",
            "left",
        ],
    ]


@pytest.mark.parametrize("height", range(4, 9))
def test_what_is_at_work_is_shown_first_in_few_lines(board, height):
    lines = board.text("", height).splitlines()
    assert len(lines) <= height
    shown = [line.split()[0] for line in lines[1:-1] if not line.startswith("…")]
    order = ["run-1", "run-2", "run-3", "plan", "run-0"][: len(shown)]
    assert shown == [name for name in ("run-0", "run-1", "run-2", "run-3", "plan") if name in order]
    assert (f"… and {5 - len(shown)} more" in lines) == (len(shown) < 5)


def test_it_is_drawn_over_itself(board):
    board.draw("")
    once = board.stream.getvalue()
    board.draw("")
    board.clear()
    lines = once.count("\n")
    assert board.stream.getvalue() == f"{once}\x1b[{lines}F\x1b[J" * 2
