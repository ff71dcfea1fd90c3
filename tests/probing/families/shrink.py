"""shrunk(): the default config of any model family with small sizes, and one layer of each kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LAYERS, WIDTH, VOCABULARY = 4, 32, 128

#: Pattern of a whole key → the size that it gets. The first that matches counts.
SIZES: list[tuple[str, int]] = [
    (r"mamba_d_head|mamba_headdim|attention_head_dim|mamba_head_dim", 16),
    (r"attention_hidden_size", 64),
    (
        r"(moe_)?num_hidden_layers|num_layers|n_layers?|depth|layers|num_(en|de)coder_layers|(en|de)coder_layers",
        LAYERS,
    ),
    (r".*num_key_value_heads(_per_layer)?|num_kv_heads|kv_n_heads|num_query_groups|linear_num_key_heads", 2),
    (
        r".*num_.*heads|.*attention_heads|n_heads?|num_heads|mamba_n_heads|index_n_heads|.*_n_heads|.*resampler_heads",
        4,
    ),
    (r"ngram_size|heads_per_ngram", 2),
    (r"qk_head_dim", 16),
    (
        r".*head_dim|d_kv|kv_channels|attention_head_size|d_head|qk_(no|ro)pe_head_dim|rotary_dim|dim_head|.*dim_head",
        8,
    ),
    (r"query_pre_attn_scalar", 8),
    (r".*lora_rank|q_lora_rank|.*_rank", 8),
    (r"(n_routed|num_local|num|moe_num)_experts|num_classes_of_experts", 4),
    (
        r"num_experts_per_tok(en)?|moe_topk|moe_k|moe_top_k|topk_group|num_expert_group|n_group|(n|num|moe_num)_shared_experts",
        2,
    ),
    (r".*vocab_size.*|unpadded_vocab_size", VOCABULARY),
    (
        r".*intermediate_size.*|.*ffn.*(dim|size)|mlp_dim|d_ff|dim_ff|dff|d_inner|feed_forward_size|lru_width",
        48,
    ),
    (
        r".*hidden_size.*|d_model|n_embd|(text_|embed_|emb_|embedding_)dim|embed_dim|embedding_size|.*embedding_size",
        WIDTH,
    ),
    (
        r"word_embed_proj_dim|.*hidden_dim|projection_dim|out_channels|.*output_dim|dim_model_base|emb_dim",
        WIDTH,
    ),
    (
        r"max_(position|sequence).*|.*max_position_embeddings|n_positions|n_ctx|max_seq_len|seq_len|model_max_length",
        256,
    ),
    (r".*sliding_window(_size)?|.*attention_window.*|local_attention|attention_chunk_size|window_size", 8),
    (r"mamba_d_ssm", 64),
    (r"mamba_d_state|ssm_state_size|mamba_dt_rank|state_size|time_step_rank", 8),
    (r"image_size", 16),
    (r"patch_size", 4),
    (r"(num_position_embeddings|num_patches|num_image_tokens|image_seq_length)", 16),
    (r"mm_tokens_per_image|vision_soft_tokens_per_image", 4),
    (
        r".*_dense_replace|.*_period|.*_every_n_layers|.*(layer|sparse|moe)_.*(step|interval|freq.*)|_?sliding_window_pattern",
        2,
    ),
    (r".*chunk_size.*", 8),
]

_SAME = re.compile(r"(?:index_to|.*chunk_size_feed_forward|chunk_size_lm_head|num_labels)")


def shrunk(values: Mapping[str, Any], ids: dict[str, int] | None = None) -> dict[str, Any]:
    """The values of a config, made small at every depth; `ids` keeps special tokens equal in parts of one model."""
    ids = {} if ids is None else ids
    depth = next(
        (v for k, v in values.items() if k in ("num_hidden_layers", "num_layers") and isinstance(v, int)), 0
    )
    overridden = {int(layer): own for layer, own in (values.get("per_layer_config") or {}).items()}
    lists = [v for v in values.values() if isinstance(v, list) and len(v) == depth]
    lists += [[overridden.get(layer) for layer in range(depth)]] if overridden else []
    layers = _representatives(lists, depth) if lists and depth > 1 else list(range(min(depth, LAYERS)))
    small: dict[str, Any] = {}
    for key, value in values.items():
        key = str(key)
        if key in ("id2label", "label2id"):
            continue
        if key == "per_layer_config":
            small[key] = {layers.index(i): shrunk(own, ids) for i, own in overridden.items() if i in layers}
        elif isinstance(value, dict):
            small[key] = shrunk(value, ids)
        elif isinstance(value, list) and depth > 1 and len(value) == depth:
            small[key] = [_sized(key, value[i]) for i in layers]
        elif key.endswith(("token_id", "token_index", "_start_id", "_end_id")):
            small[key] = _token(key, value, ids)
        elif key == "residual_multiplier":
            small[key] = 0.5  # the default of 1 would hide that the family scales what its blocks add
        else:
            small[key] = _sized(key, value)
    if lists and depth > 1:
        small |= {k: len(layers) for k in ("num_hidden_layers", "num_layers") if values.get(k) == depth}
    return _consistent(small)


def _consistent(small: dict[str, Any]) -> dict[str, Any]:
    """The values with the few that follow from one another."""
    if small.get("kv_lora_rank"):
        small["num_key_value_heads"] = small.get("num_attention_heads")
    for key, value in {"head_dim": 8, "num_key_value_heads": 2, "sliding_window": 8}.items():
        if key in small and small[key] is None and (key != "sliding_window" or "layer_types" in small):
            small[key] = value
    rope = small.get("rope_parameters")
    for inner in [rope, *rope.values()] if isinstance(rope, dict) else []:
        if isinstance(inner, dict) and inner.get("mrope_section"):
            half = int((small.get("head_dim") or 8) * inner.get("partial_rotary_factor", 1)) // 2
            inner["mrope_section"] = [1, 1, half - 2]
    return small


def _representatives(lists: list[list[Any]], depth: int) -> list[int]:
    """Layers, in order, among which every kind that the lists tell is there; at least `LAYERS`."""
    kinds = [str([values[i] for values in lists]) for i in range(depth)]
    first = [i for i in range(depth) if kinds[i] not in kinds[:i]][: LAYERS + 2]
    others = [i for i in range(depth) if i not in first]
    return sorted(first + others[: max(0, LAYERS - len(first))])


def _token(key: str, value: Any, ids: dict[str, int]) -> Any:
    """A special token inside the small vocabulary: one number for each name, in every part of a model."""
    if value is None and not key.startswith("image_token"):
        return None
    usual = {"pad": 0, "bos": 1, "eos": 2, "decoder_start": 1, "sep": 2}
    name = re.sub(r"_(token_)?(id|index)$", "", key)
    return usual.get(name, ids.setdefault(name, VOCABULARY - 1 - len(ids)))


def _sized(key: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int) or _SAME.fullmatch(key):
        return value
    for pattern, size in SIZES:
        if re.fullmatch(pattern, key):
            return min(value, size) if value > 0 else value
    return value
