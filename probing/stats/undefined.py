"""Arithmetic of numbers that may be undefined: a quotient and a mean that give NaN instead of an error."""

import numpy as np
from jaxtyping import Float


def divide(numerator: Float[np.ndarray, "..."], denominator: Float[np.ndarray, "..."]) -> np.ndarray:
    """The quotient, NaN where the denominator is not positive.

    >>> divide(np.array([1.0, 2.0]), np.array([2.0, 0.0]))
    array([0.5, nan])
    """
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    empty = np.full(shape, np.nan)
    return np.divide(numerator, denominator, out=empty, where=np.broadcast_to(denominator > 0, shape))


def nan_mean(values: Float[np.ndarray, "*rest k"]) -> Float[np.ndarray, "*rest"]:
    """Mean over the last axis, undefined values left out; NaN where all of them are undefined.

    >>> nan_mean(np.array([[0.5, 0.7], [0.5, np.nan], [np.nan, np.nan]]))
    array([0.6, 0.5, nan])
    """
    values = np.asarray(values, dtype=np.float64)
    defined = ~np.isnan(values)
    if values.shape[-1] and defined.all():
        return values.mean(-1)
    return divide(np.where(defined, values, 0).sum(-1), defined.sum(-1))
