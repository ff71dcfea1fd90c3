"""Matrices over pairs of rows: Gram matrices, distances, their centring, and means over leaf concepts.

Pure functions on arrays of any library (array API standard); leading axes are carried along.
"""

import math
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float, Shaped

from probing.stats.undefined import refuse_undefined

Array = Any
_CLOSE = 1e-2
"""Share of the squared lengths of two rows below which their squared distance has lost digits to cancellation."""


def array_library(*arrays: Array) -> Any:
    """The array API namespace the arrays belong to."""
    return array_namespace(*arrays)


def as_float(x: Array) -> Float[Array, "..."]:
    """The array in double precision: sums over n² pairs lose what single precision does not hold."""
    xp = array_library(x)
    return xp.astype(x, xp.float64, copy=False)


def finite(x: Float[Array, "*b n d"], what: str = "the representation") -> Float[Array, "*b n d"]:
    """The array in double precision.

    Raises:
        ValueError: a row holds NaN or infinity; the message names the first.
    """
    refuse_undefined(x, what)
    return as_float(x)


def coordinate_noise(x: Float[Array, "*b n d"]) -> float:
    """How far rounding may have moved a coordinate: some units in the last place of the largest one.

    Raises:
        ValueError: a row holds NaN or infinity; the message names the first.
    """
    xp = array_library(x)
    high, low = float(xp.max(x)), float(xp.min(x))
    if not (math.isfinite(high) and math.isfinite(low)):
        refuse_undefined(x, "the representation")
    return 8 * float(xp.finfo(xp.float64).eps) * max(high, -low)


def unit_rows(x: Float[Array, "n d"], noise: Float[Array, " n"] | float = 0.0) -> Float[Array, "n d"]:
    """Each row divided by its length.

    Raises:
        ValueError: a row no longer than `noise` has no direction; the message names the first.
    """
    xp = array_library(x)
    lengths = xp.linalg.vector_norm(x, axis=1)
    none = xp.astype(lengths <= noise, xp.int64)
    if bool(xp.any(none > 0)):
        raise ValueError(
            f"row {int(xp.argmax(none))} has length 0 ({int(xp.sum(none))} of {x.shape[0]} rows have), hence no "
            "cosine with the others; leave such rows out, or take a Euclidean measure"
        )
    return x / lengths[:, None]


def product_noise(noise: float, squares: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """How far `noise` in coordinates may have moved an inner product of rows of that mean squared length."""
    return 1e-14 * squares + 4 * noise * array_library(squares).sqrt(squares)


def without_rounding(matrix: Float[Array, "*b n n"], noise: Float[Array, "*b"]) -> Float[Array, "*b n n"]:
    """The matrix, or zeros where its entries are no larger than `noise` in the mean.

    Equidistant rows leave nothing after centring; correlations of the rounding error that is left are arbitrary.
    """
    xp = array_library(matrix)
    flat = xp.reshape(matrix, (*matrix.shape[:-2], -1))
    bound = matrix.shape[-1] * noise
    beyond = xp.vecdot(flat, flat) > bound * bound
    if bool(xp.all(beyond)):
        return matrix
    return xp.where(beyond[..., None, None], matrix, xp.zeros_like(matrix))


def linear_gram(x: Float[Array, "*b n d"]) -> Float[Array, "*b n n"]:
    """Inner products of rows after the column means are taken away."""
    xp = array_library(x)
    centred = x - xp.mean(x, axis=-2, keepdims=True)
    return xp.matmul(centred, xp.matrix_transpose(centred))


def squared_distances(x: Float[Array, "*b n d"]) -> Float[Array, "*b n n"]:
    """Squared Euclidean distances between rows; exactly 0 on the diagonal, never negative.

    By inner products; pairs much closer to each other than to the mean row, of which the products would leave rounding
    error, by their differences.
    """
    xp = array_library(x)
    gram = linear_gram(x)
    norms = xp.linalg.diagonal(gram)
    sums = norms[..., :, None] + norms[..., None, :]
    distances = sums - 2 * gram
    distances = hollow(xp.where(distances > 0, distances, xp.zeros_like(distances)))
    close = distances < _CLOSE * sums
    # All of the diagonal is close.
    if x.ndim == 2 and int(xp.count_nonzero(close)) > x.shape[0]:
        _by_differences(x, distances, close, xp)
    return distances


def _by_differences(x, distances, close, xp):
    """Overwrites the distances of close pairs, computed from differences row by row."""
    for row in range(x.shape[0]):
        columns = xp.nonzero(close[row, :])[0]
        if columns.shape[0] > 1:
            step = xp.take(x, columns, axis=0) - x[row : row + 1, :]
            distances[row, columns] = xp.sum(step * step, axis=1)


def rbf_gram(x: Float[Array, "n d"], bandwidth: float = 1.0) -> Float[Array, "n n"]:
    """Gaussian kernel of the rows, its width `bandwidth` times the median distance between different rows.

    Source: Kornblith et al. 2019, ICML, section 3 (σ as a fraction of the median distance). Their released code takes
    the root of the median squared distance, which differs where the number of pairs is even, in the gap between the two
    middle distances.

    Raises:
        ValueError: at least half of the pairs are of equal rows, so that the width would be 0.
    """
    xp = array_library(x)
    distances = squared_distances(x)
    n = distances.shape[-1]
    ordered = xp.sqrt(xp.sort(xp.reshape(distances, (-1,)))[n:])
    middle = (ordered[(ordered.shape[0] - 1) // 2] + ordered[ordered.shape[0] // 2]) / 2
    if not float(middle) > 0:
        raise ValueError(
            f"a Gaussian kernel asked for over {n} rows whose median distance is 0: most rows are copies; "
            "leave copies out, or average them"
        )
    return xp.exp(-distances / (2 * bandwidth**2 * middle * middle))


def hollow(matrix: Float[Array, "*b n n"]) -> Float[Array, "*b n n"]:
    """The matrix with its diagonal set to zero."""
    xp = array_library(matrix)
    return matrix * (1 - _identity(matrix, xp))


def double_centre(matrix: Float[Array, "*b n n"]) -> Float[Array, "*b n n"]:
    """The matrix with row means and column means taken away: HKH. Inner products of these are biased HSIC.

    Source: Gretton et al. 2005, ALT, definition 2.
    """
    xp = array_library(matrix)
    rows = xp.mean(matrix, axis=-1, keepdims=True)
    columns = xp.mean(matrix, axis=-2, keepdims=True)
    return matrix - rows - columns + xp.mean(rows, axis=-2, keepdims=True)


def u_centre(matrix: Float[Array, "*b n n"]) -> Float[Array, "*b n n"]:
    """The hollow matrix whose rows sum to 0; inner products of two, over n(n − 3), are unbiased HSIC.

    For a symmetric matrix. Unbiased because no row is ever compared with itself.

    Source: Székely & Rizzo 2014, Ann. Statist. 42(6), definition 2; equal to Song et al. 2012, JMLR 13,
    eq. 5.
    """
    xp = array_library(matrix)
    n = matrix.shape[-1]
    matrix = hollow(matrix)
    rows = xp.sum(matrix, axis=-1, keepdims=True)
    total = xp.sum(rows, axis=-2, keepdims=True)
    return hollow(matrix - (rows + xp.matrix_transpose(rows)) / (n - 2) + total / ((n - 1) * (n - 2)))


def cosine(a: Float[Array, "n n"], b: Float[Array, "n n"]) -> Float[Array, ""]:
    """Cosine of the angle between two matrices, as vectors."""
    xp = array_library(a, b)
    return xp.sum(a * b) / xp.sqrt(xp.sum(a * a) * xp.sum(b * b))


def leaf_means(
    x: Float[Array, "*b n d"], leaves: Shaped[np.ndarray, " n"]
) -> tuple[Float[Array, "*b leaves d"], Shaped[np.ndarray, " leaves"]]:
    """Mean row of each leaf concept, and the leaves in sorted order.

    Rows of one leaf are not independent draws; whatever compares leaves must see each leaf once. The Gram
    matrix of the means is, off its diagonal, the crossed design: the mean over all pairs of one picture of
    either leaf.

    Raises:
        ValueError: as many leaves as rows were not given, or a row holds NaN or infinity.
    """
    xp = array_library(x)
    refuse_undefined(x, "the rows")
    leaves = np.asarray(leaves)
    if leaves.shape != (x.shape[-2],):
        raise ValueError(f"{x.shape[-2]} rows but leaves of shape {leaves.shape}; give one leaf per row")
    names, codes, counts = np.unique(leaves, return_inverse=True, return_counts=True)
    order = xp.asarray(np.argsort(codes, kind="stable"), **_device(x))
    last = xp.asarray(np.cumsum(counts) - 1, **_device(x))
    running = xp.take(xp.cumulative_sum(xp.take(as_float(x), order, axis=-2), axis=-2), last, axis=-2)
    before = xp.concat([xp.zeros_like(running[..., :1, :]), running[..., :-1, :]], axis=-2)
    sizes = xp.asarray(counts[:, None], dtype=running.dtype, **_device(x))
    return (running - before) / sizes, names


def _identity(like, xp):
    return xp.eye(like.shape[-1], dtype=like.dtype, **_device(like))


def _device(like):
    """The device argument that keeps a new array beside `like`."""
    return {"device": like.device} if hasattr(like, "device") else {}
