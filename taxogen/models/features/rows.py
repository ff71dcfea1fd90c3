"""FeatureRows: features of pictures of which only the rows asked for are read, standardised where they are to be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from taxogen.models.features.pooling import Features
from taxogen.models.features.shards import Shard

PART = 2**26
"""Bytes of the rows, as float32, that are worked on at a time where all are read one after the other."""


class Source(Protocol):
    """Where rows come from."""

    @property
    def shape(self) -> tuple[int, int]:
        """Tokens and width of a row."""
        ...

    def read(self, rows: Int[np.ndarray, " n"]) -> Features:
        """These rows as float32, in an array of their own."""
        ...


@dataclass(frozen=True, eq=False)
class Held:
    """Rows in memory."""

    values: Features

    @property
    def shape(self) -> tuple[int, int]:
        """Tokens and width of a row."""
        return self.values.shape[1], self.values.shape[2]

    def read(self, rows: Int[np.ndarray, " n"]) -> Features:
        """These rows."""
        return self.values[rows]


@dataclass(frozen=True, eq=False)
class Cached:
    """Rows in files of the cache.

    Attributes:
        shards: the files.
        at: shard and row in it, of each row.
        shape: tokens and width of a row.
    """

    shards: Sequence[Shard]
    at: Int[np.ndarray, "n 2"]
    shape: tuple[int, int]

    def read(self, rows: Int[np.ndarray, " n"]) -> Features:
        """These rows, from the disk.

        Raises:
            CorruptShardError: a file became shorter.
        """
        number, row = self.at[rows].T
        values = np.empty((len(rows), *self.shape), np.float32)
        for one in np.unique(number):
            own = number == one
            values[own] = self.shards[one].read(row[own])
        return values


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Features of pictures, a row each; what is not asked for is not in memory, unless all of it is little.

    >>> rows = FeatureRows.of(np.arange(12, dtype=np.float32).reshape(3, 2, 2))
    >>> rows[[2, 0]]
    tensor([[[ 8.,  9.],
             [10., 11.]],
    <BLANKLINE>
            [[ 0.,  1.],
             [ 2.,  3.]]])

    Attributes:
        source: where they come from.
        index: of each row, its row in `source`.
        standardiser: applied to what is read, or None.
    """

    source: Source
    index: Int[np.ndarray, " n"]
    standardiser: PictureStandardizer | None = None

    @classmethod
    def of(cls, values: Features) -> FeatureRows:
        """Those of an array, float32."""
        return cls(Held(values), np.arange(len(values)))

    @classmethod
    def in_shards(
        cls, shards: Sequence[Shard], contents: Sequence[str], shape: tuple[int, int]
    ) -> FeatureRows:
        """Those of the pictures of these content hashes, each of which is in one of the shards."""
        places = {
            content: (number, row)
            for number, shard in enumerate(shards)
            for row, content in enumerate(shard.hashes)
        }
        at = np.array([places[content] for content in contents], dtype=np.int64).reshape(-1, 2)
        return cls(Cached(shards, at, shape), np.arange(len(at)))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Pictures, tokens and width."""
        return len(self.index), *self.source.shape

    @property
    def nbytes(self) -> int:
        """The memory that all of them take as float32."""
        pictures, tokens, width = self.shape
        return pictures * tokens * width * 4

    def __getitem__(self, rows: Sequence[int]) -> Float[Tensor, "n tokens width"]:
        # Copied to where torch aligns its memory: the last bits of MKL's products depend on that.
        return torch.from_numpy(self._read(np.asarray(rows, dtype=np.int64))).clone()

    def take(self, rows: Int[np.ndarray, " n"]) -> FeatureRows:
        """Some of the rows; none is read yet."""
        return replace(self, index=self.index[rows])

    def parts(self, size: int | None = None) -> Iterator[Features]:
        """All rows in their order, `size` at a time or as many as 64 MiB hold."""
        size = size or max(1, PART * len(self) // max(1, self.nbytes))
        for start in range(0, len(self), size):
            yield self._read(np.arange(start, min(start + size, len(self))))

    def numpy(self) -> Features:
        """All of them in memory; for few pictures."""
        return self._read(np.arange(len(self)))

    def _read(self, rows: Int[np.ndarray, " n"]) -> Features:
        values = self.source.read(self.index[rows])
        return values if self.standardiser is None else self.standardiser(values)


PictureFeatures = Tensor | FeatureRows
"""Features of pictures, [pictures, tokens, width], that are indexed by a list of rows."""


@dataclass(frozen=True)
class PictureStandardizer:
    """Mean and standard deviation of every encoder feature over training pictures and their tokens, in float32.

    The projector's input. It is coarser than `probing.probes.fitted.Standardizer`, which takes rows in float64: a
    feature whose float32 values differ by rounding alone counts as constant.

    Attributes:
        mean: Per feature.
        scale: Standard deviation; 1 where a feature is constant.
    """

    mean: Float[np.ndarray, " width"]
    scale: Float[np.ndarray, " width"]

    @classmethod
    def fit(cls, training: FeatureRows) -> PictureStandardizer:
        """The standardiser of training features, which are read twice; never show it a test picture.

        Raises:
            ValueError: Fewer than two rows.
        """
        if len(training) < 2:
            raise ValueError(f"A standardiser needs at least 2 training pictures; {len(training)} given")
        tokens = len(training) * training.shape[1]
        mean = _sum(training) / tokens
        deviation = np.sqrt(_sum(training, about=mean) / tokens)
        constant = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
        return cls(mean.astype(np.float32), np.where(constant, 1.0, deviation).astype(np.float32))

    def __call__(self, values: Features) -> Features:
        """The same features with the training pictures' mean 0 and standard deviation 1."""
        return (values - self.mean) / self.scale


def _sum(rows: FeatureRows, about: Float[np.ndarray, " width"] | None = None) -> Float[np.ndarray, " width"]:
    """The sum over pictures and tokens of every feature, or of its squared distances from `about`.

    Token after token is added in float64, as numpy does over the first axis of an array: no bit depends on the parts.
    """
    total = np.zeros(rows.shape[2])
    for part in rows.parts():
        tokens = part.reshape(-1, part.shape[-1]).astype(np.float64)
        if about is not None:
            tokens -= about
            np.multiply(tokens, tokens, out=tokens)
        tokens[0] += total
        total = tokens.sum(0)
    return total
