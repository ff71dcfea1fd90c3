"""Probes as scikit-learn classifiers, at one penalty, for any number of classes."""

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import validation
from sklearn.utils.multiclass import check_classification_targets

from probing.probes.fitted import Standardizer
from probing.probes.linear import PENALTIES, ridge_path
from probing.probes.logistic import logistic_path
from probing.probes.registry import PROBES

_FLOATS = (np.float64, np.float32)
_validate: Any = validation.validate_data


class Probe(ClassifierMixin, BaseEstimator, ABC):
    """A linear classifier with `coef_` [classes or 1, d], `intercept_` and `classes_`, in the features' own units.

    With `standardize` it is fitted to features in units of the training rows and then mapped back.
    """

    standardize: bool
    _link = 1.0

    def fit(self, X: Float[np.ndarray, "n d"], y: Shaped[np.ndarray, " n"]) -> Self:
        """The probe itself, fitted to these rows.

        Raises:
            ValueError: fewer than two classes.
        """
        X, y = _validate(self, X, y, dtype=_FLOATS, ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"a probe needs rows of two classes or more, found only class {self.classes_[0]}"
            )
        labels = np.eye(len(self.classes_))[codes]
        if not self.standardize:
            coefficients, self.intercept_ = self._fit(X.astype(np.float64), labels)
        else:
            scaled = Standardizer.fit(X)
            coefficients, intercept = self._fit(scaled(X), labels)
            coefficients = coefficients / scaled.scale.T
            self.intercept_ = intercept - (scaled.mean @ coefficients)[0]
        self.coef_ = coefficients.T
        return self

    @abstractmethod
    def _fit(
        self, features: Float[np.ndarray, "n d"], labels: Float[np.ndarray, "n classes"]
    ) -> tuple[Float[np.ndarray, "d t"], Float[np.ndarray, " t"]]:
        """Coefficients and intercepts of each class; of two classes, of the second against the first."""

    def decision_function(self, X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n *classes"]:
        """Score of each class; of two classes, of the second one, positive where it is the likelier."""
        validation.check_is_fitted(self)
        X = _validate(self, X, reset=False, dtype=_FLOATS)
        scores = X @ self.coef_.T + self.intercept_
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Float[np.ndarray, "n d"]) -> Shaped[np.ndarray, " n"]:
        """The likeliest class of each row."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]

    def predict_proba(self, X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n classes"]:
        """Probability of each class."""
        scores = self._link * self.decision_function(X)
        return softmax(np.stack([0 * scores, scores], axis=1) if scores.ndim == 1 else scores, axis=1)


class RidgeProbe(Probe):
    """Least squares on labels ±1 with an L2 penalty, as scikit-learn's `RidgeClassifier(alpha=penalty)`.

    Probabilities are logistic with the value and slope that the linear probability (1 + score)/2 has at score
    0.
    """

    _link = 2.0

    def __init__(self, penalty: float = 1.0, standardize: bool = True):
        self.penalty = penalty
        self.standardize = standardize

    def _fit(self, features, labels):
        signs = 2 * (labels[:, 1:] if labels.shape[1] == 2 else labels) - 1
        path, intercepts = ridge_path(features, signs, (self.penalty,))
        return path[0], intercepts[0]


class LogisticProbe(Probe):
    """Logistic regression with an L2 penalty, as scikit-learn's `LogisticRegression(C=1/penalty)`; multinomial.

    `tolerance` is in nats a row above the least loss.
    """

    def __init__(self, penalty: float = 1.0, tolerance: float = 1e-12, standardize: bool = True):
        self.penalty = penalty
        self.tolerance = tolerance
        self.standardize = standardize

    def _fit(self, features, labels):
        binary = labels.shape[1] == 2
        columns = labels[:, 1:] if binary else labels
        path, intercepts = logistic_path(
            features, columns, (self.penalty,), self.tolerance, multinomial=not binary
        )
        return path[0], intercepts[0]


class LDAProbe(Probe):
    """Linear discriminant analysis with a shrunk within-class covariance, (1 − shrinkage) Σ + shrinkage tr(Σ)/d I.

    The same as scikit-learn's `LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)`. For two
    classes its direction is that of ridge at one penalty, so sweeps over penalties use ridge.
    """

    def __init__(self, shrinkage: float = 0.1, standardize: bool = True):
        self.shrinkage = shrinkage
        self.standardize = standardize

    def _fit(self, features, labels):
        if not 0 <= self.shrinkage <= 1:
            raise ValueError(f"shrinkage must lie in [0, 1], found {self.shrinkage}")
        means = (labels / labels.sum(axis=0)).T @ features
        within = features - labels @ means
        covariance = within.T @ within / len(features)
        level = np.trace(covariance) / len(covariance)
        shrunk = (1 - self.shrinkage) * covariance + self.shrinkage * level * np.eye(len(covariance))
        coefficients = np.linalg.lstsq(shrunk, means.T, rcond=None)[0]
        intercepts = np.log(labels.mean(axis=0)) - (means.T * coefficients).sum(axis=0) / 2
        return _second_against_first(coefficients, intercepts)


class NearestMeanProbe(Probe):
    """Nearest class mean; for two classes the mass-mean direction, half-way between the means.

    Probabilities are those of round Gaussians with one common variance and equal base rates.
    """

    def __init__(self, standardize: bool = True):
        self.standardize = standardize

    def _fit(self, features, labels):
        means = (labels / labels.sum(axis=0)).T @ features
        variance = ((features - labels @ means) ** 2).mean()
        coefficients = means.T / max(variance, np.finfo(float).tiny)
        return _second_against_first(coefficients, -(means.T * coefficients).sum(axis=0) / 2)


class RegisteredProbe(Probe):
    """Any kind of probe of `PROBES` by its name, its penalty chosen inside the rows that it is fitted to.

    One probe per class against the others, calibrated: scores are log-odds. Rows of one group (of `fit`; by default
    every row is its own) stand on one side of the inner splits.

    >>> features = np.array([[0.0, 1.0], [0.2, 3.0], [0.1, 2.0], [1.0, 2.0], [1.2, 1.0], [1.1, 3.0]])
    >>> probe = RegisteredProbe("mass_mean").fit(features, ["crow", "crow", "crow", "plum", "plum", "plum"])
    >>> [str(label) for label in probe.predict([[0.3, 2.0], [0.9, 2.0]])]
    ['crow', 'plum']
    """

    standardize = False  # the registered kinds do so themselves

    def __init__(self, probe: str = "ridge", penalties: tuple[float, ...] = PENALTIES):
        self.probe = probe
        self.penalties = penalties

    def fit(
        self,
        X: Float[np.ndarray, "n d"],
        y: Shaped[np.ndarray, " n"],
        groups: Shaped[np.ndarray, " n"] | None = None,
    ) -> Self:
        """The probe itself, fitted to these rows.

        Raises:
            KeyError: no probe of that name is registered.
            ValueError: fewer than two classes.
        """
        if self.probe not in PROBES:
            raise KeyError(f"unknown probe {self.probe!r}; known: {', '.join(PROBES)}")
        self._groups = groups
        return super().fit(X, y)

    def _fit(self, features, labels):
        columns = labels[:, 1:] if labels.shape[1] == 2 else labels
        groups = np.arange(len(features)) if self._groups is None else np.asarray(self._groups)
        fitted = PROBES[self.probe](features, columns, groups, tuple(self.penalties))
        coefficients = fitted.raw_coefficients()
        intercepts = fitted.intercept - (fitted.standardizer.mean @ coefficients)[0]
        return coefficients * fitted.slope, intercepts * fitted.slope + fitted.offset


def _second_against_first(coefficients, intercepts):
    """Of two classes the difference, of more all of them."""
    if coefficients.shape[1] != 2:
        return coefficients, intercepts
    return coefficients[:, 1:] - coefficients[:, :1], intercepts[1:] - intercepts[:1]
