"""Runs: rows of one length that a model is run on, and the stored parts of a forward pass over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probing.hooks import Edit, edit, record
from probing.hooks.layouts import layout_of
from probing.hooks.sequences import arguments_noted, token_mask
from probing.patching.alignment import EACH, Alignment, write
from probing.patching.cells import Patch
from probing.sites import Site

Read = Callable[[Tensor], Tensor]
"""From last hidden states [rows, width] to the measured numbers [rows, candidates]."""


@dataclass(frozen=True)
class Rows:
    """Rows of one length, whose spans stand at the same positions, without padding.

    >>> rows = Rows(lambda: {"input_ids": torch.arange(6)[None]}, spans={"noun": (2,), "last": (5,)}, skip=1)
    >>> rows.positions("noun")
    (1,)

    Attributes:
        inputs: makes the model's inputs, fresh each time: a pass fills the cache it is given.
        spans: name → positions in the whole sequence.
        skip: how many first tokens come in as cached keys and values; their states are not touched.
    """

    inputs: Callable[[], Mapping[str, Any]]
    spans: Mapping[str, tuple[int, ...]]
    skip: int = 0

    def positions(self, span: str) -> tuple[int, ...]:
        """Where a span is in the tokens that are not skipped.

        Raises:
            KeyError: no such span.
            ValueError: it lies in the skipped prefix.
        """
        if span not in self.spans:
            raise KeyError(f"the rows have no span {span!r}; they have {', '.join(self.spans)}")
        places = self.spans[span]
        if not places or min(places) < self.skip:
            raise ValueError(
                f"span {span!r} is at {list(places)}, and the first {self.skip} tokens are a cached prefix that "
                "all rows share: nothing can be patched there"
            )
        return tuple(place - self.skip for place in places)


@dataclass(frozen=True)
class Kept:
    """One forward pass, kept so that patched runs can start in its middle.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> rows = Rows(lambda: {"input_ids": torch.arange(6)[None]}, spans={"noun": (2,), "last": (5,)})
    >>> kept = keep(model, rows)
    >>> len(kept.states), tuple(kept.hidden.shape)  # inputs of two blocks, output of the last
    (3, (1, 6, 8))

    Attributes:
        rows: the rows of the pass.
        states: the input of each block, and the output of the last one: [rows, tokens after the prefix, width].
        past: keys and values of each layer, of all tokens.
        hidden: after the last norm, [rows, tokens after the prefix, width].
        given: the arguments that the model handed to its stack for these tokens.
        added: block → what the model itself adds to the stream in front of it, in float32, where that is not zero:
            deeper features of the picture in Qwen3-VL.
    """

    rows: Rows
    states: tuple[Float[Tensor, "rows token width"], ...]
    past: tuple[tuple[Tensor, Tensor], ...]
    hidden: Float[Tensor, "rows token width"]
    given: Mapping[str, Any] = field(default_factory=dict)
    added: Mapping[int, Float[Tensor, "rows token width"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.hidden)

    def behind(self, layer: int) -> Float[Tensor, "rows token width"]:
        """The output of a block, before the model adds anything to the stream."""
        state = self.states[layer + 1]
        return (state - self.added[layer + 1]).to(state.dtype) if layer + 1 in self.added else state

    def entering(self, hidden: Tensor, layer: int, start: int) -> Tensor:
        """The state in front of a block from that behind the one before, of tokens from `start` on: with what is added.

        `hidden` holds one row, or all rows a number of times.
        """
        if layer not in self.added:
            return hidden
        added = self.added[layer][: len(hidden), start:]
        return (hidden + added.repeat(len(hidden) // max(1, len(added)), 1, 1)).to(hidden.dtype)

    def position_ids(self, start: int) -> Tensor:
        """The positions of the first row's tokens from `start` on: those the model gave, or one a token."""
        skip, own = self.rows.skip, self.given.get("position_ids")
        if own is None:
            return torch.arange(skip + start, skip + self.hidden.shape[1], device=self.hidden.device)[None]
        rows = own if own.shape[-2] == 1 else own[..., :1, :]
        return rows[..., start:]

    def attention_mask(self, start: int) -> Any:
        """The first row's masks for these tokens, where the model made them itself; no row is padded otherwise."""
        mask = self.given.get("attention_mask")
        if isinstance(mask, Mapping):
            return {kind: None if one is None else one[:1, :, start:] for kind, one in mask.items()}
        return mask[:1, :, start:] if isinstance(mask, Tensor) and mask.ndim == 4 else None


def forward(model: nn.Module, rows: Rows) -> Any:
    """The output of the model without its output matrix over the rows, cache and all.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> rows = Rows(lambda: {"input_ids": torch.arange(6)[None]}, spans={"noun": (2,), "last": (5,)})
    >>> tuple(forward(model, rows).last_hidden_state.shape)
    (1, 6, 8)

    Raises:
        ValueError: a mask leaves tokens out.
    """
    inputs = dict(rows.inputs())
    mask = token_mask(inputs)
    if mask is not None and not bool(mask.all()):
        raise ValueError("a row is padded: patched rows have one length; put rows of other lengths apart")
    stack: Any = model
    return stack.base_model(**{**inputs, "use_cache": True})


@torch.no_grad()
def keep(model: nn.Module, rows: Rows) -> Kept:
    """One forward pass over the rows, with all that a restart needs.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> rows = Rows(lambda: {"input_ids": torch.arange(6)[None]}, spans={"noun": (2,), "last": (5,)})
    >>> len(keep(model, rows))  # rows
    1

    Raises:
        ValueError: a row is padded, or a layer does not keep the keys of all tokens (sliding windows).
    """
    layers = len(layout_of(model).blocks)
    with arguments_noted(layout_of(model).stack) as noted:
        out, states, added = _between(model, rows)
    past = tuple((layer.keys, layer.values) for layer in out.past_key_values.layers)
    length = rows.skip + out.last_hidden_state.shape[1]
    short = [at for at, (keys, _) in enumerate(past) if keys.shape[-2] != length]
    if len(past) != layers or short:
        raise ValueError(
            f"a restart needs the keys of all {length} tokens in all {layers} layers; layers {short or len(past)} "
            "keep fewer (a sliding window?): patch with patched_by_hooks"
        )
    if added:
        _refuse_changing(model, rows, added)
    given = {name: noted[-1][name] for name in ("position_ids", "attention_mask") if name in noted[-1]}
    return Kept(rows, states, past, out.last_hidden_state, given, added)


def _between(
    model: nn.Module, rows: Rows, edits: Mapping[str | Site, Edit] | None = None
) -> tuple[Any, tuple[Tensor, ...], dict[int, Tensor]]:
    """The output of a pass, the states of `Kept`, and what the model adds between its blocks."""
    layers = len(layout_of(model).blocks)
    entering = [f"blocks.{layer}.hook_resid_pre" for layer in range(layers)]
    behind = [f"blocks.{layer}.hook_resid_post" for layer in range(layers)]
    last: list[Tensor] = []
    added: dict[int, Tensor] = {}

    def take(site: Site, value: Tensor) -> Tensor:
        if site.point == "hook_resid_pre" and last:
            difference = value.float() - last.pop().float()
            if bool(difference.any()):
                assert site.layer is not None
                added[site.layer] = difference
        elif site.point == "hook_resid_post" and site.layer != layers - 1:
            last[:] = [value]
            return value[:0]
        return value

    with edit(model, edits or {}), record(model, [*entering, *behind], take=take) as seen:
        out = forward(model, rows)
    return out, tuple(seen[name] for name in [*entering, behind[-1]]), added


def _refuse_changing(model: nn.Module, rows: Rows, added: Mapping[int, Tensor]) -> None:
    """Refuses a model that adds something else between its blocks where their states are others."""
    _, states, other = _between(model, rows, {"blocks.0.hook_resid_pre": lambda value: value.flip(-1)})
    for layer in sorted({*added, *other}):
        here, there = (one.get(layer, torch.zeros(())) for one in (added, other))
        if bool(
            (
                (here - there).abs() > 4 * torch.finfo(states[layer].dtype).eps * states[layer].abs().max()
            ).any()
        ):
            raise ValueError(
                f"what the model puts between blocks {layer - 1} and {layer} depends on their states, and a restart "
                "can only add what is fixed: patch with patched_by_hooks"
            )


@torch.no_grad()
def span_states(
    model: nn.Module, rows: Rows, sites: Sequence[Site], alignments: Mapping[str, Alignment]
) -> tuple[dict[tuple[str, str], Float[Tensor, "rows n *rest"]], Float[Tensor, "rows width"]]:
    """(site, span) → the state of the span in each row, as its alignment reads it; and the last hidden states.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> rows = Rows(lambda: {"input_ids": torch.arange(6)[None]}, spans={"noun": (2,), "last": (5,)})
    >>> states, _ = span_states(model, rows, [Site("hook_resid_post", 0)], {"noun": EACH})
    >>> {key: tuple(value.shape) for key, value in states.items()}
    {('blocks.0.hook_resid_post', 'noun'): (1, 1, 8)}
    """
    states: dict[tuple[str, str], Tensor] = {}

    def take(site: Site, value: Tensor) -> Tensor:
        for span, alignment in alignments.items():
            states[str(site), span] = alignment.read(value, rows.positions(span)).clone()
        return value[:0]

    with record(model, sites, take=take):
        out = forward(model, rows)
    return states, out.last_hidden_state[:, -1]


def edits_of(rows: Rows, patch: Patch, alignment: Alignment) -> dict[str | Site, Edit]:
    """The edits with which `probing.hooks.edit` runs the rows with a patch.

    >>> from probing.patching import Cell
    >>> rows = Rows(lambda: {"input_ids": torch.arange(6)[None]}, spans={"noun": (2,), "last": (5,)})
    >>> cell = Cell((Site("hook_resid_post", 0),), "noun")
    >>> edits = edits_of(rows, Patch(cell, {"blocks.0.hook_resid_post": torch.ones(1, 1, 2)}), EACH)
    >>> edits[Site("hook_resid_post", 0)](torch.zeros(1, 6, 2))[0, :, 0]
    tensor([0., 0., 1., 0., 0., 0.])
    """
    places = alignment.target(rows.positions(patch.cell.span))

    def put(site: Site) -> Edit:
        return lambda value: write(value, places, patch.states[str(site)], patch.cell.head)

    return {site: put(site) for site in patch.cell.sites}


@torch.no_grad()
def patched_by_hooks(
    model: nn.Module, rows: Rows, patch: Patch, read: Read, alignment: Alignment = EACH
) -> Float[Tensor, "rows candidates"]:
    """The answers of a patched run, by running the whole model with hooks: the plain way, for any model.

    >>> from probing.patching import Answers, Cell
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> rows = Rows(lambda: {"input_ids": torch.arange(6)[None]}, spans={"noun": (2,), "last": (5,)})
    >>> cell = Cell((Site("hook_resid_post", 0),), "noun")
    >>> patch = Patch(cell, {"blocks.0.hook_resid_post": torch.zeros(1, 1, 8)})
    >>> tuple(patched_by_hooks(model, rows, patch, Answers.of(model, [3, 7])).shape)
    (1, 2)
    """
    with edit(model, edits_of(rows, patch, alignment)):
        return read(forward(model, rows).last_hidden_state[:, -1])
