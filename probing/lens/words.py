"""Nearest words: the rows of an embedding table that point where a state does."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace
from jaxtyping import Float, Int

Array = Any


def nearest_words(
    vectors: Float[Array, "n d"], table: Float[Array, "vocabulary d"], k: int
) -> tuple[Int[Array, "n k"], Float[Array, "n k"]]:
    """The rows of an embedding table that point most nearly where each vector does, and their cosines, best first.

    A row or vector of zeros points nowhere: its cosine is 0.

    >>> import numpy as np
    >>> order, cosine = nearest_words(np.array([[2.0, 0.1]]), np.array([[0.0, 1.0], [1.0, 0.0]]), k=1)
    >>> order, cosine.round(2)
    (array([[1]]), array([[1.]]))
    """
    xp = array_namespace(vectors, table)
    if not 0 < k <= table.shape[0]:
        raise ValueError(f"asked for the {k} nearest of {table.shape[0]} words")
    cosines = unit_rows(vectors) @ unit_rows(table).T
    order = xp.argsort(cosines, axis=1, descending=True, stable=True)[:, :k]
    return order, xp.take_along_axis(cosines, order, axis=1)


def unit_rows(rows: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Rows scaled to length 1; rows of zeros stay.

    >>> import numpy as np
    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    xp = array_namespace(rows)
    length = xp.linalg.vector_norm(rows, axis=1, keepdims=True)
    return rows / xp.where(length > 0, length, xp.ones_like(length))
