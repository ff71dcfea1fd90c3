"""Circuits of runs: the planted chain is found on one half and holds on the other; overlaps, paths, refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import ID, LEAVES, prompt, spans
from planted_chain import CARRIER, HYPERNYM_IDS, OWN, WRITER, chain
from scipy import stats

from analyses import circuits
from analyses.circuits import halves, routes, search, sharing
from analyses.circuits.halves import Half
from analyses.circuits.rows import SetTest, path_rows
from analyses.inputs.subject import Candidates, Question
from probing.patching import Answers, Restart, Rows, keep
from probing.patching.circuits import means, order_of, outputs, parts_of
from probing.stats import draw_weights

HYPERNYMS = ("bird", "fish", "tool", "fruit")
SIZES = [1, 2, 5]
WORLDS = 60


def half_of(model, side, lengths=(0,)):
    """Every second leaf; prompts of several lengths have the noun several times."""
    at = np.arange(side, len(LEAVES), 2)
    read = Answers.of(model, HYPERNYM_IDS)
    groups = []
    for number, more in enumerate(lengths):
        chosen = at[number :: len(lengths)]
        ids = [prompt(LEAVES[one]) for one in chosen]
        ids = torch.tensor([[*row[:2], *[row[2]] * (1 + more), *row[3:]] for row in ids])
        where = spans(slot=1 + more)
        rows = Rows(lambda ids=ids: {"input_ids": ids}, {**where, "cue": where["cue"][:-1]})
        clean, leaves = keep(model, rows), np.array(LEAVES)[chosen]
        candidates = Candidates(HYPERNYMS, np.array(HYPERNYM_IDS))
        groups.append(
            Question("hypernym", candidates, leaves, OWN[chosen], clean, Restart(model, clean), read)
        )
    return Half(tuple(groups), pooled=True)


@pytest.fixture(scope="module")
def both():
    model = chain()
    return half_of(model, 0, (0, 1)), half_of(model, 1, (0, 1))


@pytest.fixture(scope="module")
def found(both):
    return [search.search_on(one, "mean", 2, SIZES, 20, seed=0) for one in both]


def test_the_chain_found_on_one_half_is_faithful_complete_and_minimal_on_the_other(both, found):
    strata = search.strata_of(both[0].model)
    sets = [search.sets_of(found[1 - side], found[1 - side], SIZES, 3, 5, strata, seed=0) for side in (0, 1)]
    levels = [search.tested_on(both[side], both[1 - side], "mean", sets[side], 0) for side in (0, 1)]
    levels = np.concatenate(levels, axis=1)
    tested = SetTest(sets[0], levels, SIZES, 20, draw_weights(len(LEAVES), 40), {"modality": "text"})
    rows = tested.rows()
    of = {(row["measure"], row.get("order", ""), row.get("size", 0)): row for row in rows}
    for order in ("attribution", "greedy", "other modality"):
        faithful = [of["faithfulness", order, size]["value"] for size in SIZES]
        np.testing.assert_allclose(faithful, [0, 1, 1], atol=1e-3)
        lost = [of["completeness", order, size]["value"] for size in SIZES]
        np.testing.assert_allclose(lost, [1, 1, 1], atol=1e-3)
        area = of["faithfulness_area", order, 0]["value"]
        assert area == pytest.approx(1 - 1.5 / 20, abs=1e-3)
        for random in ("random", "random by layer"):
            excess = of["faithfulness_area_excess", f"{order} − {random}", 0]
            assert excess["value"] == pytest.approx(area - of["faithfulness_area", random, 0]["value"])
            assert excess["value"] > 0.05
            assert np.isnan(of["faithfulness_area_p", f"{order} − {random}", 0]["value"])
    minimal = [of["minimality", "attribution", size]["value"] for size in SIZES]
    np.testing.assert_allclose(
        minimal, [0, 1, 0.4], atol=1e-3
    )  # of one set alone nothing is left to lose; two of five
    assert of["effect", "", 0]["lower"] > 0.5


def ranked(rng, contributions, effects):
    """p of the area of an order, by random orders, where every part adds an effect of its own."""
    strata = [str(at // 8) for at in range(40)]
    given = {"contributions": contributions, "greedy": rng.permutation(40)}
    sets = search.sets_of(given, given, [4, 12], 19, 1, strata, seed=int(rng.integers(2**31)))
    levels = (~sets.ablated).astype(float) @ effects
    rows = SetTest(sets, levels, [4, 12], 40, draw_weights(6, 2), {}).rows()
    return [
        row["value"]
        for row in rows
        if row["measure"] == "faithfulness_area_p" and row["order"].startswith("attribution")
    ]


def test_an_order_that_means_nothing_has_each_rank_at_the_nominal_rate():
    rng = np.random.default_rng(0)
    worlds = [0.5 + rng.normal(size=(40, 1)) + 0.1 * rng.normal(size=(40, 6)) for _ in range(WORLDS)]
    p = np.array([ranked(rng, rng.normal(size=(40, 3)), effects) for effects in worlds])
    for level in (0.05, 0.25, 0.5, 0.75):
        lowest, highest = stats.binom.interval(0.99, WORLDS, level)
        counts = (p <= level).sum(axis=0)
        assert ((lowest <= counts) & (counts <= highest)).all(), (level, counts)
    assert ranked(rng, worlds[0], worlds[0]) == [0.05, 0.05]


def test_parts_ablated_alone_lose_what_hooks_would_and_contributions_sum_to_the_effect(both, found):
    parts = parts_of(both[0].model)
    for one, half in zip(found, both):
        assert one["contributions"].shape == (20, len(half.leaves))
        assert {parts[at] for at in order_of(one["contributions"].mean(1))[:2]} == {CARRIER, WRITER}
        assert {parts[at] for at in one["greedy"][:2]} == {CARRIER, WRITER}
        lost = dict(zip([parts[at] for at in one["sample"]], one["losses"].mean(1)))
        assert {part for part, value in lost.items() if value > 0.1} == {CARRIER, WRITER}


def test_routes_have_the_planted_edges_and_the_band_counts_no_other(both):
    every = routes.routes_of(both[0], 1)
    losses = [routes.lost(both[side], both[1 - side], "mean", every, 0) for side in (0, 1)]
    leaves = np.concatenate([one.leaves for one in both])
    rows = path_rows(np.concatenate(losses, axis=1), every, leaves, 60, 0, {})
    counted = {
        (row["path"], row["sender"], row["receiver"])
        for row in rows
        if row["measure"] == "counts" and row["value"]
    }
    assert counted == {
        ("slot → cue", "embedding", "0-0"),
        ("cue → last", "0-0", "3-3"),
        ("last → answer", "3-3", "answer"),
    }
    windows = [(one.of, one.to) for one in every if one.of != "embedding" and one.to != "answer"]
    assert all(int(of[0]) <= int(to[0]) for of, to in windows)


def test_means_are_of_the_source_alone_and_slots_of_several_lengths_share_one(both):
    first, second = both
    value = [outputs(first.model, group.clean.rows)[str(CARRIER.site)] for group in second.groups]
    slot = torch.cat(
        [one[:, list(group.positions("slot"))].flatten(0, 1) for one, group in zip(value, second.groups)]
    )
    last = torch.cat([one[:, -1] for one in value])
    for group, ablation in zip(first.groups, first.ablations(second, "mean", 0)):
        reference = ablation.reference[str(CARRIER.site)][0]
        for place in group.positions("slot"):
            torch.testing.assert_close(reference[place], slot.mean(0))
        torch.testing.assert_close(reference[-1], last.mean(0))
        assert len(reference) == group.clean.hidden.shape[1]
    alone = replace(first, groups=first.groups[:1], pooled=False)
    own = means(outputs(alone.model, alone.groups[0].clean.rows))
    for site, value in alone.ablations(alone, "mean", 0)[0].reference.items():
        torch.testing.assert_close(value, own[site])


def test_donors_are_other_leaves_of_another_hypernym(both):
    group = both[0].groups[0]
    chosen = halves.donors(group, seed=1)
    assert not any((group.own[row] & group.own[donor]).any() for row, donor in enumerate(chosen))
    assert halves.donors(group, seed=1) == chosen
    same = replace(group, own=np.ones_like(group.own))
    assert all(row != donor for row, donor in enumerate(halves.donors(same, seed=1)))
    resampled = both[0].ablations(both[1], "resample", 1)[0].reference[str(WRITER.site)]
    torch.testing.assert_close(resampled, outputs(both[0].model, group.clean.rows)[str(WRITER.site)][chosen])


def test_one_circuit_overlaps_as_its_halves_do_and_two_circuits_do_not():
    rng, strata = np.random.default_rng(0), [str(at // 10) for at in range(100)]
    effect = {"one": np.arange(100) % 10 == 3, "two": np.arange(100) % 10 == 7}
    for pictures, least, most in (("one", 0.9, 1.0), ("two", 0.0, 0.05)):
        of = {
            (modality, half): 1.0 * effect[which][:, None] + 0.05 * rng.normal(size=(100, 8))
            for modality, which in (("text", "one"), ("image", pictures))
            for half in (0, 1)
        }
        rows = sharing.sharing_rows(of, [10, 20], strata, 30, 0)
        value = {
            (row["measure"], row.get("order", row.get("modality")), row["size"]): row["value"] for row in rows
        }
        assert least <= value["jaccard", "words and pictures", 10] <= most
        assert value["jaccard", "words", 10] == value["jaccard", "pictures", 10] == 1
        assert value["jaccard_redrawn", "text", 10] > 0.9
        p = value["shared_p", "same layers", 10]
        assert value["shared_p_corrected", "same layers", 10] == min(1, 2 * p)
        assert (p < 1e-6) == (pictures == "one")
        assert value["shared_expected", "any parts", 10] == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"random": 0}, "--random 0 was asked for; give 1 or more"),
        ({"members": 0}, "--members 0"),
        ({"width": 0}, "--window 0"),
        ({"leaves": -3}, "--leaves -3 was asked for; give 0 or more"),
        ({"leaves": 3}, "--leaves 3 was asked for; each half needs 2: give 4 or more, or 0 for all"),
        ({"integrated": -1}, "--integrated -1"),
        ({"shares": (0.1, 1.0)}, "--share 1 was asked for; sets are shares of all parts"),
        ({"shares": ()}, "no --share was asked for"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_a_run_is_opened(options, match):
    with pytest.raises(ValueError, match=match):
        circuits.check([], circuits.Options(**options))
    circuits.check([], circuits.Options())


def test_sizes_are_shares_each_once_and_no_set_is_empty_or_whole():
    assert search.sizes_of(300, (0.5, 0.02, 0.05)) == [6, 15, 150]
    assert search.sizes_of(6, (0.01, 0.1, 0.2)) == [1]
    assert search.sizes_of(300, (0.999, 0.001)) == [1, 299]
    assert ID["bird"] == HYPERNYM_IDS[0]
