"""Every measure on inputs that users have: the value of a plain loop or of scipy, or a refusal that names why."""

import numpy as np
import pytest
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr

from probing.similarity import MEASURES
from tests.probing.similarity.test_cka import unbiased_hsic

COSINES = ("mutual_knn_cosine", "rsa_cosine")


def of_kernel(kernel):
    def value(x, y):
        k, m = kernel(x), kernel(y)
        return unbiased_hsic(k, m) / np.sqrt(unbiased_hsic(k, k) * unbiased_hsic(m, m))

    return value


def centred(x):
    return x - x.mean(0)


def gaussian(x):
    distances = squareform(pdist(x))
    median = np.median(distances[np.triu_indices(len(x), 1)])
    return np.exp(-(distances**2) / (2 * median**2))


def biased(x, y):
    a, b = centred(x), centred(y)
    return np.linalg.norm(a.T @ b) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))


def dissimilarity(metric):
    def pairs(x):
        if metric == "mahalanobis":
            x = x[:, np.ptp(x, axis=0) > 0]
            return pdist(x, metric, VI=np.linalg.inv(np.cov(x.T)))
        return pdist(x, metric)

    return pairs


def rank_correlation(metric):
    pairs = dissimilarity(metric)
    # Entries that are equal but for rounding tie.
    return lambda x, y: spearmanr(*(np.round(d / d.max(), 9) for d in (pairs(x), pairs(y))))[0]


def neighbours(distances, k=10):
    """Probability of each column to be among the k nearest of its row, ties broken at random."""
    member = np.zeros_like(distances)
    for row, line in enumerate(distances):
        others = np.array([j for j in range(len(line)) if j != row])
        last = np.sort(line[others])[k - 1]
        slack = 1e-9 * abs(last)
        nearer, tied = others[line[others] < last - slack], others[abs(line[others] - last) <= slack]
        member[row, nearer] = 1
        member[row, tied] = (k - len(nearer)) / len(tied)
    return member


def overlap(metric):
    def value(x, y):
        a, b = (neighbours(squareform(pdist(z, metric))) for z in (x, y))
        return (a * b).sum() / a.sum()

    return value


def cknna(x, y, k=10):
    grams = [centred(z) @ centred(z).T for z in (x, y)]
    near = [neighbours(gram.max() - gram, k) > 0 for gram in grams]
    cross = unbiased_hsic(grams[0] * (near[0] & near[1]), grams[1] * (near[0] & near[1]))
    own = [unbiased_hsic(gram * mask, gram * mask) for gram, mask in zip(grams, near)]
    return cross / np.sqrt(own[0] * own[1])


def distance_after_rotation(x, y):
    width = max(x.shape[1], y.shape[1])
    padded = (np.c_[z, np.zeros((len(z), width - z.shape[1]))] for z in (x, y))
    return np.sqrt(2 - 2 * np.sqrt(1 - procrustes(*padded)[2]))


def basis(x, variance=1.0):
    u, s, _ = np.linalg.svd(centred(x), full_matrices=False)
    s = s[s > s[0] * 1e-8]
    enough = int((np.cumsum(s**2) / (s**2).sum() < variance).sum()) + 1
    return u[:, : min(enough, len(s))]


def projection_weighted(x, y):
    a, b = basis(x), basis(y)
    u, s, _ = np.linalg.svd(a.T @ b, full_matrices=False)
    weights = np.abs((a @ u).T @ centred(x)).sum(1)
    return (weights * s).sum() / weights.sum()


ORACLES = {
    "cka_debiased": of_kernel(lambda x: centred(x) @ centred(x).T),
    "cka": biased,
    "cka_rbf": of_kernel(gaussian),
    "cka_minibatch": of_kernel(lambda x: centred(x) @ centred(x).T),
    "procrustes": distance_after_rotation,
    "angular_shape": lambda x, y: np.arccos(1 - distance_after_rotation(x, y) ** 2 / 2),
    "rsa_pearson": lambda x, y: pearsonr(pdist(x, "sqeuclidean"), pdist(y, "sqeuclidean"))[0],
    "rsa_spearman": rank_correlation("sqeuclidean"),
    "rsa_cosine": rank_correlation("cosine"),
    "rsa_correlation": rank_correlation("correlation"),
    "rsa_mahalanobis": rank_correlation("mahalanobis"),
    "rsa_whitened": biased,
    "svcca": lambda x, y: np.linalg.svd(basis(x, 0.99).T @ basis(y, 0.99))[1].mean(),
    "pwcca": projection_weighted,
    "mutual_knn": overlap("euclidean"),
    "mutual_knn_cosine": overlap("cosine"),
    "cknna": cknna,
}
MEASURED = [name for name in MEASURES if name != "linear_predictivity"]


def pair(seed, n=40):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4)) + 0.4
    return x, x @ rng.standard_normal((4, 3)) + rng.standard_normal((n, 3))


def ties(seed):
    rng = np.random.default_rng(seed)
    return rng.integers(1, 4, (40, 4)) * [1.0, 2, 1, 1], rng.integers(1, 4, (40, 3)) * [1.0, 1, 3]


def duplicated(seed):
    x, y = pair(seed, 20)
    return np.repeat(x, 2, axis=0), np.repeat(y, 2, axis=0)


def constant_columns(seed):
    x, y = pair(seed)
    return np.c_[x, np.full(40, 0.1)], np.c_[np.full(40, -3.0), y]


def test_every_measure_has_an_oracle():
    assert set(MEASURED) == set(ORACLES)


@pytest.mark.parametrize("draw", [pair, ties, duplicated, constant_columns])
@pytest.mark.parametrize("name", MEASURED)
def test_ties_copies_and_constant_columns_give_the_value_of_the_oracle(name, draw):
    if name == "rsa_correlation" and draw is ties:
        pytest.skip("rows whose features are all equal are refused, see below")
    for seed in range(10):
        x, y = draw(seed)
        assert MEASURES[name](x, y) == pytest.approx(ORACLES[name](x, y), abs=2e-7)


@pytest.mark.parametrize("scale", [1e12, 1e-12])
@pytest.mark.parametrize("name", MEASURES)
def test_scale_changes_nothing(name, scale):
    for seed in range(10):
        for draw in (pair, duplicated):
            x, y = draw(seed)
            assert MEASURES[name](x * scale, y / scale) == pytest.approx(MEASURES[name](x, y), abs=1e-7)


@pytest.mark.parametrize(
    "name", [name for name, one in MEASURES.items() if "translation" in one.invariant_to]
)
def test_an_offset_changes_nothing(name):
    for seed in range(10):
        x, y = pair(seed)
        moved = MEASURES[name](x + 1e6, y - 1e6 * np.arange(1, 4))
        assert moved == pytest.approx(MEASURES[name](x, y), abs=1e-6)
        x, y = ties(seed)
        assert MEASURES[name](x + 1e6, y - 1e6) == pytest.approx(MEASURES[name](x, y), abs=1e-6)


@pytest.mark.parametrize("name", MEASURED)
def test_a_row_of_zeros_is_a_row_or_refused_by_name(name):
    for seed in range(10):
        x, y = pair(seed)
        x[seed], y[seed + 5] = 0, 0
        if name in (*COSINES, "rsa_correlation"):
            with pytest.raises(ValueError, match=rf"row {seed} has length 0 \(1 of 40 rows have\)"):
                MEASURES[name](x, y)
        else:
            assert MEASURES[name](x, y) == pytest.approx(ORACLES[name](x, y), abs=2e-7)


def test_rows_of_very_different_lengths_keep_their_ranks_and_neighbours():
    for seed in range(10):
        x, y = pair(seed)
        x[seed] *= 1e6
        expected = spearmanr(pdist(x, "sqeuclidean"), pdist(y, "sqeuclidean"))[0]
        assert MEASURES["rsa_spearman"](x, y) == pytest.approx(expected, abs=1e-6)
        assert MEASURES["mutual_knn"](x, y) == pytest.approx(ORACLES["mutual_knn"](x, y), abs=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", MEASURES)
def test_a_value_that_is_not_finite_is_refused_with_its_row(name, value):
    measure = MEASURES[name]
    for seed in range(10):
        x, y = pair(seed)
        y[3 * seed, seed % 3] = value
        with pytest.raises(ValueError, match=rf"row {3 * seed} of the second representation \({name}\)"):
            measure(x, y)
        if measure.matrix is not None:
            with pytest.raises(ValueError, match=rf"row {3 * seed} of the representation holds NaN"):
                measure.matrix(y)


@pytest.mark.parametrize("name", MEASURES)
def test_three_rows_are_refused(name):
    x, y = pair(0, 3)
    with pytest.raises(ValueError, match=f"{name} asked for over 3 rows; it needs at least 4"):
        MEASURES[name](x, y)


def with_a_group(seed):
    """500 equal rows, and 40 others."""
    x, y = pair(seed, 41)
    rows = np.r_[np.zeros(500, dtype=int), 1:41]
    return x[rows], y[rows]


@pytest.mark.parametrize("name", MEASURED)
def test_one_group_of_500_rows(name):
    x, y = with_a_group(0)
    if name == "cka_rbf":
        with pytest.raises(ValueError, match="540 rows whose median distance is 0"):
            MEASURES[name](x, y)
    else:
        assert MEASURES[name](x, y) == pytest.approx(ORACLES[name](x, y), abs=2e-7)


def test_prediction_from_rows_most_of_which_are_equal():
    for seed in range(10):
        x, y = pair(seed, 41)
        rows = np.r_[np.zeros(500, dtype=int), 1:41]
        assert -1 < MEASURES["linear_predictivity"](x[rows], y[rows]) < 1
        assert MEASURES["linear_predictivity"](x[rows], x[rows] * 2) > 0.99
        few = np.zeros((30, 2))
        few[seed] = 1
        assert MEASURES["linear_predictivity"](few, pair(seed, 30)[1]) < 0.2


UNDEFINED = (
    *(
        "cka_debiased",
        "cka_rbf",
        "cka_minibatch",
        "rsa_pearson",
        "rsa_spearman",
        "rsa_cosine",
        "rsa_correlation",
    ),
    *("rsa_mahalanobis", "cknna", "pwcca"),
)


@pytest.mark.parametrize("offset", [0, 1e6])
@pytest.mark.parametrize("name", MEASURES)
def test_equidistant_rows_have_a_value_or_are_refused_but_give_no_noise(name, offset):
    if offset and "translation" not in MEASURES[name].invariant_to:
        pytest.skip("an offset makes them other rows")
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x, y = rng.uniform(0.1, 9) * np.eye(40) + offset, pair(seed)[1]
        if name in UNDEFINED:
            for sides in ((x, y), (y, x)):
                with pytest.raises(ValueError, match=r"equidistant|not finite|so few rows|no more rows"):
                    MEASURES[name](*sides)
        elif name in ORACLES:
            assert MEASURES[name](x, y) == pytest.approx(ORACLES[name](np.eye(40), y), abs=1e-6)
        else:
            assert abs(MEASURES[name](x, y)) < 0.1
