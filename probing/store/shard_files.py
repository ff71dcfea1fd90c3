"""Reading one HDF5 shard: every fault of it is one clear error, and no number is silently wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from jaxtyping import Float, Shaped

FORMAT = "taxoprobe activations 1"
HEADER_FILE = "store.json"
INDEX_FILE = "index.json"
DTYPES = ("float32", "float16", "bfloat16")


class CorruptShardError(OSError):
    """A shard that cannot be read, or whose bytes are not those that were written."""


def damaged(file: Path, what: str) -> CorruptShardError:
    """The error that says what is wrong with a shard, and where to go."""
    return CorruptShardError(
        f"shard {file.name} of {file.parent} is damaged: {what}; the other shards are kept; "
        f"see `python -m probing.doctor --store {file.parent}`"
    )


def checksum(array: Shaped[np.ndarray, "..."]) -> int:
    """The sum modulo 2^64 of an array's bytes read as little-endian 64-bit words, each row padded with zeros.

    It adds up over slices of rows, is not moved by zero padding in whole words, and changes with every
    single flipped bit.
    """
    if array.size == 0:
        return 0
    raw = np.ascontiguousarray(array).reshape(len(array), -1).view(np.uint8)
    if raw.shape[1] % 8:
        raw = np.pad(raw, ((0, 0), (0, -raw.shape[1] % 8)))
    return int(np.add.reduce(raw.reshape(-1).view("<u8"), dtype=np.uint64))


def decode(stored: Shaped[np.ndarray, "..."], dtype: str) -> Float[np.ndarray, "..."]:
    """The floating-point values of stored ones: bfloat16 bits become float32, the others stay as they are."""
    if dtype != "bfloat16":
        return stored
    return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def shard_files(folder: Path) -> list[Path]:
    """The finished shards of a store, in the order of their numbers."""
    return sorted(folder.glob("shard-*.h5"))


@contextmanager
def reading(file: Path) -> Iterator[h5py.File]:
    """An open shard; whatever HDF5 says about a damaged one becomes one clear error."""
    try:
        with h5py.File(file, "r", locking=False) as shard:
            yield shard
    except CorruptShardError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise damaged(file, f"HDF5 says {error}") from error


@dataclass(frozen=True)
class Extent:
    """One data set of one shard: its shape, and where its chunks are if they lie in the file uncompressed.

    Attributes:
        chunks: (first row, byte offset) of each chunk; None when they are compressed or cut across columns.
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    checksum: int
    chunk_rows: int
    chunks: tuple[tuple[int, int], ...] | None

    @classmethod
    def of(cls, file: Path, name: str) -> Extent:
        """The extent of a data set.

        Raises:
            CorruptShardError: the shard cannot be read.
        """
        with reading(file) as shard:
            data = cast(h5py.Dataset, shard[name])
            total = int(cast(int, data.attrs["checksum"]))
            size = cast(tuple[int, ...] | None, data.chunks)
            filters = data.id.get_create_plist().get_nfilters()
            if size is None or filters or size[1:] != data.shape[1:]:
                return cls(file, name, data.shape, data.dtype, total, 0, None)
            chunks: list[tuple[int, int]] = []
            data.id.chunk_iter(lambda chunk: chunks.append((chunk.chunk_offset[0], chunk.byte_offset)))
            return cls(file, name, data.shape, data.dtype, total, size[0], tuple(chunks))

    def read(self, out: np.ndarray, *, verify: bool) -> None:
        """Fill `out` with the values, and compare them with the checksum.

        Plain chunks are read past HDF5, whose lock and per-chunk work would take longer than the copy; each
        is summed while it is in the processor's cache.

        Raises:
            CorruptShardError: the checksum differs, or the file ends too early.
        """
        total = 0
        if self.chunks is None:
            with reading(self.file) as shard:
                if out.size:
                    cast(h5py.Dataset, shard[self.name]).read_direct(out)
            total = checksum(out) if verify else 0
        else:
            handle = os.open(self.file, os.O_RDONLY)
            try:
                for row, offset in self.chunks:
                    part = out[row : min(row + self.chunk_rows, len(out))]
                    if os.preadv(handle, [part.data], offset) != part.nbytes:
                        raise damaged(self.file, f"it ends inside {self.name}")
                    total += checksum(part) if verify else 0
            finally:
                os.close(handle)
        if verify and total % 2**64 != self.checksum:
            raise damaged(self.file, f"the checksum of {self.name} differs")


def read_array(file: Path, name: str) -> np.ndarray:
    """One data set of one shard, compared with its checksum.

    Raises:
        CorruptShardError: the shard cannot be read or the checksum differs.
    """
    extent = Extent.of(file, name)
    values = np.zeros(extent.shape, extent.dtype)
    extent.read(values, verify=True)
    return values


def read_text(file: Path, name: str) -> np.ndarray:
    """One data set of UTF-8 text of one shard, as an array of str."""
    return np.array([value.decode("utf-8") for value in read_array(file, name).tolist()], dtype=object)


def column_names(shard: h5py.File) -> list[str]:
    """The names of the manifest's columns in an open shard, in stored order."""
    return json.loads(cast(bytes, shard.attrs["columns"]))


def read_columns(file: Path) -> dict[str, np.ndarray]:
    """The manifest's columns in one shard, in stored order."""
    with reading(file) as shard:
        names = column_names(shard)
        text = {name: cast(h5py.Dataset, shard[f"columns/{name}"]).dtype.kind == "S" for name in names}
    return {
        name: read_text(file, f"columns/{name}") if text[name] else read_array(file, f"columns/{name}")
        for name in names
    }
