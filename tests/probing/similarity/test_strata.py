"""Permutations within strata: their products against the written-out sums, and nulls that hold where counts differ."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from probing.categories.cohesion import cohesion
from probing.similarity import MEASURES
from probing.similarity.calibration import calibrate
from probing.similarity.gram import leaf_means
from probing.similarity.mantel import CyclicDesign, permutation_design, permuted_products, products_at
from probing.similarity.strata import RATIO, strata, stratified_design
from tests.probing.similarity.test_mantel import matrices


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_products_equal_permuting_one_by_one(seed, block, symmetric):
    rng = np.random.default_rng(seed)
    of = rng.integers(0, rng.integers(2, 5), 14)
    left, right = (matrices(layers, 14 * block, layers + seed, symmetric) for layers in (3, 2))
    design = stratified_design(of, draws=60, seed=seed)
    rows = [(design.permutation(g)[:, None] * block + np.arange(block)).ravel() for g in range(len(design))]
    expected = products_at(left, right, np.array(rows))
    np.testing.assert_allclose(permuted_products(left, right, design, symmetric), expected, atol=1e-11)
    found = permuted_products(torch.tensor(left), torch.tensor(right), design, symmetric)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-11)


@pytest.mark.parametrize("sizes", [(4, 1, 2), (30, 20), (1, 1, 1, 1), (3, 3, 3)])
def test_each_permutation_stays_within_strata_and_the_first_is_the_identity(sizes):
    of = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    design = stratified_design(of, draws=99, seed=1)
    assert len(design) >= 100
    assert design.n == len(of)
    assert design.permutation(0).tolist() == list(range(len(of)))
    for g in range(len(design)):
        images = design.permutation(g)
        assert sorted(images) == list(range(len(of)))
        assert (of[images] == of).all()


def test_null_moments_are_those_of_all_permutations_within_strata():
    rng = np.random.default_rng(0)
    of = np.repeat([0, 1], [25, 35])
    left, right = matrices(1, 60, 3), matrices(1, 60, 4)
    right[0, :25, :25] += 2 * left[0, :25, :25].mean()
    found = permuted_products(left, right, stratified_design(of, 3000, 0))[1:, 0, 0]
    free = [np.r_[rng.permutation(25), 25 + rng.permutation(35)] for _ in range(3000)]
    expected = products_at(left, right, np.array(free))[:, 0, 0]
    assert found.mean() == pytest.approx(expected.mean(), abs=5 * expected.std() / np.sqrt(3000))
    assert found.std() == pytest.approx(expected.std(), rel=0.08)


@pytest.mark.parametrize("seed", range(10))
def test_strata_hold_counts_that_are_nearly_equal_and_as_many_as_can_be(seed):
    counts = np.random.default_rng(seed).integers(1, 41, 50)
    of = strata(counts)
    groups = [counts[of == k] for k in range(of.max() + 1)]
    assert all(group.max() <= RATIO * group.min() for group in groups)
    assert all(low.max() < high.min() and high.min() > RATIO * low.min() for low, high in pairwise(groups))


def test_equal_counts_keep_the_cyclic_design():
    assert isinstance(permutation_design(20, 50), CyclicDesign)
    one = permutation_design(20, 50, 3, np.full(20, 7))
    assert isinstance(one, CyclicDesign)
    assert np.array_equal(one.relabelled, permutation_design(20, 50, 3).relabelled)


@pytest.mark.parametrize("name", ["rsa_spearman", "cka_debiased", "procrustes"])
def test_calibrate_does_not_take_counts_for_likeness(name):
    """Means of one row lie far out on both sides: free permutations call that likeness, those within strata do not."""
    free, within = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        leaves = np.repeat(np.arange(40), np.where(np.arange(40) % 2, 1, 12))
        left, right = (
            rng.normal(size=(40, 6))[leaves] + 3 * rng.normal(size=(len(leaves), 6)) for _ in range(2)
        )
        within.append(calibrate(MEASURES[name], [left], [right], leaves, 39, seed).p[0, 0])
        means = [leaf_means(side, leaves)[0] for side in (left, right)]
        free.append(calibrate(MEASURES[name], [means[0]], [means[1]], None, 39, seed).p[0, 0])
    assert np.mean(np.array(within) <= 0.05) < 0.15
    if name == "rsa_spearman":
        assert np.mean(np.array(free) <= 0.05) > 0.8


def test_cohesion_does_not_take_counts_for_a_category():
    """Leaves of one category have many pictures; pairs of such leaves are alike by less noise, not by what they are."""
    rng = np.random.default_rng(0)
    members = np.repeat(np.eye(2, dtype=bool), 20, axis=0)
    counts = np.where(members[:, 0], 12, 1)
    rows = rng.normal(size=(40, 8)) * np.where(members[:, [0]], 0.3, 2.0)
    distances = ((rows[:, None] - rows[None]) ** 2).sum(-1)[None]
    chosen = [
        cohesion(distances, members[:, :1], 99, higher_is_closer=False, counts=c).p[0] for c in (None, counts)
    ]
    assert chosen[0] == pytest.approx(0.01, abs=0.02)
    assert chosen[1] == 1  # nothing may change places across the categories
