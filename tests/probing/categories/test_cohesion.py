"""Cohesion against loops over all pairs; planted cohesion is found at its size, planted nothing is not."""

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

from probing.categories.cohesion import (
    bootstrap_cohesion,
    cohesion,
    cohesion_draws,
    conclude,
    pair_weights,
    silhouette,
)
from probing.categories.leaf_sums import leaf_sums, mean_products, mean_squared_distances
from probing.similarity.gram import leaf_means
from probing.stats import draw_weights

MEMBERS = np.zeros((12, 3), dtype=bool)
MEMBERS[np.arange(12), np.arange(12) // 4] = True
OVERLAPPING = MEMBERS.copy()
OVERLAPPING[7, 2] = True


def pictures(seed=0, n_leaves=12, d=16):
    rng = np.random.default_rng(seed)
    leaves = np.repeat(np.arange(n_leaves), rng.integers(2, 6, n_leaves))
    x = rng.standard_normal((n_leaves, d))[leaves] + rng.standard_normal((len(leaves), d)) + 1
    order = rng.permutation(len(leaves))
    return x[order], leaves[order]


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_pair_means_equal_loops_over_all_pairs():
    x, leaves = pictures()
    cosines = mean_products(leaf_sums(x, leaves, unit=True))
    squared = mean_squared_distances(leaf_sums(x, leaves))
    u = unit(x)
    for a in range(12):
        for b in range(12):
            pairs = [
                (i, j) for i in np.flatnonzero(leaves == a) for j in np.flatnonzero(leaves == b) if i != j
            ]
            assert cosines[a, b] == pytest.approx(np.mean([u[i] @ u[j] for i, j in pairs]))
            assert squared[a, b] == pytest.approx(np.mean([((x[i] - x[j]) ** 2).sum() for i, j in pairs]))


def test_rows_may_come_in_parts_and_at_single_precision():
    x, leaves = pictures()
    whole = leaf_sums(x, leaves, centre=x.mean(0), unit=True)
    parts = leaf_sums((x[i : i + 7] for i in range(0, len(x), 7)), leaves, centre=x.mean(0), unit=True)
    np.testing.assert_allclose(parts.total, whole.total)
    np.testing.assert_allclose(
        leaf_sums(x.astype(np.float32), leaves).total, leaf_sums(x, leaves).total, rtol=1e-5
    )


def test_pictures_of_another_modality_make_the_cross_pairs():
    x, leaves = pictures()
    words = np.random.default_rng(5).standard_normal((12, 16))
    crossed = mean_products(leaf_sums(x, leaves, unit=True), leaf_sums(words, np.arange(12), unit=True))
    expected = (unit(x)[leaves == 3] @ unit(words)[8]).mean()
    assert crossed[3, 8] == pytest.approx(expected)
    with pytest.raises(ValueError, match="same leaves; only one has"):
        mean_products(leaf_sums(x, leaves), leaf_sums(words[:3], np.arange(3)))


def test_centre_counts_every_leaf_once():
    x = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    np.testing.assert_allclose(leaf_sums(x, np.array([0, 0, 0, 1])).centre, [0.5, 0.5])


def test_pair_weights_count_each_pair_once_and_skip_shared_categories():
    within, between = pair_weights(OVERLAPPING)
    assert within[1].sum() == pytest.approx(1)
    assert (within[1] > 0).sum() == 12
    # Leaf 7 belongs to categories 1 and 2: it is "between" neither for the other.
    assert between[1][4, 0] > 0
    assert between[1][7, 8] == 0
    assert between[1][4, 7] == 0
    assert within[2][7, 8] > 0
    alone = np.zeros((12, 1), dtype=bool)
    alone[0] = True
    assert np.isnan(pair_weights(alone)[0]).all()


@pytest.mark.parametrize("planted", [0.0, 0.2, 0.5])
def test_planted_cohesion_is_estimated_without_bias(planted):
    """Rows whose expected cosine is `planted` + .2 inside a category, .2 elsewhere."""
    found = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        d, base = 3000, 0.2
        leaves = np.repeat(np.arange(12), rng.integers(1, 8, 12))
        common = rng.standard_normal(d)
        category, leaf = rng.standard_normal((3, d)), rng.standard_normal((12, d))
        noise = rng.standard_normal((len(leaves), d))
        rest = 1 - base - planted
        x = np.sqrt(base) * common + np.sqrt(planted) * category[leaves // 4]
        x = x + np.sqrt(rest * 0.6) * leaf[leaves] + np.sqrt(rest * 0.4) * noise
        pairs = mean_products(leaf_sums(x, leaves, unit=True))
        result = cohesion(pairs[None], MEMBERS, draws=19)
        found.append((result.difference.mean(), result.between.mean()))
    difference, between = np.mean(found, axis=0)
    assert difference == pytest.approx(planted, abs=0.01)
    assert between == pytest.approx(base, abs=0.01)


def test_null_rejects_as_often_as_it_says_over_all_layers():
    rejected = []
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        leaves = np.repeat(np.arange(12), 3)
        layers = rng.standard_normal((4, 12, 8))[:, leaves] * 2 + rng.standard_normal((4, 36, 8))
        pairs = np.stack([mean_products(leaf_sums(x, leaves, unit=True)) for x in layers])
        result = cohesion(pairs, MEMBERS, draws=99, seed=seed)
        rejected.append(result.p_corrected.min() <= 0.05)
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.02)


def test_planted_category_is_found_from_its_layer_on_and_alone():
    rng = np.random.default_rng(0)
    leaves = np.repeat(np.arange(12), 4)
    layers = []
    for layer in range(5):
        x = rng.standard_normal((12, 40))
        if layer >= 2:
            x[:4] += 2 * rng.standard_normal(40)
        layers.append(x[leaves] + rng.standard_normal((48, 40)))
    pairs = np.stack([mean_products(leaf_sums(x, leaves, unit=True)) for x in layers])
    result = cohesion(pairs, MEMBERS)
    assert ((result.p_category[:, 0] < 0.02) == (np.arange(5) >= 2)).all()
    assert (result.p_corrected[2:] < 0.05).all()
    assert (result.p_corrected[:2] > 0.05).all()
    distances = np.stack([mean_squared_distances(leaf_sums(x, leaves)) for x in layers])
    assert (cohesion(distances, MEMBERS, higher_is_closer=False).p_corrected[2:] < 0.05).all()


def test_within_and_between_equal_loops_over_pairs():
    x, leaves = pictures(3)
    pairs = mean_products(leaf_sums(x, leaves, unit=True))
    result = cohesion(pairs[None], OVERLAPPING, draws=19)
    together = (OVERLAPPING.astype(int) @ OVERLAPPING.T) > 0
    for c in range(3):
        inside = np.flatnonzero(OVERLAPPING[:, c])
        within = [pairs[a, b] for a in inside for b in inside if a != b]
        between = [
            pairs[a, b] for a in inside for b in range(12) if not OVERLAPPING[b, c] and not together[a, b]
        ]
        assert result.within[0, c] == pytest.approx(np.mean(within))
        assert result.between[0, c] == pytest.approx(np.mean(between))


def test_layers_measured_in_parts_are_corrected_together(monkeypatch):
    pairs = np.stack([mean_products(leaf_sums(*pictures(seed), unit=True)) for seed in range(5)])
    whole = cohesion(pairs, OVERLAPPING, draws=99)
    # One category's weights over pairs at a time, two layers at a time.
    monkeypatch.setattr("probing.categories.cohesion._PAIR_ENTRIES", 1)
    parts = conclude([cohesion_draws(pairs[k : k + 2], OVERLAPPING, draws=99) for k in (0, 2, 4)])
    for name in ("within", "between", "p", "p_corrected", "p_category", "null"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-12)


def test_bootstrap_of_the_whole_sample_is_the_value_and_of_draws_the_weighted_loops():
    x, leaves = pictures(4)
    pairs = np.stack([mean_products(leaf_sums(x, leaves, unit=True))] * 2)
    result = cohesion(pairs, OVERLAPPING, draws=19)
    within, between = bootstrap_cohesion(pairs, OVERLAPPING, np.ones((1, 12)))
    np.testing.assert_allclose(within[0], result.within)
    np.testing.assert_allclose(between[0], result.between)
    weights = draw_weights(12, 5)
    within, _ = bootstrap_cohesion(pairs, OVERLAPPING, weights)
    inside = np.flatnonzero(OVERLAPPING[:, 1])
    for draw, w in enumerate(weights):
        scheme = np.array([[w[a] * w[b] * (a != b) for b in inside] for a in inside])
        values = pairs[0][np.ix_(inside, inside)]
        assert within[draw, 0, 1] == pytest.approx(
            (np.where(scheme > 0, values, 0) * scheme).sum() / scheme.sum()
        )


def test_draw_without_a_pair_is_undefined():
    pairs = np.random.default_rng(0).standard_normal((1, 12, 12))
    weights = np.zeros((1, 12))
    weights[0, 5] = 12
    within, between = bootstrap_cohesion(pairs, MEMBERS, weights)
    assert np.isnan(within).all()
    assert np.isnan(between).all()


def test_silhouette_equals_scikit_learn():
    x = np.random.default_rng(0).standard_normal((12, 3)) + MEMBERS.argmax(1)[:, None]
    distances = np.linalg.norm(x[:, None] - x[None], axis=-1)
    np.testing.assert_allclose(silhouette(distances, MEMBERS), silhouette_samples(x, MEMBERS.argmax(1)))
    lonely = MEMBERS.copy()
    lonely[0] = False
    assert np.isnan(silhouette(distances, lonely)[0])


def test_fifty_thousand_rows_stay_small():
    """Sums per leaf are the only memory: nothing of size rows × rows, or rows × width, is made."""
    import tracemalloc

    rng = np.random.default_rng(0)
    leaves = rng.integers(0, 50, 50_000)
    tracemalloc.start()
    parts = (rng.standard_normal((1000, 256), dtype=np.float32) for _ in range(50))
    mean_products(leaf_sums(parts, leaves, unit=True))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize("seed", range(10))
def test_nan_is_refused_by_its_row_and_changes_no_other_leaf(seed):
    rng = np.random.default_rng(seed)
    x, leaves = pictures(seed)
    row, value = int(rng.integers(len(x))), rng.choice([np.nan, np.inf])
    x[row, rng.integers(x.shape[1])] = value
    message = f"row {row} of the rows holds NaN or infinity"
    for rows in (x, (x[at : at + 5] for at in range(0, len(x), 5))):
        with pytest.raises(ValueError, match=message):
            leaf_sums(rows, leaves, unit=bool(rng.integers(2)))
    with pytest.raises(ValueError, match=message):
        leaf_means(x, leaves)
    sound = np.arange(len(x)) != row
    assert np.isfinite(leaf_means(x[sound], leaves[sound])[0]).all()


@pytest.mark.parametrize("seed", range(10))
def test_a_pair_without_a_value_is_refused_and_the_diagonal_does_not_count(seed):
    rng = np.random.default_rng(seed)
    pairs = mean_products(leaf_sums(*pictures(seed), unit=True))
    np.fill_diagonal(pairs, np.nan)
    assert np.isfinite(cohesion(pairs[None], MEMBERS, draws=20).difference).all()
    assert np.isfinite(silhouette(1 - pairs, MEMBERS)).all()
    first, second = rng.choice(12, 2, replace=False)
    pairs[first, second] = rng.choice([np.nan, np.inf])
    message = f"row {min(first, second)} of the matrix of pairs holds NaN or infinity"
    with pytest.raises(ValueError, match=message):
        cohesion(np.stack([np.ones_like(pairs), pairs]), MEMBERS, draws=20)
    with pytest.raises(ValueError, match=message):
        bootstrap_cohesion(pairs[None], MEMBERS, np.ones((2, 12)))
    with pytest.raises(ValueError, match=f"row {first} of the matrix of pairs holds"):
        silhouette(1 - pairs, MEMBERS)


def test_refusals():
    x, leaves = pictures()
    for wrong in (leaves[:-1], np.r_[leaves, 0]):
        with pytest.raises(ValueError, match="give one leaf per row"):
            leaf_sums(x, wrong)
    with pytest.raises(ValueError, match="a row of length 0 has no direction"):
        leaf_sums(np.zeros((3, 2)), np.arange(3), unit=True)
    with pytest.raises(ValueError, match="no category of 2 has two leaves"):
        cohesion(np.zeros((1, 12, 12)), np.zeros((12, 2), dtype=bool))
