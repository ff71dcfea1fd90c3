"""Local similarity: whether two representations give a row the same nearest neighbours."""

from functools import partial
from typing import Any

from jaxtyping import Float

from probing.similarity.gram import array_library, as_float, hollow, linear_gram, squared_distances
from probing.similarity.measure import RIGID, Measure, from_matrix

Array = Any


def neighbour_matrix(x: Float[Array, "n d"], k: int = 10, distance: str = "euclidean") -> Float[Array, "n n"]:
    """1 where the column is among the k nearest rows of the row, else 0; a row is not its own neighbour.

    Cosines of two are the share of neighbours in common; chance is k / (n − 1). `euclidean` or `cosine`.

    Source: Huh et al. 2024, ICML, appendix A (mutual nearest neighbours), without their unit-norm step for
    `euclidean`.
    """
    xp = array_library(x)
    x = as_float(x)
    if distance == "cosine":
        unit = x / xp.linalg.vector_norm(x, axis=1, keepdims=True)
        closeness = xp.matmul(unit, xp.matrix_transpose(unit))
    elif distance == "euclidean":
        closeness = -squared_distances(x)
    else:
        raise KeyError(f"unknown distance {distance!r}; known: euclidean, cosine")
    return _nearest(closeness, k, xp)


def cknna(x: Float[Array, "n p"], y: Float[Array, "n q"], k: int = 10) -> Float[Array, ""]:
    """Debiased CKA over only those pairs of rows that are among the k nearest in both representations.

    With k = n − 1 it is debiased linear CKA. Neighbours are those of the largest inner product, of centred
    rows here, so that the measure ignores translation as CKA does.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(30, 3))
    >>> round(float(cknna(x, 2 * x, k=5)), 6)
    1.0

    Source: Huh et al. 2024, ICML, appendix A, eq. 10 to 13, with unbiased HSIC as in their released code.
    """
    xp = array_library(x, y)
    gram_x, gram_y = linear_gram(as_float(x)), linear_gram(as_float(y))
    near_x, near_y = _nearest(gram_x, k, xp), _nearest(gram_y, k, xp)
    cross = _masked_hsic(gram_x, gram_y, near_x * near_y, xp)
    own_x, own_y = _masked_hsic(gram_x, gram_x, near_x, xp), _masked_hsic(gram_y, gram_y, near_y, xp)
    return cross / xp.sqrt(own_x * own_y)


def _nearest(closeness, k, xp):
    """Indicator of the k largest off-diagonal entries of each row."""
    n = closeness.shape[0]
    if not 1 <= k <= n - 1:
        raise ValueError(f"{k} nearest neighbours asked for among {n} rows; k must lie in 1 … {n - 1}")
    lowest = xp.min(closeness) - 1
    order = xp.argsort(hollow(closeness - lowest), axis=1, descending=True, stable=True)
    ranks = xp.argsort(order, axis=1, stable=True)
    return xp.astype(ranks < k, closeness.dtype)


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
    neighbour_matrix,
    RIGID,
    "Huh et al. 2024, ICML, appendix A; 10 nearest by Euclidean distance; chance is k / (n − 1).",
)
MUTUAL_KNN_COSINE = from_matrix(
    "mutual_knn_cosine",
    partial(neighbour_matrix, distance="cosine"),
    frozenset({"isotropic scale", "orthogonal", "row permutation"}),
    "Huh et al. 2024, ICML, appendix A; 10 nearest by cosine; chance is k / (n − 1).",
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
