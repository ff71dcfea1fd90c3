"""Canonical correlations: SVCCA and projection-weighted CCA."""

from typing import Any

from jaxtyping import Float

from probing.similarity.gram import array_library, coordinate_noise
from probing.similarity.measure import RIGID, Measure

Array = Any


def canonical_correlations(x: Float[Array, "n p"], y: Float[Array, "n q"]) -> Float[Array, " k"]:
    """Canonical correlations, largest first; as many as the smaller rank.

    Source: Hotelling 1936, Biometrika 28; by the singular values of a product of orthonormal bases (Björck &
    Golub 1973, Math. Comp. 27).
    """
    xp = array_library(x, y)
    product = xp.matmul(xp.matrix_transpose(_basis(x, 1.0, xp)), _basis(y, 1.0, xp))
    return xp.clip(xp.linalg.svdvals(product), 0, 1)


def svcca(x: Float[Array, "n p"], y: Float[Array, "n q"], variance: float = 0.99) -> Float[Array, ""]:
    """Mean canonical correlation of the principal components that hold `variance` of each representation.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(float(svcca(x, x @ np.array([[1.0, 2, 0], [0, 1, 0], [0, 0, 3]]))), 6)
    1.0

    Source: Raghu et al. 2017, NeurIPS, section 2.
    """
    xp = array_library(x, y)
    product = xp.matmul(xp.matrix_transpose(_basis(x, variance, xp)), _basis(y, variance, xp))
    return xp.mean(xp.clip(xp.linalg.svdvals(product), 0, 1))


def pwcca(x: Float[Array, "n p"], y: Float[Array, "n q"]) -> Float[Array, ""]:
    """Mean canonical correlation, each weighted by how much of the features of x its variate accounts for.

    The weights sum absolute values over the features of x, so they change when x is rotated, and swapping x
    and y changes the value.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(float(pwcca(x, 2 * x)), 6)
    1.0

    Source: Morcos, Raghu & Bengio 2018, NeurIPS, eq. 6.

    Raises:
        ValueError: no more rows than features, where every canonical correlation is 1 whatever the data.
    """
    if x.shape[0] <= x.shape[1] + y.shape[1]:
        raise ValueError(
            f"projection-weighted CCA asked for over {x.shape[0]} rows of {x.shape[1]} and {y.shape[1]} "
            "features; with no more rows than features in all, correlations of 1 are guaranteed. "
            "Use svcca, cka_debiased or fewer features"
        )
    xp = array_library(x, y)
    basis = _basis(x, 1.0, xp)
    u, correlations, _ = xp.linalg.svd(
        xp.matmul(xp.matrix_transpose(basis), _basis(y, 1.0, xp)), full_matrices=False
    )
    centred = x - xp.mean(x, axis=0, keepdims=True)
    weights = xp.sum(xp.abs(xp.matmul(xp.matrix_transpose(xp.matmul(basis, u)), centred)), axis=1)
    return xp.sum(weights * xp.clip(correlations, 0, 1)) / xp.sum(weights)


def _basis(x, variance, xp):
    """Orthonormal columns spanning the leading principal components of the centred rows."""
    u, s, _ = xp.linalg.svd(x - xp.mean(x, axis=0, keepdims=True), full_matrices=False)
    power = s * s
    rounding = s[0] * max(x.shape) * xp.finfo(x.dtype).eps + coordinate_noise(x) * x.shape[0] ** 0.5
    rank = int(xp.sum(xp.astype(s > rounding, xp.int64)))
    share = xp.cumulative_sum(power) / xp.sum(power)
    needed = int(xp.sum(xp.astype(share < variance, xp.int64))) + 1 if variance < 1 else rank
    return u[:, : min(needed, rank)]


SVCCA = Measure(
    "svcca",
    svcca,
    True,
    RIGID,
    "Raghu et al. 2017, NeurIPS, section 2, 99 % of variance. Near 1 by chance when rows are few.",
)
PWCCA = Measure(
    "pwcca",
    pwcca,
    True,
    frozenset({"translation", "isotropic scale", "row permutation"}),
    "Morcos, Raghu & Bengio 2018, NeurIPS, eq. 6. Depends on the feature basis of the first representation.",
    symmetric=False,
)
