"""Where a run's picture tokens lie in a picture, and how much of each lies on the object."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import label, map_coordinates

from analyses.inputs.subject import Subject
from probing.store import MismatchError
from taxogen.models import encoders
from taxogen.models.encoders.origins import tiles
from taxogen.models.features import bins
from taxogen.models.grids import joined_side
from taxogen.models.projectors import FLAT
from taxogen.released.tiles import token_boxes as released_boxes
from taxogen.released.vlm import ReleasedVlm
from taxogen.runs.run import Run
from taxogen.world.picture_files import opacity
from taxogen.world.pictures import BUNDLED

Boxes = Float[np.ndarray, "tokens 4"]
"""Left, top, right and bottom of each token, in shares of the picture's width and height; beyond [0, 1] in margins."""
OBJECT = 0.5
"""The opacity from which a pixel is part of the object."""
WHITE = 248
"""The value from which each channel of a pixel is white, after lossy compression."""


def check(run: Run, placebo: Run | None = None) -> None:
    """Refuses a run whose picture tokens have no place in the picture, and a placebo run with another grid.

    Raises:
        ValueError: the projector takes all patches of a picture as one vector, or there is one patch.
        MismatchError: the placebo run cuts pictures otherwise.
    """
    model = run.config.model
    if not model.vlm and (model.projector.startswith(FLAT) or model.image_tokens < 2):
        raise ValueError(
            f"{run.path} has model.projector={model.projector} with {model.encoder_tokens} encoder tokens: its "
            f"{model.image_tokens} image tokens have no place in the picture; train with --set "
            "model.projector=gelu-mlp --set model.encoder_tokens=16 --set model.image_tokens=16 (or more, in squares)"
        )
    if placebo is None:
        return
    for name in ("vlm", "encoder", "projector", "encoder_tokens", "image_tokens"):
        first, second = (getattr(one.config.model, name) for one in (run, placebo))
        if first != second:
            raise MismatchError(
                f"{placebo.path} has model.{name}={second}, {run.path} {first}; a placebo run cuts pictures alike"
            )


def boxes_of(subject: Subject, picture: str) -> Boxes:
    """The place of each image token of a picture.

    Cells of a grid share the encoder's view of a picture evenly; where neighbours are averaged or joined to one token,
    it has the place of all of them, so that tokens overlap where a grid does not divide evenly.

    Raises:
        ValueError: it is not known where they lie.
    """
    vlm = subject.bench.vlm
    if isinstance(vlm, ReleasedVlm):
        return released_boxes(vlm, subject.bench.picture_index[picture])
    model = subject.run.config.model
    encoder = _encoder(model.encoder)
    (tile,) = tiles(encoder.prepare, subject.bench.world.pictures.open(picture).size)
    rows, columns = encoder.grid
    cells = tile.cells(rows, columns).reshape(rows, columns, 4)
    pooled = bins(encoder.grid, model.encoder_tokens)
    side = joined_side(model.encoder_tokens, model.image_tokens, model.projector)
    down, across = ([(some[0][0], some[-1][1]) for some in _joined(one, side)] for one in pooled)
    return np.array(
        [
            [*cells[top, left, :2], *cells[bottom - 1, right - 1, 2:]]
            for top, bottom in down
            for left, right in across
        ]
    )


@cache
def _encoder(name: str) -> encoders.Encoder:
    return encoders.load(name)


def _joined(ranges: list[tuple[int, int]], side: int) -> list[list[tuple[int, int]]]:
    return [ranges[first : first + side] for first in range(0, len(ranges), side)]


def inside_of(subject: Subject, picture: str, boxes: Boxes) -> Float[np.ndarray, " tokens"]:
    """The share of each token's place that is the object; NaN where it is not known.

    The object of a picture with transparency is what is opaque; of a bundled pictogram, which stands on white, all but
    the white that reaches its edge. Of other pictures without transparency nothing is known.
    """
    collection = subject.bench.world.pictures
    alpha = opacity(collection.read(picture))
    shape = None if alpha is None else alpha >= OBJECT
    if shape is None and collection.name in BUNDLED:
        shape = off_white(np.asarray(collection.open(picture)))
    return np.full(len(boxes), np.nan) if shape is None or shape.all() else inside(shape, boxes)


def off_white(pixels: Int[np.ndarray, "height width 3"]) -> Bool[np.ndarray, "height width"]:
    """What stands on a white ground: all pixels but the white ones that are joined to the edge of the picture.

    >>> ring = np.full((5, 5, 3), 255)
    >>> ring[1:4, 1:4] = 0
    >>> ring[2, 2] = 255  # white inside the object
    >>> int(off_white(ring).sum())
    9
    """
    white = (pixels >= WHITE).all(-1)
    joined = np.empty(np.add(white.shape, 2), np.int32)
    label(np.pad(white, 1, constant_values=True), output=joined)
    return (joined != joined[0, 0])[1:-1, 1:-1]


def inside(shape: np.ndarray, boxes: Boxes) -> Float[np.ndarray, " tokens"]:
    """The share of each box that lies on a shape [height, width] of true pixels; what lies outside the picture is not.

    A box without an area, as of a token that ends a row, lies on nothing: 0.

    >>> shape = np.array([[True, False], [False, False]])
    >>> inside(shape, np.array([[0, 0, 1, 1], [0, 0, 0.5, 0.5], [-0.5, 0, 0.5, 0.5], [0.25, 0.25, 0.75, 0.75]]))
    array([0.25, 1.  , 0.5 , 0.25])
    """
    height, width = shape.shape
    total = np.pad(shape.astype(float).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    left, top, right, bottom = np.clip(boxes, 0, 1).T

    def upto(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return map_coordinates(total, [y * height, x * width], order=1)  # exact between corners of pixels

    on = upto(right, bottom) - upto(left, bottom) - upto(right, top) + upto(left, top)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) * height * width
    return np.divide(on, area, out=np.zeros_like(on), where=area > 0)
