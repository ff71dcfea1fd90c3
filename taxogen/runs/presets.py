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

Its encoders and language models are other settings: `model.encoder`, `model.lm`. So are its kinds of ablation:
`data.ablation=random data.fraction=.5`, `data.ablation=systematic data.held_out=…`, `data.ablation=none`.
"""

PRESETS: Mapping[str, Mapping[str, Any]] = {"default": {}, "study": STUDY}


def preset(name: str) -> Mapping[str, Any]:
    """The settings of a preset by dotted key.

    Raises:
        KeyError: there is none of that name; lists the known ones.
    """
    if name not in PRESETS:
        raise KeyError(f"preset {name!r} was asked for; known: {', '.join(PRESETS)}")
    return PRESETS[name]
