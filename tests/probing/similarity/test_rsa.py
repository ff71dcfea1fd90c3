"""RSA against rsatoolbox and scipy; the whitened RDM cosine is linear CKA."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr

from probing.categories.geometry import partial_rsa
from probing.similarity import MEASURES
from probing.similarity.gram import cosine
from probing.similarity.rsa import off_diagonal_ranks, pearson_matrix, rdm, spearman_matrix, whitened_matrix


def pair(n=14, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 5)) + 1
    return x, x[:, :3] @ rng.standard_normal((3, 6)) + rng.standard_normal((n, 6))


@pytest.mark.parametrize("distance", ["sqeuclidean", "euclidean", "cosine", "correlation"])
def test_rdm_equals_scipy(distance):
    x, _ = pair()
    np.testing.assert_allclose(rdm(x, distance), squareform(pdist(x, distance)), atol=1e-10)


def test_mahalanobis_equals_scipy():
    x, _ = pair()
    inverse = np.linalg.inv(np.cov(x.T))
    expected = squareform(pdist(x, "mahalanobis", VI=inverse)) ** 2
    np.testing.assert_allclose(rdm(x, "mahalanobis"), expected, atol=1e-9)


@pytest.mark.parametrize("distance", ["sqeuclidean", "correlation"])
@pytest.mark.parametrize(
    ("matrix", "method"),
    [(pearson_matrix, "corr"), (spearman_matrix, "spearman"), (whitened_matrix, "cosine_cov")],
)
def test_comparison_equals_rsatoolbox(matrix, method, distance):
    peer = pytest.importorskip("rsatoolbox")
    x, y = pair()
    name = {"sqeuclidean": "euclidean", "correlation": "correlation"}[distance]
    rdms = [peer.rdm.calc_rdm(peer.data.Dataset(z), method=name) for z in (x, y)]
    expected = peer.rdm.compare(*rdms, method=method)[0, 0]
    assert float(cosine(matrix(x, distance), matrix(y, distance))) == pytest.approx(expected, abs=1e-6)


def test_ranks_share_ties_as_scipy_does():
    x = np.random.default_rng(0).integers(0, 3, (12, 2)).astype(float)
    y = np.random.default_rng(1).integers(0, 3, (12, 2)).astype(float)
    expected = spearmanr(pdist(x, "sqeuclidean"), pdist(y, "sqeuclidean"))[0]
    assert float(cosine(spearman_matrix(x), spearman_matrix(y))) == pytest.approx(expected, abs=1e-12)
    ranks = off_diagonal_ranks(rdm(x))
    assert ranks[~np.eye(12, dtype=bool)].mean() == pytest.approx((12 * 11 + 1) / 2)


def test_whitened_rsa_is_linear_cka():
    x, y = pair()
    assert MEASURES["rsa_whitened"](x, y) == pytest.approx(MEASURES["cka"](x, y), abs=1e-12)


def test_rows_close_to_each_other_keep_the_digits_of_their_distance():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = np.repeat(rng.standard_normal((8, 5)), 3, axis=0)
        x[1::3] += 1e-8 * rng.standard_normal((8, 5))
        found, expected = rdm(x), squareform(pdist(x, "sqeuclidean"))
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        assert (found[0::3, 2::3].diagonal() == 0).all()


def test_ranks_of_distances_are_those_of_their_squares():
    x, _ = pair()
    np.testing.assert_allclose(spearman_matrix(x, "euclidean"), spearman_matrix(x))


def test_ranks_refuse_what_is_not_finite():
    for seed in range(10):
        distances = rdm(pair(seed=seed)[0])
        distances[seed, 11 + seed % 3] = np.nan
        with pytest.raises(ValueError, match=rf"row {seed} of the distances holds NaN"):
            off_diagonal_ranks(distances)
        with pytest.raises(ValueError, match=rf"row {seed} of the distances holds NaN"):
            partial_rsa(distances[None], distances, draws=20)


def test_refusals():
    with pytest.raises(KeyError, match="unknown distance 'manhattan'; known: sqeuclidean"):
        rdm(np.eye(5), "manhattan")
    with pytest.raises(ValueError, match="Mahalanobis distances asked for over 5 rows of 5 features"):
        rdm(np.eye(5), "mahalanobis")
