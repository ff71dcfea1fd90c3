"""Probes made of class means: mass-mean directions for yes/no targets."""

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float, Shaped

from probing.probes.fitted import Array, FittedProbes, Standardizer, like, platt
from probing.probes.linear import PENALTIES
from probing.probes.splits import grouped_folds

_INNER_FOLDS = 5


def mass_mean(
    features: Float[Array, "n d"], labels: Float[Array, "n t"]
) -> tuple[Float[Array, "d t"], Float[Array, " t"]]:
    """Difference of the two class means of each target, and the intercept that is 0 half-way between them.

    Zero for a target with one class.

    >>> direction, intercept = mass_mean(np.array([[0.0, 1], [2.0, 1]]), np.array([[0.0], [1.0]]))
    >>> direction.ravel(), intercept
    (array([2., 0.]), array([-2.]))

    Source: Marks & Tegmark 2023, arXiv:2310.06824, section 5.1 (without the inverse covariance: that probe is
    LDA).
    """
    xp = array_namespace(features)
    positives = xp.sum(labels, axis=0)
    negatives = labels.shape[0] - positives
    both = (positives > 0) & (negatives > 0)
    ones = xp.ones_like(positives)
    up = features.T @ labels / xp.where(both, positives, ones)
    down = features.T @ (1 - labels) / xp.where(both, negatives, ones)
    direction = xp.where(both, up - down, xp.zeros_like(up))
    return direction, -xp.sum(direction * (up + down), axis=0) / 2


def fit_mass_mean(
    features: Float[Array, "n d"],
    labels: Float[Array, "n t"],
    groups: Shaped[np.ndarray, " n"],
    penalties: tuple[float, ...] = PENALTIES,
    blocks: int = 1,
) -> FittedProbes:
    """Mass-mean probes of all targets, calibrated on inner folds of whole groups; there is no penalty to choose.

    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(40)[:, None] % 2 == 0
    >>> probes = fit_mass_mean(rng.normal(size=(40, 3)) + 3 * labels, labels.astype(float), groups=np.arange(40) // 4)
    >>> (probes.directions() > 0).ravel()
    array([ True,  True,  True])
    """
    xp = array_namespace(features)
    standardizer = Standardizer.fit(features)
    values, labels = standardizer(features), like(labels, features)
    real = labels[:, : labels.shape[1] // blocks]
    fold = grouped_folds(groups, np.asarray(real.tolist()) > 0.5, min(_INNER_FOLDS, len(np.unique(groups))))
    held = xp.zeros_like(real)
    for f in range(fold.max() + 1):
        out = like(fold == f, values)[:, None]
        inside = xp.asarray(np.flatnonzero(fold != f), device=values.device)
        direction, intercept = mass_mean(xp.take(values, inside, axis=0), xp.take(real, inside, axis=0))
        held = held + out * (values @ direction + intercept)
    slope, offset = (xp.concat([part] * blocks) for part in platt(held, real))
    direction, intercept = mass_mean(values, labels)
    none = xp.zeros_like(intercept) + xp.nan
    return FittedProbes(standardizer, direction, intercept, none, slope, offset)
