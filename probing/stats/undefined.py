"""Numbers that may be undefined: a quotient and a mean that give NaN instead of an error, rows without NaN."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float

Array = Any
_ROUNDING = 1e-13  # relative to the terms of a difference, whose own is about 1e-16


def divide(numerator: Float[np.ndarray, "..."], denominator: Float[np.ndarray, "..."]) -> np.ndarray:
    """The quotient, NaN where the denominator is not positive.

    >>> divide(np.array([1.0, 2.0]), np.array([2.0, 0.0]))
    array([0.5, nan])
    """
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    empty = np.full(shape, np.nan)
    return np.divide(numerator, denominator, out=empty, where=np.broadcast_to(denominator > 0, shape))


def beyond_rounding(
    difference: Float[np.ndarray, "..."], terms: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """A difference of sums of squares; 0 where it is negative, or nothing beside the rounding of its terms.

    Rows that are all alike would have a tiny spread otherwise, and lie millions of standard errors from anything.

    >>> beyond_rounding(np.array([0.5, 2e-16, -1e-17]), np.array([1.0, 1.0, 1.0]))
    array([0.5, 0. , 0. ])
    """
    return np.where(difference > _ROUNDING * terms, difference, 0.0)


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


def refuse_undefined(rows: Float[Array, "*b n d"], what: str, first: int = 0) -> None:
    """Refuse rows that hold NaN or infinity, which a sum would spread over all others; the first is number `first`.

    >>> refuse_undefined(np.array([[1.0], [np.nan]]), "the features")
    Traceback (most recent call last):
        ...
    ValueError: row 1 of the features holds NaN or infinity (1 of 2 rows); leave it out or compute it anew

    Raises:
        ValueError: the number of the row.
    """
    xp = array_namespace(rows)
    if not xp.isdtype(rows.dtype, ("real floating", "complex floating")) or bool(xp.all(xp.isfinite(rows))):
        return
    undefined = xp.reshape(~xp.all(xp.isfinite(rows), axis=-1), (-1, rows.shape[-2]))
    numbers = [row for row, any_of in enumerate(xp.any(undefined, axis=0)) if any_of]
    raise ValueError(
        f"row {first + numbers[0]} of {what} holds NaN or infinity ({len(numbers)} of {rows.shape[-2]} rows); "
        "leave it out or compute it anew"
    )
