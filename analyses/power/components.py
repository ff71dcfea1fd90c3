"""Variance components of a contrast: what a leaf, a hypernym and a seed each add, estimated from pilot runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from probing.stats import nan_mean


@dataclass(frozen=True)
class Components:
    """Variances of a contrast of two conditions, each of one leaf, hypernym or seed, and the pilot that has them.

    Attributes:
        leaf: of a leaf, the same in all seeds.
        leaf_seed: of a leaf in one seed, beyond `leaf`.
        hypernym: beyond its leaves; 0 where the hypernyms are fixed.
        hypernym_seed: of a hypernym in one seed.
        seed: NaN where a single seed was trained and nobody stated it.
        leaves: of the pilot.
        hypernyms: of the pilot; 1 where the measure has none or they are fixed.
        seeds: of the pilot, that is runs of each condition.
        stated: whether `seed` was stated, not estimated.
        of_leaves: what leaves vary the mean of a hypernym in the pilot, which was taken off to estimate `hypernym`.
    """

    leaf: float
    leaf_seed: float
    hypernym: float
    hypernym_seed: float
    seed: float
    leaves: int
    hypernyms: int
    seeds: int
    stated: bool = False
    of_leaves: float = 0.0

    @property
    def knows_seeds(self) -> bool:
        """Whether intervals over several seeds can be foreseen."""
        return not np.isnan(self.seed)

    @property
    def pilot_variance(self) -> float:
        """The variance of the pilot's own mean over leaves and seeds; without seeds where that is not known."""
        leaves = (self.leaf + self.leaf_seed / self.seeds) / self.leaves
        return leaves + (self.seed / self.seeds if self.knows_seeds else 0.0)

    def with_seed_sd(self, sd: float) -> Components:
        """The same with a stated standard deviation between seeds.

        Raises:
            ValueError: it is no finite number of at least 0.
        """
        if not (np.isfinite(sd) and sd >= 0):
            raise ValueError(f"--seed-sd {sd} was given; a standard deviation is a number of at least 0")
        return replace(self, seed=sd**2, stated=True)

    def doubled(self) -> Components:
        """Those of a contrast with a condition that is alike and shares nothing: the largest that is plausible."""
        names = ("leaf", "leaf_seed", "hypernym", "hypernym_seed", "seed", "of_leaves")
        return replace(self, **{name: 2 * getattr(self, name) for name in names})

    def between_runs(self, leaves: float, hypernyms: float) -> float:
        """The variance between seeds of a mean over some numbers of leaves and hypernyms."""
        return self.seed + self.hypernym_seed / hypernyms + self.leaf_seed / leaves


def components(
    values: Float[np.ndarray, "seeds k"],
    drawn: Float[np.ndarray, "draws seeds k"],
    leaves: int,
    factor: float = 1.0,
) -> Components:
    """The components of a difference that is known of each seed and hypernym.

    Args:
        values: the difference of each seed and hypernym; one column where hypernyms are fixed or there are none.
        drawn: the same under bootstrap weights of leaves that all seeds share.
        leaves: that it rests on.
        factor: by which limits multiply the standard error over leaves (`probing.stats.OUT_OF_FOLD`).

    Method of moments: bootstrap draws of two seeds covary as far as a leaf is alike in both; what hypernyms and seeds
    vary beyond their leaves is the variance of their means, less that which leaves give them. Negative ones are 0.

    Source: Searle, Casella & McCulloch 1992, Variance Components, ch. 4 (ANOVA estimates of crossed factors).
    """
    values, drawn = np.asarray(values, np.float64), np.asarray(drawn, np.float64)
    seeds, columns = values.shape
    deviations = drawn - nan_mean(np.moveaxis(drawn, 0, -1))[None]
    covariance = np.atleast_2d(np.cov(nan_mean(deviations), rowvar=False)) * factor**2 * leaves / (leaves - 1)
    own = 0.0
    shared = float(covariance.mean())
    if seeds > 1:
        apart = (covariance.sum() - covariance.trace()) / (seeds * (seeds - 1))
        shared = max(0.0, float(apart))
        own = max(0.0, float(covariance.trace()) / seeds - shared)
    hypernyms = int((~np.isnan(nan_mean(values.T))).sum()) if columns > 1 else 1
    of_hypernym = interaction = noise = 0.0
    if hypernyms > 1:
        interaction = max(0.0, _interaction(values[None]) - _interaction(deviations)) if seeds > 1 else 0.0
        noise = float(np.nanvar(nan_mean(np.moveaxis(deviations, 1, 2)), axis=1, ddof=1).mean())
        total = np.nanvar(nan_mean(values.T), ddof=1) - noise
        of_hypernym = max(0.0, float(total) - interaction / seeds)
    of_seed = float("nan")
    if seeds > 1:
        between = float(np.var(nan_mean(values), ddof=1))
        of_seed = max(0.0, between - interaction / hypernyms - own)
    parts = (shared * leaves, own * leaves, of_hypernym, interaction, of_seed)
    return Components(*parts, leaves, hypernyms, seeds, of_leaves=noise)


def _interaction(tables: Float[np.ndarray, "n seeds k"]) -> float:
    """The mean square of seeds × hypernyms, mean over tables: what is left without the means of both."""
    rows, columns = nan_mean(tables)[..., None], nan_mean(np.swapaxes(tables, 1, 2))[:, None]
    rest = tables - rows - columns + nan_mean(tables.reshape(len(tables), -1))[:, None, None]
    defined = (~np.isnan(tables)).any(axis=(0, 1)).sum()
    return float(np.nansum(rest**2) / len(tables) / ((tables.shape[1] - 1) * (defined - 1)))
