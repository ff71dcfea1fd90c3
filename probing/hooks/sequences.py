"""Rows of a batch as a model gets them: padding behind the tokens, positions that the model counts, shared prefixes.

A model with padding between a shared prefix and the rest would see it in sliding windows and in recurrent states, and
several models count positions otherwise than one a token (M-RoPE: Qwen-VL, GLM-4V, ...). So rows are moved to the
left, positions that only count are left to the model, and those behind a prefix go on where the model's own end.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import DynamicCache


def length_of(inputs: Mapping[str, Any]) -> int:
    """How many positions the model is given.

    Raises:
        ValueError: there are no tokens.
    """
    for name in ("inputs_embeds", "input_ids"):
        if inputs.get(name) is not None:
            return int(inputs[name].shape[1])
    raise ValueError(f"the inputs of a batch need input_ids or inputs_embeds, found {', '.join(inputs)}")


def token_mask(inputs: Mapping[str, Any]) -> Tensor | None:
    """The attention mask with 1 for each token that is no padding; None where there is none of that kind.

    Masks that are made already, [rows, heads, tokens, tokens] or one of each kind of layer, hide nothing but what the
    model hides.
    """
    mask = inputs.get("attention_mask")
    if isinstance(mask, Mapping):
        return None
    ready = mask is not None and mask.ndim == 4 and mask.shape[-2] == length_of(inputs)
    return None if ready else mask


def per_token(inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """The inputs with a value a token, [rows, length, ...], the attention mask and the positions apart."""
    first = next(inputs[name] for name in ("inputs_embeds", "input_ids") if inputs.get(name) is not None)
    return {
        name: value
        for name, value in inputs.items()
        if isinstance(value, Tensor)
        and value.shape[:2] == first.shape[:2]
        and name not in ("attention_mask", "position_ids")
        and (name == "inputs_embeds" or not value.is_floating_point())
    }


def has_own_positions(model: nn.Module) -> bool:
    """Whether the model makes positions from more than the tokens' order: pictures take fewer than one a token.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> has_own_positions(LlamaForCausalLM(LlamaConfig(**size)))
    False
    """
    return any(hasattr(part, "get_rope_index") or hasattr(part, "rope_deltas") for part in model.modules())


def aligned(inputs: Mapping[str, Any], offset: int = 0) -> tuple[dict[str, Any], Int[Tensor, " rows"] | None]:
    """The inputs with padding behind the tokens of each row, and how far each row was moved; None where none was.

    >>> ids, mask = torch.tensor([[0, 0, 7, 8]]), torch.tensor([[0, 0, 1, 1]])
    >>> moved, by = aligned({"input_ids": ids, "attention_mask": mask})
    >>> moved["input_ids"].tolist(), by.tolist()
    ([[7, 8, 0, 0]], [2])

    Args:
        inputs: the model's arguments.
        offset: how many positions of the mask are a prefix, which stays.
    """
    mask = token_mask(inputs)
    if mask is None:
        return dict(inputs), None
    starts = mask[:, offset:].bool().int().argmax(1)
    if not starts.any():
        return dict(inputs), None
    columns = torch.arange(mask.shape[1] - offset, device=mask.device)
    order = (columns + starts[:, None]) % len(columns)
    row = torch.arange(len(mask), device=mask.device)[:, None]
    moved = dict(inputs) | {name: value[row, order] for name, value in per_token(inputs).items()}
    moved["attention_mask"] = torch.cat([mask[:, :offset], mask[:, offset:][row, order]], 1)
    if (positions := inputs.get("position_ids")) is not None:
        moved["position_ids"] = positions.expand(*positions.shape[:-2], len(mask), -1)[..., row, order]
    return moved, starts


def without_counting(inputs: Mapping[str, Any], offset: int = 0) -> dict[str, Any]:
    """The inputs without position ids that only count the tokens, for every model counts so unless it knows better.

    They stay where the rows are embeddings, from which no model can tell where a picture is.
    """
    given = inputs.get("position_ids")
    if given is None or given.ndim != 2 or inputs.get("input_ids") is None:
        return dict(inputs)
    mask = token_mask(inputs)
    counted = torch.arange(offset, offset + given.shape[1], device=given.device)
    same = given == counted
    if not bool((same if mask is None else same | ~mask[:, offset:].bool()).all()):
        return dict(inputs)
    return {name: value for name, value in inputs.items() if name != "position_ids"}


@dataclass(frozen=True)
class Prefix:
    """A prefix that went through a model: its keys and values, and the position of the token after each row."""

    cache: DynamicCache
    next: Int[Tensor, " rows"]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        stack: nn.Module,
        inputs: Mapping[str, Any],
        run: Callable[[dict[str, Any]], object],
    ) -> Prefix:
        """The prefix after a pass over it; `run` takes the model's arguments.

        The next position is one after the largest that the model handed to its stack: pictures take fewer than one a
        token in M-RoPE, and some models count from 1.
        """
        config: Any = model.config
        cache = DynamicCache(config=config.get_text_config(decoder=True))
        with positions_noted(stack) as noted:
            run({**inputs, "past_key_values": cache, "use_cache": True})
        rows = len(next(iter(per_token(inputs).values())))
        return cls(cache, next_positions(noted, rows, length_of(inputs)))

    def positions(self, rest: Mapping[str, Any], rows: Int[Tensor, " batch"]) -> dict[str, Any]:
        """The arguments for rows that continue some of the prefix, with positions that go on from there."""
        if rest.get("position_ids") is not None:
            return dict(rest)
        counted = torch.arange(length_of(rest), device=self.next.device)
        return {**rest, "position_ids": counted + self.next[rows.to(self.next.device)][:, None]}

    def continued(self, rows: Int[Tensor, " batch"]) -> dict[str, Any]:
        """The arguments that hand the cached rows to a pass."""
        return {"past_key_values": select_rows(self.cache, rows), "use_cache": True}


@contextmanager
def arguments_noted(stack: nn.Module) -> Iterator[list[Mapping[str, Any]]]:
    """A list of the arguments that a model hands to its decoder stack inside the block."""
    noted: list[Mapping[str, Any]] = []
    handle = stack.register_forward_pre_hook(lambda _, args, named: noted.append(named), with_kwargs=True)
    try:
        yield noted
    finally:
        handle.remove()


@contextmanager
def positions_noted(stack: nn.Module) -> Iterator[list[Tensor]]:
    """A list of the positions that a model hands to its decoder stack inside the block."""
    noted: list[Tensor] = []

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if isinstance(kwargs.get("position_ids"), Tensor):
            noted.append(kwargs["position_ids"])

    handle = stack.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield noted
    finally:
        handle.remove()


def next_positions(noted: list[Tensor], rows: int, length: int) -> Int[Tensor, " rows"]:
    """The position of the token that follows each row: one after the largest that the model used.

    >>> next_positions([torch.tensor([[[0, 1, 1]], [[0, 1, 2]], [[0, 1, 1]]])], rows=2, length=3)
    tensor([3, 3])
    """
    if not noted:
        return torch.full((rows,), length)
    positions = noted[-1].amax(0) if noted[-1].ndim == 3 else noted[-1]
    return (positions.amax(-1) + 1).expand(rows)


@torch.inference_mode()
def select_rows(cache: DynamicCache, index: Tensor) -> DynamicCache:
    """A cache of its own with the given rows of another, which stays as it is; a row may come several times."""
    chosen = copy.copy(cache)
    chosen.layers = [_selected(layer, index) for layer in cache.layers]
    return chosen


def _selected(layer: Any, index: Tensor) -> Any:
    layer = copy.copy(layer)
    if not hasattr(layer, "conv_states"):
        layer.batch_select_indices(index)
        return layer
    # A layer with recurrent states keeps them in dictionaries, and a pass writes into them.
    vars(layer).update({name: dict(value) for name, value in vars(layer).items() if isinstance(value, dict)})
    layer.reorder_cache(index)
    return layer
