import numpy as np
import pytest
from scipy import stats as oracle

from probing.stats import ClusterMean, few_clusters
from probing.stats.hierarchical import (
    hierarchical,
    hierarchical_contrast,
    mean_over,
    t_interval,
    table_interval,
)


def runs(rng, seeds=3, k=8, leaves=60, shift=0.0, noise=(0.0, 1.0, 0.0), rows=2, centred=False):
    """Statistics with planted spreads of hypernym, leaf and seed around `shift`."""
    by_hypernym, by_leaf = noise[0] * rng.normal(size=k), noise[1] * rng.normal(size=(leaves, k))
    by_leaf -= by_leaf.mean(0) * centred
    names = np.repeat(np.arange(leaves), rows)
    return [
        ClusterMean(shift + by_hypernym + np.repeat(by_leaf, rows, 0) + noise[2] * rng.normal(), names)
        for _ in range(seeds)
    ]


def test_the_t_interval_is_scipys():
    values = np.random.default_rng(0).normal(size=(3, 53))
    found = t_interval(values)
    expected = oracle.ttest_1samp(values.ravel(), 0).confidence_interval()
    assert (found.lower, found.upper) == pytest.approx(tuple(expected), abs=1e-12)
    assert (found.value, found.n) == (pytest.approx(values.mean()), 159)
    assert t_interval(np.append(values, np.nan)) == t_interval(values)
    with pytest.raises(ValueError, match="at least 2 values, found 1"):
        t_interval(np.array([1.0, np.nan]))


@pytest.mark.parametrize(("level", "place"), [("hypernym", 0), ("leaf", 1), ("seed", 2)])
def test_each_level_widens_by_its_own_spread(level, place):
    spread = [0.0, 0.0, 0.0]
    spread[place] = 1.0
    made = runs(np.random.default_rng(1), seeds=12, noise=tuple(spread), centred=True)
    width = {
        over: hierarchical(made, over=(over,), draws=400, seed=1).upper
        - hierarchical(made, over=(over,), draws=400, seed=1).lower
        for over in ("hypernym", "leaf", "seed")
    }
    sizes = {"hypernym": 8, "leaf": 60, "seed": 12}
    count = sizes[level] * (8 if level == "leaf" else 1)
    assert width[level] == pytest.approx(2 * 1.96 / np.sqrt(count), rel=0.6)
    assert max(width[other] for other in width if other != level) < 1e-9


def test_all_levels_together_are_wider_than_any_alone():
    made = runs(np.random.default_rng(2), seeds=12, noise=(1.0, 2.0, 1.0))
    every = hierarchical(made, draws=500)
    alone = [hierarchical(made, over=(level,), draws=500) for level in ("hypernym", "leaf", "seed")]
    assert every.upper - every.lower > max(one.upper - one.lower for one in alone)
    assert every.value == pytest.approx(np.mean([run.value for run in made]))
    assert every.n == 60


def test_the_leaf_level_alone_covers_a_planted_mean():
    hits = 0
    for seed in range(60):
        found = hierarchical(
            runs(np.random.default_rng(seed), seeds=1, k=1), over=("leaf",), draws=300, seed=seed
        )
        hits += found.lower < 0 < found.upper
    assert 50 <= hits <= 60


def test_a_paired_contrast_finds_a_planted_difference_and_no_planted_nothing():
    first = runs(np.random.default_rng(4), shift=0.1, noise=(2.0, 1.0, 1.0))
    same = runs(np.random.default_rng(4), shift=0.0, noise=(2.0, 1.0, 1.0))
    found = hierarchical_contrast(first, same, draws=300)
    assert (found.value, found.lower, found.upper) == pytest.approx((0.1, 0.1, 0.1), abs=1e-9)
    nothing = hierarchical_contrast(same, same, draws=300)
    assert (nothing.lower, nothing.upper) == (0.0, 0.0)
    other = runs(np.random.default_rng(5), noise=(0.0, 1.0, 0.0))
    third = runs(np.random.default_rng(6), noise=(0.0, 1.0, 0.0))
    apart = hierarchical_contrast(other, third, draws=300)
    assert apart.lower < 0 < apart.upper


def test_undefined_hypernyms_are_left_out():
    values = np.arange(12.0).reshape(6, 2)
    values[:, 1] = np.nan
    made = [ClusterMean(values, np.arange(6))]
    assert hierarchical(made, draws=50).value == 5.0
    assert table_interval(np.array([[1.0, np.nan], [3.0, np.nan]])).value == 2.0


def test_a_table_of_finished_scores_has_a_wider_interval_than_the_study_says():
    rng = np.random.default_rng(7)
    values = rng.normal(size=(1, 53)) + 0.1 * rng.normal(size=(3, 53)) + rng.normal(size=(3, 1))
    narrow, wide = t_interval(values), table_interval(values)
    assert wide.upper - wide.lower > 1.5 * (narrow.upper - narrow.lower)
    assert wide.n == 53


def test_limits_lie_about_the_value_where_draws_are_biased():
    rng = np.random.default_rng(9)
    drawn = 0.9 + 0.01 * rng.normal(size=(2000, 1, 1))  # the value is ten errors away
    found = mean_over(np.array([[0.8]]), drawn, 351, over=("seed",))
    assert (found.lower, found.upper) == pytest.approx((0.78, 0.82), abs=2e-3)
    few = mean_over(np.array([[0.8]]), drawn, 351, over=("seed",), leaves=4)
    assert (found.value - few.lower) / (found.value - found.lower) == pytest.approx(
        float(few_clusters(np.array(4)) / few_clusters(np.array(351)))
    )
    assert np.isnan(mean_over(np.array([[0.8]]), drawn, 351, over=("seed",), leaves=1).lower)


def test_what_is_peculiar_to_a_leaf_and_a_hypernym_counts_once():
    """Only such noise: the variance of the mean is that over leaves, and hypernyms add nothing to it."""
    made = runs(np.random.default_rng(10), seeds=1, k=30, leaves=80, noise=(0.0, 1.0, 0.0))
    over_leaves, both = (hierarchical(made, over=over) for over in (("leaf",), ("leaf", "hypernym")))
    assert both.upper - both.lower == pytest.approx(over_leaves.upper - over_leaves.lower, rel=0.25)
    # Hypernyms that differ add their own variance, with as many degrees of freedom as there are, less one.
    other = runs(np.random.default_rng(10), seeds=1, k=30, leaves=80, noise=(1.0, 0.0, 0.0))
    value = np.array([run.value for run in other])[0]
    half = oracle.t.ppf(0.975, 29) * value.std(ddof=1) / 30**0.5
    found = hierarchical(other, over=("leaf", "hypernym"))
    assert (found.lower, found.upper) == pytest.approx((value.mean() - half, value.mean() + half))


def test_draws_depend_on_the_seed_only():
    made = runs(np.random.default_rng(8))
    assert hierarchical(made, draws=50, seed=1) == hierarchical(made, draws=50, seed=1)
    assert hierarchical(made, draws=50, seed=1) != hierarchical(made, draws=50, seed=2)


def test_runs_that_do_not_belong_together_are_refused():
    made, fewer = runs(np.random.default_rng(0)), runs(np.random.default_rng(0), leaves=50)
    with pytest.raises(ValueError, match="clusters in one only"):
        hierarchical([made[0], fewer[0]])
    with pytest.raises(ValueError, match="as many runs on each side, found 3 and 2"):
        hierarchical_contrast(made, made[:2])
    with pytest.raises(ValueError, match="at least one run"):
        hierarchical([])
    with pytest.raises(KeyError, match=r"levels \['picture'\] were asked for; known: hypernym, leaf, seed"):
        hierarchical(made, over=("picture",))
