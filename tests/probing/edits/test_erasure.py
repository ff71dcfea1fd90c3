"""LEACE: theorems as tests, an independent closed form, and the planted circuit."""

import numpy as np
import planted as circuit
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression

from probing.edits.erasure import Whitening, cross_covariance, fit_leace, leace, random_eraser
from probing.edits.steering import at_tokens
from probing.hooks import edit, record

SITE = f"blocks.{circuit.LAYER}.hook_resid_post"


def rows(n=400, d=12, k=1, seed=0):
    """Correlated features that tell `k` binary concepts, in unlike units."""
    rng = np.random.default_rng(seed)
    concepts = (rng.standard_normal((n, k)) > 0.4).astype(float)
    x = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + 3 * concepts @ rng.standard_normal((k, d))
    return x * np.geomspace(0.1, 30, d) + 5, concepts


def by_lagrange(x, z):
    """P of r(x) = μ + P (x − μ): the least change with P Σ_xz = 0, by Lagrange multipliers rather than by whitening."""
    centred, said = x - x.mean(0), z - z.mean(0)
    sxx, sxz = centred.T @ centred / len(x), centred.T @ said / len(x)
    solved = np.linalg.solve(sxx, sxz)
    return np.eye(x.shape[1]) - sxz @ np.linalg.solve(sxz.T @ solved, solved.T)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("shrinkage", [0.0, 0.3])
def test_no_linear_probe_finds_an_erased_concept(k, shrinkage):
    x, z = rows(k=k)
    eraser = fit_leace(x, z, shrinkage)
    erased = eraser(x)
    assert eraser.rank == k
    scale = np.abs(cross_covariance(x, z)).max()
    assert np.abs(cross_covariance(erased, z)).max() < 1e-10 * scale
    assert LinearRegression().fit(x, z).score(x, z) > 0.5
    assert abs(LinearRegression().fit(erased, z).score(erased, z)) < 1e-9
    for column in z.T:
        share = max(column.mean(), 1 - column.mean())
        probe = LogisticRegression(C=1e4, max_iter=20_000, tol=1e-9)
        assert probe.fit(x / x.std(0), column).score(x / x.std(0), column) > share + 0.1
        plain = probe.fit(erased / x.std(0), column)
        assert np.abs(plain.predict_proba(erased / x.std(0))[:, 1] - column.mean()).max() < 1e-3


def test_one_hot_concepts_of_a_choice_lose_one_dimension_less_than_they_have_columns():
    x, _ = rows()
    choice = np.eye(4)[np.random.default_rng(1).integers(0, 4, len(x))]
    x = x + 4 * choice @ np.random.default_rng(2).standard_normal((4, x.shape[1]))
    eraser = fit_leace(x, choice)
    assert eraser.rank == 3
    assert np.abs(cross_covariance(eraser(x), choice)).max() < 1e-9


@pytest.mark.parametrize("k", [1, 3])
def test_it_is_the_least_change_that_does_so(k):
    x, z = rows(k=k)
    eraser, matrix = fit_leace(x, z), by_lagrange(x, z)
    np.testing.assert_allclose(eraser(x), x.mean(0) + (x - x.mean(0)) @ matrix.T, rtol=1e-8, atol=1e-7)
    # Any other map to uncorrelated features, here one that first projects along another direction, changes more.
    other = (
        np.eye(x.shape[1])
        - np.outer(*[cross_covariance(x, z)[:, 0]] * 2) / (cross_covariance(x, z)[:, 0] ** 2).sum()
    )
    if k == 1:
        projected = x.mean(0) + (x - x.mean(0)) @ other.T
        assert np.abs(cross_covariance(projected, z)).max() < 1e-8
        for unit in (1.0, 1 / x.var(0)):  # in raw and in standardised units alike
            assert (unit * (eraser(x) - x) ** 2).sum() < 0.999 * (unit * (projected - x) ** 2).sum()


def test_in_the_whitened_space_it_is_an_orthogonal_projection():
    x, z = rows(k=2)
    white = Whitening.of(x)
    eraser = leace(white, x, z)
    before, after = ((part - x.mean(0)) @ white.inward.T for part in (x, eraser(x)))
    directions = np.linalg.qr(white.inward @ cross_covariance(x, z))[0]
    np.testing.assert_allclose(after, before - before @ directions @ directions.T, atol=1e-9)
    np.testing.assert_allclose(before.T @ before / len(x), np.eye(x.shape[1]), atol=1e-9)


def test_erasing_twice_is_erasing_once_and_units_do_not_matter():
    x, z = rows(k=2)
    eraser = fit_leace(x, z)
    np.testing.assert_allclose(eraser(eraser(x)), eraser(x), rtol=1e-9, atol=1e-9)
    scale = np.geomspace(10, 1, x.shape[1])
    np.testing.assert_allclose(fit_leace(x * scale, z)(x * scale), eraser(x) * scale, rtol=1e-7, atol=1e-6)


def test_fewer_rows_than_dimensions_are_erased_too():
    x, z = rows(n=20, d=40)
    eraser = fit_leace(x, z)
    assert np.abs(cross_covariance(eraser(x), z)).max() < 1e-8 * np.abs(cross_covariance(x, z)).max()


def test_it_erases_what_held_out_rows_tell_linearly_and_a_random_subspace_does_not():
    x, z = rows(n=4000)
    train, test = x[:3000], x[3000:]
    eraser, control = fit_leace(train, z[:3000]), random_eraser(Whitening.of(train), 1, seed=0)
    direction = LinearRegression().fit(train, z[:3000]).coef_[0]
    gap = {}
    for name, change in (("none", lambda v: v), ("erased", eraser), ("random", control)):
        score = change(test) @ direction
        gap[name] = score[z[3000:, 0] == 1].mean() - score[z[3000:, 0] == 0].mean()
    assert abs(gap["erased"]) < 0.05 * gap["none"]
    assert gap["random"] > 0.5 * gap["none"]


def test_a_random_subspace_has_the_rank_and_stays_the_same():
    x, _ = rows()
    white = Whitening.of(x)
    first, again, other = (random_eraser(white, 3, seed) for seed in (0, 0, 1))
    assert first.rank == 3
    np.testing.assert_array_equal(first(x), again(x))
    assert np.abs(first(x) - other(x)).max() > 1
    assert np.linalg.matrix_rank(x - first(x) - (x - first(x)).mean(0)) == 3


def test_torch_and_numpy_agree():
    x, z = rows(k=2)
    found = fit_leace(torch.tensor(x), torch.tensor(z))(torch.tensor(x))
    np.testing.assert_allclose(found.numpy(), fit_leace(x, z)(x), rtol=1e-8, atol=1e-8)


def test_it_equals_the_authors_implementation():
    peer = pytest.importorskip("concept_erasure")
    x, z = rows(k=2)
    ours, theirs = (
        fit_leace(x, z),
        peer.LeaceEraser.fit(torch.tensor(x), torch.tensor(z), shrinkage=False, svd_tol=1e-6),
    )
    np.testing.assert_allclose(ours(x), theirs(torch.tensor(x)).numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_a_concept_that_no_feature_goes_with_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(50, 400)), int(rng.integers(1, 40))
    z = rng.permutation(n)[:, None] < n // 3
    basis = np.column_stack([np.ones(n), z])
    x = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) * np.geomspace(1e-3, 1e3, d)
    x = x - basis @ np.linalg.lstsq(basis, x, rcond=None)[0]
    nothing = fit_leace(x, z)
    assert nothing.rank == 0
    assert nothing(x) is x


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("d", "offset"), [(10, 0.0), (3, 1e6), (60, 0.0)])
def test_one_hot_classes_have_a_rank_of_at_most_one_less(seed, d, offset):
    rng = np.random.default_rng(seed)
    n, classes = 300, int(rng.integers(2, 7))
    x = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + offset
    x = x * 10.0 ** rng.integers(-12, 12)
    choice = np.eye(classes)[rng.permutation(np.arange(n) % classes)]
    unlike = choice * 10.0 ** rng.integers(-9, 9)  # units of the concepts do not matter
    eraser, scaled = fit_leace(x, choice), fit_leace(x, unlike)
    assert eraser.rank == scaled.rank == min(classes - 1, np.linalg.matrix_rank(x - x.mean(0)))
    left = np.abs(cross_covariance(eraser(x), choice)).max()
    assert left < 1e-6 * np.abs(cross_covariance(x, choice)).max()


def test_rank_of_four_classes_over_two_hundred_ill_conditioned_draws():
    ranks = set()
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((300, 10)) @ rng.standard_normal((10, 10))
        ranks.add(fit_leace(x, np.eye(4)[rng.integers(0, 4, 300)]).rank)
    assert ranks == {3}


@pytest.mark.parametrize("seed", range(10))
def test_a_row_with_nan_is_refused_by_its_number(seed):
    rng = np.random.default_rng(seed)
    x, z = rows(n=60)
    row, value = int(rng.integers(60)), rng.choice([np.nan, np.inf])
    bad = x.copy()
    bad[row, rng.integers(x.shape[1])] = value
    with pytest.raises(ValueError, match=f"row {row} of the features holds NaN or infinity"):
        fit_leace(bad, z)
    with pytest.raises(ValueError, match=f"row {row} of the features holds NaN or infinity"):
        fit_leace(torch.tensor(bad), torch.tensor(z))
    z[row] = value
    with pytest.raises(ValueError, match=f"row {row} of the concepts holds NaN or infinity"):
        fit_leace(x, z)


def test_what_cannot_be_erased_is_refused():
    x, z = rows()
    with pytest.raises(ValueError, match="same value in all 400 rows"):
        fit_leace(x, np.ones((400, 1)))
    with pytest.raises(ValueError, match="one row of concepts a row"):
        fit_leace(x, z[:-1])
    with pytest.raises(ValueError, match=r"share in \[0, 1\)"):
        fit_leace(x, z, shrinkage=1.0)


# The planted circuit: the hypernym of the noun is written by one head of one layer, at the last token.


@pytest.fixture(scope="module")
def model():
    return circuit.planted()


def asked(model, question="kind"):
    """Inputs of all leaves' prompts, the words that answer, and the last position."""
    ids = torch.tensor([circuit.prompt(leaf, question) for leaf in circuit.LEAVES])
    names = circuit.HYPERNYMS if question == "kind" else circuit.LEAVES
    return ids, [circuit.ID[name] for name in names], circuit.spans(question)["last"]


def planted_eraser(model, name):
    """What erases one hypernym from the last token behind the planted layer, fitted on half of the leaves."""
    ids, _, last = asked(model)
    with torch.no_grad(), record(model, SITE) as seen:
        model(input_ids=ids)
    held = torch.tensor(
        [circuit.TAXONOMY[circuit.hypernym_of(leaf)].index(leaf) < 2 for leaf in circuit.LEAVES]
    )
    member = torch.tensor([[circuit.hypernym_of(leaf) == name] for leaf in circuit.LEAVES]).double()
    values = seen[SITE][:, last[0]].double()
    values = values + 1e-4 * torch.randn(values.shape, generator=torch.Generator().manual_seed(0)).double()
    return fit_leace(values[~held], member[~held]), held


def test_erasing_the_planted_direction_removes_the_answer_and_nothing_else(model):
    ids, words, last = asked(model)
    eraser, held = planted_eraser(model, "bird")
    eraser = eraser.put(lambda values: values.float())
    erase = at_tokens(eraser, last)
    with torch.no_grad():
        clean = model(input_ids=ids).logits[:, -1, words]
        with edit(model, {SITE: erase}):
            erased = model(input_ids=ids).logits[:, -1, words]
    bird = circuit.HYPERNYMS.index("bird")
    birds = held & torch.tensor([circuit.hypernym_of(leaf) == "bird" for leaf in circuit.LEAVES])
    others = held & ~birds
    assert (clean.softmax(1)[birds, bird] > 0.9).all()
    chance = 1 / len(circuit.HYPERNYMS)
    np.testing.assert_allclose(erased.softmax(1)[birds], chance, atol=0.01)
    assert (clean.argmax(1) == erased.argmax(1))[others].all()
    names_ids, names, last = asked(model, "called")
    with torch.no_grad():
        clean = model(input_ids=names_ids).logits[:, -1, names]
        with edit(model, {SITE: at_tokens(eraser, last)}):
            erased = model(input_ids=names_ids).logits[:, -1, names]
    assert (clean.argmax(1) == erased.argmax(1)).all()


def test_erasing_before_it_is_written_changes_no_answer(model):
    ids, words, last = asked(model)
    eraser, _ = planted_eraser(model, "bird")
    early = f"blocks.{circuit.LAYER - 1}.hook_resid_post"
    with torch.no_grad():
        clean = model(input_ids=ids).logits[:, -1, words].argmax(1)
        with edit(model, {early: at_tokens(eraser.put(lambda values: values.float()), last)}):
            erased = model(input_ids=ids).logits[:, -1, words].argmax(1)
    assert (clean == erased).all()
