"""A self-contained page about some runs: every question that was asked of them, and how they were made.

    python -m analyses.report --run R --run R2 … --out DIR

Reads: scores and layer-probe tables of the runs, and the results of every other question in their folders.
Writes: report.html, and the figures and tables that it computes itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from analyses.frame.analysis import refusing
from analyses.report.page import Page, write
from taxogen.runs.run import Run

__all__ = ["Page", "main", "write"]


def main(argv: Sequence[str] | None = None) -> None:
    """Computes what is missing, and writes the page."""
    given = parser().parse_args(argv)
    with refusing("python -m analyses.report"):
        page = write(given.out, [Run.open(path) for path in given.run], seconds={})
        print(f"report: {page.path}")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m analyses.report", description=(__doc__ or "").splitlines()[0]
    )
    made.add_argument(
        "--run", action="append", required=True, type=Path, metavar="DIR", help="may be given again"
    )
    made.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the page goes")
    return made
