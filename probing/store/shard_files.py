"""Reading one HDF5 shard: every fault of it is one clear error, and no number is silently wrong.

A shard may come from anywhere. It is read only if all that it claims to hold lies in it: links, external storage and
virtual data sets would have other files read in its name, and a size beyond the file's would fill the memory.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from jaxtyping import Float, Shaped

from probing.store.files import opened, read_at

FORMAT = "taxoprobe activations 1"
HEADER_FILE = "store.json"
INDEX_FILE = "index.json"
STORED_AS = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}
DTYPES = tuple(STORED_AS)
SHARD_NAME = re.compile(r"shard-[0-9]{5,}\.h5")
BLOSC2 = 32026
"""HDF5's number of the filter; no other is written, and no other decoder is given a shard's bytes."""
MOST_COMPRESSED = 2**16
"""Claimed bytes per stored one: blosc2 turns a chunk of at most 1 MiB into at least 16 bytes."""

_HARD_LINK, _VIRTUAL = cast(Any, h5py).h5l.TYPE_HARD, cast(Any, h5py).h5d.VIRTUAL


class CorruptShardError(OSError):
    """A file of a store that cannot be read, or whose bytes are not those that were written.

    Attributes:
        file: its name.
    """

    file: str = ""


def damaged(file: Path, what: str) -> CorruptShardError:
    """The error that says what is wrong with a file of a store, and where to go."""
    if file.name == HEADER_FILE:
        kind, remedy = "", "restore it from a copy, or capture into another folder"
    elif file.name == INDEX_FILE:
        kind, remedy = "", "remove it and run the same capture again"
    else:
        kind = "shard "
        remedy = f"the other shards are kept; see `python -m probing.doctor --store {file.parent}`"
    error = CorruptShardError(f"{kind}{file.name} of {file.parent} is damaged: {what}; {remedy}")
    error.file = file.name
    return error


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


def file_checksum(file: Path) -> str:
    """The `checksum` of a whole file's bytes, in hexadecimal."""
    total, block = 0, bytearray(2**20)
    with file.open("rb") as opened:
        while count := opened.readinto(block):
            block[count:] = bytes(len(block) - count)
            total += checksum(np.frombuffer(block, np.uint8)[None])
    return f"{total % 2**64:016x}"


def shard_files(folder: Path) -> list[Path]:
    """The finished shards of a store, in the order of their numbers."""
    names = [file for file in folder.glob("shard-*.h5") if SHARD_NAME.fullmatch(file.name)]
    return sorted(names, key=lambda file: (len(file.name), file.name))


@contextmanager
def reading(file: Path) -> Iterator[h5py.File]:
    """An open shard, which is a file and no link; whatever HDF5 says about a damaged one becomes one clear error."""
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise damaged(
                file, "it is a link or no file; put the file itself there, or link the whole folder"
            )
        with h5py.File(file, "r", locking=False) as shard:
            yield shard
    except CorruptShardError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise damaged(file, f"HDF5 says {error}") from error


def data_set(shard: h5py.File, name: str) -> h5py.Dataset:
    """A data set of an open shard: all that it claims is plain values that lie in this very file.

    Raises:
        CorruptShardError: it is elsewhere, or is larger than the file, or is of no type that is written.
        KeyError: there is none of that name.
    """
    file, parts = Path(shard.filename), name.split("/")
    for end in range(1, len(parts) + 1):
        path = "/".join(parts[:end])
        if shard.id.links.get_info(path.encode()).type != _HARD_LINK:
            raise damaged(file, f"{path} is a link to another place")
    data = shard[name]
    if not isinstance(data, h5py.Dataset):
        raise damaged(file, f"{name} is no data set")
    made, shape, dtype = data.id.get_create_plist(), data.shape, data.dtype
    filters = [made.get_filter(place)[0] for place in range(made.get_nfilters())]
    if made.get_layout() == _VIRTUAL or made.get_external_count():
        raise damaged(file, f"the values of {name} are in another file")
    if filters not in ([], [BLOSC2]) or dtype.kind not in "biufS" or not shape:
        raise damaged(file, f"{name} is of a kind that no shard has ({dtype} {shape}, filters {filters})")
    size = os.fstat(shard.id.get_vfd_handle()).st_size
    most = size * MOST_COMPRESSED if filters else min(size, data.id.get_storage_size())
    if math.prod(shape) * dtype.itemsize > most:
        raise damaged(file, f"{name} claims {dtype} {shape}, and the file holds {most} bytes for it")
    return data


def data_sets(shard: h5py.File) -> list[str]:
    """The names of all that lies in an open shard, groups aside.

    Raises:
        CorruptShardError: there is a link to another place.
    """
    paths: list[bytes] = []
    shard.id.links.visit(paths.append)
    for path in paths:
        if shard.id.links.get_info(path).type != _HARD_LINK:
            raise damaged(Path(shard.filename), f"{path.decode(errors='replace')} is a link to another place")
    return [path.decode() for path in paths if not isinstance(shard[path], h5py.Group)]


def attribute(owner: h5py.Dataset | h5py.File, name: str) -> Any:
    """A number or text of fixed length that is an attribute; text of variable length can make HDF5 loop for ever."""
    stored = owner.attrs.get_id(name)
    dtype = stored.dtype
    if dtype.kind not in "biufS" or stored.shape != ():
        raise damaged(Path(owner.file.filename), f"its attribute {name} is of a kind that no shard has")
    value = np.empty((), dtype)
    stored.read(value)
    return value.item()


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
            data = data_set(shard, name)
            total = int(attribute(data, "checksum"))
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
                    data_set(shard, self.name).read_direct(out)
            total = checksum(out) if verify else 0
        else:
            handle = opened(self.file)
            try:
                for row, offset in self.chunks:
                    part = out[row : min(row + self.chunk_rows, len(out))]
                    if read_at(handle, part.data, offset) != part.nbytes:
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
    """One data set of UTF-8 text of one shard, as an array of str.

    Raises:
        CorruptShardError: the shard cannot be read, the checksum differs, or it is no text.
    """
    stored = read_array(file, name)
    try:
        return np.array([value.decode("utf-8") for value in stored.tolist()], dtype=object)
    except (AttributeError, UnicodeDecodeError) as error:
        raise damaged(file, f"{name} is no UTF-8 text") from error


def column_names(shard: h5py.File) -> list[str]:
    """The names of the manifest's columns in an open shard, in stored order."""
    names = json.loads(attribute(shard, "columns"))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise damaged(Path(shard.filename), "its attribute columns is no list of names")
    return names


def read_columns(file: Path) -> dict[str, np.ndarray]:
    """The manifest's columns in one shard, in stored order."""
    with reading(file) as shard:
        names = column_names(shard)
        text = {name: data_set(shard, f"columns/{name}").dtype.kind == "S" for name in names}
    return {
        name: read_text(file, f"columns/{name}") if text[name] else read_array(file, f"columns/{name}")
        for name in names
    }
