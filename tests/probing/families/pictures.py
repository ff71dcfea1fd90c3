"""picture_inputs(): two rows with a tiny random picture each, the second padded on the left, for any VLM.

How a picture is handed over differs by family: whole, in tiles, or as a list of patches with their grid. The ways are
tried until the model's own picture features come out; they tell how many picture tokens a row needs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
import transformers as hf
from torch import Tensor

from tests.probing.families.oracle import Inputs
from tests.probing.families.shrink import VOCABULARY

_WORDS, _PADS, _GRID = 4, 2, 4
_MERGE = torch.tensor([2, 2])


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def _ways(model: Any) -> Iterator[Inputs]:
    """What a model may take for two pictures, from the most to the least usual."""
    config = model.config
    vision = getattr(config, "vision_config", None) or getattr(config, "vq_config", None) or config
    side = getattr(vision, "image_size", 16)
    side = side if isinstance(side, int) else 16
    patch = getattr(vision, "patch_size", 4)
    patch = patch if isinstance(patch, int) else 4
    patches, pixels = _GRID * _GRID, 3 * patch * patch
    frames = getattr(vision, "temporal_patch_size", None) or getattr(vision, "patch_temporal", None) or 1
    grid = torch.tensor([[1, _GRID, _GRID]] * 2)
    sizes = {"image_sizes": torch.tensor([[side, side]] * 2)}
    for square in dict.fromkeys((side, 16, 32, 64)):
        yield {"pixel_values": _noise(2, 3, square, square)}
        yield {"pixel_values": _noise(2, 3, square, square), **sizes}
    for tiles in (1, 2, 3):
        whole = torch.ones(2, tiles, dtype=torch.bool)
        yield {"pixel_values": _noise(2, tiles, 3, side, side), **sizes}
        yield {
            "pixel_values": _noise(2, tiles, 3, side, side),
            "pixel_attention_mask": whole,
            "tile_fine_mask": whole,
        }
    for shape in ((pixels * frames,), (pixels,), (3, patch, patch), (3, frames, patch, patch)):
        flat = _noise(2 * patches, *shape)
        yield {"pixel_values": flat, "image_grid_thw": grid}
        yield {
            "pixel_values": flat,
            "image_grid_thw": grid,
            "image_grid_hw": grid[:, 1:],
            "image_merge_sizes": _MERGE,
        }
        yield {"pixel_values": flat.unflatten(0, (2, -1)), "image_grid_thw": grid}
    places = torch.cartesian_prod(torch.arange(_GRID), torch.arange(_GRID)).expand(2, -1, -1)
    seen = torch.ones(2, patches, dtype=torch.long)
    yield {
        "pixel_values": _noise(2, patches, pixels),
        "pixel_attention_mask": seen,
        "spatial_shapes": grid[:, 1:],
        "image_position_ids": places,
        "target_sizes": grid[:, 1:],
    }
    yield {
        "pixel_values": _noise(2, 1, 4, 3, side, side),
        "aspect_ratio_ids": torch.ones(2, 1, dtype=torch.long),
        "aspect_ratio_mask": torch.ones(2, 1, 4, dtype=torch.long),
    }
    asked = {"qformer_input_ids": torch.ones(2, 3, dtype=torch.long)}
    yield {"pixel_values": _noise(2, 3, side, side), **asked}
    yield {"pixel_values": _noise(2, 3, side, side), "high_res_pixel_values": _noise(2, 3, side, side)}
    yield {
        "pixel_values": _noise(2, 1, 3, side, side),
        "image_attention_mask": torch.ones(2, 2 * _WORDS, 1, dtype=torch.long),
    }
    yield {"pixel_values": _noise(1, 3, patch, 2 * patches * patch), "target_sizes": grid[:, 1:]}


def picture_inputs(model: hf.PreTrainedModel) -> Inputs:
    """Inputs on which the model runs and its logits depend on the pictures.

    Raises:
        ValueError: no way to hand over a picture fits.
    """
    reasons = []
    for way in _ways(model):
        try:
            inputs = _rows(model, _taken(model.forward, way), _tokens_of(model, way))
            return _used(model, inputs)
        except Exception as error:  # the next way may fit
            reasons.append(
                f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
            )
    raise ValueError("; ".join(dict.fromkeys(reasons)))


def _taken(function: Callable[..., Any], values: Inputs) -> Inputs:
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in values.items() if name in parameters}


def _tokens_of(model: Any, way: Inputs) -> int:
    """How many picture tokens a row needs: the picture features of one row, none where blocks read them aside."""
    features = getattr(model, "get_image_features", None)
    features = features or getattr(getattr(model, "model", None), "get_image_features", None)
    if features is None:
        return 0
    parameters = inspect.signature(features).parameters
    given = _taken(model.forward if "kwargs" in parameters else features, way)
    with torch.inference_mode():
        made = features(**given)
    pooled = getattr(made, "pooler_output", made)
    made = made.last_hidden_state if pooled is None else pooled
    width = model.config.get_text_config().hidden_size
    parts = made if isinstance(made, list | tuple) else [made]
    return sum(part.numel() // width for part in parts) // 2


def _image_token(config: Any) -> int:
    for name in (
        "image_token_id",
        "image_token_index",
        "image_patch_id",
        "im_patch_id",
        "media_placeholder_token_id",
    ):
        if isinstance(value := getattr(config, name, None), int):
            return value
    raise ValueError("the config names no image token")


def _rows(model: Any, pictures: Inputs, tokens: int) -> Inputs:
    image = _image_token(model.config) if tokens else 0
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(3, VOCABULARY // 2, (2, 2 * _WORDS), generator=generator)
    ids = torch.cat([words[:, :_WORDS], torch.full((2, tokens), image), words[:, _WORDS:]], dim=1)
    mask = torch.ones_like(ids)
    ids[1, :_PADS], mask[1, :_PADS] = 0, 0
    types = (ids == image).long() if tokens else torch.zeros_like(ids)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types, "mm_token_type_ids": types}
    return {**_taken(model.forward, inputs), **pictures, "use_cache": False}


def _used(model: Any, inputs: Inputs) -> Inputs:
    """The inputs, if other pictures give other logits.

    Raises:
        ValueError: they do not.
    """
    name = next(
        name for name, value in inputs.items() if torch.is_tensor(value) and value.is_floating_point()
    )
    with torch.inference_mode():
        logits = model(**inputs).logits
        other = model(**{**inputs, name: -inputs[name]}).logits
    if torch.equal(logits[:, -1], other[:, -1]):
        raise ValueError("the logits do not depend on the pictures")
    return inputs
