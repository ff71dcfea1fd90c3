"""Shared neighbours against scikit-learn and the definition as loops."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from probing.similarity import MEASURES
from probing.similarity.neighbors import cknna, neighbour_matrix


def pair(n=40, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4)) + 2
    return x, x @ rng.standard_normal((4, 6)) + rng.standard_normal((n, 6))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_neighbours_equal_scikit_learn(distance):
    x, _ = pair()
    indices = NearestNeighbors(n_neighbors=6, metric=distance).fit(x).kneighbors(return_distance=False)
    found = neighbour_matrix(x, 6, distance)
    assert (found.sum(1) == 6).all()
    assert all(found[row, indices[row]].all() for row in range(len(x)))


def test_mutual_knn_is_the_share_of_common_neighbours():
    x, y = pair()
    a, b = (NearestNeighbors(n_neighbors=10).fit(z).kneighbors(return_distance=False) for z in (x, y))
    shared = np.mean([len(set(a[row]) & set(b[row])) / 10 for row in range(len(x))])
    assert MEASURES["mutual_knn"](x, y) == pytest.approx(shared)


def test_mutual_knn_of_independent_rows_is_at_chance():
    values = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        values.append(MEASURES["mutual_knn"](rng.standard_normal((60, 5)), rng.standard_normal((60, 5))))
    assert np.mean(values) == pytest.approx(10 / 59, abs=0.01)


@pytest.mark.parametrize("seed", range(10))
def test_ties_are_chance_not_the_order_of_rows(seed):
    """Rows that are all as far apart have any others as neighbours; so have classes that are independent."""
    rng = np.random.default_rng(seed)
    random = rng.standard_normal((60, 5))
    for name in ("mutual_knn", "mutual_knn_cosine"):
        assert MEASURES[name](np.eye(60), random) == pytest.approx(10 / 59, abs=1e-12)
        assert MEASURES[name](np.eye(60), np.eye(12)[rng.permutation(60) % 12]) == pytest.approx(10 / 59)
    values = [
        MEASURES["mutual_knn"](*(np.eye(12)[rng.permutation(60) % 12] for _ in range(2))) for _ in range(40)
    ]
    assert np.mean(values) == pytest.approx(10 / 59, abs=0.01)
    classes = np.eye(12)[rng.permutation(60) % 12]
    order = rng.permutation(60)
    assert MEASURES["mutual_knn"](classes[order], random[order]) == pytest.approx(
        MEASURES["mutual_knn"](classes, random), abs=1e-12
    )


@pytest.mark.parametrize("seed", range(10))
def test_ties_are_the_mean_over_random_ways_to_break_them(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 3, (2, 30, 2)).astype(float)
    broken = []
    for _ in range(400):
        order, other = (z + 1e-6 * rng.standard_normal((30, 2)) for z in (x, y))
        broken.append(MEASURES["mutual_knn"](order, other))
    # Noise in coordinates does not break all ties with equal odds; it does on average over cells.
    assert MEASURES["mutual_knn"](x, y) == pytest.approx(np.mean(broken), abs=0.02)


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e9, 1e12])
def test_independent_rows_are_at_chance_at_any_scale(scale):
    values = {"mutual_knn": [], "mutual_knn_cosine": [], "cknna": []}
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x, y = scale * rng.standard_normal((2, 100, 5))
        for name, each in values.items():
            each.append(MEASURES[name](x, y))
            assert each[-1] == pytest.approx(MEASURES[name](x / scale, y / scale), abs=1e-9)
    assert np.mean(values["mutual_knn"]) == pytest.approx(10 / 99, abs=0.02)
    assert np.mean(values["mutual_knn_cosine"]) == pytest.approx(10 / 99, abs=0.02)
    assert abs(np.mean(values["cknna"])) < 0.1


def written_out_cknna(x, y, k):
    """As released with Huh et al. 2024 (minyoungg/platonic-rep, metrics.py), on centred rows."""
    x, y = x - x.mean(0), y - y.mean(0)
    n = len(x)

    def masked(gram_a, gram_b):
        mask = np.zeros((n, n))
        for row in range(n):
            others = [j for j in range(n) if j != row]
            near_a = set(sorted(others, key=lambda j: -gram_a[row, j])[:k])
            near_b = set(sorted(others, key=lambda j: -gram_b[row, j])[:k])
            mask[row, list(near_a & near_b)] = 1
        a, b = gram_a * mask, gram_b * mask
        total = a.sum() * b.sum() / ((n - 1) * (n - 2))
        return ((a * b.T).sum() + total - 2 * (a @ b).sum() / (n - 2)) / (n * (n - 3))

    k_x, k_y = x @ x.T, y @ y.T
    return masked(k_x, k_y) / np.sqrt(masked(k_x, k_x) * masked(k_y, k_y))


def test_cknna_is_the_definition():
    x, y = pair()
    assert float(cknna(x, y)) == pytest.approx(written_out_cknna(x, y, 10), abs=1e-12)


def test_cknna_over_all_neighbours_is_debiased_cka():
    x, y = pair()
    assert float(cknna(x, y, k=len(x) - 1)) == pytest.approx(MEASURES["cka_debiased"](x, y), abs=1e-12)


def test_refusals():
    with pytest.raises(ValueError, match="40 nearest neighbours asked for among 40 rows"):
        neighbour_matrix(pair()[0], 40)
    with pytest.raises(KeyError, match="unknown distance 'hamming'"):
        neighbour_matrix(pair()[0], 4, "hamming")
