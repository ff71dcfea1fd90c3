"""Attribution patching: every cell's patch effect estimated from one gradient, for screening before true patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from probing.hooks import Edit, edit
from probing.patching.alignment import EACH, Alignment
from probing.patching.cells import HEADS, Cell
from probing.patching.runs import Rows, forward
from probing.sites import Site
from probing.stats import DRAWS, Estimate
from probing.stats.correlations import correlation

Metric = Callable[[Tensor], Tensor]
"""From last hidden states [rows, width] to the number of each row that patches are to change."""

States = Mapping[tuple[str, str], Tensor]
"""(site, span) → the states that would be put there."""


def attribute(
    model: nn.Module,
    rows: Rows,
    cells: Sequence[Cell],
    states: States,
    metric: Metric,
    *,
    alignments: Mapping[str, Alignment] | None = None,
    steps: int = 0,
) -> Float[Tensor, "cells rows"]:
    """The estimated change of the metric by each cell's patch: difference of states times gradient.

    >>> from probing.patching import grid
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> rows = Rows(lambda: {"input_ids": torch.arange(6)[None]}, spans={"noun": (2,)})
    >>> states = {(f"blocks.{layer}.hook_resid_post", "noun"): torch.zeros(1, 1, 8) for layer in (0, 1)}
    >>> cells = grid(model, "blocks.*.hook_resid_post", ["noun"])
    >>> tuple(attribute(model, rows, cells, states, lambda hidden: hidden[:, 0]).shape)  # cells, rows
    (2, 1)

    Args:
        model: whose parameters need no gradient.
        rows: the run that would be patched, with embeddings that a gradient can start from.
        cells: the cells to be patched; those of one site and span share their gradients.
        states: the states to be put there.
        metric: the number that the patches are to change.
        alignments: span → how states are put into it, token by token unless given.
        steps: 0 takes the gradient where nothing is patched; else its mean over this number of points on the way from
            there to the patched state, one site and span at a time (midpoints). Cells of one site alone then
            approach their true effect as steps grow; a window of layers is the sum of its sites.

    Source: Nanda 2023, Attribution Patching; Syed et al. 2023, arXiv:2310.10348; Kramár et al. 2024,
    arXiv:2403.00745; integrated gradients: Sundararajan et al. 2017, arXiv:1703.01365, eq. 1.
    """
    known = alignments or {}
    sites = list(dict.fromkeys(site for cell in cells for site in cell.sites))
    spans = list(dict.fromkeys(cell.span for cell in cells))
    products: dict[tuple[Site, str], Tensor] = {}
    values, gradients = ({}, {}) if steps else gradients_at(model, rows, sites, metric)
    for span in spans:
        places = list(known.get(span, EACH).target(rows.positions(span)))
        for site in sites:
            if not any(site in cell.sites and cell.span == span for cell in cells):
                continue
            state = states[str(site), span]
            if steps:
                value, gradient = _on_the_way(model, rows, site, places, state, metric, steps)
            else:
                value, gradient = values[site], gradients[site]
            difference = state.to(value.dtype) - value[:, places]
            # Over tokens and width; heads keep an axis of their own.
            products[site, span] = (difference * gradient[:, places]).float().sum((1, -1))
    return torch.stack([_summed(cell, products) for cell in cells])


def _summed(cell: Cell, products: Mapping[tuple[Site, str], Tensor]) -> Tensor:
    values = [products[site, cell.span] for site in cell.sites]
    if cell.point == HEADS:
        values = [value.sum(1) if cell.head is None else value[:, cell.head] for value in values]
    return torch.stack(values).sum(0)


def gradients_at(
    model: nn.Module,
    rows: Rows,
    sites: Sequence[Site],
    metric: Metric,
    moved: Mapping[Site, Edit] | None = None,
) -> tuple[dict[Site, Tensor], dict[Site, Tensor]]:
    """The value at each site of one pass, and the gradient of the metric's sum there."""
    seen: dict[Site, Tensor] = {}

    def keep(site: Site) -> Edit:
        def visit(value: Tensor) -> Tensor:
            new = (moved or {}).get(site, lambda same: same)(value)
            # Given back rather than recorded: only so is a view, as that of heads, on the way to the answer.
            seen[site] = value if new is None else new
            return seen[site]

        return visit

    def inputs() -> dict[str, object]:
        given = dict(rows.inputs())
        tokens = given.pop("input_ids", None)
        first = given.get("inputs_embeds")
        if first is None:
            first = model.get_input_embeddings()(tokens)  # pyright: ignore[reportCallIssue]
        return {**given, "inputs_embeds": first.detach().clone().requires_grad_()}  # pyright: ignore

    with torch.enable_grad(), edit(model, {site: keep(site) for site in sites}):
        hidden = forward(model, Rows(inputs, rows.spans, rows.skip)).last_hidden_state[:, -1]
        gradients = torch.autograd.grad(metric(hidden).sum(), [seen[site] for site in sites])
    return {site: seen[site].detach() for site in sites}, dict(zip(sites, gradients, strict=True))


def _on_the_way(
    model: nn.Module,
    rows: Rows,
    site: Site,
    places: list[int],
    state: Tensor,
    metric: Metric,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """The unpatched value at a site, and the mean gradient on the way from it to the patched one."""
    start: list[Tensor] = []
    total: list[Tensor] = []
    for step in range(steps):
        share = (step + 0.5) / steps

        def move(value: Tensor, share: float = share) -> Tensor:
            start[:] = [value.detach()]
            new = value.clone()
            new[:, places] += share * (state.to(value.dtype) - value[:, places]).detach()
            return new

        _, gradients = gradients_at(model, rows, [site], metric, {site: move})
        total.append(gradients[site])
    return start[0], torch.stack(total).mean(0)


def rank_agreement(
    estimated: Float[np.ndarray, "cells pairs"],
    true: Float[np.ndarray, "cells pairs"],
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """Spearman correlation over cells of mean attributions with mean patch effects, of the pairs at hand; n cells.

    The interval is over cells, for cells that were drawn at random from a grid (see `probing.stats.correlations`): what
    is estimated is how these pairs' attributions rank all of its cells.

    >>> effects = np.array([[0.1, 0.2], [0.5, 0.4], [0.9, 1.0]])
    >>> round(rank_agreement(10 * effects, effects).value, 6)
    1.0
    """
    estimated, true = np.asarray(estimated, float), np.asarray(true, float)
    if estimated.shape != true.shape or len(true) < 3:
        raise ValueError(
            f"attributions {estimated.shape} and effects {true.shape} need the same cells and pairs, three cells "
            "at least"
        )
    means = np.stack([estimated.mean(1), true.mean(1)], axis=1)
    return correlation(means, "spearman", draws, seed)
