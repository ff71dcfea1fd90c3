"""Cells: the part of a pass that one patch replaces.

A span at a site, one head of it, a window of layers, or all layers up to one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from probing.hooks.layouts import layout_of
from probing.sites import EMBED, FINAL, PATTERN, Site, Sites, describe

HEADS = "attn.hook_z"


@dataclass(frozen=True)
class Cell:
    """Sites of one point at which a span's state is replaced in the same pass, in the order of layers.

    >>> cell = Cell((Site("hook_attn_out", 3), Site("hook_attn_out", 4)), "noun")
    >>> cell.site, cell.layers
    ('blocks.3-4.hook_attn_out', (3, 4))

    Raises:
        ValueError: there is no site, sites of several points, or a head of a site that has none.
    """

    sites: tuple[Site, ...]
    span: str
    head: int | None = None

    def __post_init__(self) -> None:
        points = sorted({site.point for site in self.sites})
        if len(points) != 1 or points[0] in (EMBED, FINAL, PATTERN):
            raise ValueError(
                f"a cell is at sites of one point inside the blocks, found {points or 'none'}; what enters "
                "the stack is blocks.0.hook_resid_pre"
            )
        if self.head is not None and points[0] != HEADS:
            raise ValueError(f"head {self.head} of {points[0]} was asked for; only {HEADS} has heads")
        object.__setattr__(self, "sites", tuple(sorted(self.sites, key=lambda site: site.order)))

    @property
    def point(self) -> str:
        """The point of all its sites."""
        return self.sites[0].point

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers of its sites."""
        return tuple(site.layer for site in self.sites if site.layer is not None)

    @property
    def site(self) -> str:
        """The sites in words, as `probing.sites.select` reads them: `blocks.3-5.hook_attn_out`."""
        return describe(self.sites)


@dataclass(frozen=True)
class Patch:
    """A cell with the states that are put there: site → one for each row of the batch that is patched.

    >>> import torch
    >>> cell = Cell((Site("hook_resid_post", 1),), "noun")
    >>> Patch(cell, {"blocks.1.hook_resid_post": torch.zeros(1, 1, 8)}).cell.span
    'noun'
    """

    cell: Cell
    states: Mapping[str, Float[Tensor, "rows n *rest"]]


def grid(
    model: nn.Module,
    sites: Sites,
    spans: Sequence[str],
    *,
    heads: bool = False,
    window: int = 1,
    cumulative: bool = False,
) -> list[Cell]:
    """Every cell of sites × spans, in forward order.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> [(cell.layers, cell.span) for cell in grid(model, "blocks.*.hook_resid_post", ["noun", "last"])]
    [((0,), 'noun'), ((1,), 'noun'), ((0,), 'last'), ((1,), 'last')]

    Args:
        model: the model to be patched.
        sites: names, globs and ranges, see `probing.sites.select`.
        spans: names of spans.
        heads: each head of `attn.hook_z` is a cell of its own.
        window: the number of consecutive layers that are patched at once.
        cumulative: a cell patches its layer and every asked layer below it.

    Raises:
        KeyError: a pattern names no site of this model.
        ValueError: windows are wider than the sites asked for, or heads were asked of a site that has none.
    """
    layout = layout_of(model)
    chosen = layout.select(sites)
    points = list(dict.fromkeys(site.point for site in chosen))
    if heads and HEADS not in points:
        raise ValueError(f"single heads were asked for, which are at {HEADS}; the sites are {points}")
    cells: list[Cell] = []
    for point in points:
        at_point = [site for site in chosen if site.point == point]
        if not 1 <= window <= len(at_point):
            raise ValueError(
                f"a window of {window} layers was asked for, {point} was asked at {len(at_point)}"
            )
        last = range(window - 1, len(at_point))
        groups = [tuple(at_point[0 if cumulative else at - window + 1 : at + 1]) for at in last]
        split = range(layout.heads) if heads and point == HEADS else (None,)
        cells += [Cell(group, span, head) for span in spans for group in groups for head in split]
    return cells
