"""Centred kernel alignment: biased, debiased, Gaussian."""

from typing import Any

from jaxtyping import Float

from probing.similarity.gram import (
    array_library,
    as_float,
    coordinate_noise,
    double_centre,
    finite,
    linear_gram,
    product_noise,
    rbf_gram,
    u_centre,
    without_rounding,
)
from probing.similarity.measure import RIGID, from_matrix

Array = Any


def biased_matrix(x: Float[Array, "*b n d"]) -> Float[Array, "*b n n"]:
    """Doubly centred linear Gram matrix; cosines of two are biased linear CKA."""
    return double_centre(linear_gram(finite(x)))


def debiased_matrix(x: Float[Array, "*b n d"]) -> Float[Array, "*b n n"]:
    """U-centred linear Gram matrix; cosines of two are debiased linear CKA. Zeros for equidistant rows."""
    x = as_float(x)
    noise, gram = coordinate_noise(x), linear_gram(x)
    return without_rounding(u_centre(gram), product_noise(noise, _mean_diagonal(gram)))


def rbf_matrix(x: Float[Array, "n d"], bandwidth: float = 1.0) -> Float[Array, "n n"]:
    """U-centred Gaussian Gram matrix, its width `bandwidth` times the median distance. Zeros for equidistant rows."""
    x = as_float(x)
    noise, squares = coordinate_noise(x), _mean_diagonal(linear_gram(x))
    # The kernel's entries, in [0, 1], change with squared distances in units of their median.
    return without_rounding(u_centre(rbf_gram(x, bandwidth)), product_noise(noise, squares) / squares)


def _mean_diagonal(gram):
    xp = array_library(gram)
    return xp.mean(xp.linalg.diagonal(gram), axis=-1)


def cka_matrix(
    left: Float[Array, "layers n n"], right: Float[Array, "others n n"]
) -> Float[Array, "layers others"]:
    """Cosine of every left with every right matrix: CKA of all layer pairs.

    >>> import numpy as np
    >>> x, noise = np.random.default_rng(0).normal(size=(2, 200, 3))
    >>> grams = debiased_matrix(np.stack([x, noise]))
    >>> cka_matrix(grams, debiased_matrix(2 * x[None])).round(1) == [[1.0], [0.0]]  # any scale; chance is 0
    array([[ True],
           [ True]])
    """
    xp = array_library(left, right)
    a = xp.reshape(left, (left.shape[0], -1))
    b = xp.reshape(right, (right.shape[0], -1))
    sizes = xp.sqrt(xp.sum(a * a, axis=1))[:, None] * xp.sqrt(xp.sum(b * b, axis=1))[None, :]
    return xp.matmul(a, xp.matrix_transpose(b)) / sizes


CKA = from_matrix(
    "cka",
    biased_matrix,
    RIGID,
    "Kornblith et al. 2019, ICML, eq. 4. Biased upwards when rows are few: near 1 for n ≪ width.",
)
CKA_DEBIASED = from_matrix(
    "cka_debiased",
    debiased_matrix,
    RIGID,
    "Kornblith et al. 2019 with the unbiased HSIC of Song et al. 2012, JMLR 13, eq. 5; 0 for independence.",
)
CKA_RBF = from_matrix(
    "cka_rbf",
    rbf_matrix,
    RIGID,
    "Kornblith et al. 2019, section 3, Gaussian kernel of one median distance, unbiased HSIC.",
)
