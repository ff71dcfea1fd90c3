"""AskedTokens: which (row, position) pairs of a batch leave the device, and how they become stored rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probing.capture.padding import Part
from probing.sites import PATTERN, Site

#: Attention patterns reach over as many keys as the longest sequence; widths are rounded up to this step.
KEY_STEP = 16


@dataclass(frozen=True)
class AskedTokens:
    """The asked tokens of one batch, span after span and row after row.

    Attributes:
        rows: the batch row of each token.
        positions: its place in the whole sequence, counting padding and the shared prefix.
        counts: span → how many tokens of each batch row were asked.
        pooling: span → how they are pooled.
        offset: length of the prefix that is in the cache; earlier positions are taken from its own pass.
        prefix_rows: for each batch row, the row of the prefix that it continues.
        real: whether each position of the whole sequence is a token, not padding; None if all are.
        length: how many positions the whole sequence has.
    """

    rows: Int[np.ndarray, "tokens"]
    positions: Int[np.ndarray, "tokens"]
    counts: Mapping[str, Int[np.ndarray, "batch"]]
    pooling: Mapping[str, str]
    offset: int
    prefix_rows: Int[np.ndarray, "batch"]
    real: Bool[np.ndarray, "batch length"] | None
    length: int

    @classmethod
    def of(
        cls,
        spans: Mapping[str, Sequence[Sequence[int]]],
        pooling: Mapping[str, str],
        *,
        length: int,
        offset: int = 0,
        prefix_rows: Sequence[int] | None = None,
        real: Bool[np.ndarray, "batch length"] | None = None,
    ) -> AskedTokens:
        """The tokens that the spans of a batch ask for.

        Raises:
            ValueError: the spans are not those of the capture, one is empty, lies outside the sequence, or
                touches padding.
        """
        if set(spans) != set(pooling):
            raise ValueError(
                f"every batch needs the spans {', '.join(pooling)}; this one has {', '.join(spans)}"
            )
        rows: list[int] = []
        positions: list[int] = []
        counts: dict[str, np.ndarray] = {}
        batch = len(next(iter(spans.values())))
        for span, kind in pooling.items():
            chosen = [list(places)[-1:] if kind == "last" else list(places) for places in spans[span]]
            counts[span] = np.array([len(places) for places in chosen])
            if kind != "all" and not counts[span].all():
                row = int(np.argmin(counts[span]))
                raise ValueError(
                    f"span {span!r} is empty in row {row} of a batch; a pooled span needs a token"
                )
            for row, places in enumerate(chosen):
                rows += [row] * len(places)
                positions += places
        numbers = np.array(positions, dtype=np.int64)
        if not numbers.size:
            raise ValueError(f"no row of a batch has a token in any of the spans {', '.join(spans)}")
        if not (numbers.min() >= 0 and numbers.max() < length):
            raise ValueError(
                f"spans reach positions {numbers.min()} to {numbers.max()}; the sequence has {length}"
            )
        tokens = cls(
            rows=np.array(rows, dtype=np.int64),
            positions=numbers,
            counts=counts,
            pooling=pooling,
            offset=offset,
            prefix_rows=np.array(prefix_rows if prefix_rows is not None else [0] * batch, dtype=np.int64),
            real=real,
            length=length,
        )
        tokens._refuse_padding()
        return tokens

    def _refuse_padding(self) -> None:
        if self.real is None:
            return
        padding = np.flatnonzero(~self.real[self.rows, self.positions])
        if padding.size:
            row, position = self.rows[padding[0]], self.positions[padding[0]]
            raise ValueError(
                f"a span touches padding: row {row}, position {position} of the batch; positions count in "
                "the padded sequence, so left padding shifts them"
            )

    def moved(self, by: Int[np.ndarray, " batch"]) -> AskedTokens:
        """The same tokens where each row behind the prefix was moved to the left, over its padding."""
        behind = self.positions >= self.offset
        real, columns = self.real, np.arange(self.length - self.offset)
        if real is not None:
            order = self.offset + (columns + by[:, None]) % len(columns)
            real = np.concatenate([real[:, : self.offset], np.take_along_axis(real, order, 1)], 1)
        return replace(self, positions=self.positions - np.where(behind, by[self.rows], 0), real=real)

    @property
    def in_prefix(self) -> Int[np.ndarray, "tokens"]:
        """Which of the asked tokens, by index, lie in the prefix."""
        return np.flatnonzero(self.positions < self.offset)

    def in_part(self, part: Part | None) -> Int[np.ndarray, "tokens"]:
        """Which of the asked tokens, by index, lie behind the prefix in rows of the part; None is all rows."""
        behind = self.positions >= self.offset
        return np.flatnonzero(behind if part is None else behind & np.isin(self.rows, part.rows))

    def token_positions(self) -> dict[str, list[Int[np.ndarray, "tokens"]]]:
        """Span → for each row the positions of its tokens in the row's sequence without padding."""
        places = self.positions
        if self.real is not None and places.size:
            places = (np.cumsum(self.real, axis=1) - 1)[self.rows, places]
        positions_of: dict[str, list[np.ndarray]] = {}
        start = 0
        for span, counts in self.counts.items():
            ends = start + np.cumsum(counts)
            positions_of[span] = [places[end - count : end] for end, count in zip(ends, counts)]
            start += int(counts.sum())
        return positions_of

    def take_prefix(self, device: torch.device) -> Callable[[Site, Tensor], Tensor]:
        """A function that keeps the asked tokens of the prefix's own forward pass."""
        inside = self.in_prefix
        places = (self.prefix_rows[self.rows[inside]], self.positions[inside])
        return self._take(places, (0, self.offset), device, real=None)

    def take_rest(self, device: torch.device, part: Part | None = None) -> Callable[[Site, Tensor], Tensor]:
        """A function that keeps the asked tokens of the forward pass of a part (of all rows) behind the prefix."""
        inside = self.in_part(part)
        rows, positions = self.rows[inside], self.positions[inside]
        real = None if self.real is None else self.real[rows]
        if part is None:
            places = (rows, positions - self.offset)
            return self._take(places, (self.offset, self.length - self.offset), device, real=real)
        columns = np.r_[: self.offset, part.start : part.stop]
        real = None if real is None else real[:, columns]
        places = (np.searchsorted(part.rows, rows), positions - part.start)
        return self._take(places, (self.offset, part.stop - part.start), device, real=real)

    def _take(
        self,
        places: tuple[Int[np.ndarray, "tokens"], Int[np.ndarray, "tokens"]],
        lengths: tuple[int, int],
        device: torch.device,
        real: Bool[np.ndarray, "tokens length"] | None,
    ) -> Callable[[Site, Tensor], Tensor]:
        """A function that keeps the values at (rows, positions) of a pass; lengths: positions before it, and in it."""
        row, position = (torch.from_numpy(numbers).to(device) for numbers in places)
        before, inside = lengths
        keys = (
            None
            if real is None or real.all()
            else torch.from_numpy(np.argsort(~real, axis=1, kind="stable")).to(device)
        )

        def take(site: Site, value: Tensor) -> Tensor:
            if value.shape[2 if site.point == PATTERN else 1] != inside:
                raise ValueError(
                    f"{site} has the shape {tuple(value.shape)} in a pass over {inside} positions: the model adds "
                    "tokens or takes some away inside (prompt tuning, pictures that it expands itself), so that spans "
                    "would name others; give it the sequence that it ends with"
                )
            if site.point != PATTERN:
                return value[row, position]
            pattern = value.transpose(1, 2)[row, position]
            outside = before + value.shape[2] - value.shape[3]  # keys that a sliding window has let go of
            pattern = torch.nn.functional.pad(pattern, (max(outside, 0), 0))
            if keys is not None:
                pattern = pattern.gather(2, keys[:, None].expand_as(pattern))
            return torch.nn.functional.pad(pattern, (0, -pattern.shape[-1] % KEY_STEP))

        return take

    def pool(self, taken: Sequence[tuple[Int[np.ndarray, "tokens"], Tensor]]) -> dict[str, Tensor]:
        """Span → its rows, from the values of each pass and the indices of their tokens."""
        pooled: dict[str, Tensor] = {}
        start = 0
        for span, counts in self.counts.items():
            stop = start + int(counts.sum())
            values = _between(taken, start, stop)
            pooled[span] = _mean(values, counts) if self.pooling[span] == "mean" else values
            start = stop
        return pooled


def _between(taken: Sequence[tuple[Int[np.ndarray, "tokens"], Tensor]], start: int, stop: int) -> Tensor:
    """The values of the asked tokens from start to before stop, whichever pass took them."""
    pieces: list[tuple[np.ndarray, Tensor]] = []
    for tokens, values in taken:
        first, last = np.searchsorted(tokens, [start, stop])
        if first < last or stop == start:
            pieces.append((tokens[first:last] - start, values[first:last]))
    if len(pieces) == 1:
        return pieces[0][1]
    widest = [max(widths) for widths in zip(*(values.shape[1:] for _, values in pieces))]
    whole = pieces[0][1].new_zeros(stop - start, *widest)
    for tokens, values in pieces:
        whole[(torch.from_numpy(tokens).to(values.device), *map(slice, values.shape[1:]))] = values
    return whole


def _mean(values: Float[Tensor, "tokens ..."], counts: Int[np.ndarray, "rows"]) -> Float[Tensor, "rows ..."]:
    """The mean of each row's tokens in float32, in an order that does not depend on the device."""
    if (counts == 1).all():
        return values
    values = values.float()
    if (counts == counts[0]).all():
        return values.unflatten(0, (len(counts), int(counts[0]))).mean(1)
    places = (
        np.minimum(np.arange(counts.max())[None], counts[:, None] - 1) + (np.cumsum(counts) - counts)[:, None]
    )
    inside = torch.from_numpy(np.arange(counts.max())[None] < counts[:, None]).to(values)
    inside = inside.reshape(*inside.shape, *[1] * (values.ndim - 1))
    total = (values[torch.from_numpy(places).to(values.device)] * inside).sum(1)
    return total / torch.from_numpy(counts).to(values).reshape(-1, *[1] * (values.ndim - 1))
