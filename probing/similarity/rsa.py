"""Representational similarity analysis: dissimilarity matrices of several kinds, and how two compare."""

from functools import partial
from typing import Any

from jaxtyping import Float

from probing.similarity.gram import (
    array_library,
    as_float,
    double_centre,
    hollow,
    squared_distances,
)
from probing.similarity.measure import LINEAR, RIGID, Measure, from_matrix

Array = Any


def rdm(x: Float[Array, "n d"], distance: str = "sqeuclidean") -> Float[Array, "n n"]:
    """Dissimilarity of every two rows; zero diagonal.

    `sqeuclidean`, `euclidean`; `cosine` and `correlation` (one minus it, in [0, 2]); `mahalanobis` (squared,
    under the covariance of the rows, which needs more rows than features).

    >>> import numpy as np
    >>> rdm(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
    array([[ 0., 25.,  1.],
           [25.,  0., 18.],
           [ 1., 18.,  0.]])

    Raises:
        KeyError: another distance.
        ValueError: `mahalanobis` with no more rows than features.
    """
    xp = array_library(x)
    x = as_float(x)
    if distance == "sqeuclidean":
        return squared_distances(x)
    if distance == "euclidean":
        return xp.sqrt(squared_distances(x))
    if distance in ("cosine", "correlation"):
        x = x - xp.mean(x, axis=1, keepdims=True) if distance == "correlation" else x
        unit = x / xp.linalg.vector_norm(x, axis=1, keepdims=True)
        return hollow(1 - xp.matmul(unit, xp.matrix_transpose(unit)))
    if distance == "mahalanobis":
        return squared_distances(_whitened(x, xp))
    raise KeyError(
        f"unknown distance {distance!r}; known: sqeuclidean, euclidean, cosine, correlation, mahalanobis"
    )


def pearson_matrix(x: Float[Array, "n d"], distance: str = "sqeuclidean") -> Float[Array, "n n"]:
    """Hollow dissimilarity matrix of mean zero off the diagonal; cosines of two are Pearson correlations."""
    return off_diagonal_centred(rdm(x, distance))


def spearman_matrix(x: Float[Array, "n d"], distance: str = "sqeuclidean") -> Float[Array, "n n"]:
    """The same of the ranks of dissimilarities; cosines of two are Spearman correlations."""
    return off_diagonal_centred(off_diagonal_ranks(rdm(x, distance)))


def whitened_matrix(x: Float[Array, "n d"], distance: str = "sqeuclidean") -> Float[Array, "n n"]:
    """Doubly centred dissimilarities; cosines of two are the whitened RDM cosine.

    Dissimilarities that share a row have correlated errors; weighting by the inverse of their covariance is
    the same as centring the Gram matrix, so with squared Euclidean distances this is biased linear CKA.

    Source: Diedrichsen et al. 2021, Neurons Behav. Data Anal. Theory 5(3), eq. 21 and appendix.
    """
    return double_centre(-rdm(x, distance) / 2)


def off_diagonal_centred(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The hollow matrix with the mean of its off-diagonal entries taken away."""
    xp = array_library(matrix)
    n = matrix.shape[-1]
    matrix = hollow(matrix)
    return hollow(matrix - xp.sum(matrix) / (n * (n - 1)))


def off_diagonal_ranks(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Ranks of the off-diagonal entries among themselves, ties sharing their mean rank."""
    xp = array_library(matrix)
    n = matrix.shape[-1]
    flat = xp.reshape(matrix, (-1,))
    # Dissimilarities that tie differ in the last bits; without this they would be ranked by rounding error.
    grain = xp.max(xp.abs(flat)) * 1e-12
    flat = xp.round(flat / grain)
    # The diagonal goes below every entry, so that it shifts all ranks by the same n.
    flat = xp.reshape(hollow(xp.reshape(flat - xp.min(flat) + 1, (n, n))), (-1,))
    ordered = xp.sort(flat)
    first, last = xp.searchsorted(ordered, flat), xp.searchsorted(ordered, flat, side="right")
    ranks = xp.astype(first + last + 1, matrix.dtype) / 2 - n
    return hollow(xp.reshape(ranks, (n, n)))


def _whitened(x, xp):
    """The rows in coordinates in which their covariance is the identity."""
    n, d = x.shape
    if n <= d + 1:
        raise ValueError(
            f"Mahalanobis distances asked for over {n} rows of {d} features; with so few rows all distances "
            "are equal. Use sqeuclidean on standardised features, or reduce them first"
        )
    centred = x - xp.mean(x, axis=0, keepdims=True)
    factor = xp.linalg.cholesky(xp.matmul(xp.matrix_transpose(centred), centred) / (n - 1))
    return xp.matrix_transpose(xp.linalg.solve(factor, xp.matrix_transpose(centred)))


_KRIEGESKORTE = "Kriegeskorte, Mur & Bandettini 2008, Front. Syst. Neurosci. 2:4"
_SCALED = frozenset({"isotropic scale", "row permutation"})

RSA_MEASURES: tuple[Measure, ...] = (
    from_matrix("rsa_pearson", pearson_matrix, RIGID, f"{_KRIEGESKORTE}; squared Euclidean."),
    from_matrix("rsa_spearman", spearman_matrix, RIGID, f"{_KRIEGESKORTE}; squared Euclidean, ranks."),
    from_matrix(
        "rsa_cosine",
        partial(spearman_matrix, distance="cosine"),
        _SCALED | {"orthogonal"},
        f"{_KRIEGESKORTE}; cosine distance, ranks.",
    ),
    from_matrix(
        "rsa_correlation",
        partial(spearman_matrix, distance="correlation"),
        _SCALED,
        f"{_KRIEGESKORTE}; correlation distance, ranks. Depends on the feature basis.",
    ),
    from_matrix(
        "rsa_mahalanobis",
        partial(spearman_matrix, distance="mahalanobis"),
        LINEAR,
        f"{_KRIEGESKORTE}; distance under the covariance of rows, ranks.",
    ),
    from_matrix(
        "rsa_whitened",
        whitened_matrix,
        RIGID,
        "Diedrichsen et al. 2021, Neurons Behav. Data Anal. Theory 5(3), eq. 21; equal to biased linear CKA.",
    ),
)
