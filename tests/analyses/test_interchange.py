"""Interchange: the planted subspace carries the hypernym, controls do not, held-out leaves decide nothing, refusals."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from analyses.inputs import subject
from analyses.interchange.check import _check_placebo, check
from analyses.interchange.effects import interchange_effects
from analyses.interchange.exchanged import exchanged
from analyses.interchange.figures import draw
from analyses.interchange.fitted import subspaces
from analyses.interchange.measured import At
from analyses.interchange.options import METHODS, Options
from analyses.interchange.outcomes import chances
from analyses.interchange.rows import interchange_table
from analyses.interchange.summary import summary
from probing.edits.placebos import rank_p
from probing.store import MismatchError
from tests.analyses.planted_interchange import (
    BEHIND,
    linear_effects,
    outcomes,
    planted_world,
    read_by_gradients,
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def planted():
    """The outcomes in the planted circuit, and their table."""
    world = planted_world(methods=("means", "das"), ranks=(1, 3), draws=100, controls=19)
    parts = exchanged(world, BEHIND, 0)
    pairs = world.pairs[0]
    return parts, interchange_table(parts, chances(world.stimuli, pairs), world.options).assign(run="planted")


def number(table, measure, edit, method="", trained="", rank=0, target="hypernym"):
    rows = table[(table["measure"] == measure) & (table["edit"] == edit) & (table["target"] == target)]
    rows = rows[(rows["method"] == method) & (rows["trained"] == trained) & (rows["rank"] == rank)]
    return float(rows["value"].iloc[0])


@pytest.mark.parametrize("trained", ["pictures", "words"])
@pytest.mark.parametrize("method", ["means", "das"])
def test_the_planted_rank_carries_the_hypernym_of_pictures_and_a_smaller_one_does_not(
    planted, method, trained
):
    _, table = planted
    own = (method, trained)
    assert number(table, "accuracy", "swap", *own, 3) == 1
    assert number(table, "accuracy", "swap", *own, 1) < 0.8
    whole = number(table, "effect", "whole")
    assert number(table, "effect", "swap", *own, 3) == pytest.approx(whole, rel=0.3)
    assert abs(number(table, "effect", "complement", *own, 3)) < 0.3 * whole
    assert number(table, "accuracy", "none") == 0
    for control in ("random", "random_norm"):
        assert number(table, "effect_p_corrected", control, *own, 3) == 0.05
        assert number(table, "effect_excess", control, *own, 3) > 0.25 * whole
    assert number(table, "flagged", "swap", *own, 3) == 0


def test_leaves_stay_where_they_are_and_words_and_pictures_share_the_subspace(planted):
    _, table = planted
    for edit, own in (("none", ()), ("swap", ("means", "words", 3))):
        assert number(table, "accuracy", edit, *own, target="leaf") == 1
    assert number(table, "accuracy", "chance", target="leaf") == pytest.approx(0.25)
    assert number(table, "overlap", "angles", "means", "words and pictures", 3, "angles") > 0.9
    assert number(table, "overlap_p", "angles_random", "means", "words and pictures", 3, "angles") == 0.005


def test_figures_summary_and_effects_are_made_of_the_planted_table(planted):
    parts, table = planted
    assert set(draw(table)) == {"accuracy_last", "controls_last", "stays_last", "angles_last"}
    assert "means of words, rank 3: most behind layer 2" in summary(table)
    effects = interchange_effects(parts, Options(draws=100))
    assert effects.paired
    of_swap = (effects.cells["measure"] == "effect") & (effects.cells["method"] == "means")
    of_swap &= (effects.cells["trained"] == "words") & (effects.cells["rank"] == 3)
    mean = effects.values[of_swap.to_numpy()].mean()
    assert mean == pytest.approx(number(table, "effect", "swap", "means", "words", 3), rel=0.1)


def test_labels_and_states_of_the_tested_leaves_decide_nothing():
    options = {"methods": METHODS, "ranks": (2,), "controls": 1, "steps": 2, "trained": ("words",)}
    world = planted_world(**options)
    own = subspaces(world, BEHIND, 0)
    poisoned = planted_world(**options)
    held_out = np.flatnonzero(poisoned.fold == 0)
    labels = poisoned.labels.copy()
    labels[held_out] = ~labels[held_out]
    states = poisoned.states("hypernym", "text")[BEHIND]
    states[held_out] = 1e3
    poisoned = replace(poisoned, labels=labels)
    spoilt = subspaces(poisoned, BEHIND, 0)
    assert {key[0] for key in own} == set(METHODS)
    for key, one in own.items():
        assert np.array_equal(one.basis, spoilt[key].basis), key
    trained = poisoned.labels.copy()
    trained[poisoned.fold == 1] = np.roll(trained[poisoned.fold == 1], 1, axis=0)
    other = subspaces(replace(poisoned, labels=trained), BEHIND, 0)
    assert not np.allclose(other["means", "words", 2, 0].basis, own["means", "words", 2, 0].basis)


def test_base_and_source_of_a_tested_pair_are_held_out_and_differ_in_both_hypernyms():
    world = planted_world()
    for pair in world.pairs[0]:
        for leaf, own, other in ((pair.source, pair.up, pair.down), (pair.base, pair.down, pair.up)):
            row = world.leaves.index(leaf)
            assert world.fold[row] == 0
            assert world.labels[row, world.names.index(own)]
            assert not world.labels[row, world.names.index(other)]


def test_a_planted_illusion_is_flagged_and_the_true_direction_is_not():
    rng = np.random.default_rng(1)
    read, axes = read_by_gradients(rng), np.eye(6)
    # 0 is read and varies with the concept, 1 is read and dormant, 2 varies with the concept and is not read.
    difference = 0.05 * rng.standard_normal((60, 6)) * (np.arange(6) != 1)
    difference[:, [0, 2]] += rng.normal(4, 0.5, (60, 1))
    flagged = {}
    for name, direction in (("true", axes[0]), ("illusory", axes[1] + axes[2])):
        effects = linear_effects(direction, difference, read)
        controls = {("", "random", 1): np.zeros(60), ("made", "random_norm", 1): np.zeros(60)}
        controls[("made", "arbitrary", 1)] = np.zeros(60)
        table = interchange_table(outcomes(effects | controls, rng), {}, Options(draws=200))
        flagged[name] = number(table, "flagged", "swap", "made", "words", 1)
        assert number(table, "effect", "swap", "made", "words", 1) > 1
    assert flagged == {"true": 0, "illusory": 1}


def test_an_effect_like_those_of_its_controls_has_a_p_at_its_nominal_rate():
    rng, low, worlds = np.random.default_rng(2), 0, 100
    edits = {("made", "swap", 0): 0.0} | {("", "random", draw): 0.0 for draw in range(1, 20)}
    wide = At.of(outcomes(edits, rng, pairs=12), 10, 0).wide[["effect"]].drop(columns="none", level="edit")
    for _ in range(worlds):
        drawn = rng.standard_normal(20) + rng.standard_normal((12, 20))
        at = At(pd.DataFrame(drawn, wide.index, wide.columns), 10, 0)
        low += rank_p(at.sets("effect", ("made", "words", 1), "random")[None, :, None])[0] <= 0.05
    assert low / worlds == pytest.approx(0.05, abs=0.05)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"spans": ("noun",)}, KeyError, "span 'noun' was asked for; known: slot, cue, last"),
        ({"methods": ("pca",)}, KeyError, "method 'pca' was asked for; known: means, probe, leace, das"),
        ({"trained": ("sounds",)}, KeyError, "--trained-on 'sounds' was asked for; known: pictures, words"),
        ({"pairs": 0}, ValueError, "--pairs 0 was asked for; give 1 or more"),
        ({"ranks": (4, 0)}, ValueError, "--rank 0 was asked for"),
        ({"trained_controls": 0}, ValueError, "--trained-controls 0 was asked for"),
        ({"folds": 1}, ValueError, "1 of 1 folds were asked for; give --folds 2 or more"),
        ({"tested": 4}, ValueError, "4 of 3 folds were asked for"),
        ({"rate": 0.0}, ValueError, "give a rate in"),
        ({"shrinkage": 1.0}, ValueError, "a share in"),
    ],
)
def test_options_that_cannot_be_are_refused(options, kind, said):
    with pytest.raises(kind, match=said.replace("(", r"\(")):
        check((), Options(**options))


def test_too_few_pairs_and_an_unknown_layer_are_refused():
    with pytest.raises(ValueError, match=r"500 of fold 0, whose 8 leaves make .* --pairs"):
        planted_world(pairs=500)
    with pytest.raises(ValueError, match="a subspace of rank 9 was asked for"):
        subspaces(planted_world(ranks=(9,), methods=("means",)), BEHIND, 0)


def test_a_placebo_run_of_another_world_or_of_a_pretrained_model_is_refused(monkeypatch):
    world = planted_world()
    world.stimuli.subject.run.path = "elsewhere"
    strange = {0: [replace(world.pairs[0][0], base="unicorn")]}
    with pytest.raises(MismatchError, match=r"elsewhere has no test picture of, or cannot read, .'unicorn'."):
        world.checked(strange)
    monkeypatch.setattr(subject, "check", lambda run: 0)
    model = SimpleNamespace(init="pretrained")
    run = SimpleNamespace(path="twin", config=SimpleNamespace(model=model))
    with pytest.raises(
        MismatchError, match="twin was given as --placebo-run, and its language model is pretrained"
    ):
        _check_placebo(run, run)
