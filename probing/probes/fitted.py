"""FittedProbes: many linear probes of one feature space, their standardisation and their calibration."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float

Array = Any


@dataclass(frozen=True)
class Standardizer:
    """Mean and scale of training features; constant features keep scale 1.

    >>> scale = Standardizer.fit(np.array([[0.0, 5.0], [2.0, 5.0]]))
    >>> scale(np.array([[3.0, 6.0]]))
    array([[2., 1.]])
    """

    mean: Float[Array, "1 d"]
    scale: Float[Array, "1 d"]

    @classmethod
    def fit(cls, features: Float[Array, "n d"]) -> "Standardizer":
        """The standardisation of these (training) rows only, in float64."""
        xp = array_namespace(features)
        features = xp.astype(features, xp.float64)
        mean = xp.mean(features, axis=0, keepdims=True)
        variance = xp.mean((features - mean) ** 2, axis=0, keepdims=True)
        # A constant column leaves rounding noise in its variance, not an exact zero.
        noise = (10 * features.shape[0] * xp.finfo(xp.float64).eps * mean) ** 2
        constant = variance <= noise + xp.finfo(xp.float64).tiny
        return cls(mean, xp.where(constant, xp.ones_like(variance), variance**0.5))

    def __call__(self, features: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The features in units of the training rows."""
        xp = array_namespace(features)
        return (xp.astype(features, xp.float64) - self.mean) / self.scale


@dataclass(frozen=True)
class FittedProbes:
    """One linear probe per target, in standardised features: score = x · coefficients + intercept.

    The probability of a target is sigmoid(slope · score + offset).

    >>> from probing.probes import PROBES
    >>> features = np.array([[0.0, 1], [0.2, 3], [0.1, 2], [1.0, 2], [1.2, 1], [1.1, 3]])
    >>> labels = np.array([[0.0], [0], [0], [1], [1], [1]])
    >>> probes = PROBES["mass_mean"](features, labels, np.arange(6))
    >>> (probes.scores(features) > 0)[:, 0], probes.directions().round(1)[:, 0]
    (array([False, False, False,  True,  True,  True]), array([1., 0.]))
    """

    standardizer: Standardizer
    coefficients: Float[Array, "d targets"]
    intercept: Float[Array, " targets"]
    penalty: Float[Array, " targets"]
    slope: Float[Array, " targets"]
    offset: Float[Array, " targets"]

    def scores(self, features: Float[Array, "n d"]) -> Float[Array, "n targets"]:
        """Decision values; larger means the target rather holds."""
        return self.scores_standardized(self.standardizer(features))

    def scores_standardized(self, features: Float[Array, "n d"]) -> Float[Array, "n targets"]:
        """Decision values of features standardised already, perhaps by other rows' mean and scale."""
        return features @ self.coefficients + self.intercept

    def probabilities(self, scores: Float[Array, "n targets"]) -> Float[Array, "n targets"]:
        """Probability of each target at these decision values."""
        return sigmoid(scores * self.slope + self.offset)

    def directions(self) -> Float[Array, "d targets"]:
        """Unit vectors in raw feature space along which each score grows; zero where a probe is constant."""
        return unit_columns(self.raw_coefficients())

    def raw_coefficients(self) -> Float[Array, "d targets"]:
        """Coefficients in the features' own units."""
        return self.coefficients / self.standardizer.scale.T


def unit_columns(values: Float[Array, "d t"]) -> Float[Array, "d t"]:
    """Columns scaled to length 1; zero columns stay zero."""
    xp = array_namespace(values)
    norm = xp.sum(values**2, axis=0, keepdims=True) ** 0.5
    return values / xp.where(norm > 0, norm, xp.ones_like(norm))


def sigmoid(values: Array) -> Array:
    """The logistic function, without overflow."""
    xp = array_namespace(values)
    small = xp.exp(-xp.abs(values))
    return xp.where(values >= 0, 1 / (1 + small), small / (1 + small))


def platt(
    scores: Float[Array, "n t"], labels: Float[Array, "n t"]
) -> tuple[Float[Array, " t"], Float[Array, " t"]]:
    """Slope and offset that turn held-out scores into probabilities, per target; slope 0 for constant scores.

    Source: Platt 1999, Advances in Large Margin Classifiers, with his smoothed targets, so that separable
    scores keep a finite slope; damped Newton after Lin, Lin & Weng 2007, Mach. Learn. 68.
    """
    xp = array_namespace(scores)
    positives = xp.sum(labels, axis=0)
    negatives = labels.shape[0] - positives
    goal = xp.where(labels > 0.5, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre = xp.mean(scores, axis=0)
    spread = xp.mean((scores - centre) ** 2, axis=0) ** 0.5
    unit = xp.where(
        spread > 1e-12, 1 / xp.where(spread > 1e-12, spread, xp.ones_like(spread)), xp.zeros_like(spread)
    )
    z = (scores - centre) * unit
    slope, offset = xp.zeros_like(centre), xp.log((positives + 1) / (negatives + 1))
    for _ in range(30):
        p = sigmoid(z * slope + offset)
        weight, gap = p * (1 - p), p - goal
        a, b, c = (
            xp.sum(weight * z * z, axis=0) + 1e-9,
            xp.sum(weight * z, axis=0),
            xp.sum(weight, axis=0) + 1e-9,
        )
        u, v = xp.sum(gap * z, axis=0), xp.sum(gap, axis=0)
        determinant = a * c - b * b
        step = (c * u - b * v) / determinant, (a * v - b * u) / determinant
        # Newton overshoots where the sigmoid saturates; a step of one logit per unit of score is always safe.
        length = (step[0] ** 2 + step[1] ** 2) ** 0.5
        size = xp.clip(length, 1.0, None)
        slope, offset = slope - step[0] / size, offset - step[1] / size
        if float(xp.max(length)) < 1e-10:
            break
    return slope * unit, offset - slope * unit * centre


def like(values: Any, reference: Array) -> Array:
    """The values as a float64 array of the reference's library and device."""
    xp = array_namespace(reference)
    if type(values) is not type(reference):
        values = np.asarray(values, dtype=np.float64)
    return xp.asarray(values, dtype=xp.float64, device=getattr(reference, "device", None))
