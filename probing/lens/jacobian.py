"""Jacobian lens: the rest of the model from a layer's state on, as an affine map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Linearisation:
    """An affine map from a state to an output, J x + b.

    >>> Linearisation(torch.tensor([[2.0, 0.0]]), torch.tensor([1.0]), 3)(torch.tensor([[4.0, 5.0]]))
    tensor([[9.]])

    Attributes:
        matrix: the mean Jacobian J.
        offset: the mean over tokens of output − J x, each with its own Jacobian.
        n: tokens that they are means over.
    """

    matrix: Float[Tensor, "out width"]
    offset: Float[Tensor, " out"]
    n: int

    def __call__(self, states: Float[Tensor, "n width"]) -> Float[Tensor, "n out"]:
        """The output that the map gives for each state."""
        return states.to(self.matrix.dtype) @ self.matrix.T + self.offset


def linearise(
    output: Float[Tensor, "rows out"],
    states: Mapping[str, Float[Tensor, "rows token width"]],
    spans: Mapping[str, Bool[Tensor, "rows token"]],
) -> dict[tuple[str, str], Linearisation]:
    """(site, span) → the affine map from the state of a token of the span to the output of its row.

    `output` must have been computed from the states with gradients; rows must not depend on each other. Jacobians are
    taken at the states at hand and averaged over all tokens of a span: the map is exact where the model is affine in
    them, and of first order elsewhere. Other tokens of the row stay as they are.

    >>> state = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]], requires_grad=True)
    >>> maps = linearise(state[:, 0] @ torch.tensor([[1.0], [10.0]]), {"middle": state},
    ...                  {"slot": torch.ones(2, 1, dtype=torch.bool)})
    >>> maps["middle", "slot"].matrix
    tensor([[ 1., 10.]])

    Source: Hernandez et al. 2024, arXiv:2308.09124, "Linearity of relation decoding in transformer language models",
    eqs. 3 and 4, who linearise from a subject's state in a middle layer to the last state from which the answer is
    read, as is done here; their factor β, which scales J, is 1.

    Raises:
        ValueError: a span has no token.
    """
    empty = [span for span, mask in spans.items() if not mask.any()]
    if empty:
        raise ValueError(f"no row has a token in {', '.join(empty)}; linearise at other spans")
    sites = list(states)
    row_of = {span: mask.nonzero()[:, 0] for span, mask in spans.items()}
    picked = {
        (site, span): states[site][mask].detach().float() for site in sites for span, mask in spans.items()
    }
    rows: dict[tuple[str, str], list[Tensor]] = {key: [] for key in picked}
    offsets: dict[tuple[str, str], list[Tensor]] = {key: [] for key in picked}
    for column in range(output.shape[1]):
        keep = column + 1 < output.shape[1]
        gradients = torch.autograd.grad(
            output[:, column].sum(), [states[site] for site in sites], retain_graph=keep
        )
        for site, gradient in zip(sites, gradients):
            for span, mask in spans.items():
                slope, key = gradient[mask].float(), (site, span)
                rows[key].append(slope.mean(0))
                rest = output.detach()[row_of[span], column].float() - (slope * picked[key]).sum(1)
                offsets[key].append(rest.mean())
    return {
        (site, span): Linearisation(
            torch.stack(rows[site, span]), torch.stack(offsets[site, span]), len(row_of[span])
        )
        for site in sites
        for span in spans
    }


def mean_of(maps: Sequence[Linearisation]) -> Linearisation:
    """The map of all tokens of several batches.

    >>> one, two = (Linearisation(torch.full((1, 1), x), torch.zeros(1), n) for x, n in ((1.0, 3), (5.0, 1)))
    >>> mean_of([one, two]).matrix.item()
    2.0
    """
    n = sum(one.n for one in maps)
    share = [one.n / n for one in maps]
    matrix = torch.stack([s * one.matrix for s, one in zip(share, maps)]).sum(0)
    return Linearisation(matrix, torch.stack([s * one.offset for s, one in zip(share, maps)]).sum(0), n)
