"""Local similarity: whether two representations give a row the same nearest neighbours."""

from functools import partial
from typing import Any

from jaxtyping import Float

from probing.similarity.gram import (
    array_library,
    coordinate_noise,
    finite,
    hollow,
    linear_gram,
    squared_distances,
    unit_rows,
)
from probing.similarity.measure import RIGID, Measure, from_matrix

Array = Any
_TIE = 1e-12
"""Share of a distance or inner product within which two are equal: what rounding leaves of it."""


def neighbour_matrix(x: Float[Array, "n d"], k: int = 10, distance: str = "euclidean") -> Float[Array, "n n"]:
    """1 where the column is among the k nearest rows of the row, else 0; a row is not its own neighbour.

    Rows that tie for the last places share them: each gets the probability with which it is among the k nearest when
    ties are broken at random, so that every row still has k neighbours. `euclidean` or `cosine`.

    Source: Huh et al. 2024, ICML, appendix A (mutual nearest neighbours), without their unit-norm step for
    `euclidean`; McSherry & Najork 2008, ECIR, section 3 (the mean over the orders of what ties).

    Raises:
        ValueError: k is not below the number of rows; a row that is not finite or, under `cosine`, of length 0.
    """
    xp = array_library(x)
    x = finite(x)
    if distance == "cosine":
        x = unit_rows(x)
    elif distance != "euclidean":
        raise KeyError(f"unknown distance {distance!r}; known: euclidean, cosine")
    squared = squared_distances(x)
    nearer, tied = _nearest(squared, k, lambda last: _TIE * last + coordinate_noise(x) * xp.sqrt(last), xp)
    nearer, tied = (xp.astype(each, squared.dtype) for each in (nearer, tied))
    left = k - xp.sum(nearer, axis=1, keepdims=True)
    return nearer + tied * (left / xp.sum(tied, axis=1, keepdims=True))


def overlap_matrix(x: Float[Array, "n d"], k: int = 10, distance: str = "euclidean") -> Float[Array, "n n"]:
    """The neighbour matrix over √(n k); inner products of two are the mean share of neighbours in common.

    Of representations that are independent that is k / (n − 1), with ties or without. With ties it is the mean over all
    ways to break them, so that a representation shares less than all with itself.
    """
    return neighbour_matrix(x, k, distance) / (x.shape[0] * k) ** 0.5


def cknna(x: Float[Array, "n p"], y: Float[Array, "n q"], k: int = 10) -> Float[Array, ""]:
    """Debiased CKA over only those pairs of rows that are among the k nearest in both representations.

    With k = n − 1 it is debiased linear CKA. Neighbours are those of the largest inner product, of centred
    rows here, so that the measure ignores translation as CKA does. Rows that tie for the last place are all neighbours:
    a row is one where fewer than k are nearer.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(30, 3))
    >>> round(float(cknna(x, 2 * x, k=5)), 6)
    1.0

    Source: Huh et al. 2024, ICML, appendix A, eq. 10 to 13, with unbiased HSIC as in their released code.
    """
    xp = array_library(x, y)
    (gram_x, near_x, own_x), (gram_y, near_y, own_y) = (_near_products(finite(z), k, xp) for z in (x, y))
    return _masked_hsic(gram_x, gram_y, near_x * near_y, xp) / xp.sqrt(own_x * own_y)


def _near_products(x, k, xp):
    """Inner products of centred rows, where the column is among the k largest of its row, and the HSIC over those.

    NaN for an HSIC that is negative, or no larger than rounding makes it, as that of equidistant rows.
    """
    gram = linear_gram(x)
    squares = xp.linalg.diagonal(gram)
    lengths = xp.sqrt(squares)
    noise = xp.max(lengths) * (_TIE * lengths + coordinate_noise(x))[:, None]
    nearer, tied = _nearest(-gram, k, lambda _: noise, xp)
    near = xp.astype(nearer | tied, gram.dtype)
    own, total, n = _masked_hsic(gram, gram, near, xp), xp.sum(squares), x.shape[0]
    bound = total * (1e-14 * total + n * (4 * coordinate_noise(x)) ** 2) / (n * (n - 3))
    return gram, near, xp.where(own > bound, own, xp.full_like(own, float("nan")))


def _nearest(distance, k, tolerance, xp):
    """Where the column is nearer to the row than its k-th nearest, and where it is as near, within a tolerance."""
    n = distance.shape[0]
    if not 1 <= k <= n - 1:
        raise ValueError(f"{k} nearest neighbours asked for among {n} rows; k must lie in 1 … {n - 1}")
    itself = hollow(xp.ones_like(distance)) == 0
    distance = xp.where(itself, xp.full_like(distance, float("inf")), distance)
    last = xp.sort(distance, axis=1)[:, k - 1 : k]
    within = tolerance(last)
    return distance < last - within, xp.abs(distance - last) <= within


def _masked_hsic(gram_x, gram_y, mask, xp):
    """Song et al. 2012, eq. 5, of two Gram matrices that are zero outside the mask."""
    n = mask.shape[0]
    a, b = hollow(gram_x * mask), hollow(gram_y * mask)
    total = xp.sum(a) * xp.sum(b) / ((n - 1) * (n - 2))
    rows = xp.sum(xp.sum(a, axis=0) * xp.sum(b, axis=1))
    trace = xp.sum(a * xp.matrix_transpose(b))
    return (trace + total - 2 * rows / (n - 2)) / (n * (n - 3))


MUTUAL_KNN = from_matrix(
    "mutual_knn",
    overlap_matrix,
    RIGID,
    "Huh et al. 2024, ICML, appendix A; 10 nearest by Euclidean distance; chance is k / (n − 1).",
    normalised=False,
)
MUTUAL_KNN_COSINE = from_matrix(
    "mutual_knn_cosine",
    partial(overlap_matrix, distance="cosine"),
    frozenset({"isotropic scale", "orthogonal", "row permutation"}),
    "Huh et al. 2024, ICML, appendix A; 10 nearest by cosine; chance is k / (n − 1).",
    normalised=False,
)
CKNNA = Measure(
    "cknna",
    cknna,
    True,
    RIGID,
    "Huh et al. 2024, ICML, appendix A: CKA over mutual nearest neighbours, centred rows. A neighbour need "
    "not return the favour, so the HSIC of the masked matrices depends a little on their order.",
    symmetric=False,
)
