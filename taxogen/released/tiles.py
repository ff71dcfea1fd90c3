"""Where the picture tokens of a released model lie in a picture: its processor's tiles, cut into grids of tokens."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from PIL import Image

from taxogen.models.encoders.origins import Tile, tiles
from taxogen.models.rows import IMAGE
from taxogen.released.vlm import ReleasedVlm


def token_boxes(vlm: ReleasedVlm, picture: int) -> Float[np.ndarray, "tokens 4"]:
    """Left, top, right and bottom of each picture token, in shares of the picture's width and height.

    Known are models whose tiles all have one square grid of tokens, read row by row and tile by tile (LLaVA-1.5,
    SmolVLM and Idefics 3, Gemma 3), and those whose processor names the grid of the whole picture (Qwen-VL).

    Raises:
        ValueError: the tokens have no grid that is known.
    """
    shown = vlm.shown(picture)
    made, tokens = vlm.processed(shown), vlm.slot(picture).count(IMAGE)
    if "image_grid_thw" in made:
        frames, rows, columns = made["image_grid_thw"][0].tolist()
        merged = vlm.released.processor.image_processor.merge_size
        boxes = Tile(0, 0, 1, 1).cells(rows // merged, columns // merged)
        if frames == 1 and len(boxes) == tokens:
            return boxes
        raise _unknown(vlm, f"{tokens} tokens for a grid of {frames} × {rows} × {columns} patches")
    if "image_sizes" in made:
        raise _unknown(vlm, "some tokens are cut off, and some end a line")

    def prepare(image: Image.Image) -> np.ndarray:
        return np.asarray(vlm.processed(image)["pixel_values"].float())

    try:
        found = tiles(prepare, shown.size)
    except ValueError as error:
        raise _unknown(vlm, str(error)) from error
    side = math.isqrt(tokens // len(found))
    if side * side * len(found) != tokens:
        raise _unknown(vlm, f"{tokens} tokens for {len(found)} tiles, which is no square for each")
    return np.concatenate([tile.cells(side, side) for tile in found])


def _unknown(vlm: ReleasedVlm, why: str) -> ValueError:
    return ValueError(
        f"the places of picture tokens of {vlm.lm.name} were asked for; their grid is not known ({why}): maps can be "
        "drawn of LLaVA-1.5, SmolVLM, Gemma 3, Qwen-VL and the like, and of runs with model.projector=gelu-mlp"
    )
