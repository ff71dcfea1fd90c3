"""Every text and image-text-to-text model class of the installed transformers, tiny and random, from its config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers as hf
from transformers.models.auto import modeling_auto

from tests.probing.families.overrides import PICTURES, TEXT
from tests.probing.families.shrink import shrunk

KINDS: dict[str, tuple[Mapping[str, Any], Mapping[str, dict[str, Any]]]] = {
    "text": (modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, TEXT),
    "pictures": (modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, PICTURES),
}
MOST_PARAMETERS = 12_000_000

_LEFT_OUT = {"model_type", "transformers_version", "architectures", "torch_dtype", "dtype"}


def classes(kind: str) -> dict[str, type[hf.PreTrainedModel]]:
    """Model type → model class, each class once, of one kind."""
    names = dict.fromkeys(KINDS[kind][0].values())
    taken: dict[str, type[hf.PreTrainedModel]] = {}
    for model_class in (getattr(hf, name) for name in names):
        taken.setdefault(model_class.config_class.model_type, model_class)
    return taken


def build(name: str, kind: str) -> hf.PreTrainedModel:
    """A tiny random model in evaluation mode; the same weights each time.

    Raises:
        Exception: whatever transformers raises for a family that cannot be built here.
    """
    model_class = classes(kind)[name]
    config_class = model_class.config_class
    try:
        values = config_class().to_dict()
    except Exception:  # a config without usable defaults; the overrides are all there is
        values = {}
    small = _merged(shrunk(values), KINDS[kind][1].get(name, {}))
    config = config_class(**{key: value for key, value in small.items() if key not in _LEFT_OUT})
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in model_class._from_config(config).parameters())
    if size > MOST_PARAMETERS:
        raise ValueError(f"{size / 1e6:.0f} million parameters even with small sizes")
    torch.manual_seed(0)
    model = model_class._from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # Norm weights of 1, biases of 0 and tiny projections hide mistakes that trained weights would show.
            if parameter.is_floating_point():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def _merged(values: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """The values with some replaced, at every depth."""
    both = dict(values)
    for key, value in more.items():
        inner = both.get(key)
        both[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return both
