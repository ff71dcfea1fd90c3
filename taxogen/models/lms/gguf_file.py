"""GGUF files: what one declares of its architecture, sizes and tokenizer, without its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFValueType, ReaderField
from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

_MAGIC = b"GGUF"
_NO_WEIGHTS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


@dataclass(frozen=True)
class GgufFile:
    """What a GGUF file declares.

    Attributes:
        path: of the file.
        fields: metadata by key; of a list its length, but the values of yes and no.
        shapes: of the tensors by name, as torch has them.
        rope_factors: by which rotary frequencies are divided; None where the file has no such tensor.
    """

    path: Path
    fields: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    rope_factors: np.ndarray | None

    @property
    def architecture(self) -> str:
        """Such as `llama` or `gemma3`."""
        return str(self.fields.get("general.architecture", ""))

    def declared(self, key: str) -> Any:
        """Metadata of the architecture, such as `attention.key_length`; None where it is not declared."""
        return self.fields.get(f"{self.architecture}.{key}")

    def tokenizer(self, key: str) -> Any:
        """Metadata of the tokenizer, such as `bos_token_id`; None where it is not declared."""
        return self.fields.get(f"tokenizer.ggml.{key}")

    def size(self, without: tuple[str, ...] = ()) -> int:
        """The number of its weights."""
        left_out = (*_NO_WEIGHTS, *without)
        return sum(math.prod(shape) for name, shape in self.shapes.items() if name not in left_out)

    def refusal(self, reason: str) -> str:
        """A message about this file."""
        return refusal(self.path, reason)


def refusal(path: Path, reason: str) -> str:
    """A message about a file that was asked for as a language model."""
    return f"The language model {str(path)!r} was asked for; {reason}"


def names_file(name: str) -> bool:
    """Whether a language model's name is that of a file, which is read as GGUF; folders and hub names are not."""
    path = Path(name).expanduser()
    return path.is_file() or (path.suffix.lower() == ".gguf" and not path.is_dir())


def require_file(path: Path) -> None:
    """Refuses what is no GGUF file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it begins with other bytes than a GGUF file.
    """
    if not path.is_file():
        raise FileNotFoundError(refusal(path, "there is no such file. Give the path of a GGUF file"))
    with path.open("rb") as file:
        start = file.read(len(_MAGIC))
    if start != _MAGIC:
        raise ValueError(
            refusal(
                path, f"it is no GGUF file: it begins with {start!r}. Give a GGUF file, or a model's folder"
            )
        )


def read(path: Path) -> GgufFile:
    """What a GGUF file declares.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no GGUF file, is cut short, is a part of a split one, or is of an unknown architecture.
    """
    require_file(path)
    try:
        reader = GGUFReader(path)
        fields = {name: _value(field) for name, field in reader.fields.items()}
        shapes = {tensor.name: tuple(reversed(tensor.shape.tolist())) for tensor in reader.tensors}
        factors = [np.array(tensor.data) for tensor in reader.tensors if tensor.name == _NO_WEIGHTS[0]]
    except Exception as error:  # the reader slices beyond the end of a file, and raises whatever comes of it
        reason = " ".join(str(error).split())
        raise ValueError(
            refusal(path, f"it is cut short or damaged ({reason}). Get it again, and compare its SHA-256")
        ) from error
    file = GgufFile(path, fields, shapes, factors[0] if factors else None)
    _require_whole(file)
    _require_known(file)
    return file


def known_architectures() -> tuple[str, ...]:
    """Architectures that transformers reads from GGUF as a causal language model, in its spelling."""
    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return tuple(
        sorted(name for name in GGUF_SUPPORTED_ARCHITECTURES if {name, f"{name}_text"} & causal.keys())
    )


def _require_whole(file: GgufFile) -> None:
    parts = int(file.fields.get("split.count", 1))
    if parts > 1:
        number = int(file.fields.get("split.no", 0)) + 1
        raise ValueError(
            file.refusal(
                f"it is part {number} of {parts} of a split model. Join them with llama.cpp, `llama-gguf-split --merge "
                "FIRST-PART WHOLE.gguf`, and give the whole file"
            )
        )


def _require_known(file: GgufFile) -> None:
    spelled = {name.replace("_", ""): name for name in known_architectures()}
    if file.architecture.replace("_", "").replace("-", "") not in spelled:
        raise ValueError(
            file.refusal(
                f"it is of the architecture {file.architecture!r}, and transformers reads "
                f"{', '.join(spelled.values())} from GGUF. Give the model's folder as save_pretrained wrote it"
            )
        )


def _value(field: ReaderField) -> Any:
    """The value of a metadata field; of a list its length, but the values of yes and no."""
    if field.types[0] == GGUFValueType.ARRAY:
        if field.types[-1] == GGUFValueType.BOOL:
            return tuple(bool(field.parts[at][0]) for at in field.data)
        return len(field.data)
    value = field.parts[field.data[0]]
    if field.types[0] == GGUFValueType.STRING:
        return bytes(value).decode("utf-8")
    return value[0].item()
