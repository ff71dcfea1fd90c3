"""Parts: the pieces of a long computation, each kept on disk as soon as it is done, so that a second start goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from probing.store import files


@dataclass(frozen=True)
class Parts:
    """A folder of tables, one for each piece; pieces of other settings lie in other folders."""

    folder: Path

    @classmethod
    def of(cls, folder: Path, settings: Mapping[str, Any]) -> Parts:
        """The parts made with these settings."""
        text = json.dumps(settings, sort_keys=True, default=str)
        path = folder / "parts" / hashlib.sha256(text.encode()).hexdigest()[:12]
        files.write_json(path / "settings.json", json.loads(text))
        return cls(path)

    def missing(self, names: Iterable[str]) -> list[str]:
        """The pieces that are not there yet."""
        return [name for name in names if not self._path(name).is_file()]

    def collect(self, names: Iterable[str], make: Callable[[str], pd.DataFrame], what: str) -> pd.DataFrame:
        """All pieces as one table, in order; those that are missing are made, with the time left on a bar."""
        names = list(names)
        for name in tqdm(self.missing(names), desc=what, unit="part", leave=False, mininterval=1):
            table = make(name)
            files.write_whole(self._path(name), lambda part, table=table: table.to_parquet(part, index=False))
        return pd.concat([pd.read_parquet(self._path(name)) for name in names], ignore_index=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"
