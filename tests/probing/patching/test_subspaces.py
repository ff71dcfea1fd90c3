"""Subspaces: orthonormal whatever made them, equal to closed forms, learnt through a model, split by what is read."""

from types import SimpleNamespace

import numpy as np
import planted as circuit
import pytest
import torch
from scipy.stats import binom
from torch.nn.functional import softplus

from probing.edits.placebos import rank_p
from probing.patching import Answers, Cell, Patch, Restart, Rows, keep, patched_by_hooks
from probing.patching.subspaces import (
    Batch,
    Exchanges,
    Subspace,
    learn,
    of_erasure,
    of_means,
    of_probes,
    overlap,
    random,
    random_in,
    read_space,
    root_of,
    split,
)
from probing.sites import Site

RNG = np.random.default_rng(0)
CELL = Cell((Site("hook_resid_post", circuit.LAYER),), "last")
PLANTED = Subspace.spanned(
    torch.stack([circuit.hypernym_direction(name) for name in circuit.HYPERNYMS], 1).double().numpy()
)


def labelled(n=80, d=12, classes=4):
    """Rows with a mean of their own for each class, and the classes as columns."""
    labels = np.eye(classes)[np.arange(n) % classes]
    means = RNG.standard_normal((classes, d))
    return labels @ (3 * means) + RNG.standard_normal((n, d)), labels, means


def test_whatever_makes_a_subspace_its_directions_are_orthonormal_and_a_projection():
    rows, labels, _ = labelled()
    start = random(12, 3, np.random.default_rng(1))
    target = torch.tensor(rows)
    learnt, _ = learn([lambda basis: -(target @ basis).square().mean()], start, steps=7, rate=0.5)
    made = [
        of_means(rows, labels, 3),
        of_probes(rows, labels, np.arange(80), 3),
        of_erasure(rows, labels, 3, 0.1),
        random_in(root_of(rows), 3, np.random.default_rng(2)),
        start,
        learnt,
    ]
    for subspace in made:
        assert np.abs(subspace.basis.T @ subspace.basis - np.eye(3)).max() < 1e-6
        assert subspace.part(subspace.part(rows)) == pytest.approx(subspace.part(rows))


def test_a_swap_takes_the_source_inside_and_keeps_the_base_outside_in_numpy_and_torch():
    base, source = RNG.standard_normal((2, 5, 12))
    subspace = random(12, 4, np.random.default_rng(3))
    swapped = subspace.swap(base, source)
    assert swapped @ subspace.basis == pytest.approx(source @ subspace.basis)
    assert swapped - subspace.part(swapped) == pytest.approx(base - subspace.part(base))
    assert swapped + subspace.swap(source, base) == pytest.approx(base + source)
    tensors = subspace.swap(torch.tensor(base), torch.tensor(source))
    assert tensors.numpy() == pytest.approx(swapped)


@pytest.mark.parametrize("off", [1e-5, -1e-3])
def test_directions_that_are_not_orthonormal_are_refused(off):
    with pytest.raises(ValueError, match=r"off orthonormal by .*Subspace\.spanned makes a basis"):
        Subspace(np.eye(3)[:, :2] * (1 + off))


def test_more_directions_than_there_are_and_undefined_ones_are_refused():
    with pytest.raises(ValueError, match="rank 3 was asked for; 3 directions of width 5 span 2"):
        Subspace.spanned(np.eye(5)[:, [0, 1, 1]], rank=3)
    with pytest.raises(ValueError, match="NaN or infinity"):
        Subspace.spanned(np.array([[1.0], [np.nan]]))


def test_all_directions_of_erasure_span_what_differences_of_means_span():
    rows, labels, _ = labelled()
    assert overlap(of_erasure(rows, labels, 3), of_means(rows, labels, 3)) == pytest.approx(1)
    assert overlap(of_erasure(rows, labels, 1), of_means(rows, labels, 1)) < 1 - 1e-6


@pytest.mark.parametrize("rank", [1, 2])
def test_a_search_in_a_linear_model_ends_at_the_leading_singular_vectors_of_what_reads_it(rank):
    # The read-out misses W(I - P)δ; with differences δ alike in all directions its square is least for these (Eckart
    # & Young 1936).
    left, right = (np.linalg.qr(RNG.standard_normal((size, 3)))[0] for size in (4, 10))
    reader = torch.tensor(left @ np.diag([3.0, 2.0, 1.0]) @ right.T)
    halves = torch.linalg.qr(torch.tensor(RNG.standard_normal((10, 10))))[0].split(5)

    def missed(difference):
        return lambda basis: ((difference - difference @ basis @ basis.T) @ reader.T).square().sum()

    start = random(10, rank, np.random.default_rng(4))
    learnt, losses = learn([lambda basis: sum(missed(half)(basis) for half in halves)], start, 100, 0.3)
    assert overlap(learnt, Subspace(right[:, :rank])) > 0.999
    assert losses[-1] == pytest.approx((np.array([9.0, 4.0, 1.0])[rank:]).sum(), rel=1e-2)


def test_every_pair_counts_the_same_whatever_length_it_has_and_however_many_are_with_it():
    """Nine pairs of one length are lost along the second direction, one of another length along the first."""
    lost = torch.eye(4, dtype=torch.float64)[[0] + [1] * 9]
    model = SimpleNamespace(through=lambda patch, read: patch.states[str(CELL.sites[0])][:, 0])

    def group(rows):
        difference, wanted = 2 * lost[rows][:, None], lost[rows]
        return Exchanges(
            model, CELL, torch.zeros_like(difference), difference, None,
            lambda state: (2 * wanted - state).square().sum(1),
        )  # fmt: skip

    def batch(*groups):
        return Batch([group(list(rows)) for rows in groups], 10)

    whole, basis = batch(range(10)), torch.tensor(random(4, 1, np.random.default_rng(3)).basis)
    for groups in ([range(1), range(1, 10)], [range(7), range(7, 10)], [range(3, 10), range(3)]):
        assert float(batch(*groups)(basis)) == pytest.approx(float(whole(basis)))
    start = Subspace.spanned(np.array([[1.0], [0.9], [0.1], [0.1]]))
    learnt, _ = learn([batch(range(1), range(1, 10))], start, 80, 0.3)
    assert abs(learnt.basis[1, 0]) > 0.99
    two = [batch(range(6)), batch(range(6, 10))]
    sides = [float(sum(one(basis) for one in two)), float(whole(basis))]
    assert sides[0] == pytest.approx(sides[1])


@pytest.fixture(scope="module")
def circuit_pairs():
    """Pairs of leaves of unlike hypernyms, in words, and the loss of the planted circuit on them."""
    model = circuit.planted()
    leaves = circuit.LEAVES
    rows = Rows(
        lambda: {"input_ids": torch.tensor([circuit.prompt(leaf) for leaf in leaves])}, circuit.spans()
    )
    kept = keep(model, rows)
    read = Answers.of(model, [circuit.ID[name] for name in circuit.HYPERNYMS])
    state = kept.states[circuit.LAYER + 1][:, list(rows.positions("last"))]
    own = torch.tensor([circuit.HYPERNYMS.index(circuit.hypernym_of(leaf)) for leaf in leaves])[:, None]
    restart, exchanged = Restart(model, kept), []
    for away in (4, 8, 12):  # leaves to the next hypernym, and to the others
        source = np.roll(np.arange(16), -away)

        def loss(logits, other=own[source]):
            return softplus(logits.gather(1, own) - logits.gather(1, other))

        exchanged.append(Exchanges(restart, CELL, state, state[source] - state, read, loss))
    return model, rows, exchanged


def test_a_search_through_a_model_finds_the_planted_subspace_and_no_less_will_do(circuit_pairs):
    _, _, pairs = circuit_pairs
    losses = {}
    for rank in (1, 3):
        learnt, lost = learn(pairs, random(circuit.WIDTH, rank, np.random.default_rng(0)), 45, 0.5)
        losses[rank] = lost[-3:].mean()
        if rank == 3:
            # No subspace of two dimensions has more than two thirds of one of three.
            assert overlap(learnt, PLANTED) > 2 / 3
            planted = np.mean([float(pair(torch.tensor(PLANTED.basis))) for pair in pairs])
    # The margin of an answer is linear in the share that is exchanged, from -m to m: at two thirds it is m / 3 in the
    # mean over all pairs of hypernyms, and the loss, which is convex, no less than that of the mean.
    two = np.log1p(np.expm1(planted) ** (1 / 3))
    assert losses[3] < two < losses[1]


def test_answers_and_gradients_through_a_restart_are_those_of_the_whole_model_with_hooks(circuit_pairs):
    model, rows, (pairs, *_) = circuit_pairs
    (site,) = CELL.sites
    moved = pairs.state + 0.5 * pairs.difference
    patch = Patch(CELL, {str(site): moved})
    hooked = patched_by_hooks(model, rows, patch, pairs.read)
    assert torch.allclose(pairs.restart.through(patch, pairs.read), hooked, atol=1e-4)
    direction = circuit.hypernym_direction("bird")
    ahead, behind = (
        pairs.loss(
            pairs.restart.run([Patch(CELL, {str(site): pairs.state + step * direction})], pairs.read)[0]
        )
        for step in (1e-2, -1e-2)
    )
    slope = ((ahead - behind) / 2e-2).numpy().ravel()
    assert pairs.gradients() @ direction.double().numpy() == pytest.approx(slope, abs=2e-2)


def test_what_is_read_are_the_directions_of_hypernyms(circuit_pairs):
    read = read_space(np.concatenate([pairs.gradients() for pairs in circuit_pairs[2]]))
    # A state's length is read too, by the norm; along it nothing differs between pairs.
    assert overlap(PLANTED, read) > 0.7
    with pytest.raises(ValueError, match="every gradient is 0"):
        read_space(np.zeros((4, 3)))


@pytest.mark.parametrize("angle", [0.3, 0.8, 1.4])
def test_a_direction_splits_into_what_is_read_and_what_is_not(angle):
    read, basis = Subspace(np.eye(6)[:, :2]), np.zeros((6, 1))
    basis[[0, 4], 0] = np.cos(angle), np.sin(angle)
    inside, outside = split(Subspace(basis), read)
    assert inside.basis.ravel() == pytest.approx(np.eye(6)[0])
    assert outside.basis.ravel() == pytest.approx(np.eye(6)[4])
    assert [part.rank for part in split(Subspace(np.eye(6)[:, :1]), read)] == [1, 0]


def test_a_mean_over_folds_has_a_p_at_its_nominal_rate_where_a_draw_is_one_over_the_folds():
    worlds, low, rng = 200, 0, np.random.default_rng(6)
    for world in range(worlds):
        rows = rng.standard_normal((36, 8)) * np.geomspace(1, 0.1, 8)
        true, other = random_in(root_of(rows), 2, rng), random_in(root_of(rows), 2, rng)
        roots = [root_of(rows[np.arange(36) % 3 != fold]) for fold in range(3)]
        draws = [
            np.mean(
                [overlap(true, random_in(root, 2, np.random.default_rng([world, draw]))) for root in roots]
            )
            for draw in range(19)
        ]
        low += rank_p(np.array([overlap(true, other), *draws])[None, :, None])[0] <= 0.05
    least, most = binom.interval(0.999, worlds, 0.05)
    assert 0 < least <= low <= most


def test_overlap_of_subspaces_that_have_nothing_in_common_has_a_p_at_its_nominal_rate():
    worlds, low, rng = 150, 0, np.random.default_rng(5)
    for _ in range(worlds):
        rows = rng.standard_normal((30, 8)) * np.geomspace(1, 0.1, 8)
        root = root_of(rows)
        words, *drawn = (random_in(root, 2, rng) for _ in range(21))
        low += rank_p(np.array([overlap(words, one) for one in drawn])[None, :, None])[0] <= 0.05
    least, most = binom.interval(0.999, worlds, 0.05)
    assert 0 < least <= low <= most
    near = [overlap(words, Subspace.spanned(words.basis + 0.1 * rng.standard_normal((8, 2))))]
    assert rank_p(np.array(near + [overlap(words, one) for one in drawn[:19]])[None, :, None])[0] == 0.05
