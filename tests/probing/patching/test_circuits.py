"""Circuits: the planted heads and their edge and no other, sums of attributions, TransformerLens, overlap, refusals."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from planted import HEADS, LAYERS, LEAVES, prompt, spans
from planted_chain import CARRIER, DISTRACTOR, HYPERNYM_IDS, OWN, WRITER, chain, margin
from tiny_models import tiny

from benchmarks._capture_peers import smollm2
from probing.backends.transformer_lens import TransformerLensRecorder
from probing.hooks.layouts import layout_of
from probing.patching import Answers, Restart, Rows, attribute, grid, keep
from probing.patching.circuits import (
    Ablation,
    HeadOrMLP,
    Paths,
    ablated_by_hooks,
    area,
    attribute_parts,
    choose,
    distance_area,
    drawn_order,
    greedy_order,
    jaccard,
    means,
    nested,
    order_of,
    outputs,
    overlap,
    parts_of,
    redrawn,
    resampled,
    shares,
)

ALL = LAYERS * (HEADS + 1)


@pytest.fixture(scope="module")
def circuit():
    """The planted chain: the model, its parts, an ablation by means, and the read-out."""
    model, where = chain(), spans()
    ids = torch.tensor([prompt(leaf) for leaf in LEAVES])
    rows = Rows(lambda: {"input_ids": ids}, {**where, "cue": where["cue"][:-1]})
    ablation = Ablation(Restart(model, keep(model, rows)), means(outputs(model, rows)))
    return model, parts_of(model), ablation, Answers.of(model, HYPERNYM_IDS)


def log_odds(read):
    weights = torch.from_numpy(np.where(OWN, 1.0, -1 / 3)).float()
    return lambda hidden: (read(hidden) * weights).sum(-1)


def contributions(circuit, **options):
    model, _, ablation, read = circuit
    return attribute_parts(model, ablation.restart.kept.rows, ablation.reference, log_odds(read), **options)


def left(circuit, sets):
    """The share of the effect that is left with each set ablated."""
    _, _, ablation, read = circuit
    every = np.ones((1, ALL), bool)
    levels = margin(ablation.run(np.vstack([sets, every, ~every]), read).numpy())
    assert levels[-1].min() > 0.5
    return shares(levels[:-2], levels[-2], levels[-1], np.ones((1, len(LEAVES))))[0]


def test_the_planted_chain_is_the_faithful_set_and_each_of_its_members_is_needed(circuit):
    parts = circuit[1]
    of_parts = contributions(circuit).mean(1)
    order = order_of(of_parts)
    chain_of = choose(parts, [CARRIER, WRITER])
    assert (nested(order, [2])[0] == chain_of).all()
    assert (of_parts[chain_of] > 0.2 * of_parts.sum()).all()
    np.testing.assert_allclose(of_parts[~chain_of], 0, atol=1e-5)
    members = np.array([choose(parts, [one]) for one in (CARRIER, WRITER)])
    np.testing.assert_allclose(left(circuit, ~np.vstack([chain_of, members])), [1, 0, 0], atol=1e-4)
    np.testing.assert_allclose(left(circuit, np.vstack([chain_of, members])), 0, atol=1e-4)
    others = np.array([choose(parts, [part]) for part in parts])[~chain_of]
    np.testing.assert_allclose(left(circuit, others), 1, atol=1e-4)
    given = lambda intact: contributions(circuit, intact=intact).mean(1)  # noqa: E731
    assert set(greedy_order(given, ALL, [1, 2])[:2]) == set(np.flatnonzero(chain_of))


def test_path_patching_has_the_planted_edge_and_no_other(circuit):
    model, parts, ablation, read = circuit
    each, none = np.eye(ALL, dtype=bool), np.zeros(ALL, bool)
    whole = margin(ablation.run(none[None], read)[0].numpy())
    donors = np.roll(np.arange(len(LEAVES)), 4)  # a leaf of another hypernym
    for reference in (ablation.reference, resampled(outputs(model, ablation.restart.kept.rows), donors)):
        cue_last = Paths(ablation.restart, reference, "cue", "last")
        lost = [whole - margin(cue_last.through(sender, each, read).numpy()) for sender in each]
        edges = {(parts[i], parts[j]) for i, j in zip(*np.nonzero(np.abs(lost).max(-1) > 1e-4))}
        assert edges == {(CARRIER, WRITER)}
        edge = lost[parts.index(CARRIER)][parts.index(WRITER)]
        assert (edge > 0.9 * whole).all()
        np.testing.assert_allclose(margin(cue_last.direct(~none, read).numpy()), whole, atol=1e-5)
        slot_cue = Paths(ablation.restart, reference, "slot", "cue")
        lost = whole - margin(slot_cue.through(none, each, read, embedded=True).numpy())
        assert [parts[at] for at in np.flatnonzero(np.abs(lost).max(-1) > 1e-4)] == [CARRIER]
        moved = slot_cue._first(none, True)[0][str(DISTRACTOR.site)][0, :, :, DISTRACTOR.head]
        assert (moved - slot_cue._own[str(DISTRACTOR.site)][:, [3, 4, 5], DISTRACTOR.head]).abs().max() > 0.1
        last = Paths(ablation.restart, reference, "last", "last")
        assert (whole - margin(last.direct(choose(parts, [WRITER]), read).numpy()) > 0.9 * whole).all()


@pytest.fixture(scope="module")
def random_model():
    """Grouped queries, two parts of a sequence, everything matters."""
    model = tiny("llama", attention="eager")
    for weight in model.parameters():
        weight.data *= 3 if weight.ndim > 1 else 1
    ids = torch.randint(3, 110, (4, 8), generator=torch.Generator().manual_seed(0))
    rows = Rows(lambda: {"input_ids": ids}, {"slot": (1, 2), "cue": (4, 5), "last": (7,)})
    return model, ids, rows


def test_attributions_sum_to_the_total_effect_as_steps_grow(random_model):
    model, _, rows = random_model
    reference, read = means(outputs(model, rows)), Answers.of(model, [5, 9])
    ablation = Ablation(Restart(model, keep(model, rows)), reference, span="slot")
    every = np.ones((1, 15), bool)
    gone, whole = ablation.run(np.vstack([every, ~every]), read)
    total = (whole - gone)[:, 0].numpy()
    errors = []
    for steps in (1, 4, 16):
        of_parts = attribute_parts(model, rows, reference, lambda h: read(h)[:, 0], span="slot", steps=steps)
        errors.append(np.abs(of_parts.sum(0) - total).max() / np.abs(total).max())
    assert errors[2] < 5e-3
    assert errors[2] < errors[1] / 4 < errors[0] / 8


def test_without_steps_it_is_attribution_patching_and_with_some_intact_the_rest_sums_to_what_these_lack(
    random_model,
):
    model, _, rows = random_model
    reference, read = means(outputs(model, rows)), Answers.of(model, [5, 9])
    metric = lambda hidden: read(hidden)[:, 0]  # noqa: E731
    of_parts = attribute_parts(model, rows, reference, metric, span="cue", steps=0)
    cells = [
        *grid(model, "blocks.*.attn.hook_z", ["cue"], heads=True),
        *grid(model, "blocks.*.hook_mlp_out", ["cue"]),
    ]
    states = {(str(cell.sites[0]), "cue"): reference[str(cell.sites[0])][:, [4, 5]] for cell in cells}
    patched = attribute(model, rows, cells, states, metric)
    order = [parts_of(model).index(HeadOrMLP(cell.layers[0], cell.head)) for cell in cells]
    np.testing.assert_allclose(of_parts[order], -patched.numpy(), atol=1e-5)
    intact = choose(parts_of(model), [HeadOrMLP(0), HeadOrMLP(1, 3)])
    rest = attribute_parts(model, rows, reference, metric, steps=24, intact=intact)
    ablation = Ablation(Restart(model, keep(model, rows)), reference)
    alone, whole = ablation.run(np.vstack([~intact, np.zeros(15, bool)]), read)
    np.testing.assert_allclose(
        rest.sum(0), (whole - alone)[:, 0], atol=2e-2 * float((whole - alone).abs().max())
    )
    assert not rest[intact].any()


@pytest.mark.parametrize("span", ["", "cue"])
def test_batches_of_sets_give_what_a_pass_through_hooks_gives(random_model, span):
    model, _, rows = random_model
    rng, read = np.random.default_rng(0), Answers.of(model, [5, 9])
    sets = np.vstack([rng.random((5, 15)) < 0.4, np.zeros((1, 15), bool), np.eye(15, dtype=bool)[[9, 5]]])
    for reference in (means(outputs(model, rows)), resampled(outputs(model, rows), [1, 2, 3, 0])):
        together = Ablation(Restart(model, keep(model, rows)), reference, span).run(sets, read, tokens=64)
        one_by_one = torch.stack([ablated_by_hooks(model, rows, one, reference, read, span) for one in sets])
        torch.testing.assert_close(together, one_by_one, rtol=0, atol=1e-5)
        assert (together - together[5]).abs().amax((1, 2))[[0, 6, 7]].min() > 1e-3


class Lens:
    """Ablation and path patching written with hooks of TransformerLens alone."""

    def __init__(self, model, ids, layers):
        self.bridge, self.ids, self.layers = TransformerLensRecorder.of(model).bridge, ids, layers
        self.own = {}
        self.run({name: self.noted(name) for name in self.names()})

    def names(self):
        return [
            f"blocks.{at}.{point}" for at in range(self.layers) for point in ("attn.hook_z", "hook_mlp_out")
        ]

    def noted(self, name):
        return lambda value, **_: self.own.__setitem__(name, value.clone())

    def run(self, hooks):
        with torch.no_grad():
            return self.bridge.run_with_hooks(self.ids, fwd_hooks=list(hooks.items()), return_type="logits")

    def put(self, chosen, source, places):
        """Hooks that put the source's outputs of some parts into some places."""

        def change(name):
            heads = [part.head for part in chosen if str(part.site) == name]

            def hook(value, **_):
                new = value.clone()
                for head, place in itertools.product(heads, places):
                    index = (slice(None), place) if head is None else (slice(None), place, head)
                    new[index] = source[name][index]
                return new

            return hook

        return {name: change(name) for name in {str(part.site) for part in chosen}}

    def path(self, senders, receivers, source, places, at):
        """The second of two passes: what receivers would put out where senders alone are changed."""
        seen, changes = {}, self.put(senders, source, places)

        def freeze(name):
            def hook(value, **_):
                seen[name] = value.clone()
                return changes[name](self.own[name]) if name in changes else self.own[name].clone()

            return hook

        self.run({name: freeze(name) for name in self.names()})
        return self.run(self.put(receivers, seen, at))


@pytest.mark.filterwarnings("ignore")
def test_ablation_and_path_patching_are_those_of_transformer_lens(random_model):
    pytest.importorskip("transformer_lens")
    model, ids, rows = random_model
    check_against_transformer_lens(model, ids, rows, [5, 9], 3)


def check_against_transformer_lens(model, ids, rows, tokens, layers):
    lens, parts, read = Lens(model, ids, layers), parts_of(model), Answers.of(model, tokens)
    own = outputs(model, rows)
    restart, rng = Restart(model, keep(model, rows)), np.random.default_rng(1)
    for reference in (means(own), resampled(own, [1, 2, 3, 0])):
        source = {name: value.expand_as(own[name]) for name, value in reference.items()}
        for span, places in (("", range(ids.shape[1])), ("slot", rows.spans["slot"])):
            one = rng.random(len(parts)) < 0.3
            expected = lens.run(lens.put([parts[at] for at in np.flatnonzero(one)], source, places))
            agree(Ablation(restart, reference, span).run(one[None], read)[0], expected, tokens)
        for sender, receiver in (("slot", "cue"), ("cue", "last"), ("last", "last")):
            first, second = ([part.layer * 3 // layers in at for part in parts] for at in ((0, 1), (1, 2)))
            chosen = [np.array(mask) & (rng.random(len(parts)) < 0.7) for mask in (first, second)]
            named = [[parts[at] for at in np.flatnonzero(mask)] for mask in chosen]
            expected = lens.path(*named, source, rows.spans[sender], rows.spans[receiver])
            paths = Paths(restart, reference, sender, receiver)
            agree(paths.through(chosen[0], chosen[1][None], read)[0], expected, tokens)
            unchanged = read(restart.kept.hidden[:, -1])
            assert (paths.through(chosen[0], chosen[1][None], read)[0] - unchanged).abs().max() > 1e-4


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
def test_ablation_and_path_patching_of_smollm2_are_those_of_transformer_lens():
    pytest.importorskip("transformer_lens")
    model, tokenizer = smollm2()
    model.requires_grad_(False)
    ids = torch.tensor(
        [tokenizer(f"A {noun} is a kind of").input_ids for noun in ("dog", "car", "tree", "fish")]
    )
    rows = Rows(lambda: {"input_ids": ids}, {"slot": (1,), "cue": (2, 3, 4), "last": (5,)})
    check_against_transformer_lens(model, ids, rows, [1000, 2000, 3000], 30)


def agree(logits, expected, tokens):
    expected = expected[:, -1, tokens]
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_areas_are_those_of_lines_and_steps():
    sizes, straight = [2, 5, 7], np.array([0.2, 0.5, 0.7])
    assert area(straight, sizes, 10) == pytest.approx(0.5)
    assert distance_area(straight, sizes, 10) == pytest.approx(0.5)
    assert area(1 - straight, sizes, 10, ends=(1, 0)) == pytest.approx(0.5)
    beyond = np.array([[1.0, 1.0, 1.0], [1.5, 1.5, 1.0]])  # one does too much: more area, but further from 1
    np.testing.assert_allclose(area(beyond, sizes, 10), [0.9, 0.9 + 0.1 * 0.5 + 0.3 * 0.5 + 0.1 * 0.5])
    assert (np.diff(distance_area(beyond, sizes, 10)) > 0).all()


def test_shares_are_ratios_of_weighted_means_and_undefined_where_the_whole_does_nothing():
    none, whole = np.array([1.0, 0.0]), np.array([3.0, 6.0])
    values, weights = np.array([[1.0, 3.0], [3.0, 6.0]]), np.array([[1.0, 1.0], [2.0, 0.0]])
    np.testing.assert_allclose(shares(values, none, whole, weights), [[3 / 8, 1], [0, 1]])
    assert np.isnan(shares(values, none, none, weights)).all()


def test_drawn_orders_are_random_and_keep_the_stratum_of_each_rank():
    order, strata = np.arange(12)[::-1], list("aaabbbbbaaac")
    drawn = np.array([drawn_order(np.random.default_rng(seed), order, strata) for seed in range(60)])
    assert (np.sort(drawn) == np.arange(12)).all()
    assert (np.array(strata)[drawn] == np.array(strata)[order]).all()
    assert (drawn[:, 0] == 11).all()  # the only one of its stratum
    assert set(drawn[:, 1]) == {0, 1, 2, 8, 9, 10}
    free = np.array([drawn_order(np.random.default_rng(seed), order) for seed in range(60)])
    assert len(set(free[:, 0])) > 6


def test_overlap_is_hypergeometric_and_stratified_counts_every_pair_of_sets():
    parts, rng = np.arange(9), np.random.default_rng(0)
    first, second = rng.permutation(9) < 4, rng.permutation(9) < 5
    one = overlap(first, second)
    draws = [np.isin(parts, chosen) for chosen in itertools.combinations(parts, 5)]
    assert one.p == pytest.approx(np.mean([(first & drawn).sum() >= one.shared for drawn in draws]))
    assert one.expected == pytest.approx(20 / 9)
    assert one.jaccard == one.shared / (9 - one.shared)
    strata = np.array(list("aabbbbccc"))
    counts = {name: (second & (strata == name)).sum() for name in "abc"}
    alike = [
        drawn for drawn in draws if all((drawn & (strata == name)).sum() == counts[name] for name in "abc")
    ]
    stratified = overlap(first, second, list(strata))
    assert stratified.p == pytest.approx(np.mean([(first & drawn).sum() >= one.shared for drawn in alike]))
    assert stratified.expected == pytest.approx(np.mean([(first & drawn).sum() for drawn in alike]))
    assert stratified.p != pytest.approx(one.p)


def test_sets_that_mean_nothing_are_said_to_overlap_at_no_more_than_the_nominal_rate():
    """Two sets of the same layers, otherwise random: by layer nothing is found, without layers too much is."""
    rng, layer = np.random.default_rng(0), np.repeat(np.arange(10), 10)
    likely = np.where(layer < 3, 0.5, 0.03)
    pairs = [(rng.random((2, 100)) < likely) for _ in range(200)]
    found = np.array([[overlap(*pair).p <= 0.05, overlap(*pair, layer).p <= 0.05] for pair in pairs]).mean(0)
    assert found[1] <= 0.07
    assert found[0] > 0.3
    free = [overlap(*(rng.random((2, 100)) < 0.2)).p <= 0.05 for _ in range(200)]
    assert np.mean(free) <= 0.07


def test_a_set_found_on_other_draws_of_leaves_is_stable_where_parts_differ_by_more_than_noise():
    rng = np.random.default_rng(0)
    effects = np.where(np.arange(40) < 5, 1.0, 0.0)[:, None]
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=50)
    for noise, least, most in ((0.2, 1, 1), (20.0, 0, 0.6)):
        of_leaves = effects + noise * rng.normal(size=(40, 30))
        drawn = redrawn(of_leaves, 5, weights)
        assert (drawn.sum(1) == 5).all()
        mean = jaccard(drawn, nested(order_of(of_leaves.mean(1)), [5])[0]).mean()
        assert least <= mean <= most


def test_parts_and_their_names():
    model = tiny("llama")
    parts = parts_of(model)
    assert len(parts) == len(set(parts)) == 15
    assert [HeadOrMLP.parse(str(part)) for part in parts] == parts
    assert parts[:6] == [*(HeadOrMLP(0, head) for head in range(4)), HeadOrMLP(0), HeadOrMLP(1, 0)]


def test_what_cannot_be_is_refused(circuit):
    _, parts, ablation, read = circuit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        granite = tiny("granite")
        layout_of(granite)
    with pytest.raises(ValueError, match=r"has no blocks.0.attn.hook_z .* patch whole layers"):
        parts_of(granite)
    with pytest.raises(ValueError, match=r"'blocks.1.hook_resid_post' is no part"):
        HeadOrMLP.parse("blocks.1.hook_resid_post")
    with pytest.raises(KeyError, match=r"no part blocks.9.hook_mlp_out; it has blocks.0"):
        choose(parts, [HeadOrMLP(9)])
    for wrong in (np.ones((2, 19), bool), np.ones(20, bool)):
        with pytest.raises(ValueError, match=r"give \[sets, 20\]: 4 heads and the MLP of each of 4 layers"):
            ablation.run(wrong, read)
    with pytest.raises(ValueError, match="row 2 is its own donor"):
        resampled(ablation.reference, [1, 0, 2])
    with pytest.raises(KeyError, match="no span 'noun'"):
        Ablation(ablation.restart, ablation.reference, "noun").run(np.ones((1, 20), bool), read)
    with pytest.raises(ValueError, match="a set of 21 parts was asked for; there are 20"):
        nested(np.arange(20), [3, 21])
    for sizes in ([3, 3], [5, 2], [0, 4], [20]):
        with pytest.raises(ValueError, match="increase between 0 and all parts"):
            area(np.zeros(len(sizes)), sizes, 20)
    with pytest.raises(ValueError, match="they have the same parts"):
        overlap(np.ones(3, bool), np.ones(4, bool))
