"""Controls of equal length and of equal divergence, beside each edit; how natural edited states are; q of hypernyms."""

from dataclasses import replace

import numpy as np
import pandas as pd
import planted as circuit
import pytest

from analyses.erasure.digest import summary
from analyses.erasure.edits import CONTROLS, clean_states
from analyses.erasure.erasing import Erasers, Erasure, erase
from analyses.erasure.figures import draw
from analyses.erasure.rows import erasure_table, steering_table
from analyses.erasure.steering import Steering, steer
from analyses.frame import drawing
from probing.edits.matching import TOLERANCE
from probing.stats import draw_weights, q_values
from tests.analyses import drawn
from tests.analyses.planted_edits import BEHIND, edit_inputs, planted_parts

DRAWS = 2


@pytest.fixture(scope="module")
def erased():
    return erase(edit_inputs(DRAWS, ("rank", "length", "kl")), BEHIND)


@pytest.fixture(scope="module")
def steered():
    given = {
        ("probe", BEHIND.layer, "last"): {
            name: np.random.default_rng(at).normal(size=circuit.WIDTH)
            for at, name in enumerate(("bird", "tool"))
        }
    }
    inputs = edit_inputs(DRAWS, ("length", "kl"))
    return steer(inputs, BEHIND, Steering((1.0, 2.0), ("mass_mean", "probe"), given))


def mean_kl(rows, *keys):
    return rows.groupby(["hypernym", "edit", "draw", *keys])["kl"].mean()


def test_a_control_of_equal_length_changes_the_states_it_was_fitted_on_as_far_as_the_eraser():
    inputs = edit_inputs(DRAWS)
    erasers = Erasers.of(inputs, "hypernym", BEHIND)
    states = inputs.states["hypernym"]
    values = states.values[BEHIND.layer, "last"].astype(float)
    for fold in (0, 1):
        others, lengths = values[states.fold != fold], {}
        held_out = np.full(len(others), fold)  # so that what was fitted on these very rows is applied to them
        for one in (Erasure("erased", 0, "bird", ""), *(Erasure(c, 1, "bird", "length") for c in CONTROLS)):
            change = erasers(others, held_out, one) - others
            lengths[one.edit] = np.sqrt((change**2).sum(-1).mean())
            assert np.linalg.matrix_rank(change.reshape(-1, circuit.WIDTH), tol=1e-6) == 1
        assert lengths["random"] == pytest.approx(lengths["erased"])
        assert lengths["shuffled"] == pytest.approx(lengths["erased"])
    clean = clean_states(inputs.questions["hypernym"], BEHIND)
    rank, half = (
        erasers(clean, inputs.fold, Erasure("random", 0, "", "rank", times)) for times in (1.0, 0.5)
    )
    np.testing.assert_allclose(half - clean, (rank - clean) / 2, atol=1e-12)


def test_controls_of_equal_kl_move_the_answers_as_far_as_the_erasure_or_say_that_they_cannot(erased):
    wanted = mean_kl(erased[erased["edit"] == "erased"]).droplevel(["edit", "draw"])
    of_kl = erased[erased["matched"] == "kl"]
    assert set(of_kl["edit"]) == set(CONTROLS)
    reached = of_kl[of_kl["reached"]]
    assert len(reached)
    found = mean_kl(reached)
    np.testing.assert_allclose(found / wanted[found.index.get_level_values(0)].to_numpy(), 1, atol=TOLERANCE)
    of_rank = mean_kl(erased[(erased["matched"] == "rank") & (erased["edit"] == "random")])
    assert (of_rank < 0.5 * wanted.min()).all()  # as they are without a match


def test_controls_of_a_step_have_its_kl_at_every_dose_and_stand_beside_their_own_direction(steered):
    wanted = mean_kl(steered[steered["matched"] == ""], "dose")
    of_kl = steered[(steered["matched"] == "kl") & steered["reached"]]
    assert set(of_kl["beside"]) == {"mass_mean", "probe"}
    for (beside, name, dose), rows in of_kl.groupby(["beside", "hypernym", "dose"]):
        step = wanted[name, beside, 0, dose]
        np.testing.assert_allclose(mean_kl(rows) / step, 1, atol=TOLERANCE)
    table = steering_table(steered, draw_weights(16, 20), 0)
    kl = table[(table["measure"] == "kl") & (table["target"] == "bird") & (table["dose"] == 2)]
    kl = kl.set_index(["edit", "beside", "matched"])["value"]
    assert kl["probe", "", ""] == pytest.approx(wanted["bird", "probe", 0, 2.0])
    change = table[(table["measure"] == "target_change") & (table["target"] == "mean")]
    rows = change.set_index(["edit", "beside", "matched", "dose"])["value"]
    assert not rows.index.duplicated().any()
    counted = []
    for kind in ("mass_mean", "probe"):
        for matched in ("length", "kl"):
            controls = [rows[control, kind, matched, 2.0] for control in CONTROLS]
            beyond = rows[f"{kind} − controls", kind, matched, 2.0]
            drawn = steered[
                (steered["beside"] == kind) & (steered["matched"] == matched) & (steered["dose"] == 2)
            ]
            if drawn["reached"].all():
                assert beyond == pytest.approx(rows[kind, "", "", 2.0] - np.mean(controls))
            else:
                assert np.isnan(beyond)
            counted.append(np.isnan(beyond))
    assert sorted(counted) == [
        False,
        False,
        False,
        True,
    ]  # no control moves answers as far as the difference of means
    assert table.loc[table["measure"] == "factor", "matched"].eq("kl").all()


def test_a_control_that_cannot_reach_the_step_takes_the_p_of_its_cell_and_is_counted():
    parts = planted_parts(2.0).assign(kl=0.1, factor=2.0)
    parts.loc[parts["edit"].isin(CONTROLS), "matched"] = "kl"
    missing = (parts["edit"] == "random") & (parts["draw"] == 3) & (parts["layer"] == 5)
    table = erasure_table(parts.assign(reached=~missing), draw_weights(40, 20), 0).assign(run="planted")
    for name in ("p", "p_corrected"):
        p = table[(table["measure"] == f"gap_change_{name}") & (table["target"] == "mean")]
        assert p.set_index("layer")["value"].isna().to_dict() == {3: False, 5: True}
    unreached = table[table["measure"] == "unreached"].set_index(["edit", "layer"])["value"]
    beyond = table[(table["measure"] == "gap_change") & (table["edit"] == "erased − controls")].groupby(
        "layer"
    )
    assert beyond["value"].count().to_dict() == {
        3: beyond.size()[3],
        5: 0,
    }  # NaN where a draw is another edit
    assert unreached.to_dict() == {("random", 3): 0, ("shuffled", 3): 0, ("random", 5): 1, ("shuffled", 5): 0}
    assert "1 of 76 controls of equal kl could not move" in summary(table)


def test_natural_states_are_in_the_middle_and_a_long_step_is_warned_of_and_crossed():
    inputs = edit_inputs(DRAWS, ("length",))
    long = steer(replace(inputs, hypernyms=("bird",)), BEHIND, Steering((0.5, 60.0)))
    ranks = long.groupby(["edit", "dose"])[
        ["mahalanobis_percentile", "neighbour_percentile", "unnatural"]
    ].mean()
    assert ranks.loc[("none", 0.0), "mahalanobis_percentile"] == pytest.approx(50, abs=30)
    assert ranks.loc[("none", 0.0), "unnatural"] <= 0.2
    assert (ranks.loc[("random", 60.0)] >= [99, 99, 1]).all()
    table = steering_table(long, draw_weights(long["leaf"].nunique(), 20), 0).assign(run="planted")
    (line,) = [line for line in summary(table).splitlines() if "warning: mass_mean" in line]
    assert "99th percentile" in line
    assert f"last behind block {BEHIND.layer}" in line
    axes = drawn.panels(draw(table)["dose_response"])[0]
    colour = drawing.colours(["mass_mean", "probe", "text", "random", "shuffled"])["mass_mean"]
    crosses = [line for line in axes.lines if line.get_marker() == "x" and line.get_color() == colour]
    far = table[
        (table["measure"] == "unnatural") & (table["edit"] == "mass_mean") & (table["target"] == "mean")
    ]
    crossed = far.loc[far["value"] > 0.5, "dose"].tolist()
    assert 60.0 in crossed
    assert [one.get_xdata().tolist() for one in crosses] == [crossed]


def test_q_of_single_hypernyms_is_over_hypernyms_and_layers_of_a_span():
    parts = pd.concat(
        [
            planted_parts(drop, seed=at).assign(hypernym=f"kind {at}")
            for at, drop in enumerate((2.0, 0.0, 0.0))
        ]
    )
    table = erasure_table(parts, draw_weights(40, 20), 0)
    p, q = (
        table[(table["measure"] == f"gap_change_{name}") & (table["target"] != "mean")]
        .set_index(["target", "layer"])["value"]
        for name in ("p", "q")
    )  # fmt: skip
    assert len(q) == 6
    np.testing.assert_allclose(q[p.index], q_values(p.to_numpy()))
    assert not ((table["measure"] == "gap_change_q") & (table["target"] == "mean")).any()
