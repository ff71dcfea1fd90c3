"""Parts: the pieces of a long computation, each kept on disk as soon as it is done, so that a second start goes on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
from tqdm import tqdm

from analyses.frame import provenance
from probing.store import cache, records

log = logging.getLogger(__name__)
Value = TypeVar("Value")


@dataclass(frozen=True)
class Codec(Generic[Value]):
    """How values of a kind lie on disk: the suffix of their files, and what writes and reads them."""

    suffix: str
    write: Callable[[Value, Path], object]
    read: Callable[[Path], Value]


def _write_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    with path.open("wb") as out:  # a path without the suffix .npz would get it appended
        np.savez_compressed(out, **arrays)  # pyright: ignore[reportArgumentType]


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored_arrays:
        return {name: stored_arrays[name] for name in stored_arrays.files}


TABLE: Codec[pd.DataFrame] = Codec(
    ".parquet", lambda table, path: table.to_parquet(path, index=False), pd.read_parquet
)
"""A table."""
ARRAYS: Codec[dict[str, np.ndarray]] = Codec(".npz", _write_arrays, _read_arrays)
"""Arrays by name."""


def stored(
    folder: Path,
    name: str,
    make: Callable[[], Value],
    codec: Codec[Value],
    made_from: Mapping[str, Any] | None = None,
) -> Value:
    """The value kept under a name in a folder; one that is not there, or damaged, is made first, by one process."""
    path = folder / f"{name}{codec.suffix}"
    with cache.locked(folder.absolute()):
        if not _whole(path):
            value = make()
            records.write(path, lambda part: codec.write(value, part), made_from or {})
    return codec.read(path)


def _whole(path: Path) -> bool:
    """Whether a part is there and as it was written."""
    provenance.set_aside_unreadable(path.parent)
    try:
        records.made_from(path, "it is made again")
    except FileNotFoundError:
        return False
    except records.DamagedError as damage:
        log.warning("%s", damage)
        return False
    return path.is_file()


@dataclass(frozen=True)
class Parts:
    """A folder of tables, one for each piece; pieces of other settings lie in other folders."""

    folder: Path
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path, settings: Mapping[str, Any]) -> Parts:
        """The parts made with these settings."""
        text = json.dumps(settings, sort_keys=True, default=str)
        path = folder / "parts" / hashlib.sha256(text.encode()).hexdigest()[:12]
        path.mkdir(parents=True, exist_ok=True)
        return cls(path, json.loads(text))

    def missing(self, names: Iterable[str]) -> list[str]:
        """The pieces that are not there yet."""
        return [name for name in names if not (self.folder / f"{name}{TABLE.suffix}").is_file()]

    def collect(self, names: Iterable[str], make: Callable[[str], pd.DataFrame], what: str) -> pd.DataFrame:
        """All pieces as one table, in order; those that are missing are made, with the time left on a bar."""
        names = list(names)
        for name in tqdm(self.missing(names), desc=what, unit="part", leave=False, mininterval=1):
            self._piece(name, make)
        return pd.concat([self._piece(name, make) for name in names], ignore_index=True)

    def _piece(self, name: str, make: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
        return stored(self.folder, name, partial(make, name), TABLE, self.settings)
