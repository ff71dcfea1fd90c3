"""Linear CKA of rows that arrive in batches and never meet in memory; the value is that of all rows at once."""

from collections.abc import Iterable, Sequence
from typing import Any

from jaxtyping import Float

from probing.similarity.gram import array_library, coordinate_noise, finite
from probing.similarity.measure import RIGID, Measure

Array = Any


class StreamedCKA:
    """Linear CKA of all layer pairs, fed batch by batch; memory is width × width for each pair.

    HSIC is a polynomial in sums over rows (of x yᵀ, |x|², |x|² y, …), so that neither the size of the batches nor the
    order of the rows matters: the value is that of the full n × n matrices, biased or not. Sums are taken about the
    first batch's mean, so that large offsets do not cancel.

    Source: Song et al. 2012, JMLR 13, eq. 5. Averaging HSIC over batches (Nguyen, Raghu & Kornblith 2021, ICLR, eq. 3)
    estimates the same only where rows are in random order.
    """

    def __init__(self):
        self.n = 0
        """Rows taken in so far."""
        self._left: list[_Layer] = []
        self._right: list[_Layer] = []
        self._cross: list[list[list[Any]]] = []

    def update(self, left: Sequence[Float[Array, "n p"]], right: Sequence[Float[Array, "n q"]]) -> None:
        """Take in one batch: one array per layer, the same rows in all of them.

        Raises:
            ValueError: a row that holds NaN or an infinity.
        """
        if not self.n:
            self._left, self._right = ([_Layer(x) for x in side] for side in (left, right))
        first = [layer.take(x) for layer, x in zip(self._left, left)]
        second = [layer.take(y) for layer, y in zip(self._right, right)]
        sums = [[_pair_sums(x, y) for y in second] for x in first]
        self._cross = [
            [_added(old, new) for old, new in zip(*lines)] for lines in zip(self._cross, sums)
        ] or sums
        self.n += left[0].shape[0]

    def value(self, debiased: bool = True) -> Float[Array, "layers others"]:
        """CKA of every left with every right layer, over all rows taken in so far.

        NaN for a layer whose rows are all equal or, debiased, equidistant.

        Raises:
            ValueError: fewer than 4 rows were taken in.
        """
        if self.n < 4:
            raise ValueError(f"CKA of {self.n} rows was asked for; feed at least 4")
        xp = array_library(self._cross[0][0][0])
        hsic = _unbiased_hsic if debiased else _biased_hsic
        cross = xp.stack([xp.stack([hsic(self.n, *sums) for sums in line]) for line in self._cross])
        first, second = (
            xp.stack([layer.own(self.n, hsic) for layer in side]) for side in (self._left, self._right)
        )
        return cross / xp.sqrt(first[:, None] * second[None, :])


class _Layer:
    """The sums of one layer with itself, and the shift that all its rows are taken about."""

    def __init__(self, x):
        self._shift = array_library(x).mean(finite(x), axis=0)
        self.noise = 0.0
        self._sums = []

    def take(self, x):
        x = finite(x)
        self.noise = max(self.noise, coordinate_noise(x))
        x = x - self._shift
        sums = _pair_sums(x, x)
        self._sums = _added(self._sums, sums) if self._sums else sums
        return x

    def own(self, n, hsic):
        """HSIC of the layer with itself; NaN where no more than rounding error is left of it."""
        xp = array_library(self._sums[0])
        value, spread = hsic(n, *self._sums), self._sums[4]
        bound = spread * spread * 1e-14 + n * spread * (4 * self.noise) ** 2
        return xp.where(value > bound, value, xp.full_like(value, float("nan")))


def cka_minibatch(x: Float[Array, "n p"], y: Float[Array, "n q"], batch: int = 64) -> Float[Array, ""]:
    """Debiased linear CKA computed from consecutive batches of rows; the value of `cka_debiased`.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(float(cka_minibatch(x, 2 * x)), 6)
    1.0
    """
    starts = range(0, x.shape[0], batch)
    return streamed((x[start : start + batch, :], y[start : start + batch, :]) for start in starts)


def streamed(batches: Iterable[tuple[Array, Array]], debiased: bool = True) -> Float[Array, ""]:
    """Linear CKA of paired rows that arrive in batches."""
    stream = StreamedCKA()
    for x, y in batches:
        stream.update([x], [y])
    return stream.value(debiased)[0, 0]


def _added(old, new):
    return [a + b for a, b in zip(old, new)]


def _pair_sums(x, y):
    """Sums over rows of: x yᵀ, x, y, k m, k, m, x m, y k, where k = |x|² and m = |y|²."""
    xp = array_library(x, y)
    k, m = xp.sum(x * x, axis=1), xp.sum(y * y, axis=1)
    xt, yt = xp.matrix_transpose(x), xp.matrix_transpose(y)
    return [
        *(xp.matmul(xt, y), xp.sum(x, axis=0), xp.sum(y, axis=0), xp.sum(k * m), xp.sum(k), xp.sum(m)),
        *(xp.matmul(xt, m), xp.matmul(yt, k)),
    ]


def _biased_hsic(n, xy, x, y, *_):
    xp = array_library(xy)
    centred = xy - x[:, None] * y[None, :] / n
    return xp.sum(centred * centred)


def _unbiased_hsic(n, xy, x, y, km, k, m, x_m, y_k):
    """Song et al. 2012, eq. 5, up to the factor n(n − 3), written in sums over rows."""
    xp = array_library(xy)
    trace = xp.sum(xy * xy) - km
    total_x, total_y = xp.sum(x * x) - k, xp.sum(y * y) - m
    rows = xp.sum(x * xp.matmul(xy, y)) - xp.sum(x * x_m) - xp.sum(y * y_k) + km
    return trace + total_x * total_y / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)


CKA_MINIBATCH = Measure(
    "cka_minibatch",
    cka_minibatch,
    True,
    RIGID,
    "The debiased linear CKA of Song et al. 2012, JMLR 13, eq. 5, from sums over batches of rows.",
)
