"""Result tables on disk: parquet for programs, CSV for people; both whole or not at all."""

from pathlib import Path

import pandas as pd

from probing.store import files


def save(table: pd.DataFrame, folder: Path, name: str) -> None:
    """Writes name.parquet and name.csv into a folder."""
    files.write_whole(folder / f"{name}.parquet", lambda part: table.to_parquet(part, index=False))
    files.write_whole(folder / f"{name}.csv", lambda part: table.to_csv(part, index=False))
