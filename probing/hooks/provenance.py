"""Where activations come from: the identity of a model, of its weights, and of the libraries that ran it."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

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
        value = (
            value.to(dtype) if dtype and isinstance(value, Tensor) and value.is_floating_point() else value
        )
        kind = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        digest.update(f"{name} {kind}".encode())
        for part in state_bytes(name, value):
            digest.update(part.data)
    return digest.hexdigest()


def state_bytes(name: str, value: Any) -> list[UInt8[np.ndarray, "bytes"]]:
    """The bytes of one entry of a model's state: of a tensor, or of the parts of a quantised or wrapped one.

    Raises:
        ValueError: the entry is of a kind whose numbers cannot be read.
    """
    if isinstance(value, tuple | list):
        return [part for one in value for part in state_bytes(name, one)]
    if not isinstance(value, Tensor):
        return [np.frombuffer(repr(value).encode(), dtype=np.uint8)]
    if value.is_quantized:
        return [tensor_bytes(value.int_repr()), *state_bytes(name, str(value.qscheme())), *_steps(value)]
    if hasattr(value, "__tensor_flatten__"):
        inner, context = cast(Any, value).__tensor_flatten__()
        parts = [part for field in inner for part in state_bytes(name, getattr(value, field))]
        return [*parts, *state_bytes(name, context)]
    try:
        return [tensor_bytes(value)]
    except (NotImplementedError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{name} is a {type(value).__name__} on {value.device}, whose bytes cannot be read, so that activations "
            "would not say where they come from; load the model with plain weights"
        ) from error


def _steps(value: Tensor) -> list[UInt8[np.ndarray, "bytes"]]:
    """The bytes of the scales and zero points of a quantised tensor."""
    if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return state_bytes("", repr((value.q_scale(), value.q_zero_point())))
    return [tensor_bytes(value.q_per_channel_scales()), tensor_bytes(value.q_per_channel_zero_points())]


def require_weights(model: nn.Module) -> None:
    """Refuses a model some of whose weights are not in memory.

    Raises:
        ValueError: it has such weights.
    """
    tensors = itertools.chain(model.named_parameters(), model.named_buffers())
    if absent := [name for name, value in tensors if value.is_meta]:
        raise ValueError(
            f"{type(model).__name__} has {len(absent)} weights that are not in memory ({absent[0]}, ...: on the meta "
            "device, or offloaded by accelerate); load it whole, without offloading"
        )


def adapters_of(model: nn.Module) -> str:
    """The adapters that act in a model, as those of PEFT say it of themselves: which, how strongly, merged or not.

    Empty where it has none. Their weights are part of the model's state whether they act or not.

    >>> layer = nn.Linear(2, 2)
    >>> layer.active_adapters, layer.merged_adapters, layer.scaling = ["A"], [], {"A": 2.0, "B": 1.0}
    >>> adapters_of(nn.Sequential(layer))
    'A ×2 in 1 modules'
    """
    states = Counter(state for module in model.modules() if (state := _adapters_in(module)))
    return "; ".join(f"{state} in {count} modules" for state, count in sorted(states.items()))


def _adapters_in(module: nn.Module) -> str:
    active = getattr(module, "active_adapters", None)
    active = getattr(module, "active_adapter", None) if active is None or callable(active) else active
    if active is None or callable(active):
        return ""
    scaling = getattr(module, "scaling", None)

    def named(names: Any) -> str:
        listed = [names] if isinstance(names, str) else names
        strength = scaling if isinstance(scaling, Mapping) else {}
        return " + ".join(f"{n} ×{strength[n]:g}" if n in strength else str(n) for n in listed) or "none"

    merged = getattr(module, "merged_adapters", None) or (active if getattr(module, "merged", False) else ())
    off = " switched off" if getattr(module, "disable_adapters", False) is True else ""
    return named(active) + off + (f", merged {named(merged)}" if merged else "")


def tensor_bytes(value: Tensor) -> UInt8[np.ndarray, "bytes"]:
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
    if (adapters := adapters_of(model)) or "adapters" in attributes:
        attributes["adapters"] = adapters
    return attributes
