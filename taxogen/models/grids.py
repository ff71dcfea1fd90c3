"""Grids of encoder tokens; no torch, so that a config can be checked against them."""

from __future__ import annotations

import math


def joined_side(encoder_tokens: int, image_tokens: int, projector: str) -> int:
    """How many encoder tokens, across and down, go into each image token; 1 for a token each.

    >>> joined_side(36, 9, "gelu-mlp")
    2

    Raises:
        ValueError: the tokens of a square grid cannot be joined so.
    """
    grid = math.isqrt(encoder_tokens)
    known = {encoder_tokens: 1}
    if grid * grid == encoder_tokens:
        known |= {(grid // side) ** 2: side for side in range(1, grid + 1) if grid % side == 0}
    if image_tokens not in known:
        raise ValueError(
            f"model.image_tokens={image_tokens} was asked for with model.encoder_tokens={encoder_tokens}; "
            f"model.projector={projector} maps each encoder token, which gives one of {str(sorted(known))[1:-1]} image "
            "tokens: change one of the three (a flat-… projector gives any number)"
        )
    return known[image_tokens]
