"""Signed ranks: every AUROC and every decision is that of the read-outs that they stand for."""

import numpy as np
import pytest

from analyses.study.ranks import key_of, readouts, signed_ranks, threshold_ranks
from probing.stats import ClusterAUROC


@pytest.fixture
def read():
    rng = np.random.default_rng(3)
    values = rng.normal(0, 2, size=(40, 3)).round(1)  # with ties
    values[:, 2] += 9  # all above 0
    values[rng.random(values.shape) < 0.1] = np.nan
    return values


def test_auroc_and_signs_are_those_of_the_readouts(read):
    labels = np.random.default_rng(4).random(read.shape) < 0.4
    leaves = np.repeat([f"leaf{number}" for number in range(10)], 4)
    again = readouts(signed_ranks(read))
    weights = np.random.default_rng(5).integers(0, 3, size=(20, 10)).astype(float)
    one, other = ClusterAUROC(read, labels, leaves), ClusterAUROC(again, labels, leaves)
    np.testing.assert_array_equal(one.value, other.value)
    np.testing.assert_array_equal(one.at(weights), other.at(weights))
    np.testing.assert_array_equal(np.isnan(read), np.isnan(again))
    np.testing.assert_array_equal(read > 0, again > 0)


@pytest.mark.parametrize("limit", [-50.0, -0.3, 0.0, 0.1, 50.0])
def test_thresholds_decide_as_before(read, limit):
    limits = np.array([limit, limit + 0.05, limit])
    ranks = signed_ranks(read)
    defined = ~np.isnan(read)
    np.testing.assert_array_equal(
        (read > limits)[defined], (readouts(ranks) > threshold_ranks(limits, read))[defined]
    )


def test_a_key_is_of_content_and_names(read):
    ranks, names = signed_ranks(read), np.array([f"leaf{number}" for number in range(40)])
    assert key_of(ranks, names) == key_of(signed_ranks(read * 2), names), "another scale has the same ranks"
    assert key_of(ranks, names) != key_of(ranks, names[::-1])
    assert key_of(ranks, names) != key_of(ranks[::-1], names)
