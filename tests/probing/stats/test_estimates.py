import subprocess
import sys

import numpy as np
import pytest
from scipy import stats as distributions

from probing.stats import (
    ClusterAUROC,
    ClusterMean,
    Estimate,
    contrast,
    draw_weights,
    estimate,
    estimate_text,
    interval,
    lower_band,
    mean_estimate,
    onset,
    permutation_p,
    q_values,
)
from tests.probing.stats.scored_rows import scored


def test_numbers_in_words_say_what_is_not_defined():
    nan, inf = float("nan"), float("inf")
    assert str(Estimate(0.39, nan, nan, n=3)) == "0.390 (no interval) (n = 3)"
    assert str(Estimate(nan, nan, nan, n=3)) == "undefined (n = 3)"
    assert Estimate(nan, 0.1, 0.2, n=3)._repr_html_() == "<strong>undefined</strong> (n = 3)"
    assert estimate_text(2, -inf, inf, "+.1f") == "+2.0 [−∞, ∞]"
    assert estimate_text(-0.5, -0.7, inf, ".2f") == "-0.50 [-0.70, ∞]"


def test_bootstrap_of_a_mean_has_the_closed_form_standard_error():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 3)).mean(axis=1)
    draws = ClusterMean(values, np.arange(40)).at(draw_weights(40, 20_000, 0))[:, 0]
    assert draws.std() == pytest.approx(values.std() / np.sqrt(40), rel=0.03)


def test_interval_of_a_mean_covers_the_truth():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(400):
        leaves = rng.normal(size=60)
        values = np.repeat(leaves, 4) + rng.normal(size=240)
        found = mean_estimate(ClusterMean(values, np.repeat(np.arange(60), 4)), draw_weights(60, 400, seed))
        hits += found.lower <= 0 <= found.upper
    assert distributions.binomtest(hits, 400, 0.95).pvalue > 0.001


def test_weights_are_multinomial_and_belong_to_their_seed():
    weights = draw_weights(10, 5_000, 3)
    assert (weights.sum(axis=1) == 10).all()
    np.testing.assert_array_equal(weights, draw_weights(10, 5_000, 3))
    assert (weights != draw_weights(10, 5_000, 4)).any()
    assert weights.mean(axis=0) == pytest.approx(np.ones(10), abs=0.06)


def test_a_contrast_is_paired():
    scores, labels, names = scored(5)
    better = scores + 0.5 * labels
    weights = draw_weights(12, 500, 0)
    first, second = ClusterAUROC(better, labels, names), ClusterAUROC(scores, labels, names)
    found = contrast(first, second, weights)
    assert found.value == pytest.approx(first.value.mean() - second.value.mean())
    alone = mean_estimate(first, weights)
    assert found.upper - found.lower < alone.upper - alone.lower
    assert contrast(first, first, weights) == Estimate(0.0, 0.0, 0.0, 12)


def test_a_contrast_of_different_leaves_is_refused():
    scores, labels, names = scored(5)
    other = np.where(names == "leaf 0", "leaf x", names)
    with pytest.raises(ValueError, match=r"found 2 clusters in one only, such as \['leaf 0', 'leaf x'\]"):
        contrast(
            ClusterAUROC(scores, labels, names), ClusterAUROC(scores, labels, other), draw_weights(12, 5)
        )


def test_interval_leaves_undefined_draws_out():
    draws = np.stack(
        [np.arange(101.0), np.where(np.arange(101) > 50, np.nan, np.arange(101.0)), np.full(101, np.nan)], 1
    )
    lower, upper = interval(draws, 0.9)
    np.testing.assert_allclose(lower[:2], [5.0, 2.5])
    np.testing.assert_allclose(upper[:2], [95.0, 47.5])
    assert np.isnan([lower[2], upper[2]]).all()
    found = estimate(50.0, draws[:, 0], 7, 0.9)
    assert (found.value, found.n) == (50.0, 7)
    assert (found.lower, found.upper) == pytest.approx((5.0, 95.0))
    assert str(found) == "50.000 [5.000, 95.000] (n = 7)"


def test_permutation_p_counts_itself_and_corrects_for_the_maximum():
    null = np.array([[0.0, 3.0], [1.0, 1.0], [2.0, 0.0]])
    np.testing.assert_allclose(permutation_p(np.array([1.5, 1.5]), null, corrected=False), [0.5, 0.5])
    np.testing.assert_allclose(permutation_p(np.array([1.5, 9.0]), null), [0.75, 0.25])
    assert np.isnan(permutation_p(np.array([np.nan, 1.0]), null)[0])
    empty = np.where(np.arange(3)[:, None] == 0, np.nan, null)
    np.testing.assert_allclose(permutation_p(np.array([1.5, 9.0]), empty), [0.5, 0.25])


def test_corrected_p_holds_its_level():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(10, 10))
    false = sum(
        permutation_p(rng.normal(size=10) @ mix, rng.normal(size=(99, 10)) @ mix).min() <= 0.05
        for _ in range(1_000)
    )
    assert distributions.binomtest(false, 1_000, 0.05).pvalue > 0.001


def test_band_holds_for_all_layers_at_once():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(8, 8)) * np.linspace(0.2, 3, 8)
    above = 0
    for _ in range(1_000):
        value = rng.normal(size=8) @ mix
        above += (lower_band(value, value + rng.normal(size=(400, 8)) @ mix) > 0).any()
    assert distributions.binomtest(above, 1_000, 0.05).pvalue > 0.001


def test_onset_is_the_layer_from_which_the_effect_stays():
    rng = np.random.default_rng(0)
    value = np.array([0.0, 0.4, 0.0, 0.0, 0.3, 0.3, 0.4])
    draws = value + 0.02 * rng.normal(size=(500, 7))
    assert onset(value, draws, 9) == Estimate(4.0, 4.0, 4.0, 9)
    assert onset(value, draws, 9, floor=-1.0).value == 0.0
    weak = onset(np.array([0.0, 0.05, 0.3]), np.array([0.0, 0.05, 0.3]) + 0.02 * rng.normal(size=(500, 3)), 9)
    assert weak.lower == 1.0
    assert weak.upper == 2.0


def test_no_onset_where_the_last_layer_does_not_hold():
    draws = np.array([0.3, 0.3, 0.0]) + 0.02 * np.random.default_rng(0).normal(size=(500, 3))
    found = onset(np.array([0.3, 0.3, 0.0]), draws, 5)
    assert np.isnan(found.value)
    assert found.upper == np.inf


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: draw_weights(0, 5), "asked for 5 draws over 0 clusters"),
        (lambda: interval(np.zeros((3, 1)), 95), "asked for an interval of level 95"),
        (
            lambda: ClusterAUROC(np.zeros((3, 2)), np.zeros((3, 1)), np.arange(3)),
            r"scores are \(3, 2\) and labels \(3, 1\)",
        ),
        (
            lambda: ClusterMean(np.zeros(3), np.arange(4)),
            "rows do not match or are empty: {'values': 3, 'clusters': 4}",
        ),
        (
            lambda: ClusterMean(np.zeros(3), np.arange(3)).at(np.ones((2, 4))),
            r"weights are \(2, 4\) but there are 3 clusters",
        ),
        (lambda: permutation_p(np.zeros(3), np.zeros((5, 2))), "3 observed values but null draws of 2"),
        (lambda: onset(np.zeros(3), np.zeros((5, 2)), 1), r"3 values but bootstrap draws of shape \(5, 2\)"),
    ],
)
def test_wrong_values_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_same_bytes_under_another_hash_seed():
    code = (
        "import numpy as np; from probing.stats import *; r = np.random.default_rng(0);"
        "names = np.array(sorted({f'leaf{k}' for k in range(9)}))[np.arange(90) % 9];"
        "s = ClusterAUROC(r.normal(size=(90, 3)), r.random((90, 3)) < .5, names);"
        "print(s.at(draw_weights(9, 50, 1)).tobytes().hex())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        for seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout) > 1_000


def test_q_values_are_those_of_the_step_up_procedure_and_leave_undefined_ones_out():
    p = np.random.default_rng(0).uniform(size=(3, 5)) ** 3
    p[1, 2] = np.nan
    flat = np.sort(p[~np.isnan(p)])
    steps = flat * len(flat) / np.arange(1, len(flat) + 1)
    expected = {one: min(1, steps[at:].min()) for at, one in enumerate(flat)}
    q = q_values(p)
    assert np.isnan(q[1, 2])
    np.testing.assert_allclose(q[~np.isnan(p)], [expected[one] for one in p[~np.isnan(p)]])
    np.testing.assert_allclose(
        q_values(p, any_dependence=True)[~np.isnan(p)],
        np.minimum(1, [expected[one] * (1 / np.arange(1, 15)).sum() for one in p[~np.isnan(p)]]),
    )
    assert np.isnan(q_values(np.full(2, np.nan))).all()
