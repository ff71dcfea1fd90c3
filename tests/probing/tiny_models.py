"""Tiny random decoders of the families that capture knows, and some that it does not."""

import torch
import transformers as hf

SMALL = {
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 64,
}
_NO_KV = {key: value for key, value in SMALL.items() if key != "num_key_value_heads"}
_HEAD = {"head_dim": 8}

CONFIGS = {
    "llama": lambda: hf.LlamaConfig(**SMALL),
    "qwen2": lambda: hf.Qwen2Config(**SMALL),
    "qwen3": lambda: hf.Qwen3Config(**SMALL, **_HEAD),
    "gemma": lambda: hf.GemmaConfig(**SMALL, **_HEAD),
    "gemma2": lambda: hf.Gemma2Config(**SMALL, **_HEAD, query_pre_attn_scalar=8, sliding_window=16),
    "gemma3": lambda: hf.Gemma3TextConfig(**SMALL, **_HEAD, query_pre_attn_scalar=8, sliding_window=16),
    "gpt2": lambda: hf.GPT2Config(
        vocab_size=120,
        n_embd=32,
        n_layer=3,
        n_head=4,
        n_positions=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    ),
    "pythia": lambda: hf.GPTNeoXConfig(**_NO_KV, use_parallel_residual=True),
    "gpt_neox_sequential": lambda: hf.GPTNeoXConfig(**_NO_KV, use_parallel_residual=False),
    "olmo2": lambda: hf.Olmo2Config(**SMALL),
    "mistral": lambda: hf.MistralConfig(**SMALL, sliding_window=None),
    "phi": lambda: hf.PhiConfig(**SMALL),
    "phi3": lambda: hf.Phi3Config(**SMALL),
    "smollm3": lambda: hf.SmolLM3Config(**SMALL),
}

#: Families that no list names, which running them once resolves.
UNLISTED = {
    "stablelm_parallel": lambda: hf.StableLmConfig(**SMALL, use_parallel_residual=True),
    "stablelm": lambda: hf.StableLmConfig(**SMALL, use_parallel_residual=False),
    "cohere": lambda: hf.CohereConfig(**SMALL),
    "glm4": lambda: hf.Glm4Config(**SMALL, head_dim=8),
    "olmo": lambda: hf.OlmoConfig(**SMALL),
}

#: Families whose blocks add something else than what the modules give.
REFUSED = {
    "granite": lambda: hf.GraniteConfig(**SMALL, residual_multiplier=0.5),
    "opt": lambda: hf.OPTConfig(
        vocab_size=120,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        word_embed_proj_dim=32,
    ),
}

_VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def _llava() -> hf.PretrainedConfig:
    vision = hf.CLIPVisionConfig(**_VISION, image_size=8, patch_size=4, projection_dim=16)
    return hf.LlavaConfig(
        vision_config=vision, text_config=hf.LlamaConfig(**SMALL), image_token_id=119, vision_feature_layer=-1
    )


def _idefics3() -> hf.PretrainedConfig:
    vision = {**_VISION, "image_size": 8, "patch_size": 4}
    return hf.Idefics3Config(
        vision_config=vision,
        text_config=hf.LlamaConfig(**SMALL).to_dict(),
        image_token_id=119,
        scale_factor=2,
    )


def _smolvlm() -> hf.PretrainedConfig:
    vision = {**_VISION, "image_size": 8, "patch_size": 4}
    return hf.SmolVLMConfig(
        vision_config=vision,
        text_config=hf.LlamaConfig(**SMALL).to_dict(),
        image_token_id=119,
        scale_factor=2,
    )


def _gemma3() -> hf.PretrainedConfig:
    text = hf.Gemma3TextConfig(**SMALL, **_HEAD, query_pre_attn_scalar=8, sliding_window=16)
    vision = hf.SiglipVisionConfig(**_VISION, image_size=8, patch_size=4)
    return hf.Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=119,
        boi_token_index=117,
        eoi_token_index=118,
    )


def _qwen2_5_vl() -> hf.PretrainedConfig:
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "num_heads": 2,
        "intermediate_size": 32,
        "out_hidden_size": 32,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 1,
        "window_size": 16,
        "fullatt_block_indexes": [1],
    }
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    text = {**SMALL, "rope_parameters": rope}
    return hf.Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=119,
        video_token_id=118,
        vision_start_token_id=117,
        vision_end_token_id=116,
    )


def _qwen3_vl() -> hf.PretrainedConfig:
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "num_heads": 2,
        "intermediate_size": 32,
        "out_hidden_size": 32,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 1,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0, 1],
    }
    rope = {
        "rope_type": "default",
        "mrope_section": [1, 1, 2],
        "rope_theta": 10000.0,
        "mrope_interleaved": True,
    }
    text = {**SMALL, "head_dim": 8, "rope_parameters": rope}
    return hf.Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=119,
        video_token_id=118,
        vision_start_token_id=117,
        vision_end_token_id=116,
    )


MULTIMODAL = {
    "llava": (_llava, hf.LlavaForConditionalGeneration),
    "idefics3": (_idefics3, hf.Idefics3ForConditionalGeneration),
    "smolvlm": (_smolvlm, hf.SmolVLMForConditionalGeneration),
    "gemma3_multimodal": (_gemma3, hf.Gemma3ForConditionalGeneration),
    "qwen2_5_vl": (_qwen2_5_vl, hf.Qwen2_5_VLForConditionalGeneration),
    "qwen3_vl": (_qwen3_vl, hf.Qwen3VLForConditionalGeneration),
}


def tiny(
    name: str, *, dtype: torch.dtype = torch.float32, attention: str | None = None
) -> hf.PreTrainedModel:
    """A random model of a named family, in evaluation mode; the same weights each time."""
    torch.manual_seed(0)
    if name in MULTIMODAL:
        make, kind = MULTIMODAL[name]
        model = kind(make())
    else:
        config = {**CONFIGS, **UNLISTED, **REFUSED}[name]()
        model = hf.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # Norm weights of 1 and biases of 0 hide mistakes that trained weights would show.
            parameter.add_(0.1 * torch.randn_like(parameter))
    if attention is not None:
        model.set_attn_implementation(attention)
    return model.to(dtype).eval()
