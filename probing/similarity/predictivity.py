"""Linear predictivity: how much of one representation's variance a ridge on another explains, held out."""

from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from probing.similarity.gram import array_library
from probing.similarity.measure import RIGID, Measure

Array = Any
#: Ridge penalties, as multiples of the mean eigenvalue of the training rows' covariance.
PENALTIES = tuple(10.0**exponent for exponent in range(-4, 5))


def linear_predictivity(
    x: Float[Array, "n p"],
    y: Float[Array, "n q"],
    groups: Shaped[np.ndarray, " n"] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Float[Array, ""]:
    """Share of the variance of y that a ridge on x explains in held-out rows, all columns pooled; at most 1.

    Whole groups (leaf concepts) are held out; with none given, every row is its own. The penalty is chosen
    inside the training rows by their leave-one-out error. The error is measured against the training mean, so
    that knowing nothing gives about 0, and below 0 is worse than nothing.

    >>> x = np.random.default_rng(0).normal(size=(60, 3))
    >>> round(float(linear_predictivity(x, x @ np.array([[1.0], [2.0], [0.0]]))), 3)
    1.0

    Source: Yamins et al. 2014, PNAS 111(23) (regression onto responses); Golub, Heath & Wahba 1979,
    Technometrics 21(2) (the leave-one-out error of a ridge in closed form).
    """
    xp = array_library(x, y)
    error, total = 0.0, 0.0
    for train, test in _folds(x.shape[0], groups, folds, seed):
        train, test = (xp.asarray(rows, device=x.device) for rows in (train, test))
        x_train, y_train = xp.take(x, train, axis=0), xp.take(y, train, axis=0)
        x_mean, y_mean = xp.mean(x_train, axis=0), xp.mean(y_train, axis=0)
        weights = _ridge(x_train - x_mean, y_train - y_mean, xp)
        target = xp.take(y, test, axis=0) - y_mean
        residual = target - xp.matmul(xp.take(x, test, axis=0) - x_mean, weights)
        error, total = error + xp.sum(residual * residual), total + xp.sum(target * target)
    return 1 - error / total


def _ridge(x, y, xp):
    """Ridge weights at the penalty of least leave-one-out error."""
    u, s, vt = xp.linalg.svd(x, full_matrices=False)
    uty = xp.matmul(xp.matrix_transpose(u), y)
    # Training rows that are all equal predict nothing; any penalty says so.
    scale = float(xp.sum(s * s)) / x.shape[1] or 1.0
    best, best_error = xp.zeros_like(s), float("inf")
    for penalty in PENALTIES:
        shrink = s * s / (s * s + penalty * scale)
        # The fitted mean costs each row 1/n of leverage beside that of the ridge.
        leverage = xp.sum(u * u * shrink, axis=1) + 1 / x.shape[0]
        residual = (y - xp.matmul(u, shrink[:, None] * uty)) / (1 - leverage)[:, None]
        error = float(xp.sum(residual * residual))
        if error < best_error:
            best, best_error = shrink / xp.where(s > 0, s, xp.ones_like(s)), error
    return xp.matmul(xp.matrix_transpose(vt), best[:, None] * uty)


def _folds(n, groups, folds, seed):
    """Row indices (train, test) of each fold; groups are dealt out whole, in a seeded order."""
    names, codes = np.unique(np.arange(n) if groups is None else np.asarray(groups), return_inverse=True)
    if codes.shape != (n,):
        raise ValueError(f"{n} rows but groups of shape {codes.shape}; give one group per row")
    if not 2 <= folds <= len(names):
        raise ValueError(f"{folds} folds asked for over {len(names)} groups; give 2 … {len(names)} folds")
    deal = np.random.Generator(np.random.PCG64(seed)).permutation(len(names)) % folds
    for fold in range(folds):
        held_out = deal[codes] == fold
        yield np.flatnonzero(~held_out), np.flatnonzero(held_out)


PREDICTIVITY = Measure(
    "linear_predictivity",
    linear_predictivity,
    True,
    RIGID - {"row permutation"},
    "Yamins et al. 2014, PNAS 111(23); ridge, 5 folds by row position, penalty inside the training rows.",
    symmetric=False,
)
