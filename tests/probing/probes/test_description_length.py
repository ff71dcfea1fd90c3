import numpy as np
import pytest

from probing.probes.description_length import compression, online_code
from probing.probes.linear import fit_ridge
from probing.stats import OUT_OF_FOLD, OUT_OF_FOLD_DECISIONS, draw_weights


def _world(strength, seed=0, leaves=60, rows=4):
    rng = np.random.default_rng(seed)
    leaf = np.repeat(np.arange(leaves), rows)
    labels = (rng.random((leaves, 2)) < 0.5)[leaf]
    features = rng.normal(size=(leaves, 8))[leaf] + 0.3 * rng.normal(size=(len(leaf), 8))
    features[:, :2] += strength * labels
    return features, labels, leaf


def test_code_is_the_sum_of_what_each_portion_costs_under_probes_of_the_portions_before():
    features, labels, leaf = _world(2.0)
    penalties, fractions = (10.0,), (0.5, 1.0)
    bits = online_code(features, labels, leaf, fit_ridge, penalties, fractions, seed=3)
    turn = np.random.Generator(np.random.PCG64(3)).permutation(60)[leaf]
    first = turn < 30
    assert (bits[first] == 1).all()
    probes = fit_ridge(features[first], labels[first].astype(float), leaf[first], penalties)
    chance = probes.probabilities(probes.scores(features[~first]))
    expected = -np.log2(np.where(labels[~first], chance, 1 - chance))
    np.testing.assert_allclose(bits[~first], expected)


def test_planted_labels_compress_and_leaf_identity_alone_does_not():
    weights = draw_weights(160, 300)
    found = {}
    for strength in (4.0, 0.0):
        features, labels, leaf = _world(strength, leaves=160)
        found[strength] = compression(online_code(features, labels, leaf), leaf, weights)
    assert found[4.0].lower > 1.5
    assert found[0.0].value < 1.05
    assert found[4.0].n == 160


def test_limits_of_compression_are_wider_than_those_of_a_bootstrap_of_the_code():
    bits, leaf = np.random.default_rng(0).uniform(0.2, 0.6, (40, 3)), np.arange(40)
    weights = draw_weights(40, 200)
    number = compression(bits, leaf, weights)
    lengths = weights @ bits.mean(axis=1) / 40
    limits = np.quantile(1 / lengths, [0.025, 0.975])
    factor = OUT_OF_FOLD * OUT_OF_FOLD_DECISIONS
    assert number.value == pytest.approx(1 / bits.mean())
    assert [number.lower, number.upper] == pytest.approx(number.value + factor * (limits - number.value))


def test_labels_that_are_all_alike_cost_the_uniform_code():
    features, labels, leaf = _world(1.0)
    labels[:, 0] = True
    assert (online_code(features, labels, leaf)[:, 0] == 1).all()


def test_code_does_not_depend_on_the_order_of_rows():
    features, labels, leaf = _world(2.0)
    order = np.random.default_rng(1).permutation(len(leaf))
    first = online_code(features, labels, leaf, fit_ridge)
    second = online_code(features[order], labels[order], leaf[order], fit_ridge)
    np.testing.assert_allclose(second, first[order], atol=1e-8)


def test_wrong_fractions_and_too_few_groups_are_refused():
    features, labels, leaf = _world(1.0)
    with pytest.raises(ValueError, match="fractions must increase from above 0 to 1"):
        online_code(features, labels, leaf, fractions=(0.5, 0.2, 1))
    with pytest.raises(ValueError, match="needs four groups or more, found 3"):
        online_code(features[:12], labels[:12], leaf[:12])
