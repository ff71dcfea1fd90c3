"""CKA against closed forms and public implementations."""

import numpy as np
import pytest
import torch

from probing.similarity.cka import (
    CKA,
    CKA_DEBIASED,
    CKA_RBF,
    biased_matrix,
    cka_matrix,
    debiased_matrix,
    rbf_matrix,
)
from probing.similarity.gram import leaf_means, linear_gram, u_centre


def pair(n=40, p=6, q=9, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)) + 3
    return x, x @ rng.standard_normal((p, q)) + 2 * rng.standard_normal((n, q))


def unbiased_hsic(k, m):
    """Song et al. 2012, eq. 5, written out."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    trace, total = np.trace(k @ m), (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (trace + total - 2 / (n - 2) * one @ k @ m @ one) / (n * (n - 3))


def test_biased_cka_is_the_closed_form_in_features():
    x, y = pair()
    a, b = x - x.mean(0), y - y.mean(0)
    expected = np.linalg.norm(a.T @ b) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    assert CKA(x, y) == pytest.approx(expected, abs=1e-12)


def test_u_centred_inner_product_is_unbiased_hsic():
    x, y = pair()
    k, m = x @ x.T, y @ y.T
    n = len(k)
    assert np.sum(u_centre(k) * u_centre(m)) / (n * (n - 3)) == pytest.approx(unbiased_hsic(k, m), rel=1e-12)
    expected = unbiased_hsic(k, m) / np.sqrt(unbiased_hsic(k, k) * unbiased_hsic(m, m))
    assert CKA_DEBIASED(x, y) == pytest.approx(expected, abs=1e-12)


def test_debiased_cka_equals_pytorch_cka():
    peer = pytest.importorskip("cka")
    layers = [pair(seed=seed)[0] for seed in range(3)]
    others = [pair(seed=seed)[1] for seed in range(2)]
    expected = peer.cka_from_features([torch.tensor(x) for x in layers], [torch.tensor(y) for y in others])
    found = cka_matrix(
        np.stack([debiased_matrix(x) for x in layers]), np.stack([debiased_matrix(y) for y in others])
    )
    # The peer clips negative values to 0.
    np.testing.assert_allclose(np.clip(found, 0, 1), expected.numpy(), atol=1e-10)
    assert found.max() > 0.3


@pytest.mark.parametrize("n", [15, 16, 17])
def test_rbf_gram_is_the_written_out_kernel(n):
    # 15 rows make an odd number of pairs, 16 an even one, where the median is half-way between two distances.
    x, y = pair(n=n)

    def kernel(z):
        squared = ((z[:, None] - z[None]) ** 2).sum(-1)
        median = np.median(np.sqrt(squared[np.triu_indices(len(z), 1)])) ** 2
        return np.exp(-squared / (2 * median))

    k, m = kernel(x), kernel(y)
    expected = unbiased_hsic(k, m) / np.sqrt(unbiased_hsic(k, k) * unbiased_hsic(m, m))
    assert CKA_RBF(x, y) == pytest.approx(expected, abs=1e-12)


def test_wide_rbf_kernel_becomes_linear_cka():
    x, y = pair()
    a, b = rbf_matrix(x, 100.0), rbf_matrix(y, 100.0)
    found = np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b))
    assert found == pytest.approx(CKA_DEBIASED(x, y), abs=1e-3)


def test_independent_gaussians_look_alike_to_biased_cka_only():
    biased, debiased = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((2, 100, 2048), dtype=np.float32)
        k = np.stack([linear_gram(x), linear_gram(y)])
        debiased.append(cka_matrix(u_centre(k[:1]), u_centre(k[1:]))[0, 0])
        if seed < 20:
            biased.append(CKA(x, y))
    assert np.mean(biased) == pytest.approx(0.95, abs=0.01)
    assert abs(np.mean(debiased)) < 0.005


def test_cka_of_gaussians_tends_to_the_population_value():
    rng = np.random.default_rng(3)
    mixing = rng.standard_normal((5, 5))
    values = []
    for _ in range(40):
        x = rng.standard_normal((200, 5))
        values.append(CKA_DEBIASED(x, x @ mixing + rng.standard_normal((200, 5))))
    cross, own = mixing, mixing.T @ mixing + np.eye(5)
    expected = np.linalg.norm(cross) ** 2 / (np.sqrt(5) * np.linalg.norm(own))
    assert np.mean(values) == pytest.approx(expected, abs=0.01)


def test_leaf_means_cross_all_pictures_of_two_leaves():
    rng = np.random.default_rng(0)
    x, leaves = rng.standard_normal((7, 3)), np.array(["b", "a", "b", "a", "c", "c", "a"])
    means, names = leaf_means(x, leaves)
    assert names.tolist() == ["a", "b", "c"]
    gram = x @ x.T
    crossed = gram[np.ix_(leaves == "a", leaves == "b")].mean()
    assert means[0] @ means[1] == pytest.approx(crossed)
    np.testing.assert_allclose(leaf_means(torch.tensor(x), leaves)[0].numpy(), means)
    with pytest.raises(ValueError, match="7 rows but leaves of shape"):
        leaf_means(x, leaves[:3])


def test_biased_matrix_accepts_a_stack_of_layers():
    x = np.stack([pair(seed=seed)[0] for seed in range(2)])
    np.testing.assert_allclose(biased_matrix(x)[1], biased_matrix(x[1]))
