"""Placebos: states that a patch must beat before its cell counts, and by how much it does in all cells at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from probing.stats import (
    DRAWS,
    ClusterMean,
    DyadMean,
    draw_weights,
    studentised_band,
    studentised_interval,
)


def same_norm(
    state: Float[Tensor, "rows n *rest"], generator: torch.Generator
) -> Float[Tensor, "rows n *rest"]:
    """A random state: each row and token (and head) has the length of the given one and a random direction.

    >>> state = torch.tensor([[[3.0, 4.0]]])
    >>> placebo = same_norm(state, torch.Generator().manual_seed(0))
    >>> round(float(placebo.norm()), 4)
    5.0
    """
    noise = torch.randn(state.shape, generator=generator, dtype=torch.float32).to(state.device)
    length = state.float().norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
    return (noise * length).to(state.dtype)


@dataclass(frozen=True)
class Excess:
    """By how much effects exceed those of a placebo, cell by cell.

    >>> Excess(np.array([0.3]), np.array([0.1]), np.array([0.5]), np.array([0.05]), clusters=12).beats
    array([ True])

    Attributes:
        value: mean difference over pairs.
        lower: of the 95 % interval of each cell alone.
        upper: likewise.
        band: lower limit that holds for all cells at once.
        clusters: how many the interval and the band rest on.
    """

    value: Float[np.ndarray, " cells"]
    lower: Float[np.ndarray, " cells"]
    upper: Float[np.ndarray, " cells"]
    band: Float[np.ndarray, " cells"]
    clusters: int

    @property
    def beats(self) -> Bool[np.ndarray, " cells"]:
        """Where the effect is above the placebo's, all cells considered at once."""
        return self.band > 0


def excess(
    effect: Float[np.ndarray, "cells pairs"],
    placebo: Float[np.ndarray, "cells pairs"] | float,
    clusters: Shaped[np.ndarray, "pairs *two"],
    draws: int = DRAWS,
    seed: int = 0,
) -> Excess:
    """The paired excess of effects over a placebo's, bootstrapped over clusters of pairs.

    Effects are skewed: most pairs have a large one, some none. A draw that misses those few has a high mean and a small
    spread; limits and band therefore take each draw in units of its own standard error.

    >>> effect = np.array([[0.9, 1.0, 1.1, 1.0, 0.9, 1.1], [0.1, -0.1, 0.0, 0.1, 0.0, -0.1]])
    >>> over = excess(effect, 0.0, np.array(["crow", "owl", "pike", "eel", "ape", "cat"]))
    >>> over.value.round(2), over.beats
    (array([1., 0.]), array([ True, False]))

    Args:
        effect: of patches, in every cell and pair.
        placebo: of the placebo in the same; a number (0 for a run that nothing changes) stands for all.
        clusters: the unit that is resampled: pairs of one leaf belong together. With two columns, the two units that
            each pair lies between: pairs belong together that share one of them, on either side (`DyadMean`).
        draws: bootstrap draws.
        seed: of the draws.

    Source: Romano & Wolf 2005, JASA 100(469), algorithm 4.2 (the band, see `probing.stats.studentised_band`).
    """
    difference, clusters = (np.asarray(effect, float) - placebo).T, np.asarray(clusters)
    mean = ClusterMean(difference, clusters) if clusters.ndim == 1 else DyadMean(difference, clusters)
    weights = draw_weights(len(mean.clusters), draws, seed)
    of_draws = mean.at(weights), mean.errors(weights), len(mean.clusters)
    lower, upper = studentised_interval(mean.value, mean.error, *of_draws)
    band = studentised_band(mean.value, mean.error, *of_draws)
    return Excess(mean.value, lower, upper, band, len(mean.clusters))
