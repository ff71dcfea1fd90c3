"""Distributed alignment search: the subspace whose exchange makes a frozen model answer for the source, by gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probing.patching.cells import Cell, Patch
from probing.patching.restart import Restart
from probing.patching.runs import Read
from probing.patching.subspaces.subspace import Subspace

Objective = Callable[[Tensor], Tensor]
"""From a basis [width, rank] to the loss that it should make small."""


def learn(
    objectives: Sequence[Objective], start: Subspace, steps: int, rate: float = 0.1
) -> tuple[Subspace, Float[np.ndarray, " steps"]]:
    """The subspace that gradient steps from `start` lead to, and the loss before each; objectives take turns.

    The basis is the orthogonal factor of free parameters, so that it is orthonormal at every step.

    >>> reads = torch.tensor([[0.0, 1.0]], dtype=torch.float64)  # what does not lie along it is lost
    >>> start = Subspace.spanned(np.array([[1.0], [0.2]]))
    >>> learnt, losses = learn([lambda basis: (reads - reads @ basis @ basis.T).square().sum()], start, steps=60)
    >>> bool(abs(learnt.basis[1, 0]) > 0.99), bool(losses[-1] < losses[0])
    (True, True)

    Args:
        objectives: losses of batches of pairs.
        start: its rank is that of the result.
        steps: of Adam.
        rate: how far, in radians, a step turns a direction at most, about; it falls to a tenth along a cosine.

    Source: Geiger, Wu, Potts, Icard & Goodman 2024, CLeaR, arXiv:2303.02536, with the orthogonal factor in place of a
    whole rotation; Wu et al. 2023, arXiv:2305.08809, for low ranks.
    """
    free = torch.tensor(start.basis, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([free], lr=rate / start.width**0.5)
    losses = np.zeros(steps)
    with torch.enable_grad():
        for step in range(steps):
            adam.param_groups[0]["lr"] = (
                rate / start.width**0.5 * (0.55 + 0.45 * np.cos(np.pi * step / steps))
            )
            loss = objectives[step % len(objectives)](torch.linalg.qr(free)[0])
            (free.grad,) = torch.autograd.grad(loss, [free])
            adam.step()
            losses[step] = loss.item()
    return Subspace(torch.linalg.qr(free)[0].detach().numpy()), losses


@dataclass(frozen=True)
class Exchanges:
    """Pairs of runs of one length: what a subspace exchanged at a place makes the base runs answer.

    Attributes:
        restart: of the base runs.
        cell: one site and span.
        state: of the base runs there.
        difference: of the source's state from that; one token stands for all.
        read: from last hidden states to answers.
        loss: of answers [pairs, candidates]; a number for each pair.
    """

    restart: Restart
    cell: Cell
    state: Float[Tensor, "pairs n d"]
    difference: Float[Tensor, "pairs m d"]
    read: Read
    loss: Callable[[Tensor], Tensor]

    def __call__(self, basis: Float[Tensor, "d k"]) -> Tensor:
        """The mean loss; an objective of `learn`."""
        return self.losses(basis).mean()

    def losses(self, basis: Float[Tensor, "d k"]) -> Float[Tensor, " pairs"]:
        """The loss of each pair when the part along the basis is exchanged."""
        basis = basis.to(self.difference)
        return self._losses(self.state + (self.difference @ basis) @ basis.T)

    def gradients(self) -> Float[np.ndarray, "rows d"]:
        """The gradient of each pair's loss in its base state, token by token: the directions that are read."""
        state = self.state.detach().clone().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self._losses(state).sum(), [state])
        return gradient.double().cpu().numpy().reshape(-1, state.shape[-1])

    def _losses(self, state: Tensor) -> Tensor:
        patch = Patch(self.cell, {str(self.cell.sites[0]): state.to(self.state)})
        return self.loss(self.restart.through(patch, self.read))


@dataclass(frozen=True)
class Batch:
    """Pairs of runs of several lengths; each pair counts the same, whatever length and however many are with it.

    Attributes:
        groups: exchanges of one length each.
        size: what the sum of losses is divided by, the same for all batches that take turns.
    """

    groups: Sequence[Exchanges]
    size: float

    def __call__(self, basis: Float[Tensor, "d k"]) -> Tensor:
        """The sum of the losses of all pairs over the size; an objective of `learn`."""
        return torch.stack([group.losses(basis).sum() for group in self.groups]).sum() / self.size

    def gradients(self) -> Float[np.ndarray, "rows d"]:
        """Those of all groups; see `Exchanges.gradients`."""
        return np.concatenate([group.gradients() for group in self.groups])
