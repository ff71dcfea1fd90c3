"""What the rules of `shrink` cannot know: sizes of single families that must fit one another."""

from __future__ import annotations

from typing import Any

_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_ssm": 64, "mamba_d_state": 8, "mamba_n_groups": 1}

TEXT: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "blt": {"encoder_hash_byte_group_vocab": 50},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}
    },
    "dbrx": {"attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4}, "num_key_value_heads": 2},
    "deepseek_v2": {"num_experts_per_tok": 2, "first_k_dense_replace": 1, "n_shared_experts": 1},
    "dots1": {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
    },
    "dots3_note_text": {"head_dim": 16},
    "falcon_h1": _MAMBA,
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "attention_layers": ["global", "local"] * 2},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "jamba": {"attn_layer_offset": 1},
    "lfm2": {"num_hidden_layers": 4, "layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"], "num_dense_layers": 1},
    "longcat_flash": {"expert_ffn_hidden_size": 16, "zero_expert_num": 2},
    "mamba2": {"head_dim": 16, "n_groups": 1},
    "nemotron_h": {"n_groups": 1, "mamba_num_heads": 4},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
    },
    "reformer": {"is_decoder": True, "axial_pos_shape": [4, 4], "axial_pos_embds_dim": [16, 16]},
    "rwkv": {"attention_hidden_size": 32},
    "xlstm": {"num_heads": 2, "qk_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zaya": {"router_hidden_size": 16},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"]},
    "zamba2": {
        "hybrid_layer_ids": [1, 3],
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "mamba_headdim": 8,
        "mamba_ngroups": 1,
        "n_mamba_heads": 8,
    },
}

_THREE_AXES = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
_TILES = {"image_grid_pinpoints": [[16, 32], [32, 16]], "image_seq_length": 16}
_FULL = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
_SAM = {
    "image_size": 64,
    "patch_size": 4,
    "output_channels": 32,
    "downsample_channels": [32, 32],
    "window_size": 4,
}

PICTURES: dict[str, dict[str, Any]] = {
    **{
        name: {"text_config": {"rope_parameters": _THREE_AXES}}
        for name in ("glm46v", "glm4v", "glm_ocr", "hunyuan_vl", "paddleocr_vl", "qwen2_5_vl", "qwen2_vl")
    },
    "aria": {"projector_patch_to_query_dict": {16: 4}},
    "chameleon": {
        "vocabulary_map": {"<image>": 100, **{f"IMGIMGA{c}Z": 60 + i for i, c in enumerate("ABCDEFGHI")}}
    },
    "cohere_compass": {"text_config": {"rope_parameters": {"full_attention": _FULL}}},
    "dots3_note": {"text_config": {"head_dim": 16}},
    "gemma4": {"vision_config": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}},
    "glm4v_moe": {"text_config": {"head_dim": 16, "rope_parameters": _THREE_AXES}},
    "granite_docling": {"vision_config": {"deepstack_visual_indexes": [0, 1], "scale_factor": 2}},
    "llama4": {
        "vision_config": {
            "intermediate_size": 128,
            "projector_input_dim": 32,
            "projector_output_dim": 32,
            "vision_output_dim": 32,
        }
    },
    "llava_next": _TILES,
    "llava_next_video": _TILES,
    "llava_onevision": {**_TILES, "vision_aspect_ratio": "anyres_max_9"},
    "mistral4": {"qk_rope_head_dim": 4, "qk_nope_head_dim": 12},
    "mllama": {"vision_config": {"intermediate_layers_indices": [1, 2], "vision_output_dim": 96}},
    "molmo2": {"adapter_config": {"vision_feature_layer": [2, 1]}},
    "nemotron_h_omni": {"text_config": TEXT["nemotron_h"]},
    "qwen2_5_omni_thinker": {"text_config": {"rope_parameters": _THREE_AXES}, "vision_start_token_id": 100},
    "qwen3_omni_moe_thinker": {"text_config": {"rope_parameters": _THREE_AXES}, "vision_start_token_id": 100},
    "qwen4_exp": {"text_config": TEXT["qwen4_exp_text"]},
    "vipllava": {"vision_feature_layer": [-2, -1, 1, 2, 3]},
}
