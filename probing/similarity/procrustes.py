"""Shape distances: how far two representations stay apart after the best rotation."""

from typing import Any

from jaxtyping import Float

from probing.similarity.gram import array_library
from probing.similarity.measure import RIGID, Measure

Array = Any


def alignment(x: Float[Array, "n p"], y: Float[Array, "n q"]) -> Float[Array, ""]:
    """Cosine of the two centred representations after the best rotation of one of them; in [0, 1].

    The sum of singular values of XᵀY, each of unit Frobenius norm. Widths may differ: the narrower one is
    padded with zeros, which changes no singular value.

    >>> import numpy as np
    >>> x, turn = np.random.default_rng(0).normal(size=(20, 2)), np.array([[0.0, 1.0], [-1.0, 0.0]])
    >>> round(float(alignment(x, 5 * x @ turn)), 6)
    1.0

    Source: Schönemann 1966, Psychometrika 31(1).
    """
    xp = array_library(x, y)
    x, y = _preshape(x, xp), _preshape(y, xp)
    total = xp.sum(xp.linalg.svdvals(xp.matmul(xp.matrix_transpose(x), y)))
    return xp.where(total < 1, total, xp.ones_like(total))


def procrustes_distance(x: Float[Array, "n p"], y: Float[Array, "n q"]) -> Float[Array, ""]:
    """Euclidean distance of the two preshapes after the best rotation; in [0, √2].

    >>> import numpy as np
    >>> x = np.array([[0.0, 0], [1, 0], [0, 1], [2, 2]])
    >>> bool(procrustes_distance(x, x + 3) < 1e-6)
    True

    Source: Williams et al. 2021, NeurIPS, eq. 4, with isotropic scale removed; scipy's disparity is
    1 − alignment², which is not a metric.
    """
    xp = array_library(x, y)
    return xp.sqrt(2 - 2 * alignment(x, y))


def angular_distance(x: Float[Array, "n p"], y: Float[Array, "n q"]) -> Float[Array, ""]:
    """Angle of the two preshapes after the best rotation; radians in [0, π/2].

    >>> import numpy as np
    >>> x = np.array([[0.0, 0], [1, 0], [0, 1], [2, 2]])
    >>> bool(angular_distance(x, -x) < 1e-6)  # a half turn is a rotation
    True

    Source: Williams et al. 2021, NeurIPS, eq. 5 (Kendall's shape space).
    """
    xp = array_library(x, y)
    return xp.acos(alignment(x, y))


def _preshape(x, xp):
    """The centred representation at unit Frobenius norm, in no more than n coordinates."""
    x = x - xp.mean(x, axis=0, keepdims=True)
    if x.shape[1] > x.shape[0]:
        x = xp.matrix_transpose(xp.linalg.qr(xp.matrix_transpose(x), mode="reduced")[1])
    return x / xp.sqrt(xp.sum(x * x))


PROCRUSTES = Measure(
    "procrustes",
    procrustes_distance,
    False,
    RIGID,
    "Williams et al. 2021, NeurIPS, eq. 4: orthogonal Procrustes distance at unit norm.",
    metric=True,
)
ANGULAR = Measure(
    "angular_shape",
    angular_distance,
    False,
    RIGID,
    "Williams et al. 2021, NeurIPS, eq. 5: angular shape distance, in radians.",
    metric=True,
)
