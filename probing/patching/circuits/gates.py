"""Gates: the contribution of every part from gradients of gates that let its own output through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from probing.hooks import Edit
from probing.hooks.layouts import layout_of
from probing.patching.attribution import Metric, gradients_at
from probing.patching.circuits.ablation import places_of
from probing.patching.circuits.parts import States, by_layer, sites_of
from probing.patching.runs import Rows
from probing.sites import Site


def attribute_parts(
    model: nn.Module,
    rows: Rows,
    reference: States,
    metric: Metric,
    *,
    span: str = "",
    steps: int = 5,
    intact: Bool[np.ndarray, " parts"] | None = None,
) -> Float[np.ndarray, "parts rows"]:
    """How much each part adds to the metric, in each row: a forward and a backward pass a step for all parts together.

    The output of a part is gate · own + (1 − gate) · reference. All gates go from 0 to 1 together, and a part is given
    the gradient of its gate, averaged over the way: contributions sum to the metric of the run as it is minus that of
    the run with all parts ablated as steps grow. With no step it is the gradient at the run as it is (attribution
    patching): how much the ablation of that part alone takes, to first order.

    >>> import torch
    >>> from probing.patching.circuits import means, outputs
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> rows = Rows(lambda: {"input_ids": torch.arange(12).reshape(2, 6)}, spans={"noun": (2,)})
    >>> attribute_parts(model, rows, means(outputs(model, rows)), lambda hidden: hidden[:, 0]).shape  # parts, rows
    (6, 2)

    Args:
        model: whose parameters need no gradient.
        rows: the run, with embeddings that a gradient can start from.
        reference: site → outputs that take the place of a part's own.
        metric: from last hidden states to the number of each row.
        span: at whose tokens parts are ablated; empty for all tokens after the cached prefix.
        steps: midpoints of the way at which gradients are taken; 0 for the run as it is.
        intact: parts whose gates stay open: the others' contributions are then to what these do alone. Their own are 0.

    Source: Sundararajan et al. 2017, arXiv:1703.01365, eq. 1, on gates of parts (Michel et al. 2019, arXiv:1905.10650);
    Hanna et al. 2024, arXiv:2403.17806, on integrated gradients for circuits, whose way is between two inputs.
    """
    layout = layout_of(model)
    layers = len(layout.blocks)
    opened = np.zeros(layers * (layout.heads + 1), bool) if intact is None else np.asarray(intact, bool)
    stays = by_layer(opened[None], model)[:, 0].float()
    sites = [site for layer in range(layers) for site in sites_of(layer)]
    places = places_of(rows, next(iter(reference.values())).shape[1], span)
    shares = [(step + 0.5) / steps for step in range(steps)] or [1.0]
    each = []
    for share in shares:
        gates = {site: _gate(site, stays, share) for site in sites}
        each.append(np.concatenate(_products(model, rows, reference, metric, gates, places)))
    return np.where(opened[:, None], 0.0, sum(each) / len(each))


def _products(
    model: nn.Module,
    rows: Rows,
    reference: States,
    metric: Metric,
    gates: Mapping[Site, Tensor],
    places: list[int],
) -> list[Float[np.ndarray, "parts rows"]]:
    """The gradient of the metric in each gate, of the parts at each site, with all gates as they are given."""
    moved = {site: _mix(gate, reference[str(site)], places) for site, gate in gates.items()}
    values, gradients = gradients_at(model, rows, list(gates), metric, moved)
    products = []
    for site, gate in gates.items():
        # The mixed value is gate · own + (1 − gate) · reference: own − reference is its distance over the gate.
        away = (values[site] - reference[str(site)].to(values[site]))[:, places] / gate.to(values[site])
        product = (away * gradients[site][:, places]).float().sum((1, -1)).cpu().numpy()
        products.append(product.T if product.ndim == 2 else product[None])
    return products


def _gate(site: Site, stays: Float[Tensor, "layers each"], share: float) -> Tensor:
    """The gates at a site, 1 where a part is intact; those of heads have the shape [heads, 1]."""
    assert site.layer is not None
    own = stays[site.layer]
    gates = own + (1 - own) * share
    heads, _ = sites_of(site.layer)
    return gates[:-1, None] if site == heads else gates[-1]


def _mix(gate: Tensor, reference: Tensor, places: list[int]) -> Edit:
    def mix(value: Tensor) -> Tensor:
        given = gate.to(value)
        new = value.clone()
        new[:, places] = given * value[:, places] + (1 - given) * reference.to(value)[:, places]
        return new

    return mix


def order_of(scores: Float[np.ndarray, " parts"]) -> Int[np.ndarray, " parts"]:
    """Parts from the largest contribution to the smallest; of equal ones the earlier comes first.

    >>> order_of(np.array([0.1, 3.0, -1.0]))
    array([1, 0, 2])
    """
    return np.argsort(-np.asarray(scores), kind="stable")


def greedy_order(
    attribute: Callable[[Bool[np.ndarray, " parts"]], Float[np.ndarray, " parts"]],
    parts: int,
    sizes: Sequence[int],
) -> Int[np.ndarray, " parts"]:
    """Parts in the order of a greedy search: contributions are taken again after every block of new members.

    >>> greedy_order(lambda chosen: np.array([3.0, 2.0, 1.0]) * ~chosen, 3, [1, 2])
    array([0, 1, 2])

    Args:
        attribute: contributions of all parts where the given ones are intact; see `attribute_parts`.
        parts: how many there are.
        sizes: after which contributions are taken again.
    """
    chosen = np.zeros(parts, bool)
    order: list[int] = []
    for size in sorted({size for size in sizes if 0 < size < parts} | {parts}):
        ranked = [part for part in order_of(attribute(chosen)).tolist() if not chosen[part]]
        order += ranked[: size - len(order)]
        chosen[order] = True
    return np.array(order)
