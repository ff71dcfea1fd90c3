"""Where activations come from: the identity of a model, of its weights, and of the libraries that ran it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

_LIBRARIES = ("taxoprobe", "torch", "transformers", "h5py", "numpy")


def library_versions(extra: tuple[str, ...] = ()) -> dict[str, str]:
    """Name → version of the libraries that take part in a capture; `not installed` where one is missing."""
    versions = {}
    for name in (*_LIBRARIES, *extra):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def weight_hash(model: nn.Module, dtype: torch.dtype | None = None) -> str:
    """SHA-256 over the names, shapes, dtypes and bytes of a model's state, in hexadecimal.

    With `dtype`, of the same numbers in that type, one tensor at a time.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        value = value.to(dtype) if dtype and value.is_floating_point() else value
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(tensor_bytes(value).data)
    return digest.hexdigest()


def tensor_bytes(value: torch.Tensor) -> UInt8[np.ndarray, "bytes"]:
    """The bytes of a tensor's values in order, on the host."""
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def model_attributes(model: nn.Module, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given attributes, and the model's id, revision, weights, dtype and attention where not given."""
    config = getattr(model, "config", None)
    text = config.get_text_config() if config is not None and hasattr(config, "get_text_config") else config
    attributes = {
        "model": getattr(config, "_name_or_path", "") or type(model).__name__,
        "revision": getattr(config, "_commit_hash", None) or "",
        "model_dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "attention": getattr(text, "_attn_implementation", "") or "",
        **given,
    }
    if "weight_hash" not in attributes:
        attributes["weight_hash"] = weight_hash(model)
    return attributes
