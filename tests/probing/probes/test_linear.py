import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from probing.probes.fitted import Standardizer, platt, sigmoid
from probing.probes.linear import (
    PENALTIES,
    Decomposition,
    fit_ridge,
    group_blocks,
    least_errors,
    leave_group_out,
    ridge_path,
)


def _problem(seed):
    """Twenty kinds: tall, wide, collinear, one feature, constant features, badly scaled, one-class targets."""
    rng = np.random.default_rng(seed)
    n, d = [(60, 12), (25, 60), (40, 1), (40, 40)][seed % 4]
    features = rng.normal(3, 2, size=(n, d))
    if seed % 5 == 1 and d > 1:
        features[:, -1] = features[:, 0] * 2 - 1
    if seed % 5 == 2:
        features = np.concatenate([features, np.full((n, 2), 7.0)], axis=1)
    if seed % 5 == 3:
        features = features * np.logspace(-2, 2, features.shape[1])
    labels = (features @ rng.normal(size=(features.shape[1], 3)) > 0) ^ (rng.random((n, 3)) < 0.2)
    labels[:2, :2] = [[True], [False]]
    if seed % 5 == 4:
        labels[:, 2] = True
    return features, labels.astype(float), rng.integers(0, 7, n)


@pytest.mark.parametrize("seed", range(20))
def test_path_equals_scikit_learn(seed):
    features, labels, _ = _problem(seed)
    path, intercepts = ridge_path(features, labels)
    for p, penalty in enumerate(PENALTIES):
        peer = Ridge(alpha=penalty, solver="svd").fit(features, labels)
        scale = np.abs(peer.coef_).max()
        np.testing.assert_allclose(path[p], peer.coef_.T, rtol=1e-4, atol=1e-8 * scale)
        np.testing.assert_allclose(intercepts[p], peer.intercept_, rtol=1e-6, atol=1e-8)
        for t in range(2):
            ours = roc_auc_score(labels[:, t], features @ path[p][:, t])
            assert ours == pytest.approx(roc_auc_score(labels[:, t], peer.predict(features)[:, t]), abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_many_penalties_and_vanishing_ones_give_what_each_gives_alone(seed, kind):
    features, labels, _ = _problem(seed)
    penalties = (1e-12, *np.logspace(-2, 3, 30))
    given = features if kind == "numpy" else torch.from_numpy(features)
    path, _ = ridge_path(given, labels, penalties)
    for p in (1, 15, 30):
        alone, _ = ridge_path(given, labels, penalties[p : p + 1])
        scale = np.abs(np.asarray(alone)).max()
        np.testing.assert_allclose(path[p], alone[0], rtol=1e-6, atol=1e-8 * scale)
    fitted = features @ np.asarray(path[0])
    exact = features @ Ridge(alpha=1e-12, solver="svd").fit(features, labels).coef_.T
    np.testing.assert_allclose(fitted - fitted.mean(0), exact - exact.mean(0), atol=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_leaving_a_group_out_equals_refitting_without_it(seed):
    features, labels, groups = _problem(seed)
    centred = features - features.mean(axis=0)
    found = leave_group_out(Decomposition.of(centred), labels, groups, PENALTIES[:4])
    for p, penalty in enumerate(PENALTIES[:4]):
        for group in np.unique(groups):
            out = groups == group
            peer = Ridge(alpha=penalty, solver="svd").fit(centred[~out], labels[~out])
            np.testing.assert_allclose(found[p][out], peer.predict(centred[out]), atol=1e-8)


def test_a_tensor_gives_what_an_array_gives():
    features, labels, groups = _problem(0)
    array = fit_ridge(features, labels, groups)
    tensor = fit_ridge(torch.from_numpy(features), torch.from_numpy(labels), groups)
    for name in ("coefficients", "intercept", "penalty", "slope", "offset"):
        np.testing.assert_allclose(getattr(tensor, name).numpy(), getattr(array, name), rtol=1e-8, atol=1e-10)


def test_float32_features_give_nearly_what_float64_ones_give():
    features, labels, groups = _problem(0)
    narrow, wide = (fit_ridge(features.astype(dtype), labels, groups) for dtype in (np.float32, np.float64))
    np.testing.assert_array_equal(narrow.penalty, wide.penalty)
    np.testing.assert_allclose(narrow.scores(features.astype(np.float32)), wide.scores(features), atol=1e-5)


def test_scores_do_not_depend_on_units_or_origin_of_features():
    features, labels, groups = _problem(0)
    moved = features * np.logspace(-3, 3, features.shape[1]) + 5
    first = fit_ridge(features, labels, groups).scores(features)
    np.testing.assert_allclose(fit_ridge(moved, labels, groups).scores(moved), first, atol=1e-6)


def test_penalty_is_the_one_with_least_leave_group_out_error():
    features, labels, groups = _problem(0)
    probes = fit_ridge(features, labels, groups)
    values = Standardizer.fit(features)(features)
    errors = []
    for penalty in PENALTIES:
        predicted = np.empty_like(labels)
        for group in np.unique(groups):
            out = groups == group
            predicted[out] = (
                Ridge(alpha=penalty, solver="svd").fit(values[~out], labels[~out]).predict(values[out])
            )
        errors.append(((predicted - labels) ** 2).mean(axis=0))
    np.testing.assert_allclose(probes.penalty, np.array(PENALTIES)[np.argmin(errors, axis=0)])


def test_control_blocks_take_the_penalty_of_the_real_targets():
    features, labels, groups = _problem(0)
    shuffled = labels[np.random.default_rng(0).permutation(len(labels))]
    both = fit_ridge(features, np.concatenate([labels, shuffled], axis=1), groups, blocks=2)
    alone = fit_ridge(features, labels, groups)
    np.testing.assert_array_equal(both.penalty, np.tile(alone.penalty, 2))
    np.testing.assert_allclose(both.coefficients[:, :3], alone.coefficients, atol=1e-12)


def test_least_errors_prefers_the_strongest_of_equal_penalties():
    errors = np.array([[1.0, 2.0, 1.0], [1.0, 1.0, 2.0], [1.0, 1.0, 3.0]])
    assert least_errors(errors).tolist() == [2, 2, 0]


def test_blocks_name_every_row_once():
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    rows, real, place = group_blocks(groups)
    assert sorted(rows[real]) == list(range(6))
    np.testing.assert_array_equal(rows.ravel()[place], np.arange(6))
    assert all(len(set(groups[line[mask]])) == 1 for line, mask in zip(rows, real))


def test_directions_are_unit_and_raise_the_score():
    features, labels, groups = _problem(0)
    probes = fit_ridge(features, labels, groups)
    directions = probes.directions()
    np.testing.assert_allclose((directions**2).sum(axis=0), 1)
    raised = probes.scores(features + directions[:, 0]) - probes.scores(features)
    assert (raised[:, 0] > 0).all()


def test_standardizer_leaves_constant_features_alone():
    features = np.stack([np.arange(5.0), np.full(5, 1e6 + 0.1), np.full(5, 1e-9)], axis=1)
    scaled = Standardizer.fit(features)(features)
    np.testing.assert_allclose(scaled[:, 1:], 0, atol=1e-6)
    assert scaled[:, 0].std() == pytest.approx(1)


def test_platt_recovers_the_slope_of_logistic_scores():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20_000, 1)) * 3
    labels = (rng.random(scores.shape) < sigmoid(2 * scores - 1)).astype(float)
    slope, offset = platt(scores, labels)
    assert slope[0] == pytest.approx(2, rel=0.05)
    assert offset[0] == pytest.approx(-1, rel=0.08)


def test_platt_stays_finite_for_separable_and_constant_scores():
    labels = (np.arange(10) > 6).astype(float)[:, None]
    slope, offset = platt(np.concatenate([labels, 0 * labels], axis=1), np.repeat(labels, 2, axis=1))
    assert 0 < slope[0] < 100
    assert slope[1] == 0
    assert sigmoid(offset[1]) == pytest.approx(4 / 12, abs=0.05)


@pytest.mark.parametrize("penalties", [(0.0, 1.0), (2.0, 1.0), (), (-1.0,)])
def test_wrong_penalties_are_refused(penalties):
    with pytest.raises(ValueError, match="penalties must be positive and increase"):
        ridge_path(np.eye(3), np.eye(3), penalties)


def test_a_single_group_is_refused():
    with pytest.raises(ValueError, match="found one group; give rows of two or more groups"):
        fit_ridge(np.eye(3), np.eye(3), np.zeros(3))
