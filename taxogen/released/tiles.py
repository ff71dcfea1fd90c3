"""Where the picture tokens of a released model lie in a picture: its processor's tiles, cut into grids of tokens."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from taxogen.models.encoders.origins import Tile, tiles
from taxogen.models.rows import IMAGE
from taxogen.released.vlm import ReleasedVlm


def token_boxes(vlm: ReleasedVlm, picture: int) -> Float[np.ndarray, "tokens 4"]:
    """Left, top, right and bottom of each picture token, in shares of the picture's width and height.

    Known are models whose tiles all have one square grid of tokens, read row by row and tile by tile (LLaVA-1.5,
    SmolVLM and Idefics 3, Gemma 3), those whose processor names the grid of the whole picture (Qwen-VL) or the size to
    which it is brought (Pixtral, Mistral 3), and LLaVA-NeXT and LLaVA-OneVision: the whole picture first, then the rows
    of all tiles joined, without those that are margin alone. There a token ends each row, which has a place without
    width.

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

    def prepare(image: Image.Image) -> np.ndarray:
        return np.asarray(vlm.processed(image)["pixel_values"].float())

    try:
        found = tiles(prepare, shown.size)
    except ValueError as error:
        raise _unknown(vlm, str(error)) from error
    if "image_sizes" in made:
        height, width = made["image_sizes"][0].tolist()
        boxes = (
            _joined(found, vlm, (height, width)) if len(found) > 1 else _sized(found[0], vlm, (height, width))
        )
        if len(boxes) == tokens:
            return boxes
        raise _unknown(
            vlm, f"{tokens} tokens for {len(found)} tiles of a picture of {width} × {height} pixels"
        )
    side = math.isqrt(tokens // len(found))
    if side * side * len(found) != tokens:
        raise _unknown(vlm, f"{tokens} tokens for {len(found)} tiles, which is no square for each")
    return np.concatenate([tile.cells(side, side) for tile in found])


def _sized(tile: Tile, vlm: ReleasedVlm, size: tuple[int, int]) -> Float[np.ndarray, "tokens 4"]:
    """The grid of a picture that was brought to a size of whole patches."""
    processor = vlm.released.processor
    patch = processor.patch_size * getattr(processor, "spatial_merge_size", 1)
    return tile.cells(size[0] // patch, size[1] // patch)


def _joined(found: list[Tile], vlm: ReleasedVlm, size: tuple[int, int]) -> Float[np.ndarray, "tokens 4"]:
    """The whole picture, then the rows of all tiles without margins, each with what ends it."""
    from transformers.models.llava_next.modeling_llava_next import unpad_image  # of these models alone

    config = vlm.released.model.config
    if config.model_type not in ("llava_next", "llava_onevision"):
        raise _unknown(vlm, f"how {config.model_type} joins {len(found)} tiles")
    pixels, patch = config.vision_config.image_size, config.vision_config.patch_size
    side = pixels // patch
    seen = side * patch / pixels  # whole patches leave the last pixels of a tile out
    every = np.stack([_from_its_corner(tile, seen).cells(side, side) for tile in found])
    parts = found[1:]
    across = sum(abs(part.top - parts[0].top) < 0.5 * (part.bottom - part.top) for part in parts)
    grid = every[1:].reshape(-1, across, side, side, 4).transpose(0, 2, 1, 3, 4).reshape(-1, across * side, 4)
    kept = unpad_image(torch.tensor(grid).permute(2, 0, 1), size).permute(1, 2, 0).numpy()
    if config.model_type == "llava_onevision":
        kept = _fewer(kept, int(config.vision_aspect_ratio.removeprefix("anyres_max_")) * side**2)
    ends = kept[:, -1:, [2, 1, 2, 3]]
    return np.concatenate([every[0], np.concatenate([kept, ends], axis=1).reshape(-1, 4)])


def _from_its_corner(tile: Tile, share: float) -> Tile:
    """The upper left part of a tile, of a share of its width and of its height."""
    width, height = tile.right - tile.left, tile.bottom - tile.top
    return Tile(tile.left, tile.top, tile.left + share * width, tile.top + share * height)


def _fewer(kept: Float[np.ndarray, "rows columns 4"], most: int) -> Float[np.ndarray, "rows columns 4"]:
    """The even grid to which LLaVA-OneVision brings one of clearly more tokens than the most that it takes."""
    rows, columns, _ = kept.shape
    ratio = math.sqrt(rows * columns / most)
    if ratio <= 1.1:
        return kept
    rows, columns = int(rows // ratio), int(columns // ratio)
    return Tile(*kept[0, 0, :2], *kept[-1, -1, 2:]).cells(rows, columns).reshape(rows, columns, 4)


def _unknown(vlm: ReleasedVlm, why: str) -> ValueError:
    return ValueError(
        f"the places of picture tokens of {vlm.lm.name} were asked for; their grid is not known ({why}): maps can be "
        "drawn of LLaVA-1.5, LLaVA-NeXT, LLaVA-OneVision, SmolVLM, Gemma 3, Qwen-VL, Pixtral and the like, and of runs "
        "with model.projector=gelu-mlp"
    )
