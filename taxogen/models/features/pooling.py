"""Pooling: an encoder's grid averaged to fewer tokens."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

Features = Float[np.ndarray, "n tokens width"]


def pool(values: Features, grid: tuple[int, int], tokens: int) -> Features:
    """Features averaged over the cells of a coarser grid of `tokens` cells.

    Where the grid does not divide evenly, neighbouring cells overlap, as in torch's adaptive average pooling.
    """
    rows, columns = bins(grid, tokens)
    maps = values.reshape(len(values), *grid, values.shape[-1])
    cells = [maps[:, top:bottom, left:right].mean((1, 2)) for top, bottom in rows for left, right in columns]
    return np.stack(cells, axis=1, dtype=np.float32)


def bins(grid: tuple[int, int], tokens: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Row ranges and column ranges of `grid` that make `tokens` cells.

    Raises:
        ValueError: `tokens` is neither the whole grid nor a square that fits into it.
    """
    side = math.isqrt(max(tokens, 0))
    counts = grid if tokens == grid[0] * grid[1] else (side, side)
    if tokens < 1 or counts[0] * counts[1] != tokens or side > min(grid):
        known = sorted({n * n for n in range(1, min(grid) + 1)} | {grid[0] * grid[1]})
        raise ValueError(
            f"tokens={tokens} was asked for; a grid of {grid[0]} × {grid[1]} gives one of {str(known)[1:-1]}"
        )
    rows, columns = (
        [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        for size, count in zip(grid, counts, strict=True)
    )
    return rows, columns
