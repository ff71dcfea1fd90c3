"""Closed-form linear concept erasure (LEACE): the smallest affine change after which no linear probe finds a concept.

`fit_leace(x, z)` in one call; for many concepts of the same rows, `Whitening.of(x)` once and `leace(…, x, z)` for each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float

from probing.probes.fitted import like
from probing.stats.undefined import refuse_undefined

Array = Any
_NO_CORRELATION = (
    1e-7  # rounding leaves up to 1e-8 of a correlation in the least direction that whitening keeps
)


@dataclass(frozen=True)
class Whitening:
    """The mean of some rows and the symmetric roots of their covariance.

    >>> rows = np.random.default_rng(0).normal(size=(100, 2)) * [1.0, 5.0]
    >>> whitening = Whitening.of(rows)
    >>> np.cov((rows - whitening.mean) @ whitening.inward, rowvar=False, bias=True).round(6) + 0.0
    array([[1., 0.],
           [0., 1.]])

    Attributes:
        mean: μ.
        inward: W = Σ^(−1/2), a pseudo-inverse where rows leave dimensions empty; W(x − μ) is white.
        outward: W⁺ = Σ^(1/2).
    """

    mean: Float[Array, " d"]
    inward: Float[Array, "d d"]
    outward: Float[Array, "d d"]

    @classmethod
    def of(cls, features: Float[Array, "n d"], shrinkage: float = 0.0) -> Whitening:
        """The whitening of these rows, in float64.

        Args:
            features: the rows, of training leaves.
            shrinkage: share, in [0, 1), by which covariances are drawn to 0 and variances stay. Erasure is exact on the
                rows it is fitted on at any share; with few rows for their width, some of it generalises better.

        Raises:
            ValueError: another share, or a row that holds NaN or infinity.
        """
        if not 0 <= shrinkage < 1:
            raise ValueError(f"shrinkage is a share in [0, 1), found {shrinkage}")
        refuse_undefined(features, "the features")
        xp = array_namespace(features)
        features = xp.astype(features, xp.float64)
        mean = xp.mean(features, axis=0)
        centred = features - mean
        covariance = centred.T @ centred / features.shape[0]
        variances = xp.linalg.diagonal(covariance)
        covariance = (1 - shrinkage) * covariance + shrinkage * like(np.eye(len(mean)), mean) * variances
        values, vectors = xp.linalg.eigh(covariance)
        varying = values > xp.max(values) * len(mean) * xp.finfo(xp.float64).eps
        safe = xp.where(varying, values, xp.ones_like(values))
        zero = xp.zeros_like(values)
        inward = (vectors * xp.where(varying, safe**-0.5, zero)) @ vectors.T
        return cls(mean, inward, (vectors * xp.where(varying, safe**0.5, zero)) @ vectors.T)


@dataclass(frozen=True)
class Eraser:
    """The affine map x ↦ x − out · readᵀ(x − mean): `read` says how much of the concept is in x, `out` takes it away.

    Its rank is the number of columns; with none it is the identity, bit for bit.

    >>> eraser = Eraser(np.zeros(2), np.array([[1.0], [0.0]]), np.array([[1.0], [0.0]]))
    >>> eraser(np.array([[3.0, 4.0]])), eraser.rank
    (array([[0., 4.]]), 1)
    """

    mean: Float[Array, " d"]
    read: Float[Array, "d rank"]
    out: Float[Array, "d rank"]

    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """The rows without the concept."""
        if not self.rank:
            return x
        return x - ((x - self.mean) @ self.read) @ self.out.T

    @property
    def rank(self) -> int:
        """How many dimensions are taken away."""
        return self.read.shape[1]

    def put(self, place: Callable[[Array], Array]) -> Eraser:
        """The same eraser with its arrays put elsewhere, as `lambda a: torch.tensor(a, dtype=…, device=…)` does."""
        return Eraser(place(self.mean), place(self.read), place(self.out))


def fit_leace(features: Float[Array, "n d"], concepts: Float[Array, "n k"], shrinkage: float = 0.0) -> Eraser:
    """The eraser of concepts (one column for yes/no, one-hot columns for a choice) from rows.

    On these rows the covariance of erased features with the concepts is 0, so the best linear classifier or regression
    with any convex loss is a constant.

    >>> rng = np.random.default_rng(0)
    >>> concept = np.arange(50)[:, None] % 2
    >>> rows = rng.normal(size=(50, 3)) + 4 * concept
    >>> erased = fit_leace(rows, concept)(rows)
    >>> bool(np.abs(cross_covariance(erased, concept)).max() < 1e-12)
    True

    Raises:
        ValueError: rows do not match or hold NaN or infinity, or a concept has the same value in all rows.
    """
    return leace(Whitening.of(features, shrinkage), features, concepts)


def cross_covariance(features: Float[Array, "n d"], concepts: Float[Array, "n k"]) -> Float[Array, "d k"]:
    """Covariance of every feature with every concept.

    >>> cross_covariance(np.array([[0.0, 1.0], [2.0, 1.0]]), np.array([[0], [1]]))
    array([[0.5],
           [0. ]])

    Raises:
        ValueError: rows do not match or hold NaN or infinity, or a concept has the same value in all rows.
    """
    xp = array_namespace(features)
    features, concepts = xp.astype(features, xp.float64), like(concepts, features)
    if concepts.ndim != 2 or concepts.shape[0] != features.shape[0]:
        raise ValueError(
            f"features are {tuple(features.shape)}, concepts {tuple(concepts.shape)}; give one row of concepts a row"
        )
    refuse_undefined(features, "the features")
    refuse_undefined(concepts, "the concepts")
    centred = concepts - xp.mean(concepts, axis=0)
    constant = [k for k in range(concepts.shape[1]) if not bool(xp.any(concepts[:, k] != concepts[0, k]))]
    if constant:
        raise ValueError(
            f"concept {constant[0]} has the same value in all {features.shape[0]} rows, so there is nothing to erase; "
            "fit on rows with and without it"
        )
    return (features - xp.mean(features, axis=0)).T @ centred / features.shape[0]


def leace(whitening: Whitening, features: Float[Array, "n d"], concepts: Float[Array, "n k"]) -> Eraser:
    """The eraser of concepts from the rows that this whitening is of.

    r(x) = x − W⁺ P W (x − μ), P the orthogonal projection onto the columns of W Σ_xz. Of all affine maps that leave no
    covariance with the concepts it changes the (unshrunk) rows least, in every norm. With each concept at unit variance
    the singular values of W Σ_xz are correlations: those below 1e-7 are rounding, and their directions stay. The rank
    is thus at most classes − 1 for one-hot columns, and 0 for a concept that no feature goes with.

    >>> rng = np.random.default_rng(0)
    >>> rows, choice = rng.normal(size=(50, 3)), np.eye(3)[np.arange(50) % 3]
    >>> leace(Whitening.of(rows), rows, choice).rank
    2

    Raises:
        ValueError: as of `cross_covariance`.

    Source: Belrose, Schneider-Joseph, Ravfogel, Cotterell, Raff & Biderman 2023, NeurIPS, "LEACE: Perfect linear
    concept erasure in closed form", theorem 4.3.
    """
    covariance = cross_covariance(features, concepts)
    xp = array_namespace(covariance)
    correlations = covariance / xp.std(like(concepts, covariance), axis=0)
    directions, sizes, _ = xp.linalg.svd(whitening.inward @ correlations, full_matrices=False)
    rank = int(xp.sum(xp.astype(sizes > _NO_CORRELATION, xp.int64)))
    return _along(whitening, directions[:, :rank])


def random_eraser(whitening: Whitening, rank: int, seed: int) -> Eraser:
    """The eraser of a random subspace of that rank of the whitened rows: the control for the erasure of a concept.

    >>> rows = np.random.default_rng(0).normal(size=(50, 3))
    >>> random_eraser(Whitening.of(rows), rank=2, seed=0).rank
    2
    """
    xp = array_namespace(whitening.mean)
    drawn = np.random.Generator(np.random.PCG64(seed)).standard_normal((len(whitening.mean), rank))
    inside = whitening.inward @ (whitening.outward @ like(drawn, whitening.mean))
    return _along(whitening, xp.linalg.qr(inside)[0])


def _along(whitening: Whitening, directions: Float[Array, "d rank"]) -> Eraser:
    """The eraser of orthonormal directions of the whitened space."""
    return Eraser(whitening.mean, whitening.inward @ directions, whitening.outward @ directions)
