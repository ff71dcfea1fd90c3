"""CKA from batches is that of all rows at once, whatever the batches, the order of rows and their offset."""

import numpy as np
import pytest

from probing.similarity import MEASURES
from probing.similarity.cka import CKA, CKA_DEBIASED
from probing.similarity.streamed import StreamedCKA, cka_minibatch, streamed
from tests.probing.similarity.test_cka import pair


def sorted_by_leaf(seed, leaves=12, repeats=20):
    """Rows sorted by leaf: what the two share is between leaves, and within a leaf they share nothing."""
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((leaves, 3))
    rows = np.repeat(means, repeats, axis=0)
    x = np.c_[rows, 3 * rng.standard_normal((len(rows), 5))]
    return x, np.c_[rows @ rng.standard_normal((3, 4)), 3 * rng.standard_normal((len(rows), 6))]


@pytest.mark.parametrize("debiased", [True, False])
def test_streamed_moments_equal_the_whole(debiased):
    x, y = pair(n=57)
    x = x + 1e4
    expected = (CKA_DEBIASED if debiased else CKA)(x, y)
    batches = [(x[i : i + 10], y[i : i + 10]) for i in range(0, 57, 10)]
    assert float(streamed(batches, debiased)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_value_depends_neither_on_batches_nor_on_the_order_of_rows(seed):
    x, y = sorted_by_leaf(seed)
    expected = CKA_DEBIASED(x, y)
    order = np.random.default_rng(seed).permutation(len(x))
    for batch in (1, 7, 20, 128, len(x)):
        assert float(cka_minibatch(x, y, batch)) == pytest.approx(expected, abs=1e-10)
        assert float(cka_minibatch(x[order], y[order], batch)) == pytest.approx(expected, abs=1e-10)
    assert MEASURES["cka_minibatch"](x, y) == pytest.approx(expected, abs=1e-10)


def test_all_layer_pairs_at_once():
    x, y = pair()
    stream = StreamedCKA()
    for start in range(0, 40, 13):
        rows = slice(start, start + 13)
        stream.update([x[rows], y[rows]], [x[rows], y[rows], x[rows] * 2])
    value = stream.value()
    assert value.shape == (2, 3)
    assert [value[0, 0], value[1, 1], value[0, 2]] == pytest.approx([1, 1, 1])
    assert value[0, 1] == pytest.approx(CKA_DEBIASED(x, y), abs=1e-12)
    assert stream.value(debiased=False)[1, 0] == pytest.approx(CKA(x, y), abs=1e-12)


@pytest.mark.parametrize("offset", [0, 1e6])
def test_rows_that_do_not_vary_or_are_equidistant_have_no_value(offset):
    x, _ = pair(n=8)
    stream = StreamedCKA()
    for rows in (slice(0, 5), slice(5, 8)):
        stream.update([np.ones((8, 2))[rows], (0.3 * np.eye(8) + offset)[rows], x[rows]], [x[rows]])
    assert np.isnan(stream.value()[:, 0]).tolist() == [True, True, False]


def test_refusals():
    with pytest.raises(ValueError, match="CKA of 0 rows"):
        StreamedCKA().value()
    stream = StreamedCKA()
    stream.update([np.eye(3)], [np.eye(3)])
    with pytest.raises(ValueError, match="CKA of 3 rows"):
        stream.value()
    with pytest.raises(
        ValueError, match=r"row 1 of the representation holds NaN or infinity \(1 of 3 rows\)"
    ):
        stream.update([np.eye(3)], [np.array([[0.0], [np.nan], [1.0]])])
