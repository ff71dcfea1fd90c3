"""Erasure and steering: the planted direction is found and nothing else; tables, toy run, refusals."""

import numpy as np
import pandas as pd
import planted as circuit
import pytest

from analyses import erasure
from analyses.erasure import figures
from analyses.erasure.parts import Place, Steering, World, choose_hypernyms, choose_leaves, erase, steer
from analyses.erasure.rows import erasure_table, steering_table
from analyses.inputs.subject import open_at
from probing.stats import draw_weights
from taxogen.runs.run import Run
from taxogen.stages.pipeline import train_run
from tests.analyses import planted_questions as planted
from tests.world import toy_config, write_world

BEHIND, BEFORE = Place(circuit.LAYER, "last"), Place(circuit.LAYER - 1, "last")


@pytest.fixture(scope="module")
def world():
    model = circuit.planted()
    layers, spans = (BEFORE.layer, BEHIND.layer), ("last",)
    return World(
        {task: planted.asked(model, task) for task in ("hypernym", "leaf")},
        {task: planted.states(model, task, layers, spans) for task in ("hypernym", "leaf")},
        planted.TAXONOMY,
        ("bird", "tool"),
        planted.FOLD,
        0.1,
        0,
    )


def means(table, measure):
    found = table[(table["target"] == "mean") & (table["measure"] == measure)]
    return found.set_index("edit")["value"]


def test_behind_the_planted_layer_erasure_takes_the_hypernym_of_held_out_leaves_and_nothing_else(world):
    table = erasure_table(erase(world, BEHIND), draw_weights(16, 200), 0)
    gap = means(table, "gap")
    assert gap["none"] > 4
    assert abs(gap["erased"]) < 0.1 * gap["none"]
    assert gap["random"] > 0.7 * gap["none"]
    assert means(table, "auroc")["none"] == 1
    assert means(table, "other_off_change")["erased"] > -0.15 * gap["none"]
    for measure in ("leaf_off_change", "leaf_under_change"):
        assert abs(means(table, measure)["erased"]) < 0.05 * gap["none"]
    band = table[table["measure"] == "gap_loss_lower_band"]["value"]
    assert (band > 0).all()


def test_before_the_hypernym_is_written_there_is_nothing_to_erase(world):
    table = erasure_table(erase(world, BEFORE), draw_weights(16, 200), 0)
    gap = means(table, "gap")
    for edit in ("erased", "random", "shuffled"):
        assert gap[edit] == pytest.approx(gap["none"], rel=1e-3)


def test_steering_raises_the_hypernym_with_the_dose_along_its_direction_and_not_along_others(world):
    parts = steer(world, BEHIND, Steering((-2.0, 2.0, 4.0)))
    assert not parts["member"].any()
    table = steering_table(parts, draw_weights(16, 200), 0)
    rise = table[(table["target"] == "mean") & (table["measure"] == "target_change")]
    rise = rise.pivot(index="dose", columns="edit", values="value")
    assert rise.loc[4.0, "mass_mean"] > rise.loc[2.0, "mass_mean"] > 1
    assert rise.loc[-2.0, "mass_mean"] < 0
    assert rise.loc[4.0, "mass_mean"] > 3 * abs(rise.loc[4.0, "random"])
    named = table[(table["target"] == "mean") & (table["measure"] == "leaf_margin_change")]
    assert named.loc[named["edit"] == "mass_mean", "value"].abs().max() < 0.5 * rise.loc[4.0, "mass_mean"]


def made_parts(drop, n=40, seed=0):
    """Parts in which erasure lowers the read-out of pictures under the hypernym by `drop` nats, at two layers."""
    rng = np.random.default_rng(seed)
    member, own = np.arange(n) < n // 2, rng.standard_normal(n)
    parts = []
    for layer in (3, 5):
        for edit in ("none", "erased", "random", "shuffled"):
            lost = drop * member * (edit == "erased")
            noise = 0.2 * rng.standard_normal((2, n)) * (edit != "none")
            parts.append(
                pd.DataFrame({"leaf": [f"leaf {k:02d}" for k in range(n)], "member": member, "edit": edit,
                              "target": 3.0 * member + own - lost + noise[0], "other": own + noise[1],
                              "hypernym": "bird", "layer": layer, "span": "slot"})
            )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_a_planted_loss_is_recovered_with_its_interval_and_a_planted_nothing_is_not_found():
    weights = draw_weights(40, 500)
    lost, nothing = (erasure_table(made_parts(drop), weights, 0) for drop in (2.0, 0.0))
    beyond = lost[(lost["measure"] == "gap_change") & (lost["edit"] == "erased − controls")]
    # Noise of 0.2 in each of 20 + 20 pictures, under the edit and half as strong in the mean of two controls.
    error = 0.2 * (2 / 20 * 1.5) ** 0.5
    np.testing.assert_allclose(beyond["value"], -2.0, atol=4 * error)
    np.testing.assert_allclose(beyond["upper"] - beyond["lower"], 2 * 1.96 * error, rtol=0.4)
    assert (beyond["upper"] < -1.5).all()
    assert (beyond["n"] == 40).all()
    assert (lost.loc[lost["measure"] == "gap_loss_lower_band", "value"] > 1.5).all()
    assert (nothing.loc[nothing["measure"] == "gap_loss_lower_band", "value"] < 0).all()
    assert not lost["measure"].str.startswith("leaf").any()
    assert set(figures.draw_erasure(lost)) == {"layers", "hypernyms"}


def test_default_hypernyms_are_large_and_share_no_leaf_and_draws_are_nested():
    taxonomy = planted.TAXONOMY
    assert choose_hypernyms(taxonomy, 2, share=0.25) == ("bird", "fish")
    assert choose_hypernyms(taxonomy, 2, share=0.2) == ()
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
    asked = ["--run", str(toy.path), "--hypernym", "bird", "--draws", "50"]
    erasure.main(asked)
    folder = toy.path / "analyses" / "erasure"
    table = pd.read_parquet(folder / "erasure.parquet")
    assert set(table["span"]) == {"slot", "cue"}
    assert set(table["run"]) == {"run"}
    parts = {path: path.stat().st_mtime_ns for path in folder.glob("parts/*/*.parquet")}
    erasure.main([*asked, "--layer", "0", "--layer", "1"])
    assert (
        parts.items() <= {path: path.stat().st_mtime_ns for path in folder.glob("parts/*/*.parquet")}.items()
    )
    again = pd.read_parquet(folder / "erasure.parquet")
    both = table.merge(again, on=["site", "span", "target", "measure", "edit"], suffixes=("", "_again"))
    kept = ~both["measure"].str.endswith("_band")  # a band is over all asked layers
    np.testing.assert_array_equal(both["value"][kept], both["value_again"][kept])
    erasure.main([*asked, "--steer", "--direction", "mass_mean", "--span", "cue", "--dose", "2"])
    assert (folder / "steering.parquet").is_file()
    assert (folder / "dose_response.svg").is_file()
    assert "beyond controls" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (erasure.Options(spans=("middle",)), "known: slot, cue, last"),
        (erasure.Options(layers=(7,)), "layers 0 to 1"),
        (erasure.Options(hypernyms=("tree",)), "bird, fruit, vegetable"),
    ],
)
def test_what_is_not_there_is_refused(toy, options, message):
    bench, step = open_at(toy)
    with pytest.raises(KeyError, match=message):
        erasure.compute(bench, step, options)


def test_directions_of_probes_name_the_command_that_makes_them(toy):
    bench, step = open_at(toy)
    with pytest.raises(FileNotFoundError, match=r"python -m analyses\.layer_probes --run"):
        erasure.compute_steering(bench, step, erasure.Options(hypernyms=("bird",)))
    with pytest.raises(FileNotFoundError, match="no projector of step 5; it was saved at 0, 12"):
        open_at(toy, 5)
