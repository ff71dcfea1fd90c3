"""Centred kernel alignment: biased, debiased, Gaussian, over minibatches, and from streamed moments."""

from collections.abc import Iterable, Sequence
from typing import Any

from jaxtyping import Float

from probing.similarity.gram import (
    array_library,
    as_float,
    double_centre,
    linear_gram,
    rbf_gram,
    u_centre,
)
from probing.similarity.measure import RIGID, Measure, from_matrix

Array = Any


def biased_matrix(x: Float[Array, "*b n d"]) -> Float[Array, "*b n n"]:
    """Doubly centred linear Gram matrix; cosines of two are biased linear CKA."""
    return double_centre(linear_gram(as_float(x)))


def debiased_matrix(x: Float[Array, "*b n d"]) -> Float[Array, "*b n n"]:
    """U-centred linear Gram matrix; cosines of two are debiased linear CKA."""
    return u_centre(linear_gram(as_float(x)))


def rbf_matrix(x: Float[Array, "n d"], bandwidth: float = 1.0) -> Float[Array, "n n"]:
    """U-centred Gaussian Gram matrix, its width `bandwidth` times the median distance."""
    return u_centre(rbf_gram(as_float(x), bandwidth))


def cka_matrix(
    left: Float[Array, "layers n n"], right: Float[Array, "others n n"]
) -> Float[Array, "layers others"]:
    """Cosine of every left with every right matrix: CKA of all layer pairs."""
    xp = array_library(left, right)
    a = xp.reshape(left, (left.shape[0], -1))
    b = xp.reshape(right, (right.shape[0], -1))
    sizes = xp.sqrt(xp.sum(a * a, axis=1))[:, None] * xp.sqrt(xp.sum(b * b, axis=1))[None, :]
    return xp.matmul(a, xp.matrix_transpose(b)) / sizes


def cka_minibatch(x: Float[Array, "n p"], y: Float[Array, "n q"], batch: int = 64) -> Float[Array, ""]:
    """Linear CKA from unbiased HSIC averaged over consecutive batches; for rows that never meet in memory.

    HSIC is averaged before the ratio is taken, so that CKA of a representation with itself is 1. A rest of
    fewer than 4 rows is left out.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(float(cka_minibatch(x, 2 * x)), 6)
    1.0

    Source: Nguyen, Raghu & Kornblith 2021, ICLR, eq. 3.
    """
    stream = MinibatchCKA()
    for start in range(0, x.shape[0], batch):
        if min(start + batch, x.shape[0]) - start >= 4:
            stream.update([x[start : start + batch, :]], [y[start : start + batch, :]])
    return stream.value()[0, 0]


class MinibatchCKA:
    """Debiased linear CKA of all layer pairs, fed batch by batch; memory is one batch's Gram matrices.

    Source: Nguyen, Raghu & Kornblith 2021, ICLR, eq. 3.
    """

    def __init__(self):
        self._batches = 0
        self._cross: Any = 0.0
        self._left: Any = 0.0
        self._right: Any = 0.0

    def update(self, left: Sequence[Float[Array, "n p"]], right: Sequence[Float[Array, "n q"]]) -> None:
        """Take in one batch: one array per layer, the same rows in all of them.

        Raises:
            ValueError: fewer than 4 rows, of which no unbiased HSIC exists.
        """
        n = left[0].shape[0]
        if n < 4:
            raise ValueError(f"a batch of {n} rows has no unbiased HSIC; feed batches of at least 4 rows")
        xp = array_library(*left, *right)
        a = xp.stack([xp.reshape(debiased_matrix(x), (-1,)) for x in left])
        b = xp.stack([xp.reshape(debiased_matrix(y), (-1,)) for y in right])
        scale = 1 / (n * (n - 3))
        self._cross = self._cross + scale * xp.matmul(a, xp.matrix_transpose(b))
        self._left = self._left + scale * xp.sum(a * a, axis=1)
        self._right = self._right + scale * xp.sum(b * b, axis=1)
        self._batches += 1

    def value(self) -> Float[Array, "layers others"]:
        """CKA of every left with every right layer, over all batches fed so far."""
        if not self._batches:
            raise ValueError("CKA of no batch at all was asked for; call update first")
        xp = array_library(self._cross)
        return self._cross / xp.sqrt(self._left[:, None] * self._right[None, :])


class LinearMoments:
    """Sums from which linear CKA of any number of rows follows exactly; memory is width × width.

    Where `MinibatchCKA` estimates, this is the same value as from the full n × n matrices, biased or not.
    Sums are taken about the first batch's mean, so that large offsets do not cancel.
    """

    def __init__(self):
        self._shift: Any = None
        self._sums: list[Any] = []
        self._n = 0

    def update(self, x: Float[Array, "n p"], y: Float[Array, "n q"]) -> None:
        """Take in more rows."""
        xp = array_library(x, y)
        x, y = as_float(x), as_float(y)
        if self._shift is None:
            self._shift = (xp.mean(x, axis=0), xp.mean(y, axis=0))
        x, y = x - self._shift[0], y - self._shift[1]
        sums = [moment for a, b in ((x, y), (x, x), (y, y)) for moment in _pair_sums(a, b, xp)]
        self._sums = [old + new for old, new in zip(self._sums, sums)] if self._sums else sums
        self._n += x.shape[0]

    def cka(self, debiased: bool = True) -> Float[Array, ""]:
        """Linear CKA of all rows taken in so far.

        Raises:
            ValueError: fewer than 4 rows were taken in.
        """
        if self._n < 4:
            raise ValueError(f"CKA of {self._n} rows was asked for; feed at least 4")
        xp = array_library(self._sums[0])
        hsic = _unbiased_hsic if debiased else _biased_hsic
        size = len(self._sums) // 3
        cross, left, right = (hsic(self._n, *self._sums[k * size : (k + 1) * size], xp=xp) for k in range(3))
        return cross / xp.sqrt(left * right)


def streamed(batches: Iterable[tuple[Array, Array]], debiased: bool = True) -> float:
    """Linear CKA of paired rows that arrive in batches."""
    moments = LinearMoments()
    for x, y in batches:
        moments.update(x, y)
    return float(moments.cka(debiased))


def _pair_sums(x, y, xp):
    """Sums over rows of: x yᵀ, x, y, k m, k, m, x m, y k, where k = |x|² and m = |y|²."""
    k, m = xp.sum(x * x, axis=1), xp.sum(y * y, axis=1)
    xt, yt = xp.matrix_transpose(x), xp.matrix_transpose(y)
    return [
        *(xp.matmul(xt, y), xp.sum(x, axis=0), xp.sum(y, axis=0), xp.sum(k * m), xp.sum(k), xp.sum(m)),
        *(xp.matmul(xt, m), xp.matmul(yt, k)),
    ]


def _biased_hsic(n, xy, x, y, *_, xp):
    centred = xy - x[:, None] * y[None, :] / n
    return xp.sum(centred * centred)


def _unbiased_hsic(n, xy, x, y, km, k, m, x_m, y_k, xp):
    """Song et al. 2012, eq. 5, up to the factor n(n − 3), written in sums over rows."""
    trace = xp.sum(xy * xy) - km
    total_x, total_y = xp.sum(x * x) - k, xp.sum(y * y) - m
    rows = xp.sum(x * xp.matmul(xy, y)) - xp.sum(x * x_m) - xp.sum(y * y_k) + km
    return trace + total_x * total_y / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)


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
CKA_MINIBATCH = Measure(
    "cka_minibatch",
    cka_minibatch,
    True,
    RIGID - {"row permutation"},
    "Nguyen, Raghu & Kornblith 2021, ICLR, eq. 3; which rows share a batch matters a little.",
)
