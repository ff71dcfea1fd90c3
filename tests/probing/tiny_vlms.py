"""Tiny random vision-language models with their processors, as `from_pretrained` would give them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from taxogen.models.lms import embedded_folder

_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
CHAT = (
    "{% for message in messages %}{{ message['role'] | upper }}: {% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def _tokenizer(**special: str) -> Any:
    return hf.AutoTokenizer.from_pretrained(embedded_folder(), extra_special_tokens=special)


def _model(kind: type, config: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind._from_config(config, attn_implementation="eager").eval().requires_grad_(False)


class _PicturesOnly:
    """Of a processor: without videos, whose part needs torchvision."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        if argument is not None:
            return super().check_argument_for_proper_class(argument_name, argument)  # type: ignore[misc]


class _Qwen(_PicturesOnly, hf.Qwen2_5_VLProcessor):
    pass


class _Qwen3(_PicturesOnly, hf.Qwen3VLProcessor):
    pass


_LLAVA: dict[str, Any] = {
    "patch_size": 4,
    "vision_feature_select_strategy": "default",
    "num_additional_image_tokens": 1,
    "chat_template": CHAT.replace("IMAGE", "<image>\n"),
}


def llava() -> tuple[Any, Any]:
    tokenizer = _tokenizer(image_token="<image>")
    pixels = hf.CLIPImageProcessorPil(size={"height": 12, "width": 12}, do_center_crop=False)
    processor = hf.LlavaProcessor(pixels, tokenizer, **_LLAVA)
    vision = hf.CLIPVisionConfig(**_VISION, image_size=12, patch_size=4, projection_dim=16)
    text = hf.LlamaConfig(**_TEXT, vocab_size=len(tokenizer))
    token = tokenizer.convert_tokens_to_ids("<image>")
    config = hf.LlavaConfig(
        vision_config=vision, text_config=text, image_token_id=token, vision_feature_layer=-1
    )
    return _model(hf.LlavaForConditionalGeneration, config), processor


def _qwen(kind: type, temporal: int) -> tuple[Any, dict[str, int]]:
    """The processor of a Qwen-VL, and the ids of its special tokens as its configuration names them."""
    names = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    names |= {"vision_start_token": "<|vision_start|>", "vision_end_token": "<|vision_end|>"}
    tokenizer = _tokenizer(**names)
    pixels = hf.Qwen2VLImageProcessorPil(
        patch_size=4,
        merge_size=2,
        temporal_patch_size=temporal,
        size={"shortest_edge": 64, "longest_edge": 768},
    )
    template = CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    processor = kind(pixels, tokenizer, None, chat_template=template)
    return processor, {f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}


def _rope(**more: Any) -> dict[str, Any]:
    return {
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2], **more}
    }


_QWEN_VISION = {
    "depth": 2,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_heads": 2,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 32,
}


def qwen2_5_vl() -> tuple[Any, Any]:
    processor, ids = _qwen(_Qwen, 2)
    vision = {**_QWEN_VISION, "window_size": 16, "fullatt_block_indexes": [1]}
    text = {**_TEXT, "vocab_size": len(processor.tokenizer), **_rope()}
    config = hf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    return _model(hf.Qwen2_5_VLForConditionalGeneration, config), processor


def qwen3_vl() -> tuple[Any, Any]:
    """Adds deeper features of the picture to the stream behind its first blocks."""
    processor, ids = _qwen(_Qwen3, 2)
    vision = {**_QWEN_VISION, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
    text = {**_TEXT, "head_dim": 8, "vocab_size": len(processor.tokenizer), **_rope(mrope_interleaved=True)}
    config = hf.Qwen3VLConfig(text_config=text, vision_config=vision, **ids)
    return _model(hf.Qwen3VLForConditionalGeneration, config), processor


def gemma3() -> tuple[Any, Any]:
    names = {
        "boi_token": "<start_of_image>",
        "image_token": "<image_soft_token>",
        "eoi_token": "<end_of_image>",
    }
    tokenizer = _tokenizer(**names)
    pixels = hf.Gemma3ImageProcessorPil(size={"height": 16, "width": 16})
    processor = hf.Gemma3Processor(
        pixels, tokenizer, chat_template=CHAT.replace("IMAGE", "<start_of_image>"), image_seq_length=4
    )
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
    text = {
        **_TEXT,
        "head_dim": 8,
        "vocab_size": len(tokenizer),
        "sliding_window": 8,
        "query_pre_attn_scalar": 8,
    }
    config = hf.Gemma3Config(
        text_config=text,
        vision_config={**_VISION, "image_size": 16, "patch_size": 4},
        mm_tokens_per_image=4,
        image_token_id=ids["image_token"],
        boi_token_index=ids["boi_token"],
        eoi_token_index=ids["eoi_token"],
    )
    return _model(hf.Gemma3ForConditionalGeneration, config), processor


def idefics3() -> tuple[Any, Any]:
    """The architecture of SmolVLM: tiles of a picture with separators between them."""
    tokenizer = _tokenizer(image_token="<image>", fake_image_token="<fake_token_around_image>")
    tokenizer.add_tokens(["<global-img>", "<end_of_utterance>"])
    tokenizer.add_tokens([f"<row_{r}_col_{c}>" for r in (1, 2) for c in (1, 2)])
    pixels = hf.Idefics3ImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    processor = hf.Idefics3Processor(
        pixels, tokenizer, image_seq_len=4, chat_template=CHAT.replace("IMAGE", "<image>")
    )
    config = hf.Idefics3Config(
        text_config=hf.LlamaConfig(**_TEXT, vocab_size=len(tokenizer), pad_token_id=0),
        vision_config={**_VISION, "image_size": 16, "patch_size": 4},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
    )
    return _model(hf.Idefics3ForConditionalGeneration, config), processor


def llava_next() -> tuple[Any, Any]:
    """Cuts a picture into tiles, drops what is margin alone, and ends each row with a token of its own."""
    tokenizer = _tokenizer(image_token="<image>")
    pixels = hf.LlavaNextImageProcessorPil(
        size={"shortest_edge": 12},
        crop_size={"height": 12, "width": 12},
        image_grid_pinpoints=[[12, 24], [24, 12], [24, 24], [12, 36]],
    )
    processor = hf.LlavaNextProcessor(pixels, tokenizer, **_LLAVA)
    vision = hf.CLIPVisionConfig(**_VISION, image_size=12, patch_size=4, projection_dim=16)
    config = hf.LlavaNextConfig(
        vision_config=vision,
        text_config=hf.LlamaConfig(**_TEXT, vocab_size=len(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=pixels.image_grid_pinpoints,
        vision_feature_layer=-1,
    )
    return _model(hf.LlavaNextForConditionalGeneration, config), processor


class _Onevision(_PicturesOnly, hf.LlavaOnevisionProcessor):
    pass


def llava_onevision() -> tuple[Any, Any]:
    """The same, whose tiles are no whole number of patches, and of which too many tokens are made fewer."""
    tokenizer = _tokenizer(image_token="<image>", video_token="<video>")
    tiles = [[41, 41], [41, 82], [82, 41], [82, 82], [41, 123]]
    pixels = hf.LlavaOnevisionImageProcessorPil(size={"height": 41, "width": 41}, image_grid_pinpoints=tiles)
    most = "anyres_max_2"
    kept = {"num_image_tokens": 25, "vision_feature_select_strategy": "full", "vision_aspect_ratio": most}
    processor = _Onevision(pixels, tokenizer, None, chat_template=_LLAVA["chat_template"], **kept)
    ids = {f"{kind}_token_id": tokenizer.convert_tokens_to_ids(f"<{kind}>") for kind in ("image", "video")}
    config = hf.LlavaOnevisionConfig(
        vision_config=hf.SiglipVisionConfig(**_VISION, image_size=41, patch_size=8, vision_use_head=False),
        text_config=hf.Qwen2Config(**_TEXT, vocab_size=len(tokenizer)),
        image_grid_pinpoints=tiles,
        vision_aspect_ratio=most,
        **ids,
    )
    return _model(hf.LlavaOnevisionForConditionalGeneration, config), processor


class _Pixtral:
    """What `PixtralProcessor` does with one picture; that class itself needs torchvision."""

    image_token, chat_template = "[IMG]", None

    def __init__(self, tokenizer: Any, patch_size: int, longest: int, merged: int = 1):
        self.tokenizer, self.patch_size, self.spatial_merge_size = tokenizer, patch_size, merged
        patch = {"height": patch_size * merged, "width": patch_size * merged}
        self.image_processor = hf.PixtralImageProcessorPil(size={"longest_edge": longest}, patch_size=patch)
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)

    def __call__(self, text: Any, images: Any, return_tensors: str) -> dict[str, Any]:
        made = self.image_processor(images[0], return_tensors=return_tensors)
        token = self.patch_size * self.spatial_merge_size
        rows, columns = (int(side) // token for side in made["image_sizes"][0])
        lines = [self.image_token * columns] * rows
        text = [text[0].replace(self.image_token, "[IMG_BREAK]".join(lines) + "[IMG_END]")]
        return {**self.tokenizer(text, return_tensors=return_tensors), **made}


def pixtral() -> tuple[Any, Any]:
    """A grid of the picture's own shape, with tokens of the tokenizer between its rows."""
    names = {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}
    tokenizer = _tokenizer(**names)
    processor = _Pixtral(tokenizer, patch_size=4, longest=24)
    vision = hf.PixtralVisionConfig(**_VISION, image_size=24, patch_size=4)
    config = hf.LlavaConfig(
        vision_config=vision,
        text_config=hf.LlamaConfig(**_TEXT, vocab_size=len(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return _model(hf.LlavaForConditionalGeneration, config), processor


def mistral3() -> tuple[Any, Any]:
    """The same, of which two by two patches become one token."""
    names = {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}
    tokenizer = _tokenizer(**names)
    processor = _Pixtral(tokenizer, patch_size=2, longest=24, merged=2)
    config = hf.Mistral3Config(
        vision_config=hf.PixtralVisionConfig(**_VISION, image_size=24, patch_size=2),
        text_config=hf.MistralConfig(**_TEXT, vocab_size=len(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("[IMG]"),
    )
    return _model(hf.Mistral3ForConditionalGeneration, config), processor


VLMS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "llava": llava,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "gemma3": gemma3,
    "idefics3": idefics3,
}
"""Of each architecture that is captured in a way of its own."""
GRIDS = {
    **VLMS,
    "llava_next": llava_next,
    "llava_onevision": llava_onevision,
    "pixtral": pixtral,
    "mistral3": mistral3,
}
"""Of each way in which a picture becomes tokens; those of Pixtral and Mistral 3 cannot be saved."""


def save(name: str, folder: Path) -> Path:
    """The model and its processor in a folder, as they are on a hub."""
    model, processor = GRIDS[name]()
    model.save_pretrained(folder)
    if "video_processor" in processor.get_attributes():  # which cannot be saved without torchvision
        processor.image_processor.save_pretrained(folder)
        processor.tokenizer.save_pretrained(folder)
        (folder / "chat_template.jinja").write_text(processor.chat_template, encoding="utf-8")
        kind = {
            "processor_class": {"qwen2_5_vl": "Qwen2_5_VLProcessor", "qwen3_vl": "Qwen3VLProcessor"}[name]
        }
        (folder / "processor_config.json").write_text(json.dumps(kind), encoding="utf-8")
    else:
        processor.save_pretrained(folder)
    return folder
