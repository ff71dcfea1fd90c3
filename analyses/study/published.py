"""The published study's curves beside ours: macro-F1 by share of removed evidence, collected once from its files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analyses.inputs.published.scores import curves
from probing.store import files

FILE = "published.parquet"
_COLUMNS = ["lm", "init", "shuffle", "effective", "value", "lower", "upper", "n"]
_SHUFFLES = {"original": "none"}


def collect(released: Path, folder: Path) -> Path:
    """Writes what `read` gives from the files that the study released (`docs/published.md` says which).

    Raises:
        FileNotFoundError: the folder does not hold them.
    """
    table = curves(released)
    table = table.assign(shuffle=table["shuffle"].replace(_SHUFFLES))[_COLUMNS]
    table = table.sort_values(_COLUMNS[:4]).reset_index(drop=True)
    files.write_whole(folder / FILE, lambda path: table.to_parquet(path, index=False))
    return folder / FILE


def read(folder: Path) -> pd.DataFrame:
    """Macro-F1 by language model, init, shuffle and share that was really removed; no row where none is stored."""
    path = folder / FILE
    return pd.read_parquet(path) if path.is_file() else pd.DataFrame(columns=_COLUMNS)
