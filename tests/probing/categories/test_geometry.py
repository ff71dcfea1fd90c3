"""Taxonomic geometry: planted distances, planted hierarchies and known dimensions are recovered."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import rankdata

from probing.categories.geometry import (
    bootstrap_rsa,
    causal_gram,
    effective_rank,
    hierarchy_cosines,
    partial_rsa,
    participation_ratio,
    two_nn,
)
from probing.similarity.rsa import rdm
from probing.stats import draw_weights

TREE = np.kron(np.eye(4), np.ones((5, 5)))
TAXONOMIC = 2 - TREE - np.eye(20)


def test_partial_correlation_is_the_textbook_formula():
    rng = np.random.default_rng(0)
    x, y, z = (rdm(rng.standard_normal((20, 3))) for _ in range(3))
    found = partial_rsa(x[None], y, [z], draws=50)
    upper = np.triu_indices(20, 1)
    a, b, c = (rankdata(side[upper]) for side in (x, y, z))
    ab, ac, bc = (np.corrcoef(*pair)[0, 1] for pair in ((a, b), (a, c), (b, c)))
    expected = (ab - ac * bc) / np.sqrt((1 - ac**2) * (1 - bc**2))
    assert found.value[0, 0] == pytest.approx(expected, abs=1e-9)


def test_taxonomy_seen_only_through_the_control_is_explained_away():
    rng = np.random.default_rng(1)
    encoder = np.repeat(rng.standard_normal((4, 6)), 5, axis=0) + 0.5 * rng.standard_normal((20, 6))
    copied = encoder @ np.linalg.qr(rng.standard_normal((6, 6)))[0] + 0.01 * rng.standard_normal((20, 6))
    own = np.c_[copied, np.repeat(2 * rng.standard_normal((4, 6)), 5, axis=0)]
    layers = np.stack([rdm(copied), rdm(own)])
    plain = partial_rsa(layers, TAXONOMIC)
    given = partial_rsa(layers, TAXONOMIC, [rdm(encoder)])
    assert (plain.p_corrected < 0.05).all()
    assert given.p_corrected[0, 0] > 0.05
    assert given.p_corrected[1, 0] < 0.05
    assert given.value[1, 0] > 0.2


def test_partial_rsa_rejects_as_often_as_it_says():
    rejected = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        control = rng.standard_normal((20, 3))
        x = np.c_[control, rng.standard_normal((20, 3))]
        rejected.append(
            partial_rsa(rdm(x)[None], TAXONOMIC, [rdm(control)], draws=99, seed=seed).p[0, 0] <= 0.05
        )
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.03)


def test_partial_rsa_refuses_a_control_that_is_the_target():
    with pytest.raises(ValueError, match="leave nothing of the target"):
        partial_rsa(TAXONOMIC[None], TAXONOMIC, [TAXONOMIC])


def test_bootstrap_of_the_whole_sample_is_the_value_and_of_draws_the_weighted_loops():
    rng = np.random.default_rng(0)
    rdms = np.stack([rdm(rng.standard_normal((20, 3))) for _ in range(2)])
    control = rdm(rng.standard_normal((20, 3)))
    for given in ([], [control]):
        whole = bootstrap_rsa(rdms, TAXONOMIC, given, np.ones((1, 20)))
        np.testing.assert_allclose(whole[0], partial_rsa(rdms, TAXONOMIC, given, draws=20).value[:, 0])
    weights = draw_weights(20, 4)
    found = bootstrap_rsa(rdms, TAXONOMIC, [], weights)
    upper = np.triu_indices(20, 1)
    for draw, w in enumerate(weights):
        x, y = (rankdata(side[upper]) for side in (rdms[1], TAXONOMIC))
        counts = w[upper[0]] * w[upper[1]]
        x, y = (side - np.average(side, weights=counts) for side in (x, y))
        expected = (counts * x * y).sum() / np.sqrt((counts * x * x).sum() * (counts * y * y).sum())
        assert found[draw, 1] == pytest.approx(expected)


def test_interval_of_taxonomic_correlation_covers_the_population_value():
    def sample(rng, leaves):
        category = rng.integers(0, 4, leaves)
        x = rng.standard_normal((leaves, 3))
        x[:, 0] += 1.5 * category
        return rdm(x), 2.0 * (category[:, None] != category[None])

    truth = np.mean([partial_rsa(x[None], y, draws=1).value for x, y in
                     (sample(np.random.default_rng(seed), 400) for seed in range(3))])  # fmt: skip
    covered = []
    for seed in range(100):
        x, y = sample(np.random.default_rng(100 + seed), 40)
        draws = bootstrap_rsa(x[None], y, [], draw_weights(40, 200, seed))[:, 0]
        lower, upper = np.quantile(draws, [0.025, 0.975])
        covered.append(lower <= truth <= upper)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.06)


def leave_one_out():
    """Every leaf against the other leaves of its category."""
    children = np.eye(20, dtype=bool)
    return children, TREE.astype(bool) & ~children


def other_parents():
    """For every leaf, the category after its own."""
    return np.roll(TREE.astype(bool), 5, axis=1)


def root_mean_square(values):
    return np.sqrt(np.mean(np.square(values)))


def test_planted_hierarchy_steps_no_more_along_its_parent_than_along_others():
    own, other, means = [], [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = np.repeat(rng.standard_normal((4, 100)), 5, axis=0) + 0.7 * rng.standard_normal((20, 100))
        gram = x @ x.T
        cosines = hierarchy_cosines(gram, *leave_one_out())
        own.append(root_mean_square(cosines))
        means.append(cosines.mean())
        parents = leave_one_out()[1]
        other.append(
            root_mean_square(hierarchy_cosines(gram, np.eye(20, dtype=bool), parents, other_parents()))
        )
    assert np.mean(means) == pytest.approx(0, abs=0.02)
    assert np.mean(own) == pytest.approx(np.mean(other), rel=0.1)
    assert np.mean(own) < 0.15


def test_leaves_of_unequal_share_step_along_their_parent():
    """Leaves that carry their category to different degrees are no orthogonal hierarchy."""
    rng = np.random.default_rng(0)
    share = np.tile([0.2, 0.6, 1.0, 1.4, 1.8], 4)[:, None]
    x = share * np.repeat(rng.standard_normal((4, 400)), 5, axis=0) + 0.2 * rng.standard_normal((20, 400))
    children, parents = leave_one_out()
    assert root_mean_square(hierarchy_cosines(x @ x.T, children, parents)) > 0.5
    assert root_mean_square(hierarchy_cosines(x @ x.T, children, parents, other_parents())) < 0.2


def test_hierarchy_cosine_is_that_of_the_vectors_but_for_products_of_a_leaf_with_itself():
    x = np.random.default_rng(0).standard_normal((20, 7))
    others = x[1:5]
    parent, step = others.mean(0), x[0] - others.mean(0)
    different = np.mean([others[a] @ others[b] for a in range(4) for b in range(4) if a != b])
    expected = (x[0] @ parent - different) / (np.linalg.norm(parent) * np.linalg.norm(step))
    assert hierarchy_cosines(x @ x.T, *leave_one_out())[0] == pytest.approx(expected)
    reference = x[5:10].mean(0)
    expected = step @ reference / (np.linalg.norm(reference) * np.linalg.norm(step))
    children, parents = leave_one_out()
    assert hierarchy_cosines(x @ x.T, children, parents, other_parents())[0] == pytest.approx(expected)


def test_hierarchy_refuses_a_parent_that_contains_its_child():
    children, _ = leave_one_out()
    with pytest.raises(ValueError, match="share leaves"):
        hierarchy_cosines(np.eye(20), children, TREE.astype(bool))
    with pytest.raises(ValueError, match="has no direction"):
        hierarchy_cosines(np.eye(20), children, np.zeros((20, 20), dtype=bool))


def test_causal_gram_is_the_inner_product_after_whitening():
    rng = np.random.default_rng(0)
    x, reference = rng.standard_normal((9, 4)), rng.standard_normal((100, 4)) @ rng.standard_normal((4, 4))
    inverse = np.linalg.inv(np.cov(reference.T, bias=True))
    centred = x - x.mean(0)
    np.testing.assert_allclose(
        causal_gram(x, reference, shrinkage=0), centred @ inverse @ centred.T, atol=1e-9
    )


def test_two_nn_equals_scikit_dimension_and_finds_the_planted_dimension():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 4)) @ rng.standard_normal((4, 30))
    assert two_nn(x) == pytest.approx(4, abs=0.5)
    peer = pytest.importorskip("skdim")
    assert two_nn(x) == pytest.approx(float(peer.id.TwoNN().fit(x).dimension_), rel=1e-6)


def test_ranks_of_known_spectra():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((50, 6)) - 0.0)[0]
    basis = np.linalg.qr(basis - basis.mean(0))[0]
    assert effective_rank(basis[:, :5]) == pytest.approx(5)
    ratios = [participation_ratio(np.random.default_rng(s).standard_normal((40, 30))) for s in range(60)]
    assert np.mean(ratios) == pytest.approx(30, rel=0.05)


def participation_by_quadruples(x):
    """The jackknifed quotient of the traces, each a mean over four different rows."""

    def traces(rows):
        places = list(permutations(range(len(rows)), 4))
        steps = [(x[rows[i]] - x[rows[j]], x[rows[k]] - x[rows[m]]) for i, j, k, m in places]
        squared_trace = np.mean([(one @ one) * (two @ two) for one, two in steps])
        return np.log(squared_trace / np.mean([(one @ two) ** 2 for one, two in steps]))

    n = len(x)
    rest = [traces(np.delete(np.arange(n), at)) for at in range(n)]
    return np.exp(n * traces(np.arange(n)) - (n - 1) * np.mean(rest))


@pytest.mark.parametrize("seed", range(10))
def test_participation_ratio_is_that_of_disjoint_pairs_in_any_unit(seed):
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(5, 8)), int(rng.integers(2, 6))
    x = rng.standard_normal((n, d)) @ rng.standard_normal((d, d))
    expected = participation_by_quadruples(x)
    assert participation_ratio(x) == pytest.approx(expected, rel=1e-6)
    for scale, offset in ((1e12, 0), (1e-12, 0), (1, 1e6)):
        assert participation_ratio(scale * x + offset) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("seed", range(10))
def test_participation_ratio_of_few_rows_is_that_of_the_population(seed):
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(12, 30)), int(rng.integers(5, 30))
    deviations = np.linspace(1, rng.uniform(1, 2), d)
    truth = (deviations**2).sum() ** 2 / (deviations**4).sum()
    ratios = [participation_ratio(rng.standard_normal((n, d)) * deviations) for _ in range(400)]
    assert abs(np.mean(ratios) - truth) < 0.01 * truth + 3 * np.std(ratios) / 20


@pytest.mark.parametrize("seed", range(10))
def test_dimensions_of_degenerate_rows_are_refused(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 40))
    turned = np.linalg.qr(rng.standard_normal((n, n)))[0] * 10.0 ** rng.integers(-12, 12)
    equal = np.tile(rng.standard_normal(3), (n, 1))
    one_apart = np.vstack([equal, rng.standard_normal(3)])
    for x in (
        np.eye(n),
        turned,
        turned + 7 * np.abs(turned).max(),
        equal,
        one_apart,
        np.vstack([turned, turned[:1]]),
    ):
        with pytest.raises(
            ValueError, match="rows that, but for one, are equal or equidistant; give more rows"
        ):
            participation_ratio(x)
    with pytest.raises(ValueError, match="over 4 rows; give at least 5"):
        participation_ratio(rng.standard_normal((4, 3)))
    with pytest.raises(ValueError, match=f"over {n} equal rows"):
        effective_rank(equal)


@pytest.mark.parametrize("seed", range(10))
def test_nan_is_refused_by_its_row(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((20, 4))
    row, value = int(rng.integers(20)), rng.choice([np.nan, np.inf, -np.inf])
    x[row, rng.integers(4)] = value
    for measure in (participation_ratio, effective_rank, two_nn):
        with pytest.raises(ValueError, match=f"row {row} of the rows holds NaN or infinity"):
            measure(x)
    sound = rng.standard_normal((20, 4))
    with pytest.raises(ValueError, match=f"row {row} of the rows holds NaN"):
        causal_gram(x, sound)
    with pytest.raises(ValueError, match=f"row {row} of the reference rows holds NaN"):
        causal_gram(sound, x)
    gram = sound @ sound.T
    gram[row, :] = value
    children, parents = np.arange(20)[None] < 10, np.arange(20)[None] >= 10
    with pytest.raises(ValueError, match=r"row \d+ of the inner products holds NaN"):
        hierarchy_cosines(gram, children, parents)


@pytest.mark.parametrize("seed", range(10))
def test_distances_without_a_value_are_refused_by_their_row(seed):
    """A NaN against itself gave 0 and p = 1."""
    rng = np.random.default_rng(seed)
    sound, bad = (rdm(rng.standard_normal((12, 3))) for _ in range(2))
    first, second = sorted(rng.choice(12, 2, replace=False).tolist())
    bad[first, second] = bad[second, first] = rng.choice([np.nan, np.inf])
    for rdms, target, controls in (
        (bad, bad, ()),
        (sound, bad, ()),
        (bad, sound, ()),
        (sound, sound**2, (bad,)),
    ):
        with pytest.raises(ValueError, match=f"row {first} of .* holds NaN or infinity"):
            partial_rsa(rdms[None], target, controls, draws=20)
        with pytest.raises(ValueError, match=f"row {first} of .* holds NaN or infinity"):
            bootstrap_rsa(rdms[None], target, controls, np.ones((2, 12)))


def test_two_nn_refusals():
    with pytest.raises(ValueError, match="over 5 rows"):
        two_nn(np.eye(5))
    with pytest.raises(ValueError, match="some rows are equal"):
        two_nn(np.zeros((12, 3)))
