"""Canonical correlations against scikit-learn and closed forms."""

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA as Reference

from probing.similarity.cca import canonical_correlations, pwcca, svcca


def pair(n=80, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4))
    return x, np.c_[x[:, :2] @ rng.standard_normal((2, 2)), rng.standard_normal((n, 1))] + rng.random((n, 3))


def test_equals_scikit_learn():
    x, y = pair()
    u, v = Reference(n_components=3, max_iter=5000, tol=1e-12).fit_transform(x, y)
    expected = [np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(3)]
    np.testing.assert_allclose(canonical_correlations(x, y), expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_rounding_of_large_offsets_is_no_direction(seed):
    x, y = pair(seed=seed)
    doubled = np.c_[x, x[:, :1] + x[:, 1:2]] + 1e6
    assert len(canonical_correlations(doubled, np.c_[y, x])) == 4


def test_svcca_of_all_variance_is_the_mean_canonical_correlation():
    x, y = pair()
    assert float(svcca(x, y, variance=1.0)) == pytest.approx(float(np.mean(canonical_correlations(x, y))))


def test_svcca_keeps_the_components_that_hold_the_variance():
    rng = np.random.default_rng(1)
    x = np.linalg.qr(rng.standard_normal((50, 3)))[0]
    x = (x - x.mean(0)) * [10, 1, 0.01]
    y = x[:, :2] + 0
    assert float(svcca(x, y, variance=0.5)) == pytest.approx(1)
    assert float(svcca(x, y, variance=0.9999)) == pytest.approx(1)
    assert float(svcca(x, rng.standard_normal((50, 1)), variance=0.9)) < 0.5


def test_pwcca_is_the_written_out_weighted_mean():
    x, y = pair()
    a, b = x - x.mean(0), y - y.mean(0)
    qa, qb = np.linalg.qr(a)[0], np.linalg.qr(b)[0]
    u, s, _ = np.linalg.svd(qa.T @ qb, full_matrices=False)
    weights = np.abs((qa @ u).T @ a).sum(1)
    assert float(pwcca(x, y)) == pytest.approx((weights * s).sum() / weights.sum())


def test_pwcca_refuses_rows_too_few_to_mean_anything():
    with pytest.raises(ValueError, match="7 rows of 4 and 3 features"):
        pwcca(
            np.random.default_rng(0).standard_normal((7, 4)), np.random.default_rng(1).standard_normal((7, 3))
        )
