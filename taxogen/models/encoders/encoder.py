"""Encoder: a frozen image encoder as two functions (picture to pixels, pixels to features) and its origin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

Pixels = Float[np.ndarray, "3 height width"]
Batch = Float[np.ndarray, "n 3 height width"]
Features = Float[np.ndarray, "n tokens width"]
IDENTITY = ("name", "revision", "preprocessing", "grid", "width")
"""The fields of an encoder that decide its features."""


@dataclass(frozen=True)
class Encoder:
    """A frozen image encoder: pictures to one feature vector per cell of a grid.

    Attributes:
        name: As asked for.
        revision: Start of the SHA-256 of its weights, or of weights and configuration.
        preprocessing: Identity of the processing of a picture before the first layer.
        licence: Of the weights.
        grid: Rows and columns of tokens; tokens run row by row.
        width: Numbers per token.
        prepare: One RGB picture to normalised pixels.
        forward: A batch of pixels to features.
        batch: Pictures per `forward` that suit its device. One on a CPU: its caches are small, threads take a
            picture each, and features do not depend on a picture's neighbours, not even by rounding.
    """

    name: str
    revision: str
    preprocessing: str
    licence: str
    grid: tuple[int, int]
    width: int
    prepare: Callable[[Image.Image], Pixels]
    forward: Callable[[Batch], Features]
    batch: int = 1

    @property
    def tokens(self) -> int:
        """Cells of the grid."""
        return self.grid[0] * self.grid[1]

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that decide the features, as JSON has them."""
        return {name: getattr(self, name) for name in IDENTITY} | {"grid": list(self.grid)}

    def encode(self, pictures: Sequence[Image.Image]) -> Features:
        """Features of RGB pictures, float32.

        Raises:
            ValueError: The features have another shape than promised, or are not all finite.
        """
        features = self.forward(np.stack([self.prepare(picture) for picture in pictures]))
        expected = (len(pictures), self.tokens, self.width)
        if features.shape != expected:
            raise ValueError(
                f"Encoder {self.name!r} promised features {expected} and returned {features.shape}"
            )
        if not np.isfinite(features).all():
            raise ValueError(
                f"Encoder {self.name!r} returned features that are not finite for {len(pictures)} pictures"
            )
        return features.astype(np.float32, copy=False)


def square_pixels(picture: Image.Image, side: int, mean: Sequence[float], std: Sequence[float]) -> Pixels:
    """Pixels of the whole picture on a white square, resized to `side`: (value in [0, 255] − mean) / std."""
    longest = max(picture.size)
    if picture.size != (longest, longest):
        canvas = Image.new("RGB", (longest, longest), "white")
        canvas.paste(picture, ((longest - picture.width) // 2, (longest - picture.height) // 2))
        picture = canvas
    return squashed_pixels(picture, side, mean, std)


def squashed_pixels(picture: Image.Image, side: int, mean: Sequence[float], std: Sequence[float]) -> Pixels:
    """Pixels of the whole picture resized to `side` × `side`, whatever its shape: (value in [0, 255] − mean) / std."""
    resized = picture.resize((side, side), Image.Resampling.BICUBIC)
    values = (np.asarray(resized, dtype=np.float32) - np.asarray(mean, np.float32)) / np.asarray(
        std, np.float32
    )
    return np.ascontiguousarray(values.transpose(2, 0, 1))
