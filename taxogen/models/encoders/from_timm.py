"""Any encoder of the timm library, behind the `timm` extra."""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from probing.hooks.provenance import weight_hash
from taxogen.models import weights
from taxogen.models.encoders.encoder import Batch, Encoder, Features, Pixels, squashed_pixels


def load(name: str, device: str = "cpu") -> Encoder:
    """A timm model as an encoder: a transformer's penultimate block, a convolutional net's last stage.

    Args:
        name: `timm:` and a timm model name, e.g. `timm:vit_small_patch14_dinov2.lvd142m`, giving pictures as that
            model's own transform does; with `#224` behind it, the model for 224 × 224 pixels, to which pictures
            are squashed whatever their shape.
        device: Any torch device.

    Raises:
        ValueError: The size behind # is no number; or the model takes no other size.
        FileNotFoundError: timm is not installed, or its weights cannot be fetched.
    """
    source, mark, size = name.removeprefix("timm:").partition("#")
    if mark and not (size.isascii() and size.isdigit() and int(size) > 0):
        raise ValueError(
            f"Encoder {name!r} was asked for; behind # a timm model takes a size in pixels: #224"
        )
    if not _installed():
        raise FileNotFoundError(
            f"Encoder {name!r} needs timm, which is not installed. Run: pip install 'taxoprobe[timm]'"
        )
    import timm  # pyright: ignore[reportMissingImports]

    with weights.fetching("image encoder", name, embedded="efficientnet-lite2"):
        sized = {"img_size": int(size)} if size else {}
        model: Any = timm.create_model(source, pretrained=True, **sized)
    model = weights.freeze(model).to(device)
    settings = timm.data.resolve_model_data_config(model)
    if size:
        mean, std = ([255 * value for value in settings[key]] for key in ("mean", "std"))
        prepare = partial(squashed_pixels, side=int(size), mean=mean, std=std)
        preprocessing = f"squash-{size}-bicubic-{weights.text_hash([mean, std])[:12]}"
    else:
        prepare = partial(_prepare, timm.data.create_transform(**settings, is_training=False))
        preprocessing = f"timm-{weights.text_hash(settings)[:12]}"
    block = -2 if hasattr(model, "blocks") else -1
    maps = _maps(model, block, device, np.stack([prepare(Image.new("RGB", (64, 64)))]))
    return Encoder(
        name=name,
        revision=weight_hash(model)[:16],
        preprocessing=preprocessing,
        licence=str(model.pretrained_cfg.get("license") or f"see the model card of {name}"),
        grid=(maps.shape[2], maps.shape[3]),
        width=maps.shape[1],
        prepare=prepare,
        forward=partial(_forward, model, block, device),
        batch=1 if device == "cpu" else 32,
    )


def _installed() -> bool:
    return importlib.util.find_spec("timm") is not None


def _prepare(transform: Any, picture: Image.Image) -> Pixels:
    return np.asarray(transform(picture), dtype=np.float32)


def _maps(model: Any, block: int, device: str, pixels: Batch) -> torch.Tensor:
    with torch.inference_mode():
        images = torch.from_numpy(pixels).to(device)
        return model.forward_intermediates(
            images, indices=[block], intermediates_only=True, output_fmt="NCHW"
        )[0]


def _forward(model: Any, block: int, device: str, pixels: Batch) -> Features:
    return _maps(model, block, device, pixels).flatten(2).transpose(1, 2).float().cpu().numpy()
