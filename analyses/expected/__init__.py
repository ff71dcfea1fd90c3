"""Hypotheses with their bounds, registered before a run, and what its results say about each.

    python -m analyses.expected expected.toml --register RUN [DIR …]    before training: keeps the file, hash and time
    python -m analyses.expected expected.toml --run R [--run R2 …]      a verdict for each line of the file
    python -m analyses.expected --run R [--run R2 …]                    of what was registered for these runs
    python -m analyses.expected --run MOVED --registered-in PLAN        of a run that lies elsewhere since

Reads: a TOML file of hypotheses (docs/runs.md), and the stored tables of the analyses that they name.
Writes: with --register, expected.json in the folder of a run, or of a plan.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from analyses.expected import hypotheses
from analyses.expected.judged import Judged, judge, of_registered, standing_of
from analyses.expected.registration import FILE, current, register, registered, registered_for
from analyses.frame.analysis import refusing
from analyses.frame.command_line import described_parser
from analyses.frame.identity import distinguished
from taxogen.runs.run import Run


def main(argv: Sequence[str] | None = None) -> None:
    """Registers hypotheses, or prints a verdict for each.

    Raises:
        SystemExit: with code 2 and one line, where something cannot be done.
    """
    given = parser().parse_args(argv)
    with refusing("python -m analyses.expected"):
        if given.register:
            if given.file is None or given.run or given.registered_in:
                raise ValueError(
                    "--register takes a file of hypotheses and folders, and neither --run nor --registered-in"
                )
            for folder in given.register:
                entry = register(given.file, folder)
                late = ", ".join([*entry.ended, *entry.began])
                print(f"{folder}: {entry.name} registered {entry.registered}, SHA-256 {entry.sha256[:12]}…")
                if late:
                    print(f"  trained by then: {late}")
            return
        if not given.run:
            raise ValueError("nothing was given to judge; give --run DIR, or --register DIR before a run")
        runs = distinguished([Run.open(path) for path in given.run])
        elsewhere = _folders(given.registered_in)
        verdicts = (
            of_registered(runs, elsewhere=elsewhere)
            if given.file is None
            else _of_file(given.file, runs, elsewhere)
        )
        if not verdicts:
            raise FileNotFoundError(
                f"nothing was registered for {', '.join(run.name for run in runs)}; where they were moved since, name "
                "the folder in which it was with --registered-in; or give a file of hypotheses, and register it before "
                "the next run with --register"
            )
        print(*verdicts, sep="\n")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    flags = described_parser("python -m analyses.expected", __doc__ or "")
    flags.add_argument("file", nargs="?", type=Path, metavar="FILE", help="hypotheses in TOML: docs/runs.md")
    flags.add_argument(
        "--register",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="folders of prepared runs, or of a plan, to keep it in",
    )
    flags.add_argument(
        "--run", action="append", type=Path, metavar="DIR", help="a run with results; may be given again"
    )
    flags.add_argument(
        "--registered-in",
        nargs="+",
        default=[],
        type=Path,
        metavar="DIR",
        help="folders in which it was registered, of runs that lie elsewhere since",
    )
    return flags


def _folders(given: Sequence[Path]) -> Sequence[Path]:
    """Refuses folders in which nothing was registered."""
    if empty := [folder for folder in given if not registered(folder)]:
        raise FileNotFoundError(
            f"--registered-in {empty[0]} was asked for, and no hypotheses were registered there (no {FILE})"
        )
    return given


def _of_file(path: Path, runs: Sequence[Run], elsewhere: Sequence[Path]) -> list[Judged]:
    """Verdicts of a file, which is that which was registered, or was never registered."""
    text = hypotheses.text_of(path, "hypotheses", f"{hypotheses.EXAMPLE} is one")
    entries = {run.name: (run, current(registered_for(run, elsewhere), path, text)) for run in runs}
    of_run = {name: entry.standing(run) for name, (run, entry) in entries.items() if entry is not None}
    return judge(hypotheses.parse(text, path), runs, standing_of(of_run, runs) if of_run else "")
