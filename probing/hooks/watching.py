"""watched(): what goes into and comes out of the modules of a model while it runs once on a few random tokens."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from probing.hooks.evaluating import evaluating


@dataclass(frozen=True)
class Call:
    """One call of a module: the first number tensor that it was given and the first that it gave, as copies.

    `more_given` and `more_out` are the other ones.
    """

    given: Tensor
    out: Tensor
    more_given: tuple[Tensor, ...]
    more_out: tuple[Tensor, ...]


Calls = Mapping[str, Sequence[Call]]


def watched(model: nn.Module, tokens: Int[Tensor, "rows length"]) -> Calls:
    """Path of a module → its calls that were given a state and gave one.

    Raises:
        Exception: whatever the model raises when it is given these tokens alone.
    """
    calls: dict[str, list[Call]] = {path: [] for path, _ in model.named_modules()}
    with_states = _others(model, len(tokens))
    with evaluating(model), torch.inference_mode(), _noted(model, calls):
        model(input_ids=tokens, **with_states)
    return {path: made for path, made in calls.items() if made}


def _others(model: Any, rows: int) -> dict[str, Any]:
    """What else the model is given: no cache, and something to read for blocks that are left out without a picture."""
    parameters = set(inspect.signature(model.forward).parameters)
    given: dict[str, Any] = {"use_cache": False} if {"use_cache", "kwargs"} & parameters else {}
    if "cross_attention_states" in parameters:
        given["cross_attention_states"] = torch.randn(rows, 4, model.config.get_text_config().hidden_size)
    return given


@contextmanager
def _noted(model: nn.Module, calls: dict[str, list[Call]]) -> Iterator[None]:
    """A block in which every call is noted; what a module was given is copied before it may write into it."""
    entered: dict[str, list[tuple[Tensor | None, tuple[Tensor, ...]]]] = {path: [] for path in calls}

    def enter(path: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            value = args[0] if args else kwargs.get("hidden_states")
            others = [other for other in (*args[1:], *kwargs.values()) if other is not value]
            entered[path].append((_state(value), _states(others)))

        return hook

    def leave(path: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            given, more_given = entered[path].pop()
            outputs = output if isinstance(output, tuple | list) else (output,)
            out = _state(outputs[0]) if outputs else None
            if given is not None and out is not None:
                calls[path].append(Call(given, out, more_given, _states(outputs[1:])))

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


def _states(values: Iterable[Any]) -> tuple[Tensor, ...]:
    return tuple(state for value in values if (state := _state(value)) is not None)


def _state(value: Any) -> Tensor | None:
    return value.clone() if isinstance(value, Tensor) and value.is_floating_point() else None
