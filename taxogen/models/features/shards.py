"""Shard: one file of the features' cache, compared with its checksums once and read row by row.

Rows are read past HDF5 and are not mapped: mapped pages would count as the process's own memory. An open shard goes on
being readable when its file is removed.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Float, Int

from probing.capture.writer import as_stored
from probing.store.files import opened, read_at, write_whole
from probing.store.shard_files import (
    STORED_AS,
    attribute,
    checksum,
    damaged,
    data_set,
    decode,
    read_text,
    reading,
)
from taxogen.models.encoders import Encoder
from taxogen.models.features.pooling import Features

BLOCK = 2**24
"""Bytes that are compared with the checksum at a time."""


@dataclass(frozen=True, eq=False)
class Shard:
    """An open file of the cache.

    Attributes:
        file: its path.
        hashes: content hash of the picture of each row.
        shape: tokens and width of a row.
        dtype: how values are stored, `float32`, `float16` or `bfloat16`.
        checksum: of all rows.
        offset: where in the file the rows begin.
        handle: the open file; closed when the shard is gone.
    """

    file: Path
    hashes: list[str]
    shape: tuple[int, int]
    dtype: str
    checksum: int
    offset: int
    handle: int

    def __post_init__(self) -> None:
        weakref.finalize(self, os.close, self.handle)

    @classmethod
    def open(cls, file: Path, shape: tuple[int, int], dtype: str) -> Shard:
        """The shard of a file whose rows have this shape and are stored so; the rows are not read yet.

        Raises:
            CorruptShardError: it is none, or its content hashes differ from their checksum.
        """
        hashes = read_text(file, "content_hash").tolist()
        with reading(file) as shard:
            data = data_set(shard, "features")
            if data.shape != (len(hashes), *shape) or data.dtype != STORED_AS[dtype]:
                raise damaged(file, f"features are {data.dtype} {data.shape}")
            offset = data.id.get_offset()
            if offset is None:
                raise damaged(file, "features do not lie in one piece")
            total = int(attribute(data, "checksum"))
        return cls(file, hashes, shape, dtype, total, offset, opened(file))

    def verify(self) -> None:
        """Compares all rows with their checksum, some at a time.

        Raises:
            CorruptShardError: they differ, or the file ends too early.
        """
        size = max(1, BLOCK // self._row_bytes)
        parts = (range(at, min(at + size, len(self.hashes))) for at in range(0, len(self.hashes), size))
        if sum(checksum(self._stored(part)) for part in parts) % 2**64 != self.checksum:
            raise damaged(self.file, "the checksum of features differs")

    def read(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n tokens width"]:
        """The features of some rows, as they were stored or, of bfloat16, as float32."""
        return decode(self._stored(rows.tolist()), self.dtype)

    @property
    def _row_bytes(self) -> int:
        return self.shape[0] * self.shape[1] * np.dtype(STORED_AS[self.dtype]).itemsize

    def _stored(self, rows: Sequence[int]) -> np.ndarray:
        values, size = np.empty((len(rows), *self.shape), STORED_AS[self.dtype]), self._row_bytes
        for row, own in zip(rows, values, strict=True):
            if read_at(self.handle, own.data, self.offset + row * size) != size:
                raise damaged(self.file, "it ends inside features")
        return values


def stored(values: Features, dtype: str, name: str) -> np.ndarray:
    """Features by the encoder `name` as they are stored; bfloat16 as its bits.

    Raises:
        ValueError: the number type cannot hold them.
    """
    rounded = torch.from_numpy(values).to(getattr(torch, dtype))
    if not torch.isfinite(rounded).all():
        raise ValueError(
            f"model.feature_dtype={dtype} was asked for, which ends at {torch.finfo(rounded.dtype).max:.5g}; "
            f"features by {name!r} reach {np.abs(values).max():.5g}: take bfloat16 or float32"
        )
    return as_stored(rounded)


def write(path: Path, encoder: Encoder, dtype: str, hashes: Sequence[str], rows: np.ndarray) -> None:
    """Writes a file of the cache, whole or not at all.

    Args:
        path: of the file.
        encoder: whose features they are.
        dtype: the number type that `rows` are stored in.
        hashes: content hash of the picture of each row.
        rows: as stored, [pictures, tokens, width].
    """
    write_whole(path, partial(_fill, encoder, dtype, hashes, rows))


def _fill(encoder: Encoder, dtype: str, hashes: Sequence[str], rows: np.ndarray, path: Path) -> None:
    # The file format of 1.10 protects its own structure with checksums, as these do the values.
    with h5py.File(path, "x", libver=("v110", "v110")) as file:
        for name, values in (("content_hash", np.array(hashes, dtype="S64")), ("features", rows)):
            file[name] = values
            file[name].attrs["checksum"] = np.uint64(checksum(values))
        file["features"].attrs["axes"] = "picture, token (row by row), width"
        if dtype != "float32":
            file["features"].attrs["dtype"] = dtype
        for key in ("name", "revision", "preprocessing", "licence", "grid"):
            file.attrs[key] = getattr(encoder, key)
        file.attrs["tokens"] = rows.shape[1]
