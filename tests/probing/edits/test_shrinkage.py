"""Whitening of rows whose covariance is shrunk: its roots against the closed form."""

import numpy as np
import pytest

from probing.edits.erasure import Whitening


@pytest.mark.parametrize("shrinkage", [0.0, 0.25, 0.9])
def test_covariances_are_drawn_to_zero_and_variances_stay(shrinkage):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 5)) @ rng.standard_normal((5, 5)) * [0.1, 1, 3, 10, 30] + 4
    covariance = np.cov(x.T, bias=True)
    shrunk = np.where(np.eye(5, dtype=bool), covariance, (1 - shrinkage) * covariance)
    white = Whitening.of(x, shrinkage)
    np.testing.assert_allclose(white.mean, x.mean(0))
    np.testing.assert_allclose(white.outward @ white.outward, shrunk, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(white.inward @ shrunk @ white.inward, np.eye(5), atol=1e-9)


def test_dimensions_that_rows_leave_empty_stay_empty():
    x = np.random.default_rng(1).standard_normal((60, 3)) @ np.diag([1.0, 0.0, 2.0])
    white = Whitening.of(x)
    assert np.abs(white.inward[1]).max() < 1e-12
    assert np.abs(white.outward[1]).max() < 1e-12
    np.testing.assert_allclose(white.inward @ white.outward, np.diag([1.0, 0.0, 1.0]), atol=1e-9)
