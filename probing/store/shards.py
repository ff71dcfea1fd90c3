"""ShardWriter: one HDF5 shard, written beside its name, made durable, then renamed into place."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from probing.store.files import move_into_place, remove
from probing.store.shard_files import checksum

_log = logging.getLogger(__name__)

#: Rows wait in memory until they fill a chunk; all chunks of a shard together stay under this many bytes.
STAGED_BYTES = 32 * 2**20
CHUNK_BYTES = (2**14, 2**20)


class _DataSet:
    """One data set that is appended to in whole chunks, made when the first of them is full.

    Rows are copied into one buffer of a chunk, so that no batch is kept alive by the rows that wait.
    """

    def __init__(
        self, group: h5py.Group, name: str, attrs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> None:
        self._make = partial(group.create_dataset, name, **options)
        self._attrs = attrs
        self._data: h5py.Dataset | None = None
        self._buffer = np.empty((0, 0))
        self._filled = 0
        self._sum = 0

    def append(self, values: np.ndarray, budget: int) -> None:
        """Stage rows, and write them whenever they fill a chunk of about `budget` bytes."""
        self._sum = (self._sum + checksum(values)) % 2**64
        self._fit(values, budget)
        start = 0
        while start < len(values):
            count = min(len(values) - start, len(self._buffer) - self._filled)
            part = values[start : start + count]
            self._buffer[(slice(self._filled, self._filled + count), *map(slice, part.shape[1:]))] = part
            self._filled += count
            start += count
            if self._filled == len(self._buffer):
                self._flush()

    def finish(self) -> None:
        """Write the rows that still wait, and the checksum."""
        if self._filled or self._data is None:
            self._flush()
        assert self._data is not None
        self._data.attrs["checksum"] = np.uint64(self._sum)

    def _fit(self, values: np.ndarray, budget: int) -> None:
        """Make the buffer; or a wider one, filled up with zeros, when attention patterns reach over more keys."""
        if not self._buffer.size:
            self._buffer = np.zeros((_chunk_rows(values, budget), *values.shape[1:]), values.dtype)
        wider = [max(sizes) - sizes[0] for sizes in zip(self._buffer.shape[1:], values.shape[1:])]
        if any(wider):
            self._buffer = np.pad(self._buffer, [(0, 0), *((0, more) for more in wider)])

    def _flush(self) -> None:
        rows, tail = self._buffer[: self._filled], self._buffer.shape[1:]
        if self._data is None:
            self._data = self._make(
                shape=(0, *tail),
                maxshape=(None,) * rows.ndim,
                chunks=(max(1, len(rows)), *tail),
                dtype=rows.dtype,
            )
            self._data.attrs.update(self._attrs)
        start = len(self._data)
        self._data.resize((start + len(rows), *tail))
        self._data[start:] = rows
        self._buffer[:] = 0
        self._filled = 0


def _chunk_rows(values: np.ndarray, budget: int) -> int:
    row_bytes = values.dtype.itemsize * math.prod(values.shape[1:])
    return max(1, min(max(budget, CHUNK_BYTES[0]), CHUNK_BYTES[1]) // max(1, row_bytes))


def compression_options(compression: str | None) -> dict[str, Any]:
    """The h5py options of a named lossless compression, or none.

    Raises:
        ValueError: the name is not known.
        ModuleNotFoundError: blosc2 was asked for and hdf5plugin is not installed.
    """
    if compression is None:
        return {}
    if compression != "blosc2":
        raise ValueError(f"compression is None or 'blosc2', found {compression!r}")
    try:
        plugin = import_module("hdf5plugin")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "compression='blosc2' needs the package hdf5plugin: pip install 'taxoprobe[compression]'"
        ) from error
    return dict(plugin.Blosc2(cname="zstd", clevel=5, filters=plugin.Blosc2.SHUFFLE))


class ShardWriter:
    """A shard being written as `name.h5.part`; `finish` gives it its name, `abandon` removes it."""

    def __init__(self, path: Path, header: Mapping[str, Any], versions: Mapping[str, str]) -> None:
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self._sets: dict[str, _DataSet] = {}
        self._options = compression_options(header["compression"])
        self._budget = STAGED_BYTES // max(1, len(header["sites"]) * len(header["spans"]))
        self._item_ids: list[str] = []
        self._columns: dict[str, list[Any]] = {}
        self._positions: dict[str, list[np.ndarray]] = {span: [] for span in header["spans"]}
        remove(self.part)  # nothing is written through a link that stands there
        self._file = h5py.File(self.part, "x", libver=("v110", "v110"), rdcc_nbytes=2**16)
        for name in ("format", "dtype", "site_spelling", "sites", "spans"):
            self._file.attrs[name] = _attribute(header[name])
        for name, value in sorted(header["attributes"].items()):
            self._file.attrs[name] = _attribute(value)
        self._file.attrs["versions"] = _attribute(dict(versions))
        self._dtype = header["dtype"]

    @property
    def rows(self) -> int:
        """How many items were appended."""
        return len(self._item_ids)

    def append(
        self,
        item_ids: Sequence[str],
        columns: Mapping[str, Sequence[Any]],
        positions: Mapping[str, Sequence[np.ndarray]],
        values: Mapping[tuple[str, str], np.ndarray],
    ) -> None:
        """Add the rows of one batch: (site, span) → stored values, span → token positions of each row."""
        if self._item_ids and set(columns) != set(self._columns):
            raise ValueError(
                f"every batch needs the same columns: expected {list(self._columns)}, found {list(columns)}"
            )
        self._item_ids += item_ids
        for name, column in columns.items():
            self._columns.setdefault(name, []).extend(column)
        for span, rows in positions.items():
            self._positions[span] += rows
        for (site, span), array in values.items():
            key = f"activations/{site}/{span}"
            if key not in self._sets:
                self._sets[key] = _DataSet(self._file, key, {"dtype": _attribute(self._dtype)}, self._options)
            self._sets[key].append(array, self._budget)

    def finish(self) -> None:
        """Write what is still in memory, make the file durable and give it its name."""
        for data in self._sets.values():
            data.finish()
        self._write("item_id", as_column("item_id", self._item_ids))
        for name, values in self._columns.items():
            self._write(f"columns/{name}", as_column(name, values))
        self._file.attrs["columns"] = _attribute(list(self._columns))
        for span, rows in self._positions.items():
            self._write(f"spans/{span}/count", np.array([len(row) for row in rows], dtype=np.int32))
            self._write(f"spans/{span}/position", np.concatenate(rows).astype(np.int32))
        self._file.close()
        move_into_place(self.part, self.path)

    def abandon(self) -> None:
        """Remove the file if it is not finished."""
        try:
            self._file.close()
        except (OSError, RuntimeError) as error:
            # On a full disk HDF5 cannot even close what it could not write; the file goes all the same.
            _log.warning("closing the unfinished %s: %s", self.part, error)
        finally:
            self.part.unlink(missing_ok=True)

    def _write(self, name: str, values: np.ndarray) -> None:
        self._file.create_dataset(name, data=values).attrs["checksum"] = np.uint64(checksum(values))


def _attribute(value: Any) -> Any:
    """A value as an HDF5 attribute: a number, or text of fixed length; anything else as JSON text.

    Text of variable length would lie in a heap that HDF5 does not protect: one flipped bit there makes it
    loop for ever.
    """
    if isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    raw = text.encode("utf-8")
    return np.array(raw, dtype=h5py.string_dtype("utf-8", max(1, len(raw))))


def as_column(name: str, values: Sequence[Any]) -> np.ndarray:
    """A manifest column as numbers, truth values or UTF-8 text.

    Raises:
        ValueError: it is of several kinds or of another, or has text or numbers that a store cannot hold.
    """
    try:
        return _column(name, values)
    except (OverflowError, UnicodeEncodeError) as error:
        raise ValueError(f"column {name!r} cannot be stored: {error}") from error


def _column(name: str, values: Sequence[Any]) -> np.ndarray:
    kinds = {type(value.item() if isinstance(value, np.generic) else value) for value in values}
    if kinds == {str}:
        return np.array([value.encode("utf-8") for value in values], dtype="S")
    if kinds <= {bool} or kinds <= {int}:
        return np.array(values, dtype=bool if kinds == {bool} else np.int64)
    if kinds <= {int, float}:
        return np.array(values, dtype=np.float64)
    raise ValueError(
        f"column {name!r} has to be all text, all truth values or all numbers, "
        f"found {sorted(kind.__name__ for kind in kinds)}"
    )
