import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestCentroid
from sklearn.utils.estimator_checks import parametrize_with_checks

from probing.probes import PROBES
from probing.probes.estimators import LDAProbe, LogisticProbe, NearestMeanProbe, RegisteredProbe, RidgeProbe

ESTIMATORS = [RidgeProbe(), LogisticProbe(), LDAProbe(), NearestMeanProbe(), *map(RegisteredProbe, PROBES)]


@parametrize_with_checks(ESTIMATORS)
def test_common_checks_of_scikit_learn(estimator, check):
    check(estimator)


def _problem(seed, classes):
    rng = np.random.default_rng(seed)
    n, d = ((60, 8), (25, 40), (40, 1), (50, 6))[seed % 4]
    features = rng.normal(2, 3, size=(n, d))
    if seed % 4 == 3:
        features[:, -1] = 2 * features[:, 0] - features[:, 1]
    scores = (features - 2) @ rng.normal(size=(d, classes)) / np.sqrt(d) + rng.gumbel(size=(n, classes))
    labels = scores.argmax(axis=1)
    labels[:classes] = np.arange(classes)
    return features, labels


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    "probe, peer",
    [
        (RidgeProbe(3.0, standardize=False), RidgeClassifier(alpha=3.0)),
        (
            LogisticProbe(3.0, 1e-14, standardize=False),
            LogisticRegression(C=1 / 3, tol=1e-11, max_iter=100_000),
        ),
        (
            LDAProbe(0.3, standardize=False),
            LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3),
        ),
    ],
    ids=["ridge", "logistic", "lda"],
)
def test_equals_scikit_learn(probe, peer, seed, classes):
    features, labels = _problem(seed, classes)
    probe.fit(features, labels)
    peer.fit(features, labels)
    coefficients = np.atleast_2d(peer.coef_)
    np.testing.assert_allclose(probe.coef_, coefficients, rtol=1e-4, atol=1e-4 * np.abs(coefficients).max())
    np.testing.assert_array_equal(probe.predict(features), peer.predict(features))
    ours, theirs = (
        each.decision_function(features).reshape(len(labels), -1)[:, -1] for each in (probe, peer)
    )
    last = labels == classes - 1
    assert roc_auc_score(last, ours) == pytest.approx(roc_auc_score(last, theirs), abs=1e-6)
    if hasattr(peer, "predict_proba"):
        np.testing.assert_allclose(probe.predict_proba(features), peer.predict_proba(features), atol=1e-4)


@pytest.mark.parametrize("classes", [2, 4])
def test_nearest_mean_equals_nearest_centroid(classes):
    features, labels = _problem(3, classes)
    probe = NearestMeanProbe(standardize=False).fit(features, labels)
    assert (probe.predict(features) == NearestCentroid().fit(features, labels).predict(features)).all()


def test_standardizing_makes_the_units_of_features_irrelevant():
    features, labels = _problem(0, 2)
    units = np.logspace(-3, 3, features.shape[1])
    for probe in (RidgeProbe(), LogisticProbe(tolerance=1e-13), LDAProbe(), NearestMeanProbe()):
        first = probe.fit(features, labels).predict_proba(features)
        np.testing.assert_allclose(
            probe.fit(features * units, labels).predict_proba(features * units), first, atol=1e-6
        )


def test_direction_of_lda_is_that_of_ridge_at_the_matching_penalty():
    features, labels = _problem(0, 2)
    shrinkage = 0.2
    lda = LDAProbe(shrinkage, standardize=False).fit(features, labels)
    hot = np.eye(2)[labels]
    within = features - hot @ ((hot / hot.sum(axis=0)).T @ features)
    level = (within**2).sum() / within.size
    penalty = len(features) * shrinkage / (1 - shrinkage) * level
    ridge = RidgeProbe(penalty, standardize=False).fit(features, labels)
    cosine = (lda.coef_ * ridge.coef_).sum() / np.linalg.norm(lda.coef_) / np.linalg.norm(ridge.coef_)
    assert cosine > 1 - 1e-12


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="two classes or more, found only class 1"):
        RidgeProbe().fit(np.eye(4), np.ones(4, dtype=int))


def test_shrinkage_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"shrinkage must lie in \[0, 1\], found 1.5"):
        LDAProbe(1.5).fit(np.eye(4), np.array([0, 1, 0, 1]))
