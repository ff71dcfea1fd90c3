"""Nulls that reject as often as they say, ceilings and intervals that hold what was planted."""

import numpy as np
import pytest
import torch

from probing.similarity import MEASURES
from probing.similarity.calibration import (
    bootstrap,
    calibrate,
    calibrate_matrices,
    noise_ceiling,
    weighted_sum,
)
from probing.similarity.cka import CKA_DEBIASED, biased_matrix, debiased_matrix
from probing.similarity.gram import leaf_means
from probing.similarity.mantel import cyclic_design
from probing.stats import draw_weights

SPIKES = np.geomspace(8, 0.3, 12)


def spiked_pictures(rng, n_leaves, repeats, leaf_means_of=None):
    """Pictures of leaves: a leaf effect with a spiked spectrum, and noise per picture."""
    means = rng.standard_normal((n_leaves, 12)) * SPIKES if leaf_means_of is None else leaf_means_of
    return np.repeat(means, repeats, axis=0) + rng.standard_normal((n_leaves * repeats, 12))


def test_false_positives_by_leaves_and_failure_of_permuting_rows():
    n_leaves, repeats = 20, 4
    leaves = np.repeat(np.arange(n_leaves), repeats)
    by_leaf, by_block, naive = [], [], []
    for draw in range(1000):
        rng = np.random.default_rng(draw)
        x, y = spiked_pictures(rng, n_leaves, repeats), spiked_pictures(rng, n_leaves, repeats)
        by_leaf.append(calibrate(CKA_DEBIASED, [x], [y], leaves, draws=99, seed=draw).p[0, 0])
        full = debiased_matrix(np.stack([x, y]))
        design = cyclic_design(n_leaves, 99, seed=draw)
        by_block.append(calibrate_matrices(full[:1], full[1:], design).p[0, 0])
        if draw < 200:
            naive.append(calibrate(CKA_DEBIASED, [x], [y], draws=79, seed=draw).p[0, 0])
    assert np.mean(np.array(by_leaf) <= 0.05) == pytest.approx(0.05, abs=0.02)
    assert np.mean(np.array(by_block) <= 0.05) == pytest.approx(0.05, abs=0.02)
    assert np.mean(np.array(naive) <= 0.05) > 0.3


def test_false_positives_over_all_layer_pairs_together():
    rejected, uncorrected = [], []
    for draw in range(1000):
        rng = np.random.default_rng(draw)
        x = [rng.standard_normal((16, 6)) for _ in range(3)]
        y = [rng.standard_normal((16, 4)) * SPIKES[:4] for _ in range(3)]
        found = calibrate(CKA_DEBIASED, x, y, draws=99, seed=draw)
        rejected.append(found.p_corrected.min() <= 0.05)
        uncorrected.append(found.p.min() <= 0.05)
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.02)
    assert np.mean(uncorrected) > 0.2


def test_planted_alignment_is_found_from_its_layer_on():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((40, 3))
    text = shared @ rng.standard_normal((3, 10)) + 0.3 * rng.standard_normal((40, 10))
    layers = []
    for layer in range(6):
        own = rng.standard_normal((40, 10))
        layers.append(own + (2 * shared @ rng.standard_normal((3, 10)) if layer >= 3 else 0))
    leaves = np.repeat(np.arange(40), 3)
    rows = [np.repeat(x, 3, axis=0) + 0.3 * rng.standard_normal((120, 10)) for x in layers]
    found = calibrate(CKA_DEBIASED, rows, [np.repeat(text, 3, axis=0)], leaves)
    assert ((found.p_corrected[:, 0] < 0.05) == (np.arange(6) >= 3)).all()
    assert (found.effect[3:] > 0.2).all()
    assert (found.effect[:3] < 0.1).all()
    assert found.n == 40
    assert found.permutations >= 1000


def test_layers_from_matrices_equal_one_by_one_values():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 12, 3)), rng.standard_normal((1, 12, 5))
    found = calibrate(CKA_DEBIASED, list(x), list(y), draws=50)
    assert found.value[1, 0] == pytest.approx(CKA_DEBIASED(x[1], y[0]))
    on_torch = calibrate(CKA_DEBIASED, list(torch.tensor(x)), list(torch.tensor(y)), draws=50)
    np.testing.assert_allclose(on_torch.p_corrected, found.p_corrected)


@pytest.mark.parametrize("name", ["mutual_knn", "mutual_knn_cosine"])
def test_neighbours_are_calibrated_at_their_value_whatever_the_seed(name):
    """A neighbour need not return the favour: matrices of neighbours are not symmetric."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((40, 4))
        y = x @ rng.standard_normal((4, 6)) + rng.standard_normal((40, 6))
        found = calibrate(MEASURES[name], [x], [y], draws=100, seed=seed)
        assert found.value[0, 0] == pytest.approx(MEASURES[name](x, y), abs=1e-12)
        matrix = MEASURES[name].matrix
        assert matrix is not None
        a, b = (matrix(z)[None] for z in (x, y))
        assert calibrate_matrices(a, b, cyclic_design(40, 100, seed)).value[0, 0] == pytest.approx(
            MEASURES[name](x, y), abs=1e-12
        )
        assert found.null_mean[0, 0] == pytest.approx(10 / 39, abs=0.01)
        permuted = MEASURES[name](x, y[cyclic_design(40, 100, seed).permutation(1)])
        assert permuted < found.null_limit[0, 0] + 0.1


def test_neighbours_that_tie_are_calibrated_at_chance():
    rng = np.random.default_rng(0)
    x, y = np.eye(40), rng.standard_normal((40, 3))
    found = calibrate(MEASURES["mutual_knn"], [x], [y], draws=100)
    assert found.value[0, 0] == pytest.approx(10 / 39)
    assert found.p[0, 0] == 1


@pytest.mark.parametrize("name", ["cka_debiased", "rsa_pearson", "rsa_spearman"])
def test_equidistant_rows_and_rows_that_are_not_finite_are_refused(name):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 12, 3))
    with pytest.raises(ValueError, match=r"alike, as of equidistant rows"):
        calibrate(MEASURES[name], [x, np.eye(12) * 3], [y], draws=20)
    y[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"row 7 of the second representation .* holds NaN"):
        calibrate(MEASURES[name], [x], [y], draws=20)


@pytest.mark.parametrize("name", ["procrustes", "svcca", "linear_predictivity"])
def test_measures_without_a_matrix_are_calibrated_too(name):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((30, 3))
    aligned, unrelated = (
        x @ rng.standard_normal((3, 4)) + 0.2 * rng.standard_normal((30, 4)),
        rng.random((30, 4)),
    )
    found = calibrate(MEASURES[name], [x], [aligned, unrelated], draws=60)
    assert found.p[0, 0] == pytest.approx(1 / 61)
    assert found.p[0, 1] > 0.05
    assert found.effect[0, 0] > 0.3
    assert found.effect[0, 1] == pytest.approx(0, abs=0.1)
    assert found.permutations == 60


def test_equals_calibrated_similarity_on_the_same_permutations():
    peer = pytest.importorskip("calibrated_similarity")
    rng = np.random.default_rng(2)
    shared = rng.standard_normal((25, 2))
    x = [torch.tensor(np.c_[shared, rng.standard_normal((25, 3))]) for _ in range(2)]
    y = [torch.tensor(np.c_[shared, rng.standard_normal((25, 4))]) for _ in range(2)]
    design = cyclic_design(25, draws=74, seed=0)
    assert len(design) == 75
    images = iter(range(1, 75))
    score, p, tau = peer.calibrate(
        *(x[0], y[0], CKA_DEBIASED),
        K=74,
        perm_fn=lambda n, device: torch.tensor(design.permutation(next(images))),
    )
    found = calibrate(CKA_DEBIASED, x[:1], y[:1], draws=74, seed=0)
    assert found.p[0, 0] == pytest.approx(float(p), abs=1e-6)
    assert found.null_limit[0, 0] == pytest.approx(float(tau), abs=1e-6)
    assert found.effect[0, 0] == pytest.approx(float(score), abs=1e-6)


def test_weighted_sum_never_compares_a_leaf_with_itself():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((4, 4))
    weights = np.array([[1.0, 1, 1, 1], [2, 0, 1, 1]])
    expected = sum(
        weights[1, i] * (weights[1, j] if i != j else 1) * matrix[i, j] for i in range(4) for j in range(4)
    )
    assert weighted_sum(matrix, weights) == pytest.approx([matrix.sum(), expected])


def test_bootstrap_interval_covers_the_population_value():
    mixing = np.random.default_rng(9).standard_normal((4, 4))
    own = mixing.T @ mixing + np.eye(4)
    truth = np.linalg.norm(mixing) ** 2 / (2 * np.linalg.norm(own))
    covered = []
    for draw in range(200):
        rng = np.random.default_rng(draw)
        x = rng.standard_normal((60, 4))
        y = x @ mixing + rng.standard_normal((60, 4))
        a, b = debiased_matrix(x)[None], debiased_matrix(y)[None]
        draws = bootstrap(a, b, draw_weights(60, 300, seed=draw))[:, 0]
        lower, upper = np.quantile(draws, [0.025, 0.975])
        covered.append(lower <= truth <= upper)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.05)


def test_bootstrap_without_resampling_is_the_value():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 3)), rng.standard_normal((12, 5))
    for matrix, name in ((debiased_matrix, "cka_debiased"), (biased_matrix, "cka")):
        found = bootstrap(matrix(x)[None], matrix(y)[None], np.ones((1, 12)))
        assert found[0, 0] == pytest.approx(MEASURES[name](x, y))


def test_ceiling_is_the_similarity_of_noisy_means_with_the_truth():
    ceilings, reached = [], []
    for draw in range(30):
        rng = np.random.default_rng(draw)
        means = rng.standard_normal((50, 8))
        leaves = np.repeat(np.arange(50), 4)
        rows = np.repeat(means, 4, axis=0) + 1.5 * rng.standard_normal((200, 8))
        value, draws = noise_ceiling([rows], leaves, debiased_matrix, draw_weights(50, 100, draw), splits=5)
        assert draws.shape == (100, 1)
        assert np.quantile(draws, 0.025) < value[0] < np.quantile(draws, 0.975)
        ceilings.append(value[0])
        reached.append(CKA_DEBIASED(leaf_means(rows, leaves)[0], means))
    assert np.mean(ceilings) == pytest.approx(np.mean(reached), abs=0.01)
    assert 0.5 < np.mean(reached) < 0.95


def test_ceiling_refuses_leaves_of_one_row():
    with pytest.raises(ValueError, match=r"1 leaves have one row, such as 'a'"):
        noise_ceiling([np.eye(5)], np.array(["a", "b", "b", "c", "c"]), debiased_matrix)
