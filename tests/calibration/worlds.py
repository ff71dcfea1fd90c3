"""Worlds in which the truth is known: leaf concepts under the bundled hypernyms, and rows that show them."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int

from taxogen.runs.config import DataConfig
from taxogen.runs.prepare import taxonomy_of
from taxogen.world.taxonomy import Taxonomy


@cache
def taxonomy() -> Taxonomy:
    """The bundled one: 351 leaf concepts under 34 hypernyms that overlap."""
    return taxonomy_of(DataConfig())


@cache
def members() -> Bool[np.ndarray, "leaves hypernyms"]:
    """Which leaf is under which hypernym."""
    return np.asarray(taxonomy().labels(taxonomy().leaves))


def spectrum(width: int, power: float = 1.0) -> Float[np.ndarray, " width"]:
    """Standard deviations of the dimensions of a spiked spectrum: the k-th variance is k to the power of −`power`."""
    return np.arange(1, width + 1) ** (-power / 2)


def leaf_states(
    rng: np.random.Generator, labels: Bool[np.ndarray, "leaves hypernyms"], width: int, effect: float
) -> Float[np.ndarray, "leaves width"]:
    """The state of each leaf: its own, spiked, and `effect` times a direction of each of its hypernyms."""
    directions = rng.normal(size=(labels.shape[1], width)) / np.sqrt(width)
    return rng.normal(size=(len(labels), width)) * spectrum(width) + effect * labels @ directions


def pictures(
    rng: np.random.Generator,
    states: Float[np.ndarray, "leaves width"],
    counts: Int[np.ndarray, " leaves"],
    noise: float,
) -> tuple[Float[np.ndarray, "n width"], Int[np.ndarray, " n"]]:
    """Rows that show the leaves, `counts` of each: its state and, for each picture, spiked noise."""
    leaf = np.repeat(np.arange(len(states)), counts)
    width = states.shape[1]
    return states[leaf] + noise * rng.normal(size=(len(leaf), width)) * spectrum(width), leaf
