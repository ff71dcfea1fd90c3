import numpy as np
import pytest
from scipy import stats as oracle

from probing.stats import draw_weights
from probing.stats.correlations import correlation, pearson, spearman


def sides(seed=0, shape=(6, 30)):
    """Two sides with ties that go together."""
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=shape), 1)
    return x, np.round(x + rng.normal(size=shape), 1)


def test_correlations_are_scipys_row_by_row():
    x, y = sides()
    expected = [oracle.spearmanr(a, b)[0] for a, b in zip(x, y, strict=True)]
    assert spearman(x, y) == pytest.approx(expected, abs=1e-12)
    expected = [oracle.pearsonr(a, b)[0] for a, b in zip(x, y, strict=True)]
    assert pearson(x, y) == pytest.approx(expected, abs=1e-12)


def test_weights_repeat_entries_of_numbers_and_of_ranks():
    x, y = (side[0] for side in sides())
    weights = draw_weights(30, 5)
    ranks = oracle.rankdata(x), oracle.rankdata(y)
    for draw, row in enumerate(weights):
        repeated = np.repeat(np.arange(30), row.astype(int))
        expected = oracle.pearsonr(x[repeated], y[repeated])[0]
        assert pearson(x, y, weights)[draw] == pytest.approx(expected, abs=1e-12)
        expected = oracle.pearsonr(*(side[repeated] for side in ranks))[0]
        assert spearman(x, y, weights)[draw] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("correlate", [pearson, spearman])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 7.0])
def test_a_side_that_does_not_vary_among_the_counted_entries_is_undefined(correlate, value):
    x = np.array([value, value, value, value, value, 9.0])
    y = np.arange(6.0)
    weights = np.array([[1.0, 3, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    for first, second in ((x, y), (y, x)):
        assert np.isnan(correlate(first, second, weights)).tolist() == [True, False]


def test_a_correlation_counts_the_defined_rows_and_needs_three():
    x, y = (side[0] for side in sides())
    pair = np.stack([np.append(x, np.nan), np.append(y, 1.0)], axis=1)
    found = correlation(pair, "spearman", draws=50)
    assert found.n == 30
    assert found.value == pytest.approx(oracle.spearmanr(x, y)[0])
    assert found.lower < found.value < found.upper
    few = correlation(pair[:2], "pearson", draws=50)
    assert np.isnan(few.value)
    assert few.n == 2
