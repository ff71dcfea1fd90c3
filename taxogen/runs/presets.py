"""Presets: configs with a name, to be started from with `--preset`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STUDY = {
    "name": "study",
    "data.task": "yes_no",
    "data.templates": ("study_leaf", "study"),
    "data.negatives": "study",
    "data.split": "study",
    "data.ablation": "full",
    "data.rule": "study",
    "train.steps": 0,
    "train.epochs": 5.0,
    "train.batch": 16,
    "train.order": "items",
    "train.lr": 1e-3,
    "train.weight_decay": 0.0,
    "train.warmup": 0.03,
    "train.clip": 1.0,
}
"""The published design: wording, place of the picture, split, negatives, rules of ablation, and the recipe (AdamW).

Its encoders, projector and language models are other settings, which the presets `study-…` have (docs/study.md). So are
its kinds of ablation: `data.ablation=random data.fraction=.5`, `data.ablation=systematic data.held_out=…`,
`data.ablation=none`.
"""

_PATCHES: Mapping[str, Mapping[str, Any]] = {
    "dinov2": {
        "model.encoder": "timm:vit_large_patch14_reg4_dinov2.lvd142m#224",
        "model.encoder_tokens": 256,
    },
    "siglip": {"model.encoder": "timm:vit_so400m_patch14_siglip_384.webli#384", "model.encoder_tokens": 729},
}
"""The study's encoders: penultimate block, every patch a token, pictures squashed."""


def _study_of(lm: str, encoder: str) -> Mapping[str, Any]:
    """The published design with a language model, an encoder and a projector of each patch, as published."""
    patches = _PATCHES[encoder]
    suffix = "" if encoder == "dinov2" else f"-{encoder}"
    return {
        **STUDY,
        **patches,
        "name": f"study-{lm.partition('/')[2].lower()}{suffix}",
        "model.lm": lm,
        "model.projector": "gelu-mlp",
        "model.hidden": 0,
        "model.image_tokens": patches["model.encoder_tokens"],
        "model.standardise": False,
        "model.normalise": False,
        "model.dtype": "bfloat16",
    }


_LMS = (
    "Qwen/Qwen3-0.6B",
    "Qwen/Qwen3-1.7B",
    "Qwen/Qwen3-8B",
    "meta-llama/Llama-3.2-1B",
    "meta-llama/Llama-3.2-1B-Instruct",
)
_PAIRS = (*((lm, "dinov2") for lm in _LMS), ("Qwen/Qwen3-1.7B", "siglip"))
_STUDIES = {str(flat["name"]): flat for flat in (_study_of(*pair) for pair in _PAIRS)}

PRESETS: Mapping[str, Mapping[str, Any]] = {"default": {}, "study": STUDY, **_STUDIES}


def preset(name: str) -> Mapping[str, Any]:
    """The settings of a preset by dotted key.

    Raises:
        KeyError: there is none of that name; lists the known ones.
    """
    if name not in PRESETS:
        raise KeyError(f"preset {name!r} was asked for; known: {', '.join(PRESETS)}")
    return PRESETS[name]
