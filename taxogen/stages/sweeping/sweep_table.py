"""The table of a sweep: a line for each run, its state, the settings in which the runs differ, and main scores."""

from __future__ import annotations

import csv
from pathlib import Path

TABLE = "sweep.csv"


def runs_of_sweep(folder: str | Path) -> list[Path]:
    """The directories of all runs of a sweep, in the order of its table.

    Raises:
        FileNotFoundError: the folder has no table, or a run of it is not there.
    """
    path = Path(folder) / TABLE
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} is no folder of a sweep (it has no {TABLE}); `taxoprobe sweep --out {folder}` makes one"
        )
    with path.open(encoding="utf-8", newline="") as lines:
        runs = [path.parent / line["run"] for line in csv.DictReader(lines)]
    if missing := [run.name for run in runs if not (run / "config.json").is_file()]:
        raise FileNotFoundError(
            f"{len(missing)} of {len(runs)} runs in {path} are not there, such as {missing[0]}; "
            "run the sweep again, or name runs one by one with --run"
        )
    return runs
