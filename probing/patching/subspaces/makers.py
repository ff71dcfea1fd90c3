"""Subspaces from labelled states in closed form, and random ones to compare them with."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

from probing.edits.erasure import fit_leace
from probing.patching.subspaces.subspace import Subspace
from probing.probes.means import mass_mean
from probing.probes.registry import PROBES


def of_means(rows: Float[np.ndarray, "n d"], labels: Float[np.ndarray, "n t"], rank: int) -> Subspace:
    """The leading directions of the differences of class means, one for each label.

    >>> rows = np.array([[0.0, 1], [0, 3], [4, 1], [4, 3]])
    >>> of_means(rows, np.array([[0.0], [0], [1], [1]]), rank=1).basis.round(6).ravel() + 0.0
    array([1., 0.])

    Source: Marks & Tegmark 2023, arXiv:2310.06824, section 5.1.
    """
    return Subspace.spanned(mass_mean(rows, labels)[0], rank)


def of_probes(
    rows: Float[np.ndarray, "n d"],
    labels: Float[np.ndarray, "n t"],
    groups: Shaped[np.ndarray, " n"],
    rank: int,
    kind: str = "ridge",
) -> Subspace:
    """The leading directions of linear probes of the labels, each of length 1; penalties are chosen on whole groups.

    >>> rows = np.random.default_rng(0).normal(size=(40, 3))
    >>> of_probes(rows, (rows[:, :1] > 0).astype(float), np.arange(40), rank=1).basis.shape
    (3, 1)
    """
    return Subspace.spanned(PROBES[kind](rows, labels, groups).directions(), rank)


def of_erasure(
    rows: Float[np.ndarray, "n d"], labels: Float[np.ndarray, "n t"], rank: int, shrinkage: float = 0.0
) -> Subspace:
    """The directions along which LEACE takes the labels out of states, those of the largest correlation first.

    All of them span what the differences of class means span; fewer are other ones, chosen by correlation rather
    than by length.

    >>> rows = np.random.default_rng(0).normal(size=(40, 3))
    >>> of_erasure(rows, (rows[:, :1] > 0).astype(float), rank=1).rank
    1

    Source: Belrose et al. 2023, NeurIPS, arXiv:2306.03819, theorem 4.3.
    """
    return Subspace.spanned(fit_leace(rows, labels, shrinkage).out[:, :rank], rank)


def random(width: int, rank: int, rng: np.random.Generator) -> Subspace:
    """A random subspace, all directions alike.

    >>> random(5, 2, np.random.default_rng(0)).basis.shape
    (5, 2)
    """
    return Subspace.spanned(rng.standard_normal((width, rank)), rank)


def root_of(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d d"]:
    """The symmetric root of the covariance of some rows, up to a factor."""
    _, scale, directions = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    return (directions.T * scale) @ directions


def random_in(root: Float[np.ndarray, "d d"], rank: int, rng: np.random.Generator) -> Subspace:
    """A random subspace in the spectrum of some rows (`root_of`): the span of normal vectors of their covariance.

    The same generator and the roots of much the same rows give much the same subspace: one draw over several folds.

    >>> rows = np.random.default_rng(0).normal(size=(40, 2)) * [1.0, 1e-4]
    >>> abs(random_in(root_of(rows), 1, np.random.default_rng(1)).basis[0, 0]) > 0.99
    np.True_
    """
    return Subspace.spanned(root @ rng.standard_normal((len(root), rank)), rank)
