"""Erasure and steering: the planted direction is found and nothing else; controls, leaks, toy run, refusals."""

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t

from analyses import erasure
from analyses.erasure.edits import (
    CONTROLS,
    EditInputs,
    choose_hypernyms,
    choose_leaves,
    read_outs,
)
from analyses.erasure.erasing import Erasers, erase, erased_states
from analyses.erasure.rows import BEYOND, erasure_table
from analyses.inputs.subject import Candidates, Question, Subject
from probing.stats import draw_weights
from taxogen.runs.run import Run
from taxogen.stages.pipeline import train_run
from taxogen.world.taxonomy import Taxonomy
from tests.analyses import planted_questions as planted
from tests.analyses.planted_edits import BEFORE, BEHIND, edit_inputs, planted_parts, spoilt
from tests.world import toy_config, write_world


@pytest.fixture(scope="module")
def inputs():
    return edit_inputs()


def means(table, measure):
    rows = table[(table["target"] == "mean") & (table["measure"] == measure)]
    return rows.set_index("edit")["value"]


def test_behind_the_planted_layer_erasure_takes_the_hypernym_of_held_out_leaves_and_nothing_else(inputs):
    table = erasure_table(erase(inputs, BEHIND), draw_weights(16, 200), 0)
    gap = means(table, "gap")
    assert gap["none"] > 4
    assert abs(gap["erased"]) < 0.1 * gap["none"]
    assert gap["random"] > 0.7 * gap["none"]
    assert means(table, "auroc")["none"] == 1
    assert means(table, "other_off_change")["erased"] > -0.15 * gap["none"]
    for measure in ("leaf_off_change", "leaf_under_change"):
        assert abs(means(table, measure)["erased"]) < 0.05 * gap["none"]
    p = table[(table["measure"] == "gap_change_p_corrected") & (table["target"] != "tool")]["value"]
    assert len(p) == 2  # bird, mean
    assert (p == 1 / 20).all()


def test_before_the_hypernym_is_written_there_is_nothing_to_erase(inputs):
    table = erasure_table(erase(inputs, BEFORE), draw_weights(16, 200), 0)
    gap = means(table, "gap")
    for edit in ("erased", "random", "shuffled"):
        assert gap[edit] == pytest.approx(gap["none"], rel=1e-3)


def test_a_planted_loss_is_recovered_with_its_interval_and_a_planted_nothing_is_not_found():
    weights = draw_weights(40, 500)
    lost, nothing = (erasure_table(planted_parts(drop), weights, 0) for drop in (2.0, 0.0))
    beyond = lost[(lost["measure"] == "gap_change") & (lost["edit"] == BEYOND)]
    # Noise of 0.2 in each of 20 + 20 pictures under the edit; the mean of 2 × 19 controls has little.
    error = 0.2 * (2 / 20 * (1 + 1 / 38)) ** 0.5
    np.testing.assert_allclose(beyond["value"], -2.0, atol=4 * error)
    np.testing.assert_allclose(beyond["upper"] - beyond["lower"], 2 * 2.09 * error, rtol=0.4)
    assert (beyond["upper"] < -1.5).all()
    assert (beyond["n"] == 40).all()
    assert (lost.loc[lost["measure"] == "gap_change_p_corrected", "value"] == 1 / 20).all()
    assert (nothing.loc[nothing["measure"] == "gap_change_p_corrected", "value"] > 0.05).all()
    assert not lost["measure"].str.startswith("leaf").any()
    assert set(erasure.draw(lost)) == {"layers", "hypernyms"}


def test_few_draws_of_controls_give_no_p_and_a_single_one_no_limits_beyond_it():
    weights = draw_weights(40, 50)
    few, single = (erasure_table(planted_parts(2.0, controls=draws), weights, 0) for draws in (18, 1))
    for table in (few, single):
        assert table.loc[table["measure"].str.contains("_p"), "value"].isna().all()
        assert (
            "no p: it takes 19 draws of each control (--controls 19), each equal to the erasure"
            in erasure.summary(table.assign(run="planted"))
        )
    beyond = single[(single["edit"] == BEYOND) & (single["measure"] == "gap_change")]
    assert beyond[["lower", "upper"]].isna().all(axis=None)
    assert beyond["value"].notna().all()


LEAVES = ("crow", "duck", "eel", "pike", "trout")


MEMBER = np.array([True, True, False, False, False])


TARGET = {
    ("none", 0): np.array([4.0, 3.0, 0.0, -1.0, 1.0]),
    ("erased", 0): np.array([0.0, 1.0, 0.5, -1.0, 0.0]),
    ("random", 0): np.array([3.0, 2.0, 0.0, -1.0, 1.0]),
    ("random", 1): np.array([2.0, 2.0, 0.0, -1.0, 0.0]),
    ("shuffled", 0): np.array([3.5, 3.0, 1.0, -1.0, 1.5]),
    ("shuffled", 1): np.array([3.0, 3.0, 1.0, -1.0, 1.0]),
}


def hand_made_parts():
    return pd.concat(
        [
            pd.DataFrame({"leaf": LEAVES, "member": MEMBER, "target": target, "other": 2 * target})
            .assign(edit=edit, draw=draw, hypernym="bird", layer=3, span="slot", reached=True,
                    matched="rank" if edit in CONTROLS else "")
            for (edit, draw), target in TARGET.items()
        ],
        ignore_index=True,
    )  # fmt: skip


def test_what_is_lost_beyond_controls_that_are_not_null_by_its_numbers():
    weights = draw_weights(5, 400)
    weights = weights[(weights[:, MEMBER].sum(1) > 0) & (weights[:, ~MEMBER].sum(1) > 0)]
    rows = erasure_table(hand_made_parts(), weights, 0)
    bird = rows[rows["target"] == "bird"].set_index(["measure", "edit"])

    once = np.ones((1, 5))

    def gap(values, w=once):
        under, off = (w[:, side] @ values[side] / w[:, side].sum(1) for side in (MEMBER, ~MEMBER))
        return under - off

    changes = {edit: TARGET[edit] - TARGET["none", 0] for edit in TARGET}
    controls = [(changes["random", draw] + changes["shuffled", draw]) / 2 for draw in range(2)]
    sets = {
        "erased": [changes["erased", 0]],
        "random": [changes["random", draw] for draw in range(2)],
        "shuffled": [changes["shuffled", draw] for draw in range(2)],
        BEYOND: [changes["erased", 0] - control for control in controls],
    }
    for edit, draws in sets.items():
        one, drawn = bird.loc[("gap_change", edit)], gap(np.mean(draws, axis=0), weights)
        value = one["value"]
        assert value == pytest.approx(gap(np.mean(draws, axis=0))[0])
        assert one["n"] == 5
        if len(draws) == 1:  # the smaller side, under the hypernym, has two leaves
            wider = 2**0.5 * t.ppf(0.975, 1) / norm.ppf(0.975)
            limits = value + wider * (np.quantile(drawn, [0.025, 0.975]) - value)
        else:
            over_leaves, between = 2 * drawn.var(ddof=1), np.ptp([gap(draw)[0] for draw in draws]) ** 2 / 4
            limits = value + np.array([-1, 1]) * t.ppf(0.975, 1) * (over_leaves + between) ** 0.5
        np.testing.assert_allclose([one["lower"], one["upper"]], limits)
    assert bird.loc[("other_off_change", BEYOND), "value"] == pytest.approx(
        2 * np.mean([draw[~MEMBER].mean() for draw in sets[BEYOND]])
    )
    each = rows[(rows["target"] == "mean") & (rows["measure"] == "gap_change")].set_index("edit")["value"]
    assert each["shuffled 1"] == pytest.approx(gap(changes["shuffled", 1])[0])
    assert rows.loc[rows["measure"].str.contains("_p"), "value"].isna().all()


def test_read_outs_of_a_hypernym_leave_out_those_that_share_a_leaf_with_it():
    taxonomy = Taxonomy(
        (("carrot", "vegetable"), ("crow", "bird"), ("tomato", "fruit"), ("tomato", "vegetable"))
    )
    leaves = np.array(["carrot", "crow", "tomato"])
    nothing: dict = dict.fromkeys(("clean", "restart", "answers"))
    questions = {
        task: Question(task, Candidates(tuple(names), np.arange(3)), leaves, own, **nothing)
        for task, names, own in (
            (
                "hypernym",
                ("bird", "fruit", "vegetable"),
                np.array([[0, 0, 1], [1, 0, 0], [0, 1, 1]], dtype=bool),
            ),
            ("leaf", leaves, np.eye(3, dtype=bool)),
        )
    }
    inputs = EditInputs(questions, {}, taxonomy, ("fruit",), np.zeros(3), 0.1, 0, 1)
    kinds = np.array([[1.0, 2.0, 6.0], [9.0, 3.0, 1.0], [0.5, 7.0, 4.0]])
    named = np.diag([3.0, 4.0, 5.0])
    of_edits = {"hypernym": np.stack([0 * kinds, kinds]), "leaf": np.stack([0 * named, named])}
    rows = read_outs(inputs, "fruit", of_edits)
    assert (rows[["target", "other", "leaf_margin"]][:3] == 0).all(axis=None)
    rows = rows[3:]
    assert rows["leaf"].tolist() == leaves.tolist()
    assert rows["member"].tolist() == [False, False, True]
    np.testing.assert_allclose(
        rows["target"], [2 - 1, 3 - 9, 7 - 0.5]
    )  # vegetables share the tomato with fruit
    np.testing.assert_allclose(rows["other"], [6 - 1, 9 - 1, 4 - 0.5])
    np.testing.assert_allclose(rows["leaf_margin"], [3, 4, 5])


def test_erasers_of_a_fold_do_not_see_its_leaves(inputs):
    clean, after = (
        list(erased_states(one, "hypernym", BEHIND, Erasers.of(one, "hypernym", BEHIND)))
        for one in (inputs, spoilt(inputs, fold=1))
    )
    assert len(clean) == len(after) == 1 + 2 + 2 * 19
    np.testing.assert_array_equal(after[0], clean[0])
    for before, value in zip(clean[1:], after[1:]):
        np.testing.assert_array_equal(value[inputs.fold == 1], before[inputs.fold == 1])
        assert np.abs(value - before)[inputs.fold == 0].max() > 1e-3


def test_labels_are_exchanged_among_the_leaves_of_a_fold_anew_in_each_draw(inputs):
    states = inputs.states["hypernym"]
    fold_of, labels = dict(zip(states.leaves, states.fold)), inputs.labels("bird")
    assert {leaf for leaf, member in labels.items() if member} == set(planted.TAXONOMY.leaves_of("bird"))
    draws = [inputs.labels("bird", draw) for draw in range(200)]
    for drawn in draws:
        for fold in (0, 1):
            of_fold = [leaf for leaf in labels if fold_of[leaf] == fold]
            assert sum(drawn[leaf] for leaf in of_fold) == sum(labels[leaf] for leaf in of_fold) == 2
    assert len({tuple(drawn.values()) for drawn in draws}) > 100
    np.testing.assert_allclose([sum(drawn[leaf] for drawn in draws) for leaf in labels], 200 * 2 / 8, atol=30)


def test_default_hypernyms_are_large_and_share_no_leaf_and_draws_are_nested():
    taxonomy = planted.TAXONOMY
    assert choose_hypernyms(taxonomy, taxonomy.hypernyms, 2, share=0.25) == ("bird", "fish")
    assert choose_hypernyms(taxonomy, taxonomy.hypernyms, 2, share=0.2) == ()
    assert choose_hypernyms(taxonomy, ("tool", "fish"), 2, share=0.25) == ("fish", "tool")
    small, large = (
        choose_leaves(taxonomy, taxonomy.leaves, ("bird",), each, others, 0)
        for each, others in ((2, 3), (3, 5))
    )
    assert len(small) == 5
    assert set(small) < set(large)
    assert len(set(small) & set(taxonomy.leaves_of("bird"))) == 2


@pytest.fixture(scope="module")
def toy(tmp_path_factory, toy_lm):
    folder = tmp_path_factory.mktemp("toy_erasure")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        run = Run.create(folder / "run", toy_config(write_world(folder, toy_lm), "capture.at=last"))
        train_run(run)
        yield run


def test_a_toy_run_is_erased_and_steered_from_the_command_line_and_a_second_start_goes_on(toy, capsys):
    asking = ["--run", str(toy.path), "--hypernym", "bird", "--draws", "50"]
    erasure.main(asking)
    folder = toy.path / "analyses" / "erasure"
    table = pd.read_parquet(folder / "erasure.parquet")
    assert set(table["span"]) == {"slot", "cue"}
    assert set(table["run"]) == {"run"}
    parts = {path: path.stat().st_mtime_ns for path in folder.glob("parts/*/*.parquet")}
    erasure.main([*asking, "--layer", "0", "--layer", "1"])
    assert (
        parts.items() <= {path: path.stat().st_mtime_ns for path in folder.glob("parts/*/*.parquet")}.items()
    )
    again = pd.read_parquet(folder / "erasure.parquet")
    both = table.merge(again, on=["site", "span", "target", "measure", "edit"], suffixes=("", "_again"))
    same = ~both["measure"].str.endswith(("_corrected", "_q"))  # over all asked layers
    np.testing.assert_array_equal(both["value"][same], both["value_again"][same])
    erasure.main([*asking, "--steer", "--direction", "mass_mean", "--span", "cue", "--dose", "2"])
    assert (folder / "steering.parquet").is_file()
    assert (folder / "steering-dose_response.svg").is_file()
    assert "beyond controls" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (erasure.Options(spans=("middle",)), "known: slot, cue, last"),
        (erasure.Options(hypernyms=("tree",)), "bird, fruit, vegetable"),
        (erasure.Options(steer=True, directions=("up",)), "known: mass_mean, probe, text"),
    ],
)
def test_unknown_names_are_refused_before_anything_is_loaded(toy, options, message):
    with pytest.raises(KeyError, match=message):
        erasure.check([toy], options)


def test_a_layer_that_the_model_does_not_have_is_refused(toy):
    with pytest.raises(KeyError, match="layers 0 to 1"):
        erasure.compute([toy], erasure.Options(layers=(7,), hypernyms=("bird",)))


def test_of_a_taxonomy_of_large_hypernyms_those_of_up_to_half_the_leaves_are_taken(toy, capsys):
    assert erasure.hypernyms_of(Subject.of(toy), erasure.Options()) == ("bird", "fruit")
    assert "those of up to half are taken: bird, fruit" in capsys.readouterr().err


def test_refusals_of_steering_say_what_to_do(toy, capsys):
    def refused(*given):
        with pytest.raises(SystemExit) as end:
            erasure.main(["--run", str(toy.path), "--hypernym", "bird", *given])
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    directions = toy.path / "analyses" / "layer_probes" / "directions.h5"
    assert "`python -m analyses.layer_probes --run" in refused("--steer")
    assert "no projector of step 5; it was saved at 0, 12" in refused("--step", "5")
    assert "at least one that is not 0" in refused("--steer", "--dose", "0")
    assert "--hypernym bird was asked for twice" in refused("--hypernym", "bird")
    assert "--layer 1 was asked for twice" in refused("--layer", "1", "--layer", "1")
    assert "--dose 2.0 was asked for twice" in refused("--steer", "--dose", "2", "2")
    assert "0 draws of each control" in refused("--controls", "0")
    assert "every step has rank 1" in refused("--steer", "--match", "rank")
    directions.parent.mkdir(parents=True)
    with h5py.File(directions, "w") as file:
        file.attrs["targets"] = ["bird"]
        file["image/12/slot/blocks.1.hook_resid_post"] = np.ones((1, 32))
    asking = ("--steer", "--direction", "probe", "--layer", "1")
    assert "probe that step, span and site" in refused(*asking, "--span", "cue")
    assert "has no direction of 'fruit'; it has bird" in refused(
        *asking, "--hypernym", "fruit", "--span", "slot"
    )
    directions.unlink()
