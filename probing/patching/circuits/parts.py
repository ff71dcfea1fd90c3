"""Parts: the attention heads and MLPs of a decoder, the places of their outputs, and sets of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from probing.hooks import record
from probing.hooks.layouts import layout_of
from probing.patching.cells import HEADS
from probing.patching.runs import Rows, forward
from probing.sites import Site

MLP = "hook_mlp_out"
EMBEDDED = "blocks.0.hook_resid_pre"
"""What enters the first block: no part, but a sender of paths."""
States = Mapping[str, Tensor]
"""Site → the outputs of its parts [rows, token, ...]; those of heads have an axis for them."""


@dataclass(frozen=True)
class HeadOrMLP:
    """A head of a layer, or its MLP; `str` and `parse` are inverse.

    A head is its output before the projection, so that heads that share keys and values (grouped queries) are parts of
    their own.

    >>> str(HeadOrMLP(3, 5)), str(HeadOrMLP.parse("blocks.3.hook_mlp_out"))
    ('blocks.3.attn.hook_z#5', 'blocks.3.hook_mlp_out')

    Attributes:
        layer: of its block.
        head: which one; None for the MLP.
    """

    layer: int
    head: int | None = None

    @property
    def site(self) -> Site:
        """Where its output is."""
        return Site(MLP if self.head is None else HEADS, self.layer)

    @property
    def kind(self) -> str:
        """Head or MLP."""
        return "MLP" if self.head is None else "head"

    def __str__(self) -> str:
        return str(self.site) if self.head is None else f"{self.site}#{self.head}"

    @classmethod
    def parse(cls, text: str) -> HeadOrMLP:
        """The inverse of `str`.

        Raises:
            ValueError: the text is no part.
        """
        match = re.fullmatch(r"blocks\.(\d+)\.(?:attn\.hook_z#(\d+)|hook_mlp_out)", text)
        if match is None:
            raise ValueError(f"{text!r} is no part; parts are blocks.L.attn.hook_z#H and blocks.L.{MLP}")
        return cls(int(match[1]), None if match[2] is None else int(match[2]))


def parts_of(model: nn.Module) -> list[HeadOrMLP]:
    """Every head and MLP of a model in forward order: the heads of a layer, then its MLP.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> [str(part) for part in parts_of(LlamaForCausalLM(LlamaConfig(**size)))][:3]
    ['blocks.0.attn.hook_z#0', 'blocks.0.attn.hook_z#1', 'blocks.0.hook_mlp_out']

    Raises:
        ValueError: heads or MLPs of some layer cannot be reached.
    """
    layout = layout_of(model)
    layers, known = range(len(layout.blocks)), set(layout.sites)
    missing = [str(site) for layer in layers for site in sites_of(layer) if site not in known]
    if missing:
        raise ValueError(
            f"{layout.model_type} has no {missing[0]} ({len(missing)} of {2 * len(layers)} such sites are missing): "
            "its heads and MLPs cannot be ablated one by one; patch whole layers (probing.patching.grid)"
        )
    return [HeadOrMLP(layer, head) for layer in layers for head in (*range(layout.heads), None)]


def sites_of(layer: int) -> tuple[Site, Site]:
    """The sites of a layer's heads and of its MLP."""
    return Site(HEADS, layer), Site(MLP, layer)


def by_layer(sets: Bool[np.ndarray, "sets parts"], model: nn.Module) -> Bool[Tensor, "layers sets each"]:
    """Sets of parts, layer by layer: which heads, then whether the MLP.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> by_layer(np.eye(6, dtype=bool)[3:4], LlamaForCausalLM(LlamaConfig(**size))).tolist()
    [[[False, False, False]], [[True, False, False]]]

    Raises:
        ValueError: sets over another number of parts.
    """
    layout = layout_of(model)
    layers, each = len(layout.blocks), layout.heads + 1
    sets = np.asarray(sets, bool)
    if sets.ndim != 2 or sets.shape[1] != layers * each:
        raise ValueError(
            f"sets of parts have shape {sets.shape}; give [sets, {layers * each}]: {layout.heads} heads and the MLP of "
            f"each of {layers} layers"
        )
    return torch.from_numpy(sets).unflatten(1, (layers, each)).transpose(0, 1)


def choose(parts: Sequence[HeadOrMLP], chosen: Sequence[HeadOrMLP]) -> Bool[np.ndarray, " parts"]:
    """The set of some parts, as a row that the functions of this room take.

    >>> choose([HeadOrMLP(0, 0), HeadOrMLP(0)], [HeadOrMLP(0)])
    array([False,  True])

    Raises:
        KeyError: a part that the model does not have.
    """
    if unknown := [str(part) for part in chosen if part not in set(parts)]:
        raise KeyError(f"the model has no part {unknown[0]}; it has {parts[0]} to {parts[-1]}")
    return np.array([part in set(chosen) for part in parts])


@torch.no_grad()
def outputs(model: nn.Module, rows: Rows) -> dict[str, Tensor]:
    """The output of every part in every row at all tokens after the cached prefix, and what enters the first block.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> rows = Rows(lambda: {"input_ids": torch.arange(6)[None]}, spans={"noun": (2,)})
    >>> states = outputs(LlamaForCausalLM(LlamaConfig(**size)), rows)
    >>> len(states), tuple(states["blocks.1.attn.hook_z"].shape)  # row, token, head, width
    (5, (1, 6, 2, 4))
    """
    sites = [site for layer in range(len(layout_of(model).blocks)) for site in sites_of(layer)]
    with record(model, [EMBEDDED, *sites]) as seen:
        forward(model, rows)
    return dict(seen)


def means(states: States) -> dict[str, Tensor]:
    """The mean output over rows of every part at each token: what mean ablation puts in its place.

    >>> means({"blocks.0.hook_mlp_out": torch.tensor([[[1.0]], [[3.0]]])})
    {'blocks.0.hook_mlp_out': tensor([[[2.]]])}
    """
    return {site: value.mean(0, keepdim=True) for site, value in states.items()}


def resampled(states: States, donors: Sequence[int]) -> dict[str, Tensor]:
    """The outputs of other rows: what resample ablation puts in the place of each row's own.

    >>> resampled({"blocks.0.hook_mlp_out": torch.tensor([[[1.0]], [[3.0]]])}, [1, 0])
    {'blocks.0.hook_mlp_out': tensor([[[3.]],
    <BLANKLINE>
            [[1.]]])}

    Raises:
        ValueError: a row is its own donor.
    """
    if own := [row for row, donor in enumerate(donors) if row == donor]:
        raise ValueError(
            f"row {own[0]} is its own donor; resampling puts the output of another row in its place"
        )
    return {site: value[list(donors)] for site, value in states.items()}
