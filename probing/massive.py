"""Massive activations: the few dimensions that dwarf all others, and measuring with and without them.

A handful of residual dimensions can be hundreds of times larger than the rest and own every unstandardised
similarity. Each analysis therefore runs under a treatment, fitted on training leaves only: `standardised`
(default), `raw`, or `without outliers`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float, Int

Array = Any
TREATMENTS = ("standardised", "raw", "without outliers")
#: A dimension is massive when its root mean square is this many times that of the median dimension.
MASSIVE = 20.0


@dataclass(frozen=True)
class MassiveDimension:
    """One dominating dimension: its size relative to the median one, and its share of all variance."""

    dimension: int
    root_mean_square: float
    ratio_to_median: float
    variance_share: float


@dataclass(frozen=True)
class Treatment:
    """A fixed map of features, fitted once and applied to any rows: (x − offset) / scale, then `kept`."""

    name: str
    offset: Float[Array, " d"]
    scale: Float[Array, " d"]
    kept: Int[np.ndarray, " k"]

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """The rows under the treatment."""
        if x.shape[-1] != self.scale.shape[0]:
            raise ValueError(
                f"treatment {self.name!r} was fitted on {self.scale.shape[0]} features, found "
                f"{x.shape[-1]}; fit one per site and modality"
            )
        treated = (x - self.offset) / self.scale
        if len(self.kept) == x.shape[-1]:
            return treated
        xp = array_namespace(x)
        return xp.take(treated, xp.asarray(self.kept, device=x.device), axis=1)


def massive_dimensions(x: Float[Array, "n d"], ratio: float = MASSIVE) -> tuple[MassiveDimension, ...]:
    """The dimensions whose root mean square exceeds `ratio` times the median dimension's, largest first.

    Source: Sun et al. 2024, COLM, "Massive activations in large language models", section 2, with root mean
    squares over rows in place of single activations, since rows here are means over spans.
    """
    size, variance = (_numpy(moment) for moment in _moments(x))
    middle = np.median(size)
    found = [d for d in np.argsort(-size, kind="stable") if size[d] > ratio * middle]
    return tuple(
        MassiveDimension(int(d), float(size[d]), float(size[d] / middle), float(variance[d] / variance.sum()))
        for d in found
    )


def fit_treatment(name: str, x: Float[Array, "n d"]) -> Treatment:
    """The treatment of that name with its statistics from these rows (those of training leaves).

    A feature that never varies keeps scale 1.

    Raises:
        KeyError: another name.
    """
    if name not in TREATMENTS:
        raise KeyError(f"unknown treatment {name!r}; known: {', '.join(TREATMENTS)}")
    xp = array_namespace(x)
    x = xp.astype(x, xp.float64, copy=False)
    kept = np.arange(x.shape[1])
    zeros, ones = xp.zeros_like(x[0, :]), xp.ones_like(x[0, :])
    if name == "standardised":
        spread = xp.std(x, axis=0)
        return Treatment(name, xp.mean(x, axis=0), xp.where(spread > 0, spread, ones), kept)
    if name == "without outliers":
        kept = np.setdiff1d(kept, [outlier.dimension for outlier in massive_dimensions(x)])
    return Treatment(name, zeros, ones, kept)


def _moments(x):
    xp = array_namespace(x)
    x = xp.astype(x, xp.float64, copy=False)
    return xp.sqrt(xp.mean(x * x, axis=0)), xp.var(x, axis=0)


def _numpy(x):
    return x if isinstance(x, np.ndarray) else np.asarray(x.cpu() if hasattr(x, "cpu") else x)
