"""Pointing: the share of a map's mass that lies on the object, and how two maps of a picture agree."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata


def mass(values: Float[np.ndarray, "*maps tokens"], method: str) -> Float[np.ndarray, "*maps tokens"]:
    """What a map says for each token, 0 or more.

    Attention as it is. Of log-odds that a token adds, or that are lost without it, what speaks for the right names. Of
    probe scores, which have no zero of their own, what is above the picture's mean.

    >>> mass(np.array([-1.0, 2.0]), "cut"), mass(np.array([1.0, 3.0]), "probe")
    (array([0., 2.]), array([0., 1.]))
    """
    if method == "probe":
        values = values - values.mean(-1, keepdims=True)
    return np.maximum(values, 0)


def pointing(
    values: Float[np.ndarray, "*maps tokens"], method: str, inside: Float[np.ndarray, " tokens"]
) -> Float[np.ndarray, "*maps"]:
    """The share of a map's mass on the object, each token's spread evenly over its place; in [0, 1].

    Chance is the mean of `inside`, the object's share of the area: that of a map that is the same everywhere, and of
    any map whose tokens change places at random. NaN where a map has no mass, or the object is not known.

    >>> float(pointing(np.array([3.0, 1.0, -5.0]), "cut", np.array([1.0, 0.5, 0.0])))
    0.875
    """
    weight = mass(np.asarray(values, np.float64), method)
    total = weight.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(total > 0, weight @ inside / total, np.nan)
    return share[()]


def agreement(first: Float[np.ndarray, " tokens"], second: Float[np.ndarray, " tokens"]) -> float:
    """Spearman correlation of two maps over the tokens of a picture; NaN where one is the same everywhere.

    >>> agreement(np.array([1.0, 2.0, 9.0]), np.array([0.1, 0.2, 0.3]))
    1.0
    """
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("nan")
    ranks = np.stack([rankdata(first), rankdata(second)]) - (len(first) + 1) / 2
    size = np.sqrt((ranks**2).sum(1)).prod()
    return round(float(ranks[0] @ ranks[1] / size), 12) if size > 0 else float("nan")
