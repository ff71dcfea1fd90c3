"""A self-contained page about some runs: every question that was asked of them, and how they were made.

    python -m analyses.report --run R --run R2 … --out DIR      or --sweep FOLDER, for all its runs
    python -m analyses.report --run R --run R2 … --out DIR --quick     with a quick look by every other question

Reads: scores and layer-probe tables of the runs, and the results of every other question in their folders.
Writes: report.html, and the figures and tables that it computes itself; with --quick also analyses/NAME-quick in the
runs' folders.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from analyses.frame.analysis import refusing
from analyses.frame.command_line import add_run_flags, described_parser, runs_in
from analyses.report.looks import look
from analyses.report.page import Page, write
from taxogen.runs.run import Run

__all__ = ["SECONDS", "Page", "first_looks", "main", "write"]

SECONDS = "seconds.json"
"""Of the folder of a report whose runs one command made: how long each stage took."""


def main(argv: Sequence[str] | None = None) -> None:
    """Computes what is missing, and writes the page."""
    given = parser().parse_args(argv)
    with refusing("python -m analyses.report"):
        runs = [Run.open(path) for path in runs_in(given)]
        if not runs:
            raise ValueError("no run was given to report; give --run DIR, or --sweep DIR")
        if given.quick:
            look(runs)
        page = write(given.out, runs, _seconds(given.out, runs))
        print(f"report: {page.path}")


def first_looks(runs: Sequence[Run], out: Path) -> str:
    """The command that takes a quick look by every other question for the report of these runs."""
    words = [word for run in runs for word in ("--run", str(run.path))]
    return shlex.join(["python", "-m", "analyses.report", *words, "--out", str(out), "--quick"])


def _seconds(out: Path, runs: Sequence[Run]) -> dict[str, float]:
    """How long each stage took, where one command made exactly these runs and their report."""
    stages = json.loads((out / SECONDS).read_text(encoding="utf-8")) if (out / SECONDS).is_file() else {}
    trained = {stage.partition(" ")[2] for stage in stages if stage.startswith("train ")}
    return stages if trained == {run.name for run in runs} else {}


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    made = described_parser("python -m analyses.report", __doc__ or "")
    add_run_flags(made)
    made.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the page goes")
    text = (
        "first take a quick look, marked as one, by every question that has no answer yet: at the first run"
    )
    made.add_argument(
        "--quick", action="store_true", help=f"{text}, or at all where it is about runs together"
    )
    return made
