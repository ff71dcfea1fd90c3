"""Which runs have their results in stored tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

RUNS = "runs.parquet"
"""The table of finished runs, one a row, with the column `hash` (`Config.hash`)."""


def hashes(folder: Path) -> frozenset[str]:
    """The hashes of the runs that tables in a folder have; none where nothing was stored there yet.

    Raises:
        NotADirectoryError: the folder is none.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(
            f"--tables {folder} is no folder; name the one that analyses.study writes to"
        )
    path = folder / RUNS
    return frozenset(pd.read_parquet(path, columns=["hash"])["hash"]) if path.is_file() else frozenset()
