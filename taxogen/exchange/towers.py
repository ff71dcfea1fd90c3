"""Tower: an image encoder of a run as LLaVA takes one: a transformers model, a layer of it, and an image processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from taxogen.exchange import saliency
from taxogen.models import encoders
from taxogen.models.encoders import from_transformers

FALLBACK = ("vit-s14-saliency", 256)
"""An embedded encoder that LLaVA can take, and the tokens of its grid."""


@dataclass(frozen=True)
class Tower:
    """What of a LLaVA is about pictures.

    Attributes:
        model: the vision transformer.
        processor: gives its pixels.
        layer: index of the features among its hidden states (`vision_feature_layer`).
        strategy: `default` where a class token stands before the patches, else `full`.
        patch: side of a patch in pixels.
    """

    model: PreTrainedModel
    processor: Any
    layer: int
    strategy: Literal["default", "full"]
    patch: int

    @property
    def special_tokens(self) -> int:
        """Tokens before the patches: 1, or 0."""
        return int(self.strategy == "default")


def has_class(name: str) -> bool:
    """Whether transformers has a class for an encoder of this name."""
    others = set(encoders.EMBEDDED) - {FALLBACK[0]}
    return name not in others and not name.startswith("timm:")


def tower(name: str) -> Tower:
    """The tower of an encoder.

    Raises:
        ValueError: LLaVA cannot take its features: registers stand among them, patches are not square, or they are
            normed after the last block.
        FileNotFoundError, MismatchError: as `encoders.load`.
    """
    if name == FALLBACK[0]:
        return Tower(saliency.dinov2(), saliency.image_processor(), -2, "default", saliency.PATCH)
    processor, model = from_transformers.opened(name)
    pixels = processor(images=from_transformers.BLANK, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        output = model(pixel_values=pixels, output_hidden_states=True)
    final = name.endswith("#final")
    if final and not torch.equal(output.hidden_states[-1], output.last_hidden_state):
        raise _refusal(name, f"are normed after the last block; take {name.removesuffix('#final')!r}")
    patch = model.config.patch_size
    if not isinstance(patch, int):
        raise _refusal(name, f"are of patches of {patch} pixels, which are not square; take another")
    special = output.hidden_states[-1].shape[1] - (pixels.shape[2] // patch) * (pixels.shape[3] // patch)
    if special > 1:
        raise _refusal(name, f"have {special} tokens before the patches (registers); take one without")
    return Tower(model, processor, -1 if final else -2, "default" if special else "full", patch)


def _refusal(name: str, why: str) -> ValueError:
    return ValueError(
        f"the encoder {name!r} cannot stand in a LLaVA: its features {why}, and train another run"
    )
