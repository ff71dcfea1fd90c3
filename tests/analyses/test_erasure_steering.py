"""Steering: the planted direction raises its hypernym; doses, controls and leaks by their numbers."""

from dataclasses import replace

import numpy as np
import pandas as pd
import planted as circuit
import pytest
from scipy.stats import norm, t

from analyses.erasure import steering
from analyses.erasure.edits import (
    clean_states,
)
from analyses.erasure.measured import CONTROLS
from analyses.erasure.rows import steering_table
from analyses.erasure.steering import Steering, steer, steps
from analyses.inputs.span_states import SpanAtLayer
from probing.stats import draw_weights
from tests.analyses.planted_edits import BEHIND, edit_inputs, spoilt

LEAVES = ("crow", "duck", "eel", "pike", "trout")
EDITS = (
    ("mass_mean", 0, np.array([1.0, 2.0, 6.0])),
    ("random", 0, np.array([1.0, 0.5, 0.0])),
    ("random", 1, np.array([0.0, 0.0, 0.0])),
    ("shuffled", 0, np.array([0.0, 1.0, 2.0])),
    ("shuffled", 1, np.array([1.0, 2.0, 3.0])),
)
BESIDE = {"beside": "mass_mean", "matched": "length"}


@pytest.fixture(scope="module")
def inputs():
    return edit_inputs(matches=("length",))


def test_steering_raises_the_hypernym_with_the_dose_along_its_direction_and_not_along_others(inputs):
    parts = steer(inputs, BEHIND, Steering((-2.0, 2.0, 4.0)))
    assert not parts["member"].any()
    table = steering_table(parts, draw_weights(16, 200), 0)
    rise = table[(table["target"] == "mean") & (table["measure"] == "target_change")]
    rise = rise.pivot(index="dose", columns="edit", values="value")
    assert rise.loc[4.0, "mass_mean"] > rise.loc[2.0, "mass_mean"] > 1
    assert rise.loc[-2.0, "mass_mean"] < 0
    assert rise.loc[4.0, "mass_mean"] > 3 * abs(rise.loc[4.0, "random"])
    named = table[(table["target"] == "mean") & (table["measure"] == "leaf_margin_change")]
    assert named.loc[named["edit"] == "mass_mean", "value"].abs().max() < 0.5 * rise.loc[4.0, "mass_mean"]


def test_changes_under_steering_are_those_of_pictures_off_the_hypernym_by_their_numbers():
    clean = pd.DataFrame({"leaf": LEAVES[2:], "target": [1.0, 2.0, 3.0], "other": [0.0, 1.0, 2.0]})
    clean = clean.assign(edit="none", draw=0, dose=0.0, beside="", matched="", reached=True)
    parts = [clean] + [
        clean.assign(
            edit=edit,
            draw=draw,
            dose=dose,
            **(BESIDE if edit in CONTROLS else {}),
            target=clean["target"] + times * dose,
            other=clean["other"] - times,
        )
        for edit, draw, times in EDITS
        for dose in (-2.0, 4.0)
    ]
    weights = draw_weights(3, 200)
    parts = pd.concat(parts, ignore_index=True).assign(hypernym="bird", layer=3, span="slot")
    rows = steering_table(parts, weights, 0).set_index(["target", "measure", "edit", "dose"])
    assert rows.loc[("bird", "target_change", "mass_mean", 4.0), "value"] == pytest.approx(12)
    assert rows.loc[("bird", "target_change", "random", -2.0), "value"] == pytest.approx(-0.5)
    assert rows.loc[("mean", "target_change", "shuffled 1", -2.0), "value"] == pytest.approx(-4)
    assert rows.loc[("mean", "other_change", "mass_mean", 4.0), "value"] == pytest.approx(-3)
    one = rows.loc[("bird", "target_change", "mass_mean", 4.0)]
    wider = (3 / 2) ** 0.5 * t.ppf(0.975, 2) / norm.ppf(0.975)
    limits = np.quantile(weights @ [4.0, 8.0, 24.0] / 3, [0.025, 0.975])
    np.testing.assert_allclose([one["lower"], one["upper"]], 12 + wider * (limits - 12))
    beyond = rows.loc[("bird", "target_change", "mass_mean − controls", 4.0)]
    draws = 4 * np.array(
        [[0.5, 1.25, 5.0], [0.5, 1.0, 4.5]]
    )  # of each leaf, beyond the mean of both controls
    drawn, between = weights @ draws.mean(0) / 3, np.ptp(draws.mean(1)) ** 2 / 4
    over_leaves = 3 / 2 * drawn.var(ddof=1)
    half = (t.ppf(0.975, 2) ** 2 * over_leaves + t.ppf(0.975, 1) ** 2 * between) ** 0.5
    assert beyond["value"] == pytest.approx(draws.mean())
    np.testing.assert_allclose([beyond["lower"], beyond["upper"]], [draws.mean() - half, draws.mean() + half])
    assert np.isnan(rows.loc[("mean", "target_change_p", "mass_mean − controls", 4.0), "value"])


def test_few_draws_for_each_of_several_hypernyms_give_a_p_of_their_mean():
    rng, names = np.random.default_rng(0), ("bird", "fish", "tool", "fruit")
    clean = pd.DataFrame({"leaf": LEAVES, "target": 0.0}).assign(
        edit="none", draw=0, dose=0.0, beside="", matched="", reached=True
    )
    edits = [("mass_mean", 0, 3.0), *((kind, draw, 0.0) for kind in CONTROLS for draw in range(5))]

    def parts(sign):
        steered = [
            clean.assign(
                edit=edit, draw=draw, dose=dose, target=sign * rise * dose + rng.normal(0, 0.2, 5)
            ).assign(**(BESIDE if edit in CONTROLS else {}))
            for edit, draw, rise in edits
            for dose in (-2.0, 4.0)
        ]
        return pd.concat([clean, *steered], ignore_index=True).assign(layer=3, span="slot")

    for sign, found in ((1, True), (-1, False)):
        rows = steering_table(
            pd.concat([parts(sign).assign(hypernym=name) for name in names]), draw_weights(5, 20), 0
        )
        p = rows[rows["measure"] == "target_change_p_corrected"].set_index(["target", "dose"])["value"]
        assert p[list(names)].isna().all()
        assert ((p["mean"] < 0.01) == found).all()
        assert ((p["mean"] > 0.9) == (not found)).all()


@pytest.fixture
def steered(inputs, monkeypatch):
    """A function: the states that `steer` puts into a place for a steering, one list a hypernym and task."""

    def states(way, inputs=inputs):
        put, read = [], steering.answers
        monkeypatch.setattr(
            steering,
            "answers",
            lambda question, place, states: [put.append(states), read(question, place, states)][1],
        )
        steer(inputs, BEHIND, way)
        monkeypatch.setattr(steering, "answers", read)
        return put

    return states


def test_one_dose_is_the_standard_deviation_of_the_projection_on_the_direction_in_other_folds(
    inputs, steered
):
    rng = np.random.default_rng(0)
    probe = {name: 7 * rng.standard_normal(circuit.WIDTH) for name in ("bird", "tool")}
    way = Steering((-3.0, 2.0), ("probe", "mass_mean"), {("probe", BEHIND.layer, "last"): probe})
    put = steered(way)[0]  # bird, the hypernym question
    clean, edits = (
        put[0],
        [
            (kind, dose)
            for kind in ("probe", "mass_mean", *38 * ["probe control"], *38 * ["mass_mean control"])
            for dose in way.doses
        ],
    )
    assert len(put) == 1 + len(edits)
    states = inputs.states["hypernym"]
    for at in range(len(inputs.questions["hypernym"])):
        fitted_on = states.fold != inputs.fold[at]
        rows = states.values[BEHIND.layer, "last"][fitted_on, 0].astype(float)
        rows = rows - rows.mean(0)
        member = np.isin(states.leaves[fitted_on], circuit.TAXONOMY["bird"])
        mass_mean = rows[member].mean(0) - rows[~member].mean(0)
        length = {}
        for (kind, dose), value in zip(edits, put[1:]):
            step = (value - clean)[at, 0]
            if kind in ("probe", "mass_mean"):
                unit = {"probe": probe["bird"], "mass_mean": mass_mean}[kind]
                unit = unit / np.linalg.norm(unit)
                np.testing.assert_allclose(step, dose * (rows @ unit).std() * unit, atol=1e-6)
                length[kind] = np.linalg.norm(step) / abs(dose)
            assert np.linalg.norm(step) == pytest.approx(abs(dose) * length[kind.split()[0]])
        assert length["probe"] != pytest.approx(length["mass_mean"], rel=0.1)


def test_any_direction_can_be_the_only_one(inputs):
    given = {"bird": np.ones(circuit.WIDTH)}
    way = Steering((2.0,), ("text",), {("text", BEHIND.layer, "last"): given})
    parts = steer(replace(inputs, hypernyms=("bird",)), SpanAtLayer(BEHIND.layer, "last"), way)
    assert set(parts["edit"]) == {"none", "text", "random", "shuffled"}


def test_directions_and_doses_of_a_fold_do_not_see_its_leaves(inputs, steered):
    given = {
        ("probe", BEHIND.layer, "last"): dict.fromkeys(("bird", "tool"), np.arange(1.0, circuit.WIDTH + 1))
    }
    way = Steering((2.0,), ("mass_mean", "probe"), given)
    before, after = (steps(one, "hypernym", BEHIND, "bird", way) for one in (inputs, spoilt(inputs, fold=1)))
    controls = [(kind, draw, beside) for beside in way.kinds for kind in CONTROLS for draw in range(19)]
    assert list(before) == [("mass_mean", 0, ""), ("probe", 0, ""), *controls]
    for kind in before:
        np.testing.assert_array_equal(after[kind][inputs.fold == 1], before[kind][inputs.fold == 1])
        assert np.abs(after[kind] - before[kind])[inputs.fold == 0].max() > 1e-3
    put, clean = steered(way)[0], clean_states(inputs.questions["hypernym"], BEHIND)
    for value, kind in zip(put[1:], before):
        np.testing.assert_allclose(value - clean, 2 * before[kind][:, None], atol=1e-6)


def test_a_direction_of_a_hypernym_without_leaves_in_the_other_folds_is_refused(inputs):
    with pytest.raises(ValueError, match="none are under it"):
        steps(
            replace(inputs, hypernyms=("stone",), taxonomy=_Empty()),
            "hypernym",
            BEHIND,
            "stone",
            Steering((2.0,)),
        )


class _Empty:
    """A taxonomy that has no leaf under anything."""

    def leaves_of(self, hypernym):
        return ()
