"""Vision transformers by hub name or path: DINOv2 (with registers), SigLIP and SigLIP 2, CLIP, ViT."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from probing.hooks.provenance import weight_hash
from taxogen.models import weights
from taxogen.models.encoders.encoder import Batch, Encoder, Features, Pixels

EMBEDDED = "efficientnet-lite2"
"""The encoder that needs no hub."""
BLANK = Image.new("RGB", (64, 64))


def load(name: str, device: str = "cpu") -> Encoder:
    """A transformers vision model as an encoder of patch tokens.

    Args:
        name: Hub name or path, giving the penultimate block; with `#final` behind it, the last block after
            the model's final norm.
        device: Any torch device.

    Raises:
        ValueError: The model has no patches on a fixed grid; or a file of it cannot be read.
        ModuleNotFoundError: A package that its processor needs is not installed.
        MismatchError: The weights are not those of the configuration.
        FileNotFoundError: No such folder, or no hub that gives it.
    """
    layer = name.partition("#")[2]
    if layer not in ("", "final"):
        raise ValueError(
            f"Encoder {name!r} was asked for; behind # only 'final' is known (else: penultimate block)"
        )
    processor, tower = opened(name, device)
    prepare = partial(_prepare, processor, name)
    grid = _grid(tower, prepare(BLANK), name)
    return Encoder(
        name=name,
        revision=weights.text_hash([weight_hash(tower), weights.config_hash(tower.config)])[:16],
        preprocessing=f"{type(processor).__name__}-{weights.text_hash(processor.to_dict())[:12]}",
        licence=weights.licence(name),
        grid=grid,
        width=tower.config.hidden_size,
        prepare=prepare,
        forward=partial(_forward, tower, layer, grid[0] * grid[1], device),
        batch=1 if device == "cpu" else 32,
    )


def opened(name: str, device: str = "cpu") -> tuple[Any, Any]:
    """The image processor and the frozen vision transformer of an encoder; tensors that no feature uses are zero.

    Raises as `load`.
    """
    source = name.partition("#")[0]
    with weights.fetching("image encoder", source, EMBEDDED):
        # The PIL processors need no torchvision and give the same pixels whether or not it is installed.
        processor = AutoImageProcessor.from_pretrained(source, backend="pil")
    model, missing = weights.pretrained(AutoModel, "image encoder", source, EMBEDDED)
    tower: Any = weights.freeze(getattr(model, "vision_model", model)).to(device)
    plain = _prepare(processor, name, BLANK)
    rows, columns = _grid(tower, plain, name)
    # Tested where the last block ends: features before it would not show that a block is missing.
    final = partial(_tokens, tower, "final", rows * columns, device, plain[None])
    if needed := weights.reaching(model, missing, final):
        raise weights.unlike_configuration("image encoder", source, needed, "missing")
    return processor, tower


def _prepare(processor: Any, name: str, picture: Image.Image) -> Pixels:
    pixels = np.asarray(processor(images=picture, return_tensors="np")["pixel_values"][0], dtype=np.float32)
    if pixels.ndim != 3:
        raise ValueError(
            f"Encoder {name!r} cuts every picture into another number of patches (NaFlex); "
            "take a checkpoint of fixed resolution, e.g. google/siglip2-base-patch16-224"
        )
    return pixels


def _grid(tower: Any, pixels: Pixels, name: str) -> tuple[int, int]:
    patch = getattr(tower.config, "patch_size", None)
    if patch is None:
        raise ValueError(
            f"Encoder {name!r} is a {tower.config.model_type} model, which has no patches; take a ViT"
        )
    rows, columns = patch if isinstance(patch, (tuple, list)) else (patch, patch)
    return pixels.shape[1] // rows, pixels.shape[2] // columns


def _forward(tower: Any, layer: str, patches: int, device: str, pixels: Batch) -> Features:
    return _tokens(tower, layer, patches, device, pixels).float().cpu().numpy()


def _tokens(tower: Any, layer: str, patches: int, device: str, pixels: Batch) -> torch.Tensor:
    with torch.inference_mode():
        images = torch.from_numpy(pixels).to(device)
        output = tower(pixel_values=images, output_hidden_states=True)
        tokens = output.last_hidden_state if layer == "final" else output.hidden_states[-2]
        # Class and register tokens, where there are any, come before the patches.
        return tokens[:, tokens.shape[1] - patches :]
