"""Loading: a released vision-language model with its processor, by hub name or folder."""

from __future__ import annotations

import importlib.util
import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)
from transformers.models.auto.processing_auto import processor_class_from_name
from transformers.processing_utils import ProcessorMixin
from transformers.utils.hub import cached_file

from probing.capture.text_stack import TextStack
from probing.hooks.provenance import weight_hash
from taxogen.models import devices, lms, tokenizers, weights


@dataclass(frozen=True)
class Released:
    """A vision-language model, frozen, and the processor that makes its inputs.

    Attributes:
        model: as `AutoModelForImageTextToText` gives it, in evaluation mode.
        processor: of pictures and texts.
        name: as asked for.
        revision: hub commit, or hash of the weights.
    """

    model: Any
    processor: Any
    name: str
    revision: str

    @property
    def tokenizer(self) -> Any:
        """That of the processor."""
        return self.processor.tokenizer

    @cached_property
    def text(self) -> TextStack:
        """Its decoder, with the output matrix."""
        return TextStack(self.model)

    def lm(self) -> lms.LM:
        """The decoder as a frozen language model."""
        return lms.LM(
            model=self.text,  # pyright: ignore[reportArgumentType]
            tokenizer=self.tokenizer,
            name=self.name,
            revision=self.revision,
            init="pretrained",
            seed=-1,
            start_token_id=lms.start_token_id(self.tokenizer),
        )

    @cached_property
    def picture_side(self) -> dict[str, str]:
        """Identity of what makes picture tokens: weights outside the decoder and its output matrix, and processing."""
        text = {id(value) for value in self.text.state_dict(keep_vars=True).values()}
        rest = nn.Module()
        for number, (name, value) in enumerate(self.model.state_dict(keep_vars=True).items()):
            if id(value) not in text:
                rest.register_buffer(f"{number:06d}_{name.replace('.', '_')}", value.detach())
        processing = getattr(self.processor, "image_processor", self.processor).to_dict()
        return {
            "weights": weight_hash(rest),
            "config": weights.config_hash(self.model.config),
            "processing": weights.text_hash([processing, tokenizers.tokenizer_hash(self.tokenizer)]),
        }


def load(name: str, dtype: str = "auto", device: str = "auto") -> Released:
    """A frozen vision-language model by hub name or folder.

    Args:
        name: of a model that `AutoModelForImageTextToText` and `AutoProcessor` read.
        dtype: a torch number type; auto: bfloat16 where the device computes it in hardware, else float32.
        device: as `model.device`.

    Raises:
        FileNotFoundError: no such folder, or no hub that gives it.
        ModuleNotFoundError: a package that its processor needs is not installed.
        ValueError: it is no vision-language model, or cannot be read, or the device has too little memory.
        MismatchError: weights are missing, or not those of the configuration.
    """
    place = devices.resolve(device)
    kind = lms.native_dtype(str(place)) if dtype == "auto" else getattr(torch, dtype)
    with weights.fetching("vision-language model", name, embedded=""):
        config = AutoConfig.from_pretrained(name)
        processor = _processor(name)
    if type(config) not in AutoModelForImageTextToText._model_mapping:
        raise ValueError(
            f"the vision-language model {name!r} was asked for; it is a {config.model_type} model, which reads no "
            "pictures beside text: train a projector in front of it with `taxogen train --set model.lm=…`"
        )

    def needed() -> int:
        with torch.device("meta"):
            empty = AutoModelForImageTextToText.from_config(config)
        return sum(weight.numel() for weight in empty.parameters()) * kind.itemsize

    devices.require_room(needed, place, f"the vision-language model {name}")
    model, missing = weights.pretrained(
        AutoModelForImageTextToText, "vision-language model", name, "", kind, attn_implementation="eager"
    )
    if missing:
        raise weights.unlike_configuration("vision-language model", name, missing, "missing")
    commit = getattr(config, "_commit_hash", None)
    revision = commit or f"sha256:{weight_hash(model)[:16]}"
    return Released(weights.freeze(model.to(place)), processor, str(name), revision)


def _processor(name: str) -> Any:
    """The processor of a model; without videos where torchvision, which they need, is not installed."""
    try:
        return AutoProcessor.from_pretrained(name, backend="pil")
    except (ImportError, AttributeError, ValueError):
        settings, _ = ProcessorMixin.get_processor_dict(name)
        known: Any = processor_class_from_name(settings.get("processor_class", ""))
        if importlib.util.find_spec("torchvision") or "video_processor" not in known.get_attributes():
            raise

        class PicturesOnly(known):
            def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
                return (
                    None
                    if argument is None
                    else super().check_argument_for_proper_class(argument_name, argument)
                )

        PicturesOnly.__name__ = known.__name__
        return PicturesOnly(
            image_processor=AutoImageProcessor.from_pretrained(name, backend="pil"),
            tokenizer=AutoTokenizer.from_pretrained(name),
            video_processor=None,
            **{
                name: value for name, value in settings.items() if name in inspect.signature(known).parameters
            },
            **({} if settings.get("chat_template") else {"chat_template": _chat_template(name)}),
        )


def _chat_template(name: str) -> str | None:
    found = cached_file(name, "chat_template.jinja", _raise_exceptions_for_missing_entries=False)
    if not found:
        return None
    with open(found, encoding="utf-8") as file:
        return file.read()
