"""Rows of tokens as a batch: one row each, or packed: what rows about one picture share stands once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from taxogen.models.rows import Row


@dataclass(frozen=True)
class Layout:
    """Where the tokens of some rows stand in a batch, behind a prefix that all rows share.

    Attributes:
        ids: token ids with `IMAGE` where image tokens go; padded on the right with 0.
        positions: of each token in its own row, the prefix counted.
        visible: which tokens each token sees, the prefix first; None where it sees all before it.
        pictures: those whose image tokens take the places of `IMAGE`, in order.
        places: for each row the line of the batch, and the columns of the row's tokens behind the prefix.
    """

    ids: Int[Tensor, "lines t"]
    positions: Int[Tensor, "lines t"]
    visible: Bool[Tensor, "lines t prefix_and_t"] | None
    pictures: tuple[int, ...]
    places: tuple[tuple[int, Sequence[int]], ...]


def smallest(rows: Sequence[Row], prefix: int, packs: Callable[[], bool]) -> Layout:
    """The rows packed, where some share a subject and that makes a smaller batch; else a line for each.

    `packs` says whether the language model reads packed rows; it is asked only where some could be.
    """
    apart = one_row_each(rows, prefix)
    if len({(row.picture, row.before_cue.ids) for row in rows}) == len(rows) or not packs():
        return apart
    return min(packed(rows, prefix), apart, key=lambda layout: layout.ids.numel())


def one_row_each(rows: Sequence[Row], prefix: int) -> Layout:
    """A line for each row."""
    width = max(len(row.ids) for row in rows) - prefix
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    for line, row in enumerate(rows):
        ids[line, : len(row.ids) - prefix] = torch.tensor(row.ids[prefix:])
    positions = torch.arange(prefix, prefix + width)[None].expand(len(rows), -1)
    places = tuple((line, range(len(row.ids) - prefix)) for line, row in enumerate(rows))
    pictures = tuple(row.picture for row in rows if row.picture >= 0)
    return Layout(ids, positions, None, pictures, places)


def packed(rows: Sequence[Row], prefix: int) -> Layout:
    """Rows as trees: tokens with which rows about one picture (or one name) begin stand once.

    Each token sees those that lead to it from the start of its row, so that hidden states, and gradients of what is
    shared, are those of separate rows. Lines are as wide as the largest tree; smaller ones stand side by side. Trees of
    tokens in one sequence: Miao et al. 2024 (arXiv:2305.09781), there for speculative decoding.
    """
    trees: dict[tuple[int, tuple[int, ...]], _Tree] = {}
    places = []
    for row in rows:
        tree = trees.setdefault((row.picture, row.ids[: row.spans["cue"][0]]), _Tree(row.picture))
        places.append((tree, tree.add(row.ids[prefix:])))
    lines = _lines(list(trees.values()))
    width = max(sum(len(tree.ids) for tree in line) for line in lines)
    ids = torch.zeros(len(lines), width, dtype=torch.long)
    positions = torch.zeros_like(ids)
    visible = torch.eye(width, dtype=torch.bool).repeat(len(lines), 1, 1)
    starts: dict[int, tuple[int, int]] = {}
    for number, line in enumerate(lines):
        start = 0
        for tree in line:
            starts[id(tree)] = number, start
            own = slice(start, start + len(tree.ids))
            ids[number, own] = torch.tensor(tree.ids)
            positions[number, own] = torch.tensor(tree.depths) + prefix
            visible[number, own, own] = torch.from_numpy(tree.visible())
            start = own.stop
    seen = torch.cat([torch.ones(len(lines), width, prefix, dtype=torch.bool), visible], -1)
    found = ((*starts[id(tree)], columns) for tree, columns in places)
    return Layout(
        ids,
        positions,
        seen,
        tuple(tree.picture for line in lines for tree in line if tree.picture >= 0),
        tuple((line, [start + column for column in columns]) for line, start, columns in found),
    )


def _lines(trees: list[_Tree]) -> list[list[_Tree]]:
    """Trees put side by side, the largest first, each into the first line that has room for it."""
    by_size = sorted(trees, key=lambda tree: -len(tree.ids))
    lines, room = [], []
    for tree in by_size:
        place = next((at for at, left in enumerate(room) if left >= len(tree.ids)), len(lines))
        if place == len(lines):
            lines.append([])
            room.append(len(by_size[0].ids))
        lines[place].append(tree)
        room[place] -= len(tree.ids)
    return lines


class _Tree:
    """Tokens of rows that begin alike; each knows the one before it."""

    def __init__(self, picture: int) -> None:
        self.picture = picture
        self.ids: list[int] = []
        self.depths: list[int] = []
        self.parents: list[int] = []
        self._at: dict[tuple[int, int], int] = {}

    def add(self, row: Sequence[int]) -> list[int]:
        """The places of a row's tokens; those that are not there yet are put at the end."""
        places, before = [], -1
        for depth, token in enumerate(row):
            if (place := self._at.get((before, token))) is None:
                place = self._at[before, token] = len(self.ids)
                self.ids.append(token)
                self.depths.append(depth)
                self.parents.append(before)
            places.append(place)
            before = place
        return places

    def visible(self) -> Bool[np.ndarray, "t t"]:
        """Which tokens each sees: itself and those before it in its rows."""
        seen = np.eye(len(self.ids), dtype=bool)
        for place, before in enumerate(self.parents):
            if before >= 0:
                seen[place, :place] |= seen[before, :place]
        return seen
