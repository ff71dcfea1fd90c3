"""Settings that a GGUF file declares and transformers leaves at their defaults: put into the configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from taxogen.models.lms.gguf_file import GgufFile

_SAME = {
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
"""Key of the file → name in the configuration, where one that exists takes it as it is."""

_LARGEST_GEMMA = {"gemma2": 46, "gemma3": 62}
"""Blocks of the one model that scales attention by width / heads. Source: llama.cpp, `f_attention_scale`."""

_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""Of every Llama 3.1, 3.2 and 3.3; of the fourth number, the factor, the file has what follows from it."""


def complete(config: Any, file: GgufFile) -> None:
    """Puts into a configuration what the file declares and transformers does not read.

    Widths of heads, sliding windows, caps of logits, scale of Gemma's attention, and scaling of rotary angles.

    Raises:
        ValueError: rotary angles are scaled in a way that is not read.
    """
    for key, name in _SAME.items():
        value = file.declared(key)
        widths_differ = name == "head_dim" and file.declared("attention.key_length_swa") is not None
        if value is not None and hasattr(config, name) and not widths_differ:
            setattr(config, name, value)
    if file.architecture in _LARGEST_GEMMA:
        largest = file.declared("block_count") == _LARGEST_GEMMA[file.architecture]
        config.query_pre_attn_scalar = (
            config.hidden_size // config.num_attention_heads if largest else config.head_dim
        )
    _scale_angles(config, file)


def _scale_angles(config: Any, file: GgufFile) -> None:
    kind = file.declared("rope.scaling.type") or "none"
    parameters = getattr(config, "rope_parameters", None) or {}
    parameters = parameters.get("full_attention", parameters)  # Gemma 3 scales those of global attention only
    if file.rope_factors is not None:
        _scale_as_llama3(config, parameters, file)
    elif kind == "linear" and parameters:
        parameters.update(rope_type="linear", factor=float(file.declared("rope.scaling.factor") or 1.0))
    elif kind != "none":
        raise _not_read(file, f"scaled as {kind!r}")


def _scale_as_llama3(config: Any, parameters: dict[str, Any], file: GgufFile) -> None:
    """Rotary angles of Llama 3.1 and later, of which the file has the factors that each frequency is divided by."""
    factors = np.asarray(file.rope_factors, np.float64)
    plain = 1 / parameters["rope_theta"] ** (np.arange(len(factors)) / len(factors))
    parameters.update(rope_type="llama3", factor=float(factors.max()), **_LLAMA3)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    if scaled.shape != plain.shape or not np.allclose(scaled.double().numpy() * factors, plain, rtol=1e-3):
        raise _not_read(file, "divided by other factors than those of Llama 3")


def _not_read(file: GgufFile, fault: str) -> ValueError:
    return ValueError(
        file.refusal(
            f"its rotary angles are {fault}, which is not read from GGUF. Give the model's folder as save_pretrained "
            "wrote it"
        )
    )
