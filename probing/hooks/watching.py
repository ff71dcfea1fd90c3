"""watched(): what goes into and comes out of the modules of a model while it runs once on a few random tokens."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from probing.hooks.evaluating import evaluating


@dataclass(frozen=True)
class Call:
    """One call of a module: the first value that it was given, and the first that it gave, as copies."""

    given: Tensor
    out: Tensor


Calls = Mapping[str, Sequence[Call]]


def watched(model: nn.Module, tokens: Int[Tensor, "rows length"]) -> Calls:
    """Path of a module → its calls whose values have the rows and positions of the tokens.

    Raises:
        Exception: whatever the model raises when it is given these tokens alone.
    """
    calls: dict[str, list[Call]] = {path: [] for path, _ in model.named_modules()}
    parameters = inspect.signature(model.forward).parameters
    more = {"use_cache": False} if {"use_cache", "kwargs"} & set(parameters) else {}
    with evaluating(model), torch.inference_mode(), _noted(model, tuple(tokens.shape), calls):
        model(input_ids=tokens, **more)
    return {path: made for path, made in calls.items() if made}


@contextmanager
def _noted(model: nn.Module, shape: tuple[int, ...], calls: dict[str, list[Call]]) -> Iterator[None]:
    """A block in which every call is noted; what a module was given is copied before it may write into it."""
    entered: dict[str, list[Tensor | None]] = {path: [] for path in calls}

    def enter(path: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            value = args[0] if args else kwargs.get("hidden_states")
            entered[path].append(_copy(value, shape))

        return hook

    def leave(path: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            given = entered[path].pop()
            out = _copy(output[0] if isinstance(output, tuple) and output else output, shape)
            if given is not None and out is not None:
                calls[path].append(Call(given, out))

        return hook

    handles = []
    try:
        for path, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(enter(path), with_kwargs=True))
            handles.append(module.register_forward_hook(leave(path)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _copy(value: Any, shape: tuple[int, ...]) -> Tensor | None:
    fits = isinstance(value, Tensor) and value.ndim >= 3 and tuple(value.shape[:2]) == shape
    return value.clone() if fits else None
