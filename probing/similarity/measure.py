"""Measure: a similarity with its claims: direction, the symmetries it ignores, and source."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float

from probing.similarity.gram import array_library, as_float
from probing.stats.undefined import refuse_undefined

Array = Any

#: Changes of one representation (or, for the last, of both together) that a measure may or may not see.
SYMMETRIES = (
    "translation",
    "isotropic scale",
    "orthogonal",
    "invertible linear",
    "affine",
    "row permutation",
)
RIGID = frozenset({"translation", "isotropic scale", "orthogonal", "row permutation"})
LINEAR = RIGID | {"invertible linear", "affine"}
MINIMUM_ROWS = 4


@dataclass(frozen=True)
class Measure:
    """A similarity of two representations of the same rows, and what is claimed of it.

    `invariant_to` holds exactly the `SYMMETRIES` under which the value does not change, whichever of the two
    representations is changed; the law test checks both directions of "exactly". `matrix`, where there is,
    turns a representation into an n × n matrix such that the measure is the cosine of two of these, or their inner
    product where `normalised` is false: only then are null, ceiling and bootstrap of all layer pairs cheap
    (`probing.similarity.calibration`). `metric` says that the triangle inequality holds; `symmetric`, that the order of
    the two does not matter.

    >>> import numpy as np
    >>> x, y = np.random.default_rng(0).normal(size=(2, 20, 5))
    >>> mine = Measure("overlap", lambda x, y: abs((x * y).mean()), True, frozenset({"row permutation"}), "an example")
    >>> 0 < mine(x, y) < mine(x, x)
    True
    """

    name: str
    fn: Callable[[Array, Array], Any]
    higher_is_closer: bool
    invariant_to: frozenset[str]
    source: str
    matrix: Callable[[Array], Array] | None = None
    metric: bool = False
    symmetric: bool = True
    normalised: bool = True

    def __post_init__(self):
        unknown = sorted(self.invariant_to - set(SYMMETRIES))
        if unknown:
            raise KeyError(f"{self.name} claims unknown symmetries {unknown}; known: {', '.join(SYMMETRIES)}")

    def __call__(self, x: Float[Array, "n p"], y: Float[Array, "n q"]) -> float:
        """The similarity of two representations whose rows are the same stimuli, in the same order.

        Raises:
            ValueError: rows that do not pair up, too few rows, values that are not finite or never vary.
        """
        check_paired_rows(x, y, self.name)
        value = float(self.fn(as_float(x), as_float(y)))
        if not math.isfinite(value):
            raise ValueError(
                f"{self.name} of representations of shapes {tuple(x.shape)} and {tuple(y.shape)} is not "
                "finite; one of them does not vary over rows in the way this measure needs"
            )
        return value


def from_matrix(
    name: str,
    matrix: Callable[[Array], Array],
    invariant_to: frozenset[str],
    source: str,
    normalised: bool = True,
) -> Measure:
    """A measure that is the cosine (1 at equality) or the inner product of the two n × n matrices of `matrix`."""

    def fn(x, y):
        a, b = matrix(x), matrix(y)
        xp = array_library(a, b)
        if not normalised:
            return xp.sum(a * b)
        own = check_matrices([a], name, "first")[0] * check_matrices([b], name, "second")[0]
        return xp.sum(a * b) / xp.sqrt(own)

    return Measure(name, fn, True, invariant_to, source, matrix, normalised=normalised)


def check_matrices(matrices: Iterable[Float[Array, "n n"]], what: str, side: str) -> list[Float[Array, ""]]:
    """The sum of squares of each matrix, which is not 0.

    Raises:
        ValueError: a matrix of zeros, whose cosine with anything is 0 / 0.
    """
    squares = [array_library(matrix).sum(matrix * matrix) for matrix in matrices]
    for layer, square in enumerate(squares):
        if not float(square) > 0:
            raise ValueError(
                f"{what}: to it all pairs of rows of the {side} representation (layer {layer}) are alike, as of "
                "equidistant rows; nothing to compare"
            )
    return squares


def check_paired_rows(x: Float[Array, "n p"], y: Float[Array, "n q"], what: str = "similarity") -> None:
    """Nothing, when x and y are finite, vary, and hold the same number (at least 4) of rows.

    Raises:
        ValueError: otherwise; the message says which of these failed, and names the first row that is not finite.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[0] != y.shape[0]:
        raise ValueError(
            f"{what} asked for {tuple(x.shape)} against {tuple(y.shape)}; give [n, p] and [n, q] with the "
            "same rows in the same order (average repeated rows first: `leaf_means`)"
        )
    if x.shape[0] < MINIMUM_ROWS:
        raise ValueError(f"{what} asked for over {x.shape[0]} rows; it needs at least {MINIMUM_ROWS}")
    for side, values in (("first", x), ("second", y)):
        refuse_undefined(values, f"the {side} representation ({what})")
        if not bool(array_library(values).any(values != values[:1, :])):
            raise ValueError(f"{what}: all rows of the {side} representation are equal; nothing to compare")
