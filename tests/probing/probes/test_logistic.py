import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from probing.probes import logistic
from probing.probes.fitted import Standardizer
from probing.probes.logistic import INNER_FOLDS, PENALTIES, fit_logistic, logistic_path
from probing.probes.splits import grouped_folds

_EXACT = 1e-15


def _problem(seed):
    rng = np.random.default_rng(seed)
    n, d = [(80, 10), (30, 50), (50, 1), (40, 40)][seed % 4]
    features = rng.normal(2, 2, size=(n, d))
    if seed % 5 == 1 and d > 1:
        features[:, -1] = features[:, 0] * 2 - 1
    noise = rng.logistic(size=(n, 3))
    labels = (features - 2) @ rng.normal(size=(d, 3)) / np.sqrt(d) + noise > 0.5
    if seed % 5 == 2:
        features = np.concatenate([features, np.full((n, 2), 7.0)], axis=1)
    return features, labels.astype(float), np.arange(n) // 3


@pytest.mark.parametrize("seed", range(20))
def test_path_equals_scikit_learn(seed):
    features, labels, _ = _problem(seed)
    penalties = (0.3, 10.0, 300.0)
    path, intercepts = logistic_path(features, labels, penalties, _EXACT)
    for p, penalty in enumerate(penalties):
        for t in range(labels.shape[1]):
            peer = LogisticRegression(C=1 / penalty, tol=1e-12, max_iter=1_000, solver="newton-cholesky")
            peer.fit(features, labels[:, t])
            scale = np.abs(peer.coef_).max()
            np.testing.assert_allclose(path[p][:, t], peer.coef_[0], rtol=1e-4, atol=1e-5 * scale)
            assert intercepts[p][t] == pytest.approx(peer.intercept_[0], rel=1e-4, abs=1e-5)
            ours = roc_auc_score(labels[:, t], features @ path[p][:, t])
            assert ours == pytest.approx(
                roc_auc_score(labels[:, t], peer.decision_function(features)), abs=1e-6
            )


@pytest.mark.parametrize("seed", range(4))
def test_multinomial_path_equals_scikit_learn(seed):
    features, labels, _ = _problem(seed)
    classes = np.argmax(labels + np.random.default_rng(seed).random(labels.shape), axis=1)
    penalties = (1.0, 100.0)
    path, intercepts = logistic_path(features, np.eye(3)[classes], penalties, _EXACT, multinomial=True)
    for p, penalty in enumerate(penalties):
        peer = LogisticRegression(C=1 / penalty, tol=1e-12, max_iter=1_000, solver="newton-cholesky")
        peer.fit(features, classes)
        np.testing.assert_allclose(path[p], peer.coef_.T, rtol=1e-4, atol=1e-5 * np.abs(peer.coef_).max())
        ours = softmax(features @ path[p] + intercepts[p], axis=1)
        np.testing.assert_allclose(ours, peer.predict_proba(features), atol=1e-6)


@pytest.mark.parametrize("case", ["small", "massive column", "leading axes"])
def test_the_default_tolerance_is_kept(monkeypatch, case):
    features, labels, _ = _problem(0)
    if case != "small":
        rng = np.random.default_rng(5)
        features = rng.normal(size=(300, 60)) / np.arange(1, 61) ** 0.5
        labels = (features @ rng.normal(size=(60, 3)) + rng.logistic(size=(300, 3)) > 0).astype(float)
        features[:, 7] *= 1e5 if case == "massive column" else 100
    if case == "leading axes":
        monkeypatch.setattr(logistic, "_AXES", 10)
    path, intercepts = logistic_path(features, labels)
    exact, exact_intercepts = logistic_path(features, labels, tolerance=_EXACT)

    def objective(w, b, t, penalty):
        logits = features @ w + b
        nats = np.logaddexp(0, logits) - labels[:, t] * logits
        return (nats.sum() + penalty / 2 * (w**2).sum()) / len(features)

    for p, penalty in enumerate(PENALTIES):
        for t in range(3):
            least = objective(exact[p][:, t], exact_intercepts[p][t], t, penalty)
            assert -1e-9 < objective(path[p][:, t], intercepts[p][t], t, penalty) - least < 1e-5


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_leading_axes_alone_lead_to_the_same_coefficients(monkeypatch, kind):
    rng = np.random.default_rng(3)
    features = rng.normal(size=(300, 60)) / np.arange(1, 61)
    features[:, 5] *= 1000  # a massive dimension is an axis of the space itself
    labels = (features @ rng.normal(size=(60, 3)) + rng.logistic(size=(300, 3)) > 0).astype(float)
    expected, base = logistic_path(features, labels, (0.3, 10.0), _EXACT)
    monkeypatch.setattr(logistic, "_AXES", 8)
    given = features if kind == "numpy" else torch.from_numpy(features)
    rotated, basis = logistic._lead(given)
    np.testing.assert_allclose(basis.T @ basis, np.eye(60), atol=1e-12)
    np.testing.assert_allclose(rotated, features @ np.asarray(basis), atol=1e-9)
    seen = np.asarray(rotated)[:, :8]
    assert np.abs(seen.T @ seen - np.diag((seen**2).sum(0))).max() < 1e-9 * (seen**2).sum(0).max()
    path, intercepts = logistic_path(given, labels, (0.3, 10.0), _EXACT)
    np.testing.assert_allclose(path, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(intercepts, base, rtol=1e-4, atol=1e-5)


def test_each_problem_of_a_batch_is_solved_as_it_is_alone():
    features, labels, _ = _problem(1)
    together, _ = logistic_path(features, labels, (0.5, 5.0, 50.0), 1e-14)
    alone, _ = logistic_path(features, labels[:, 1:2], (5.0,), 1e-14)
    np.testing.assert_allclose(together[1][:, 1], alone[0][:, 0], rtol=1e-5, atol=1e-7)


def test_a_tensor_gives_what_an_array_gives():
    features, labels, groups = _problem(0)
    array = fit_logistic(features, labels, groups)
    tensor = fit_logistic(torch.from_numpy(features), torch.from_numpy(labels), groups)
    np.testing.assert_allclose(tensor.penalty.numpy(), array.penalty)
    np.testing.assert_allclose(
        tensor.scores(torch.from_numpy(features)).numpy(), array.scores(features), atol=1e-4
    )


def test_penalty_is_the_one_with_least_log_loss_on_inner_folds_of_groups():
    features, labels, groups = _problem(0)
    probes = fit_logistic(features, labels, groups)
    values = Standardizer.fit(features)(features)
    fold = grouped_folds(groups, labels > 0.5, INNER_FOLDS)
    for t in range(3):
        nats = []
        for penalty in PENALTIES:
            chance = np.empty(len(labels))
            for f in range(INNER_FOLDS):
                peer = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=10_000)
                peer.fit(values[fold != f], labels[fold != f, t])
                chance[fold == f] = peer.predict_proba(values[fold == f])[:, 1]
            nats.append(log_loss(labels[:, t], chance))
        assert probes.penalty[t] == pytest.approx(PENALTIES[int(np.argmin(nats))])


def test_probabilities_are_those_of_logistic_regression():
    features, labels, groups = _problem(0)
    probes = fit_logistic(features, labels, groups, (10.0,))
    peer = LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000)
    peer.fit(Standardizer.fit(features)(features), labels[:, 0])
    ours = probes.probabilities(probes.scores(features))[:, 0]
    expected = peer.predict_proba(Standardizer.fit(features)(features))[:, 1]
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_a_target_of_one_class_ends_and_predicts_it():
    features, labels, groups = _problem(0)
    labels[:, 0] = 1
    probes = fit_logistic(features, labels, groups)
    assert (probes.probabilities(probes.scores(features))[:, 0] > 0.9).all()


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("width", [4, 50])
def test_features_that_are_the_same_in_every_row_give_the_base_rate(kind, width):
    _, labels, groups = _problem(0)
    features = np.full((len(labels), width), 3.0)
    given = features if kind == "numpy" else torch.from_numpy(features)
    given = given[:40] if width == 50 else given
    labels, groups = labels[: len(given)], groups[: len(given)]
    probes = fit_logistic(given, labels, groups)
    found = np.asarray(probes.probabilities(probes.scores(given)))
    np.testing.assert_allclose(found, np.broadcast_to(labels.mean(0), found.shape), atol=1e-3)
    assert np.abs(np.asarray(probes.coefficients)).max() < 1e-6


def test_separable_targets_end():
    features = np.linspace(-1, 1, 20)[:, None]
    path, _ = logistic_path(features, (features > 0).astype(float), (1e-3, 1.0), 1e-12)
    assert np.isfinite(path).all()
    assert path[0, 0, 0] > path[1, 0, 0] > 0


def test_multinomial_labels_with_several_classes_a_row_are_refused():
    with pytest.raises(ValueError, match="exactly one class a row"):
        logistic_path(np.eye(3), np.ones((3, 2)), multinomial=True)
