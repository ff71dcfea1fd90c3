"""Frozen language models: the embedded SmolLM2-135M, a GGUF file, or any Hugging Face causal LM by name or path."""

from __future__ import annotations

from taxogen.models.lms.loading import INITS, LM, Init, load, native_dtype, parameters
from taxogen.models.lms.sources import (
    EMBEDDED,
    REQUIREMENT,
    embedded_folder,
    folder_of,
    require,
    requirements,
)
from taxogen.models.tokenizers import start_token_id

__all__ = [
    "EMBEDDED",
    "INITS",
    "LM",
    "REQUIREMENT",
    "Init",
    "embedded_folder",
    "folder_of",
    "load",
    "native_dtype",
    "parameters",
    "require",
    "requirements",
    "start_token_id",
]
