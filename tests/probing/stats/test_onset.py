"""The half-rise of a curve: the layer, whole limits, no layer where the effect does not last."""

import numpy as np
import pytest

from probing.stats import half_rise


def draws_of(value, spread, seed=0):
    return np.asarray(value) + spread * np.random.default_rng(seed).normal(size=(500, len(value)))


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_half_rise_is_where_half_of_the_largest_value_is_passed_for_good(scale):
    value = scale * np.array([0.0, 0.7, 0.2, 0.6, 1.0, 0.8])
    one = half_rise(value, draws_of(value, 0.01 * scale), n=9)
    assert (one.value, one.lower, one.upper, one.n) == (3, 3, 3, 9)


def test_limits_of_a_half_rise_are_layers_that_draws_have():
    value = np.array([0.0, 0.0, 0.5, 1.0, 1.0])
    one = half_rise(value, draws_of(value, 0.02), n=9)
    assert (one.lower, one.upper) == (2, 3)
    for share, upper in ((0.02, 2.0), (0.03, 3.0)):
        late = np.arange(500) < share * 500
        curves = np.where(late[:, None], [0.0, 0.0, 0.4, 1.0, 1.0], [0.0, 0.0, 0.6, 1.0, 1.0])
        assert half_rise(value, curves, n=9).upper == upper


def test_where_the_last_layer_keeps_less_than_half_there_is_no_half_rise():
    value = np.array([0.0, 1.0, 0.4])
    one = half_rise(value, draws_of(value, 0.0), n=9)
    assert np.isnan([one.value, one.lower, one.upper]).all()
