"""Subspace: some orthonormal directions of a state, and the exchange of what two states hold in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float

Array = Any
ORTHONORMAL = 1e-6
"""By how much a product of two directions may differ from 0, or of one with itself from 1."""
INDEPENDENT = 1e-9
"""The share of the largest singular value that a direction needs to add more than rounding."""


@dataclass(frozen=True)
class Subspace:
    """The span of orthonormal directions, columns of `basis` (float64).

    >>> subspace = Subspace(np.array([[1.0], [0.0]]))
    >>> subspace.swap(np.array([[3.0, 4.0]]), np.array([[5.0, 6.0]]))
    array([[5., 4.]])

    Raises:
        ValueError: the directions are not orthonormal to 1e-6.
    """

    basis: Float[np.ndarray, "d k"]

    def __post_init__(self) -> None:
        worst = float(np.abs(self.basis.T @ self.basis - np.eye(self.rank)).max(initial=0.0))
        if not worst <= ORTHONORMAL:
            raise ValueError(
                f"the {self.rank} directions of a subspace are off orthonormal by {worst:.1e}, more than "
                f"{ORTHONORMAL:.0e}; Subspace.spanned makes a basis of any directions"
            )

    @classmethod
    def spanned(cls, directions: Float[Array, "d m"], rank: int | None = None) -> Subspace:
        """The span of some directions; with a rank, of their leading left singular vectors.

        >>> Subspace.spanned(np.array([[2.0, 2.0], [0.0, 0.1], [0.0, 0.0]]), rank=1).basis.round(1).ravel() + 0.0
        array([1., 0., 0.])

        Raises:
            ValueError: they span fewer dimensions than the rank, or hold NaN or infinity.
        """
        values = np.asarray(directions, np.float64)
        if not np.isfinite(values).all():
            raise ValueError(
                "a direction of a subspace holds NaN or infinity; leave out the row it comes from"
            )
        left, sizes, _ = np.linalg.svd(values, full_matrices=False)
        independent = int((sizes > INDEPENDENT * sizes.max(initial=0.0)).sum())
        if (rank := independent if rank is None else rank) > independent:
            raise ValueError(
                f"a subspace of rank {rank} was asked for; {values.shape[1]} directions of width {len(values)} span "
                f"{independent}: ask for a smaller rank"
            )
        return cls(left[:, :rank])

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return self.basis.shape[1]

    @property
    def width(self) -> int:
        """The number of dimensions of the states."""
        return self.basis.shape[0]

    def part(self, states: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """The orthogonal projection of states, arrays of any library, into the subspace."""
        xp = array_namespace(states)
        basis = xp.asarray(self.basis, dtype=states.dtype, device=states.device)
        return (states @ basis) @ basis.T

    def swap(self, base: Float[Array, "*n d"], source: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """Base states with what the source states hold in the subspace; `swap(source, base)` swaps the complement.

        Source: Geiger, Wu, Potts, Icard & Goodman 2024, CLeaR, arXiv:2303.02536 (distributed interchange intervention).
        """
        return base + self.part(source - base)
