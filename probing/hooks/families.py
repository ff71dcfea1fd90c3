"""FAMILIES: under which names published model families keep their parts."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Family:
    """The names under which one model family keeps its parts; those outside the blocks may be dotted paths.

    `attention_norm` and `mlp_norm` name the norm after a module when its output is what reaches the residual
    stream; empty when the module itself adds (its output then is the contribution). `mid` is the child of a
    block whose input is the stream between attention and MLP; empty when both read the same stream.

    Empty `attention` and `mlp`: only the residual stream between the blocks is captured. An empty `embed` or
    `final_norm`: the model has no such place.
    """

    embed: str = "embed_tokens"
    blocks: str = "layers"
    final_norm: str = "norm"
    attention: str = "self_attn"
    attention_projection: str = "o_proj"
    mlp: str = "mlp"
    mlp_projection: str = "down_proj"
    mid: str = "post_attention_layernorm"
    attention_norm: str = ""
    mlp_norm: str = ""


_LLAMA = Family()
_SANDWICH = Family(
    mid="pre_feedforward_layernorm",
    attention_norm="post_attention_layernorm",
    mlp_norm="post_feedforward_layernorm",
)
_POST_NORM = replace(_SANDWICH, mid="mlp")
_GPT2 = Family(
    embed="wte",
    blocks="h",
    final_norm="ln_f",
    attention="attn",
    attention_projection="c_proj",
    mlp_projection="c_proj",
    mid="ln_2",
)
_NEOX = Family(
    embed="embed_in",
    final_norm="final_layer_norm",
    attention="attention",
    attention_projection="dense",
    mlp_projection="dense_4h_to_h",
)
_PHI = Family(final_norm="final_layernorm", attention_projection="dense", mlp_projection="fc2", mid="")

FAMILIES: dict[str, Family] = {
    "gemma": _LLAMA,
    "gemma2": _SANDWICH,
    "gemma3_text": _SANDWICH,
    "gpt2": _GPT2,
    "gpt_neox": _NEOX,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "olmo2": _POST_NORM,
    "phi": _PHI,
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen2_5_vl_text": _LLAMA,
    "qwen2_vl_text": _LLAMA,
    "qwen3": _LLAMA,
    "qwen3_vl_text": _LLAMA,
    "smollm3": _LLAMA,
}


def listed(model_type: str, config: object) -> Family | None:
    """The family of a model type, None if it is not listed."""
    if model_type == "gpt_neox" and getattr(config, "use_parallel_residual", False):
        return replace(_NEOX, mid="")
    return FAMILIES.get(model_type)
