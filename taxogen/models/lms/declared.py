"""Settings that a GGUF file declares and transformers does not read: put into the configuration, or refused."""

from __future__ import annotations

import math
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

_EPSILONS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")
"""Names of the number that norms add to a variance; each configuration has one of them."""

_ANGLES = ("freq_base", "freq_base_swa", "dimension_count", "scale_linear")
_ANGLES += tuple(f"scaling.{key}" for key in ("type", "factor", "original_context_length", "finetuned"))
"""Keys of rotary angles that are read, or that change none."""

_LARGEST_GEMMA = {"gemma2": 46, "gemma3": 62}
"""Blocks of the one model that scales attention by width / heads. Source: llama.cpp, `f_attention_scale`."""

_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""Of every Llama 3.1, 3.2 and 3.3; of the fourth number, the factor, the file has what follows from it."""


def complete(config: Any, file: GgufFile) -> None:
    """Puts into a configuration what the file declares and transformers does not read.

    Widths of heads, sliding windows, caps of logits, scale of Gemma's attention, and scaling of rotary angles. The
    base of these angles, the share of a head that they turn, blocks with a window, and the norms' epsilon are compared.

    Raises:
        ValueError: rotary angles are declared in a way that is not read, or a setting is another one than declared.
    """
    for key, name in _SAME.items():
        value = file.declared(key)
        widths_differ = name == "head_dim" and file.declared("attention.key_length_swa") is not None
        if value is not None and hasattr(config, name) and not widths_differ:
            setattr(config, name, value or None)  # llama.cpp writes 0 for no window, and no cap
    if file.architecture in _LARGEST_GEMMA:
        largest = file.declared("block_count") == _LARGEST_GEMMA[file.architecture]
        config.query_pre_attn_scalar = (
            config.hidden_size // config.num_attention_heads if largest else config.head_dim
        )
    _require_norms_and_windows(config, file)
    _settle_angles(config, file)


def _require_norms_and_windows(config: Any, file: GgufFile) -> None:
    (epsilon,) = (getattr(config, name) for name in _EPSILONS if hasattr(type(config), name))
    for key in ("attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon"):
        _require_same(file, key, file.declared(key), epsilon)
    pattern = file.declared("attention.sliding_window_pattern")
    if pattern is not None and file.declared("attention.sliding_window"):
        kinds = getattr(config, "layer_types", None) or ["full_attention"] * file.declared("block_count")
        every = pattern
        if isinstance(pattern, int):
            every = (not pattern or bool((block + 1) % pattern) for block in range(len(kinds)))
        if tuple(every) != tuple(kind == "sliding_attention" for kind in kinds):
            raise _other(file, "attention.sliding_window_pattern", pattern, "windows in other blocks")


def _settle_angles(config: Any, file: GgufFile) -> None:
    """Scales rotary angles as declared, and refuses other ones than llama.cpp would have.

    Source: llama.cpp, `llama_model_base::load_hparams`, also for what a file that declares nothing means.
    """
    prefix = f"{file.architecture}.rope."
    keys = [key.removeprefix(prefix) for key in file.fields if key.startswith(prefix)]
    tensors = [name for name in file.shapes if name.startswith("rope_f")]
    angles = getattr(config, "rope_parameters", None) or {}
    parameters = angles.get("full_attention", angles)  # Gemma 3 scales those of global attention only
    if not parameters:
        if keys or tensors:
            raise _not_read(file, f"declared ({[*keys, *tensors][0]}) though transformers' model has none")
        return
    _scale_angles(config, parameters, file)
    for key in keys:
        if key not in _ANGLES and (key, file.declared(f"rope.{key}")) != ("scaling.attn_factor", 1.0):
            raise _not_read(file, f"changed by rope.{key}")
    for name in tensors:
        if name.startswith("rope_factors_"):
            raise _not_read(file, f"changed by {name}")
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    turned = int(head * parameters.get("partial_rotary_factor", 1.0))
    local = angles.get("sliding_attention", parameters)["rope_theta"]
    _require_same(
        file, "rope.freq_base", file.declared("rope.freq_base") or 10_000.0, parameters["rope_theta"]
    )
    _require_same(file, "rope.freq_base_swa", file.declared("rope.freq_base_swa"), local)
    _require_same(file, "rope.dimension_count", file.declared("rope.dimension_count") or head, turned)


def _scale_angles(config: Any, parameters: dict[str, Any], file: GgufFile) -> None:
    kind, factor = (file.declared(f"rope.scaling.{key}") for key in ("type", "factor"))
    factor = float((file.declared("rope.scale_linear") if factor is None else factor) or 1.0)
    if kind not in (None, "none", "linear"):
        raise _not_read(file, f"scaled as {kind!r}")
    scaled = kind != "none" and factor != 1
    if file.rope_factors is not None:
        if scaled or parameters is not config.rope_parameters:
            raise _not_read(file, "divided by factors beside another setting of them")
        _scale_as_llama3(config, parameters, file)
    elif scaled:
        parameters.update(rope_type="linear", factor=factor)
    elif parameters.get("rope_type", "default") != "default":
        raise _other(file, "rope.scaling.type", kind or "not declared", repr(parameters["rope_type"]))


def _scale_as_llama3(config: Any, parameters: dict[str, Any], file: GgufFile) -> None:
    """Rotary angles of Llama 3.1 and later, of which the file has the factors that each frequency is divided by."""
    factors = np.asarray(file.rope_factors, np.float64)
    plain = 1 / parameters["rope_theta"] ** (np.arange(len(factors)) / len(factors))
    parameters.update(rope_type="llama3", factor=float(factors.max()), **_LLAMA3)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    if scaled.shape != plain.shape or not np.allclose(scaled.double().numpy() * factors, plain, rtol=1e-3):
        raise _not_read(file, "divided by other factors than those of Llama 3")


def _require_same(file: GgufFile, key: str, declared: float | None, held: float) -> None:
    if declared is not None and not math.isclose(declared, held, rel_tol=1e-5):
        raise _other(file, key, f"{declared:g}", f"{held:g}")


def _other(file: GgufFile, key: str, declared: object, held: str) -> ValueError:
    return ValueError(
        file.refusal(
            f"its {key} is {declared}, and transformers' {file.architecture} of it has {held}. Give the model's folder "
            "as save_pretrained wrote it"
        )
    )


def _not_read(file: GgufFile, fault: str) -> ValueError:
    return ValueError(
        file.refusal(
            f"its rotary angles are {fault}, which is not read from GGUF. Give the model's folder as save_pretrained "
            "wrote it"
        )
    )
