"""Representational similarity analysis: dissimilarity matrices of several kinds, and how two compare."""

from functools import partial
from typing import Any

from jaxtyping import Float

from probing.similarity.gram import (
    array_library,
    coordinate_noise,
    double_centre,
    finite,
    hollow,
    squared_distances,
    unit_rows,
    without_rounding,
)
from probing.similarity.measure import LINEAR, RIGID, Measure, from_matrix

Array = Any
_TIE = 1e-12
"""Share of a dissimilarity within which two are equal: what rounding leaves of it."""


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
        ValueError: a row that is not finite; `mahalanobis` with no more rows than features; `cosine` of a row of zeros,
            `correlation` of a row whose features are all equal.
    """
    return _dissimilarities(x, distance)[0]


def pearson_matrix(x: Float[Array, "n d"], distance: str = "sqeuclidean") -> Float[Array, "n n"]:
    """Hollow dissimilarity matrix of mean zero off the diagonal; cosines of two are Pearson correlations.

    Zeros for equidistant rows, whose dissimilarities have no variance.
    """
    dissimilarities, within = _dissimilarities(x, distance)
    mean = array_library(x).mean(dissimilarities)
    return without_rounding(off_diagonal_centred(dissimilarities), within(mean))


def spearman_matrix(x: Float[Array, "n d"], distance: str = "sqeuclidean") -> Float[Array, "n n"]:
    """The same of the ranks of dissimilarities; cosines of two are Spearman correlations."""
    dissimilarities, within = _dissimilarities(x, distance)
    return off_diagonal_centred(off_diagonal_ranks(dissimilarities, within(dissimilarities)))


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


def off_diagonal_ranks(
    matrix: Float[Array, "n n"], within: Float[Array, "n n"] | None = None
) -> Float[Array, "n n"]:
    """Ranks of the off-diagonal entries among themselves, ties sharing their mean rank.

    Entries tie that differ by no more than rounding: by `within`, or in their own last bits.

    Raises:
        ValueError: an entry that is not finite; the message names the first row with one.
    """
    xp = array_library(matrix)
    matrix = finite(matrix, "the distances")
    n = matrix.shape[-1]
    within = xp.reshape(_TIE * xp.abs(matrix) if within is None else within, (-1,))
    # The diagonal goes below every entry, so that it shifts all ranks by the same n.
    below = xp.min(matrix) - 1 - xp.max(xp.abs(matrix))
    flat = xp.reshape(xp.where(hollow(xp.ones_like(matrix)) > 0, matrix, below), (-1,))
    ordered = xp.sort(flat)
    first, last = (
        xp.searchsorted(ordered, flat - within),
        xp.searchsorted(ordered, flat + within, side="right"),
    )
    ranks = xp.astype(first + last + 1, matrix.dtype) / 2 - n
    return hollow(xp.reshape(ranks, (n, n)))


def _dissimilarities(x, distance):
    """Dissimilarity of every two rows, and what rounding may have made of one of a size."""
    xp = array_library(x)
    if distance not in ("sqeuclidean", "euclidean", "cosine", "correlation", "mahalanobis"):
        raise KeyError(
            f"unknown distance {distance!r}; known: sqeuclidean, euclidean, cosine, correlation, mahalanobis"
        )
    points, noise = _points(finite(x), distance)
    squared = squared_distances(points)
    if distance == "euclidean":
        plain = xp.sqrt(squared)
        return plain, lambda size: _TIE * size + noise
    if distance in ("cosine", "correlation"):
        # Half the squared distance of unit rows is one minus their cosine, with all digits where that is near 0.
        squared = squared / 2
    return squared, lambda size: _TIE * size + noise * (xp.sqrt(size) + noise)


def _points(x, distance):
    """Rows whose squared Euclidean distances are the dissimilarity, or twice that; and rounding in a coordinate."""
    xp = array_library(x)
    if distance == "mahalanobis":
        return _whitened(x, xp)
    if distance == "cosine":
        x = unit_rows(x)
    elif distance == "correlation":
        noise = 1e-14 * x.shape[1] ** 0.5 * xp.max(xp.abs(x), axis=1)
        x = unit_rows(x - xp.mean(x, axis=1, keepdims=True), noise)
    return x, coordinate_noise(x)


def _whitened(x, xp):
    """The rows in coordinates in which their covariance is the identity, in the directions in which they vary."""
    n, d = x.shape
    noise = coordinate_noise(x)
    x = x - xp.mean(x, axis=0, keepdims=True)
    spread = xp.sqrt(xp.mean(x * x, axis=0))
    x, spread = (xp.take(side, xp.nonzero(spread > noise)[0], axis=-1) for side in (x, spread))
    # Whitening undoes any scale of a column; to unit spread first, so that small columns are no rounding error.
    u, s, _ = xp.linalg.svd(x / spread, full_matrices=False)
    relative = noise / float(xp.min(spread)) + 1e-15 * max(n, d)
    rank = int(xp.sum(xp.astype(s > s[0] * relative, xp.int64)))
    if n <= rank + 1:
        raise ValueError(
            f"Mahalanobis distances asked for over {n} rows of {d} features; with so few rows all distances "
            "are equal. Use sqeuclidean on standardised features, or reduce them first"
        )
    points = u[:, :rank] * (n - 1) ** 0.5
    return points, relative * float(s[0] / s[rank - 1]) * float(xp.max(xp.abs(points)))


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
