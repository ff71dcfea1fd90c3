"""Permuted inner products against the written-out sums, and the group structure that makes the test exact."""

import numpy as np
import pytest
import torch

from probing.similarity.mantel import cyclic_design, permuted_products, products_at


def matrices(layers, size, seed, symmetric=True):
    values = np.random.default_rng(seed).standard_normal((layers, size, size))
    return values + values.transpose(0, 2, 1) if symmetric else values


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("n", "block"), [(7, 1), (8, 1), (5, 3), (6, 2)])
def test_equal_to_permuting_one_by_one(n, block, symmetric):
    left, right = matrices(3, n * block, 0, symmetric), matrices(2, n * block, 1, symmetric)
    design = cyclic_design(n, draws=20, seed=2)
    rows = [(design.permutation(g)[:, None] * block + np.arange(block)).ravel() for g in range(len(design))]
    expected = products_at(left, right, np.array(rows))
    np.testing.assert_allclose(permuted_products(left, right, design, symmetric), expected, atol=1e-11)
    found = permuted_products(torch.tensor(left), torch.tensor(right), design, symmetric)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-11)


def test_products_at_is_the_sum_over_pairs():
    left, right = matrices(1, 5, 0), matrices(1, 5, 1)
    images = np.array([3, 0, 4, 1, 2])
    expected = sum(left[0, k, m] * right[0, images[k], images[m]] for k in range(5) for m in range(5))
    assert products_at(left, right, images[None])[0, 0, 0] == pytest.approx(expected)


def test_design_starts_at_the_identity_and_permutes():
    design = cyclic_design(11, draws=40, seed=5)
    assert len(design) == 44
    permutations = [design.permutation(g) for g in range(len(design))]
    assert permutations[0].tolist() == list(range(11))
    assert all(sorted(images) == list(range(11)) for images in permutations)
    group = {tuple(images) for images in permutations[:11]}
    assert len(group) == 11
    assert all(tuple(np.array(a)[list(b)]) in group for a in group for b in group)


@pytest.mark.parametrize("member", [0, 3, 7, 14])
def test_undoing_a_member_leaves_a_union_of_cosets(member):
    """Why the p value is exact: seen from any of its members, the set of permutations is of the same kind."""
    design = cyclic_design(5, draws=9, seed=1)
    undo = np.argsort(design.permutation(member % len(design)))
    seen = {tuple(undo[design.permutation(g)]) for g in range(len(design))}
    assert tuple(range(5)) in seen
    order = undo[design.order]
    for shift in range(5):
        turn = np.empty(5, dtype=int)
        turn[order] = np.roll(order, -shift)
        assert {tuple(turn[list(images)]) for images in seen} == seen


def test_null_moments_are_those_of_all_permutations():
    left, right = matrices(1, 60, 3), matrices(1, 60, 4)
    design = cyclic_design(60, draws=3000, seed=0)
    found = permuted_products(left, right, design)[1:, 0, 0]
    rng = np.random.default_rng(0)
    free = products_at(left, right, np.array([rng.permutation(60) for _ in range(3000)]))[:, 0, 0]
    assert found.mean() == pytest.approx(free.mean(), abs=4 * free.std() / np.sqrt(3000))
    assert found.std() == pytest.approx(free.std(), rel=0.06)
    assert np.quantile(found, 0.95) == pytest.approx(np.quantile(free, 0.95), abs=0.12 * free.std())


def test_single_precision_and_seed():
    left = matrices(2, 12, 0)
    design = cyclic_design(12, 30, seed=3)
    assert np.array_equal(design.order, cyclic_design(12, 30, seed=3).order)
    assert not np.array_equal(design.order, cyclic_design(12, 30, seed=4).order)
    np.testing.assert_allclose(
        permuted_products(left.astype(np.float32), left.astype(np.float32), design),
        permuted_products(left, left, design),
        atol=1e-3,
    )


def test_refusals():
    with pytest.raises(ValueError, match="of 2 things asked for"):
        cyclic_design(2)
    with pytest.raises(ValueError, match="N a multiple of 4"):
        permuted_products(matrices(1, 6, 0), matrices(1, 6, 0), cyclic_design(4, 3))
