"""Where in a picture the pixels come from that an encoder sees: its own processing of pictures, asked with ramps.

A picture whose values grow from left to right, and one whose values grow downwards, go through the same function as
every picture does. What comes out says where each pixel was, whatever was resized, squashed, cropped, padded or cut
into tiles on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image

Prepare = Callable[[Image.Image], np.ndarray]
"""A picture to the pixels of one tile or several, [*tiles, 3, height, width]."""
_STRAIGHT = 0.02
"""How far, as a share of the picture, a pixel may be from the straight line that the others of its tile lie on."""


@dataclass(frozen=True)
class Tile:
    """The part of a picture that a tile shows, in shares of the picture's width and height.

    Attributes:
        left: of its first column of pixels; below 0 where the tile has a margin that is no part of the picture.
        top: of its first row.
        right: behind its last column.
        bottom: behind its last row.
    """

    left: float
    top: float
    right: float
    bottom: float

    def cells(self, rows: int, columns: int) -> Float[np.ndarray, "cells 4"]:
        """Left, top, right and bottom of the cells of an even grid over the tile, row by row."""
        x = np.linspace(self.left, self.right, columns + 1)
        y = np.linspace(self.top, self.bottom, rows + 1)
        return np.array(
            [[x[c], y[r], x[c + 1], y[r + 1]] for r in range(rows) for c in range(columns)], np.float64
        )


def tiles(prepare: Prepare, size: tuple[int, int]) -> list[Tile]:
    """The tiles into which pictures of this size, width and height in pixels, are made.

    Raises:
        ValueError: what the processing does to a picture is no resizing, cropping, padding or tiling.
    """
    black, white = (_pixels(prepare, np.full((size[1], size[0]), value)) for value in (0, 255))
    shown = np.abs(white - black) > 0.5 * np.abs(white - black).max()
    x, y = np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1])
    # A ramp's value at the middle of a pixel; its own ends lie half a pixel further out.
    ramps = (np.broadcast_to(x[None], (size[1], size[0])), np.broadcast_to(y[:, None], (size[1], size[0])))
    values = []
    for ramp, pixels in zip(ramps, size):
        made = _pixels(prepare, ramp)
        share = np.where(shown, (made - black) / np.where(shown, white - black, 1), np.nan)
        values.append((share * (pixels - 1) + 0.5) / pixels)
    found = []
    for across, down in zip(*values):
        (left, right), (top, bottom) = _line(across, size[0]), _line(down.T, size[1])
        found.append(Tile(left, top, right, bottom))
    return found


def _pixels(prepare: Prepare, values: np.ndarray) -> Float[np.ndarray, "tiles height width"]:
    """The first channel of a grey picture behind the processing."""
    grey = Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB")
    made = np.asarray(prepare(grey), np.float64)
    if made.ndim < 3 or made.shape[-3] != 3:
        raise ValueError(
            f"pictures are made into values of shape {made.shape}, not into tiles [3, height, width]: where their "
            "pixels come from is not known"
        )
    return made.reshape(-1, *made.shape[-3:])[:, 0]


def _line(places: Float[np.ndarray, "lines pixels"], size: int) -> tuple[float, float]:
    """Where the first pixel of each line begins and the last ends, from the places of the middles that are known.

    The outermost pixels of the picture are left out where there are others: a resized ramp is bent there.
    """
    known = np.isfinite(places)
    lines = known.any(1)
    if not lines.any():
        raise ValueError("a tile shows nothing of the picture")
    counts = known[lines].sum(0)
    means = np.where(known, places, 0)[lines].sum(0) / np.maximum(counts, 1)
    at = np.flatnonzero(counts > 0)
    inner = at[(means[at] > 1.5 / size + 0.01) & (means[at] < 1 - 1.5 / size - 0.01)]
    if len(inner) < 2:
        inner = at
    if len(inner) < 2:
        raise ValueError("a tile is one pixel wide: where it lies in the picture is not known")
    step, start = np.polyfit(inner, means[inner], 1)
    if np.abs(means[inner] - (start + step * inner)).max() > _STRAIGHT or step <= 0:
        raise ValueError(
            "the processing of pictures moves pixels otherwise than by resizing, cropping, padding and tiling"
        )
    return float(start - 0.5 * step), float(start + (places.shape[1] - 0.5) * step)
