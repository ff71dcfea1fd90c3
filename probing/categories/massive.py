"""Massive activations: the few dimensions that dwarf all others, and measuring with and without them.

A handful of residual dimensions can be hundreds of times larger than the rest and own every unstandardised
similarity; a handful of rows can be ten times longer than the rest even then. Each analysis therefore runs under
a treatment, fitted on training leaves only: `standardised` (default), `raw`, `without outliers`, or `unit rows`
(standardised, then each row to length 1).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float, Int

from probing.stats.undefined import refuse_undefined

Array = Any
TREATMENTS = ("standardised", "raw", "without outliers", "unit rows")
#: A dimension is massive when its root mean square is this many times that of the median dimension.
MASSIVE = 20.0
#: A row is massive when it is this many times as long as the median row.
MASSIVE_ROW = 5.0
_CHUNK = 2048


@dataclass(frozen=True)
class MassiveDimension:
    """One dominating dimension: its size relative to the median one, and its share of all variance."""

    dimension: int
    root_mean_square: float
    ratio_to_median: float
    variance_share: float


@dataclass(frozen=True)
class Treatment:
    """A fixed map of rows, fitted once: (x − offset) / scale, of the `kept` features, at length 1 if `unit`."""

    name: str
    offset: Float[Array, " d"]
    scale: Float[Array, " d"]
    kept: Int[np.ndarray, " k"]
    unit: bool = False

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """The rows under the treatment, in double precision; a row of length 0 stays one."""
        if x.shape[-1] != self.scale.shape[0]:
            raise ValueError(
                f"treatment {self.name!r} was fitted on {self.scale.shape[0]} features, found "
                f"{x.shape[-1]}; fit one per site and modality"
            )
        xp = array_namespace(x)
        treated = (x - self.offset) / self.scale
        if len(self.kept) < x.shape[-1]:
            treated = xp.take(treated, xp.asarray(self.kept, device=x.device), axis=1)
        if self.unit:
            lengths = xp.linalg.vector_norm(treated, axis=1, keepdims=True)
            treated = treated / xp.where(lengths > 0, lengths, xp.ones_like(lengths))
        return treated


def massive_dimensions(x: Float[Array, "n d"], ratio: float = MASSIVE) -> tuple[MassiveDimension, ...]:
    """The dimensions whose root mean square exceeds `ratio` times the median dimension's, largest first.

    >>> rows = np.random.default_rng(0).normal(size=(50, 4)) * [1.0, 1.0, 500.0, 1.0]
    >>> [(one.dimension, one.ratio_to_median > 100) for one in massive_dimensions(rows)]
    [(2, True)]

    Raises:
        ValueError: a row holds NaN or infinity.

    Source: Sun et al. 2024, COLM, "Massive activations in large language models", section 2, with root mean
    squares over rows in place of single activations, since rows here are means over spans.
    """
    mean, variance = (_numpy(moment) for moment in _moments(x))
    size = np.sqrt(mean * mean + variance)
    middle = np.median(size)
    massive = [d for d in np.argsort(-size, kind="stable") if size[d] > ratio * middle]
    return tuple(
        MassiveDimension(int(d), float(size[d]), float(size[d] / middle), float(variance[d] / variance.sum()))
        for d in massive
    )


def massive_rows(x: Float[Array, "n d"], ratio: float = MASSIVE_ROW) -> Float[np.ndarray, " found"]:
    """How many times as long as the median row each massive row is, longest first; empty where there is none.

    Lengths are those of standardised rows; those of raw ones are mostly the sizes of massive dimensions.

    >>> rows = np.random.default_rng(0).normal(size=(50, 4))
    >>> rows[3] *= 100
    >>> len(massive_rows(rows))
    1

    Raises:
        ValueError: a row holds NaN or infinity.
    """
    standardised = fit_treatment("standardised", x)
    xp = array_namespace(x)
    lengths = [_numpy(xp.linalg.vector_norm(standardised(part), axis=1)) for part in _parts(x, xp)]
    times = np.sort(np.concatenate(lengths) / np.median(np.concatenate(lengths)))[::-1]
    return times[times > ratio]


def fit_treatment(name: str, x: Float[Array, "n d"]) -> Treatment:
    """The treatment of that name with its statistics from these rows (those of training leaves).

    A feature that never varies keeps scale 1. Rows are taken a few at a time: of single or half precision, they
    never exist in double precision as a whole.

    >>> train = np.array([[0.0, 10.0], [2.0, 30.0]])
    >>> fit_treatment("standardised", train)(np.array([[3.0, 20.0]]))
    array([[2., 0.]])

    Raises:
        KeyError: another name.
        ValueError: a row holds NaN or infinity, which the statistics of a treatment would spread over all rows.
    """
    if name not in TREATMENTS:
        raise KeyError(f"unknown treatment {name!r}; known: {', '.join(TREATMENTS)}")
    xp = array_namespace(x)
    features = np.arange(x.shape[1])
    zeros = xp.zeros_like(xp.astype(x[0, :], xp.float64))
    if name in ("standardised", "unit rows"):
        mean, variance = _moments(x)
        # A constant feature's mean is off by rounding, and so varies a little about it.
        varies = variance > 1e-24 * mean * mean
        spread = xp.sqrt(xp.where(varies, variance, xp.ones_like(variance)))
        return Treatment(name, mean, spread, features, unit=name == "unit rows")
    if name == "without outliers":
        features = np.setdiff1d(features, [outlier.dimension for outlier in massive_dimensions(x)])
    return Treatment(name, zeros, xp.ones_like(zeros), features)


def _moments(x):
    """Mean and variance of each feature."""
    xp = array_namespace(x)
    for start in range(0, x.shape[0], _CHUNK):
        refuse_undefined(x[start : start + _CHUNK, :], "the rows", first=start)
    mean = sum(xp.sum(part, axis=0) for part in _parts(x, xp)) / x.shape[0]
    squares = sum(xp.sum((part - mean) ** 2, axis=0) for part in _parts(x, xp))
    return mean, squares / x.shape[0]


def _parts(x, xp) -> Iterator[Array]:
    """A few rows at a time, in double precision."""
    for start in range(0, x.shape[0], _CHUNK):
        yield xp.astype(x[start : start + _CHUNK, :], xp.float64, copy=False)


def _numpy(x):
    return x if isinstance(x, np.ndarray) else np.asarray(x.cpu() if hasattr(x, "cpu") else x)
