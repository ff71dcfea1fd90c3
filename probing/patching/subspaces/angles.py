"""Principal angles between two subspaces, and how much of one lies in the other."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from probing.patching.subspaces.subspace import Subspace


def cosines(first: Subspace, second: Subspace) -> Float[np.ndarray, " least"]:
    """Cosines of the principal angles, in [0, 1], the largest first; as many as the smaller rank.

    >>> plane, line = Subspace(np.eye(3)[:, :2]), Subspace(np.eye(3)[:, 1:2])
    >>> cosines(plane, line)
    array([1.])

    Source: Björck & Golub 1973, Math. Comp. 27(123), theorem 1.
    """
    return np.clip(np.linalg.svd(first.basis.T @ second.basis, compute_uv=False), 0, 1)


def overlap(first: Subspace, second: Subspace) -> float:
    """Mean squared cosine of the principal angles, in [0, 1]: 1 where the smaller one lies in the larger.

    Chance, for directions that are all alike: the larger rank over the width.

    >>> overlap(Subspace(np.eye(4)[:, :2]), Subspace(np.eye(4)[:, 1:3]))
    0.5
    """
    return float((cosines(first, second) ** 2).mean())
