"""Attention knock-out: chosen edges from query tokens to key tokens are blocked in a window of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from probing.hooks.layouts import Layout, layout_of

Edges = Sequence[tuple[int, int]]


def between(queries: Iterable[int], keys: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """All causal edges (query, key) from one span to another; a token's edge to itself is none of them.

    What the keys' tokens know cannot then reach the queries' tokens directly.

    >>> between((3, 4), (1, 3))  # a token's edge to itself, and edges to the future, are left out
    ((3, 1), (4, 1), (4, 3))
    """
    keys = tuple(keys)
    return tuple((query, key) for query in queries for key in keys if key < query)


@contextmanager
def knock_out(model: nn.Module, edges: Edges | Sequence[Edges], layers: Iterable[int]) -> Iterator[None]:
    """Forward passes inside the block in which, at these layers, no head's query sees the key of a blocked edge.

    A blocked edge has attention 0 and the others of its query share what is left, as the softmax does. No edge, or no
    layer, changes no bit.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size, attn_implementation="eager"))
    >>> ids = torch.arange(5)[None]
    >>> with knock_out(model, between([4], [1, 2]), layers=[0, 1]):
    ...     blocked = model(ids).logits
    >>> (blocked != model(ids).logits).any(-1)[0]
    tensor([False, False, False, False,  True])

    Args:
        model: a Hugging Face decoder with eager attention.
        edges: (query, key) positions in the whole sequence, cached prefix included; one list for all rows, or one for
            each row of the batch.
        layers: block indices from 0.

    Source: Geva, Bastings, Filippova & Globerson 2023, EMNLP, "Dissecting recall of factual associations", section 4.

    Raises:
        KeyError: a layer that the model does not have.
        ValueError: attention is not eager, an edge is not causal, or (when the model runs) a query or key is not in the
            pass, or a query would see nothing.
    """
    layout, chosen = layout_of(model), sorted(set(layers))
    rows = _by_row(edges)
    _check(layout, rows, chosen)
    handles: list[RemovableHandle] = []
    try:
        if any(rows):
            for layer in chosen:
                attention = getattr(layout.blocks[layer], layout.family.attention)
                handles.append(attention.register_forward_pre_hook(_blocking(rows), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _by_row(edges: Edges | Sequence[Edges]) -> list[list[tuple[int, int]]]:
    """One list of edges a row; a single one stands for all rows."""
    given: list[Any] = list(edges)
    if not given or isinstance(given[0][0] if len(given[0]) else None, int):
        given = [given]
    return [[(int(query), int(key)) for query, key in row] for row in given]


def _check(layout: Layout, rows: list[list[tuple[int, int]]], layers: list[int]) -> None:
    if wrong := [layer for layer in layers if not 0 <= layer < len(layout.blocks)]:
        raise KeyError(f"no layer {wrong[0]}; this model has layers 0 to {len(layout.blocks) - 1}")
    if backward := [edge for row in rows for edge in row if not 0 <= edge[1] <= edge[0]]:
        query, key = backward[0]
        raise ValueError(
            f"the edge from query {query} to key {key} is not causal: a key stands before its query"
        )
    if layout.streams_only:
        raise ValueError(
            f"edges were to be knocked out, but {layout.model_type!r} has the residual stream alone: its attention is "
            "not known"
        )
    implementation = getattr(getattr(layout.stack, "config", None), "_attn_implementation", None)
    if implementation != "eager":
        raise ValueError(
            f"edges were to be knocked out, but the model runs {implementation!r} attention, which may take no mask; "
            "call model.set_attn_implementation('eager') first"
        )


def _blocking(rows: list[list[tuple[int, int]]]) -> Callable[..., Any]:
    """A hook that hands the attention module a mask in which the edges are closed as well."""
    given: list[Tensor] = []  # the layers of a pass share a mask, so the closed one is made once
    closed: list[Tensor] = []

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        mask = kwargs.get("attention_mask")
        if not isinstance(mask, Tensor) or mask.ndim != 4:
            raise ValueError(
                f"attention was called with attention_mask={type(mask).__name__}, not with a mask over rows, heads, "
                "queries and keys; edges of this architecture cannot be knocked out"
            )
        if not given or given[0] is not mask:
            hidden = args[0] if args else kwargs["hidden_states"]
            given[:], closed[:] = [mask], [_closed(mask, rows, len(hidden))]
        return args, {**kwargs, "attention_mask": closed[0]}

    return hook


def _closed(mask: Tensor, rows: list[list[tuple[int, int]]], batch: int) -> Tensor:
    """The mask [rows, 1, queries, keys] in which blocked edges are closed like those to the future."""
    queries, keys = mask.shape[-2:]
    blocked = _blocked(rows, batch, queries, keys).to(mask.device)[:, None]
    boolean = mask.dtype == torch.bool
    open_before = mask if boolean else mask > torch.finfo(mask.dtype).min
    starved = (open_before & ~blocked).any(-1).logical_not() & blocked.any(-1)
    if starved.any():
        query = int(starved.nonzero()[0, -1]) + keys - queries
        raise ValueError(f"query {query} would see no key at all; leave it at least one, such as itself")
    if boolean:
        return mask & ~blocked
    return torch.where(blocked, torch.finfo(mask.dtype).min, mask)


def _blocked(
    rows: list[list[tuple[int, int]]], batch: int, queries: int, keys: int
) -> Bool[Tensor, "batch queries keys"]:
    """Which pairs are blocked; the queries of a pass are the last of its keys."""
    if len(rows) not in (1, batch):
        raise ValueError(
            f"edges were given for {len(rows)} rows, the pass has {batch}; give one list, or one a row"
        )
    first = keys - queries
    blocked = torch.zeros(len(rows), queries, keys, dtype=torch.bool)
    for row, edges in enumerate(rows):
        for query, key in edges:
            if not first <= query < keys:
                raise ValueError(
                    f"the query {query} of a blocked edge is not in this pass, which computes tokens {first} to "
                    f"{keys - 1} (those before are cached); leave such edges out"
                )
            blocked[row, query - first, key] = True
    return blocked.expand(batch, -1, -1)
