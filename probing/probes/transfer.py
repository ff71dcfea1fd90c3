"""How features of one modality are put before probes of another: raw, centred, rotated."""

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float, Shaped

from probing.probes.fitted import Array, Standardizer, like
from probing.probes.linear import Decomposition, group_blocks

TRANSFORMS = ("raw", "centred", "procrustes")


def group_means(
    features: Float[Array, "n d"], groups: Shaped[np.ndarray, " n"], names: Shaped[np.ndarray, " g"]
) -> Float[Array, "g d"]:
    """Mean feature row of each of the named groups, in the order of their names."""
    xp = array_namespace(features)
    members = np.flatnonzero(np.isin(groups, names))
    rows, real, _ = group_blocks(groups[members])
    index = xp.asarray(members[rows].ravel(), device=getattr(features, "device", None))
    weight = like(real / real.sum(axis=1, keepdims=True), features)[:, :, None]
    return xp.sum(xp.reshape(xp.take(features, index, axis=0), (*rows.shape, -1)) * weight, axis=1)


def orthogonal_map(source: Float[Array, "g d"], goal: Float[Array, "g d"]) -> tuple[Array, Array]:
    """Factors (A, B) of the rotation A Bᵀ that brings `source` rows nearest to `goal` rows; both are centred.

    A Bᵀ is the orthogonal Procrustes solution on the span of the groups and zero outside of it, so that
    nothing rests on an arbitrary completion when there are fewer groups than features.

    Source: Schönemann 1966, Psychometrika 31(1), eq. 1.7, as a partial isometry.
    """
    from_basis, from_weights = _basis(source)
    to_basis, to_weights = _basis(goal)
    xp = array_namespace(source)
    core = from_weights @ to_weights.T
    squares, right = xp.linalg.eigh(core.T @ core)
    # Directions in which the two do not covary have no partner; 1e-14 of a square is rounding.
    shared = squares > squares[-1] * 1e-14
    inverse = xp.where(
        shared, 1 / xp.where(shared, squares, xp.ones_like(squares)) ** 0.5, xp.zeros_like(squares)
    )
    return from_basis @ ((core @ right) * inverse), to_basis @ right


def _basis(means: Float[Array, "g d"]) -> tuple[Array, Array]:
    """Orthonormal basis [d, g] of the centred rows' span, and the rows' weights on it [g, g]."""
    parts = Decomposition.of((means - array_namespace(means).mean(means, axis=0, keepdims=True)).T)
    root = parts.squares**0.5
    if parts.right is None:
        return parts.left, (parts.left.T @ parts.features)
    return parts.left, (parts.right * root).T


def standardize_for(
    transform: str,
    own: Standardizer,
    trained: Standardizer,
    features: Float[Array, "n d"],
    bridge: tuple[Array, Array] | None = None,
) -> Float[Array, "n d"]:
    """Features as the probes of another modality shall see them.

    raw: in the units of the probes' training rows. centred: in the units of their own modality's training
    rows. procrustes: those, then rotated by `bridge`.

    Raises:
        KeyError: an unknown transform; the known ones are listed.
    """
    if transform == "raw":
        return trained(features)
    if transform == "centred":
        return own(features)
    if transform == "procrustes" and bridge is not None:
        return (own(features) @ bridge[0]) @ bridge[1].T
    raise KeyError(
        f"unknown transform {transform!r}; known: {', '.join(TRANSFORMS)} (procrustes needs a bridge)"
    )
