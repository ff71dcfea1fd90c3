from typing import Any

import numpy as np
import pytest
from scipy import stats as oracle

from probing.stats import draw_weights
from probing.stats.correlations import LEAST_FOR_INTERVAL, correlation, fisher_interval, pearson, spearman


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


def related(rng, rho, n, tails):
    """Rows of two normal numbers of that correlation; with `tails` degrees of freedom, t-distributed ones."""
    x = rng.standard_normal((n, 2)) @ np.array([[1, rho], [0, (1 - rho**2) ** 0.5]])
    return x if tails is None else x / np.sqrt(rng.chisquare(tails, size=(n, 1)) / tails)


@pytest.mark.parametrize("measure", LEAST_FOR_INTERVAL)
def test_limits_are_nan_below_the_fewest_rows_and_the_value_is_given(measure):
    for n in range(3, LEAST_FOR_INTERVAL[measure] + 1):
        pair = related(np.random.default_rng(n), 0.5, n, None)
        number = correlation(pair, measure, draws=50)
        x, y = pair.T
        expected: Any = (oracle.pearsonr if measure == "pearson" else oracle.spearmanr)(x, y)
        assert number.value == pytest.approx(expected.statistic)
        assert np.isnan([number.lower, number.upper]).all() == (n < LEAST_FOR_INTERVAL[measure])


@pytest.mark.parametrize("seed", range(10))
def test_intervals_cover(seed):
    """Of 200 drawn tables, with a Monte-Carlo error of .02."""
    rng = np.random.default_rng(seed)
    measure, tails = ("pearson", "spearman")[rng.integers(2)], (None, 4)[rng.integers(2)]
    n, rho = int(rng.integers(LEAST_FOR_INTERVAL[measure], 25)), float(rng.choice([0, 0.5, 0.8]))
    correlate = {"pearson": pearson, "spearman": spearman}[measure]
    x, y = related(rng, rho, 200_000, tails).T
    truth = float(correlate(x, y))
    numbers = [correlation(related(rng, rho, n, tails), measure, 200, at) for at in range(200)]
    assert np.mean([one.lower <= truth <= one.upper for one in numbers]) > 0.89


def test_fisher_intervals_are_scipys_and_end_at_one():
    x, y = (side[0] for side in sides())
    number: Any = oracle.pearsonr(x, y)
    expected = number.confidence_interval()
    assert fisher_interval(number.statistic, 30, "pearson") == pytest.approx(
        (expected.low, expected.high), abs=1e-6
    )
    for measure in ("pearson", "spearman"):
        perfect = correlation(np.stack([np.arange(8.0), np.arange(8.0)], axis=1), measure, draws=20)
        assert (perfect.value, perfect.upper) == (1, 1)


def test_an_interval_holds_the_value_and_the_resampled_rows():
    pair = related(np.random.default_rng(3), 0.8, 40, 4)
    number = correlation(pair, "pearson", draws=200)
    x, y = pair.T
    drawn = np.quantile(pearson(x, y, draw_weights(40, 200)), [0.025, 0.975])
    lower, upper = fisher_interval(number.value, 40, "pearson")
    assert (number.lower, number.upper) == (min(lower, drawn[0]), max(upper, drawn[1]))
