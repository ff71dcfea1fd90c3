"""The subspace illusion: a subspace whose exchange moves answers along directions that the concept does not take.

A direction that goes with the concept and is not read, put together with one that is read and lies dormant (it does not
go with the concept), gives one whose exchange changes answers although neither part would.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from probing.patching.subspaces.subspace import Subspace

SHARE = 0.99
"""Of the squared length of gradients, that the space which is read must hold."""
_LEAST = 1e-6  # length of the part of a unit vector below which it is rounding


def read_space(gradients: Float[np.ndarray, "n d"], share: float = SHARE) -> Subspace:
    """The smallest span of principal directions of gradients that holds this share of their squared length.

    >>> read_space(np.array([[1.0, 0.0], [2.0, 0.05]])).rank
    1

    Raises:
        ValueError: no gradient differs from 0.
    """
    _, sizes, right = np.linalg.svd(np.asarray(gradients, np.float64), full_matrices=False)
    if not sizes.max(initial=0.0) > 0:
        raise ValueError("no answer depends on this state: every gradient is 0; choose a later span or layer")
    held = np.cumsum(sizes**2) / (sizes**2).sum()
    return Subspace(right[: int(np.searchsorted(held, share)) + 1].T)


def split(subspace: Subspace, read: Subspace) -> tuple[Subspace, Subspace]:
    """The spans of the parts of a subspace's directions that are read, and that are not; their ranks may be smaller.

    >>> read = Subspace(np.eye(3)[:, :1])
    >>> inside, outside = split(Subspace.spanned(np.array([[1.0], [1.0], [0.0]])), read)
    >>> inside.basis.ravel().round(6).tolist(), abs(outside.basis.ravel()).round(6).tolist()
    ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])

    Source: Makelov, Lange & Nanda 2024, ICLR, arXiv:2311.17030, sections 3 and 5 (the parts of a direction in the row
    space and in the null space of what reads it, each patched alone). There the reader is one matrix; here it is
    the rest of the model, to first order.
    """
    inside = read.part(subspace.basis.T).T
    return _span(inside), _span(subspace.basis - inside)


def _span(directions: Float[np.ndarray, "d k"]) -> Subspace:
    left, sizes, _ = np.linalg.svd(directions, full_matrices=False)
    # Signs are those of the directions, so that a part of one direction looks like it.
    signs = np.sign((left * directions).sum(0))
    return Subspace((left * np.where(signs == 0, 1, signs))[:, sizes > _LEAST])
