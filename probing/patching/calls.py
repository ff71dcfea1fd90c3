"""Calls of a model's blocks: the arguments that the model itself gave them, with which they can be called again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import Cache


@dataclass(frozen=True)
class Call:
    """The arguments with which the model called a block; the state and the cache are put in anew."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self, block: nn.Module, hidden: Tensor, cache: Cache) -> Tensor:
        """What the block makes of a state, behind the tokens in the cache."""
        args = [cache if isinstance(value, Cache) else value for value in self.args]
        kwargs = {k: cache if isinstance(value, Cache) else value for k, value in self.kwargs.items()}
        if "hidden_states" in kwargs:
            kwargs["hidden_states"] = hidden
        else:
            args[0] = hidden
        out = block(*args, **kwargs)
        return out if isinstance(out, Tensor) else out[0]


@contextmanager
def observed(blocks: Sequence[nn.Module], calls: list[Call]) -> Iterator[None]:
    """A block in which the arguments of every call of the blocks are noted; nothing is changed."""

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append(Call(args, dict(kwargs)))

    handles = [block.register_forward_pre_hook(note, with_kwargs=True) for block in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
