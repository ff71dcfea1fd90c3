"""Erasure and steering: the planted direction is found and nothing else; controls, leaks, toy run, refusals."""

import re
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import planted as circuit
import pytest

from analyses import erasure
from analyses.erasure import steering
from analyses.erasure.edits import EditInputs, SpanAtLayer, choose_hypernyms, choose_leaves, clean_states
from analyses.erasure.erasing import erase, erased_states
from analyses.erasure.figures import DIRECTIONS, EDITS, PANELS, STEERED
from analyses.erasure.rows import BEYOND, erasure_table, steering_table, summary
from analyses.erasure.steering import Steering, steer, steps
from analyses.frame import drawing
from analyses.inputs.span_states import SpanStates
from probing.stats import draw_weights
from taxogen.runs.run import Run
from taxogen.stages.pipeline import train_run
from tests.analyses import drawn
from tests.analyses import planted_questions as planted
from tests.world import toy_config, write_world

BEHIND, BEFORE = SpanAtLayer(circuit.LAYER, "last"), SpanAtLayer(circuit.LAYER - 1, "last")


@pytest.fixture(scope="module")
def inputs():
    model = circuit.planted()
    layers, spans = (BEFORE.layer, BEHIND.layer), ("last",)
    return EditInputs(
        {task: planted.question(model, task) for task in ("hypernym", "leaf")},
        {task: planted.states(model, task, layers, spans) for task in ("hypernym", "leaf")},
        planted.TAXONOMY,
        ("bird", "tool"),
        planted.FOLD,
        0.1,
        0,
    )


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
    band = table[table["measure"] == "gap_loss_lower_band"]["value"]
    assert (band > 0).all()


def test_before_the_hypernym_is_written_there_is_nothing_to_erase(inputs):
    table = erasure_table(erase(inputs, BEFORE), draw_weights(16, 200), 0)
    gap = means(table, "gap")
    for edit in ("erased", "random", "shuffled"):
        assert gap[edit] == pytest.approx(gap["none"], rel=1e-3)


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


def planted_parts(drop, n=40, seed=0):
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
    lost, nothing = (erasure_table(planted_parts(drop), weights, 0) for drop in (2.0, 0.0))
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
    assert set(erasure.draw(lost)) == {"layers", "hypernyms"}


LEAVES = ("crow", "duck", "eel", "pike", "trout")
MEMBER = np.array([True, True, False, False, False])
TARGET = {
    "none": np.array([4.0, 3.0, 0.0, -1.0, 1.0]),
    "erased": np.array([0.0, 1.0, 0.5, -1.0, 0.0]),
    "random": np.array([3.0, 2.0, 0.0, -1.0, 1.0]),
    "shuffled": np.array([3.5, 3.0, 1.0, -1.0, 1.5]),
}


def hand_made_parts():
    return pd.concat(
        [
            pd.DataFrame({"leaf": LEAVES, "member": MEMBER, "target": target, "other": 2 * target})
            .assign(edit=edit, hypernym="bird", layer=3, span="slot")
            for edit, target in TARGET.items()
        ],
        ignore_index=True,
    )  # fmt: skip


def test_what_is_lost_beyond_controls_that_are_not_null_by_its_numbers():
    weights = draw_weights(5, 400)
    weights = weights[(weights[:, MEMBER].sum(1) > 0) & (weights[:, ~MEMBER].sum(1) > 0)]
    rows = erasure_table(hand_made_parts(), weights, 0)
    bird = rows[rows["target"] == "bird"].set_index(["measure", "edit"])

    def gap(values, w):
        under, off = (w[:, side] @ values[side] / w[:, side].sum(1) for side in (MEMBER, ~MEMBER))
        return under - off

    once = np.ones((1, 5))
    changes = {edit: TARGET[edit] - TARGET["none"] for edit in ("erased", "random", "shuffled")}
    beyond = changes["erased"] - (changes["random"] + changes["shuffled"]) / 2
    for edit, values in {**changes, BEYOND: beyond}.items():
        one = bird.loc[("gap_change", edit)]
        assert one["value"] == pytest.approx(gap(values, once)[0])
        limits = np.quantile(gap(values, weights), [0.025, 0.975])
        np.testing.assert_allclose([one["lower"], one["upper"]], limits)
        assert one["n"] == 5
    assert bird.loc[("gap_change", BEYOND), "value"] == pytest.approx(-2 + 1 / 24)
    assert bird.loc[("gap_change", "random"), "value"] == pytest.approx(-1)
    assert bird.loc[("gap_change", "shuffled"), "value"] == pytest.approx(-0.75)
    assert bird.loc[("other_off_change", BEYOND), "value"] == pytest.approx(2 * (beyond[~MEMBER].mean()))
    loss, draws = -gap(beyond, once)[0], -gap(beyond, weights)
    band = rows[rows["measure"] == "gap_loss_lower_band"]
    expected = loss - np.quantile(draws - loss, 0.95, method="inverted_cdf")
    np.testing.assert_allclose(band["value"], [expected])
    assert set(band["edit"]) == {BEYOND}


def test_changes_under_steering_are_those_of_pictures_off_the_hypernym_by_their_numbers():
    clean = pd.DataFrame({"leaf": LEAVES[2:], "target": [1.0, 2.0, 3.0], "other": [0.0, 1.0, 2.0]})
    clean = clean.assign(edit="none", dose=0.0)
    parts = [clean] + [
        clean.assign(
            edit=edit, dose=dose, target=clean["target"] + times * dose, other=clean["other"] - times
        )
        for edit, times in (("mass_mean", np.array([1.0, 2.0, 6.0])), ("random", np.array([1.0, 0.5, 0.0])))
        for dose in (-2.0, 4.0)
    ]
    weights = draw_weights(3, 200)
    parts = pd.concat(parts, ignore_index=True).assign(hypernym="bird", layer=3, span="slot")
    rows = steering_table(parts, weights, 0).set_index(["target", "measure", "edit", "dose"])
    assert rows.loc[("bird", "target_change", "mass_mean", 4.0), "value"] == pytest.approx(12)
    assert rows.loc[("bird", "target_change", "random", -2.0), "value"] == pytest.approx(-1)
    assert rows.loc[("mean", "other_change", "mass_mean", 4.0), "value"] == pytest.approx(-3)
    one = rows.loc[("bird", "target_change", "mass_mean", 4.0)]
    np.testing.assert_allclose(
        [one["lower"], one["upper"]], np.quantile(weights @ [4.0, 8.0, 24.0] / 3, [0.025, 0.975])
    )


@pytest.fixture
def steered(inputs, monkeypatch):
    """The states that `steer` puts into a place for a steering, one list a hypernym and task."""

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
        [(kind, dose) for kind in ("probe", "mass_mean", "random", "shuffled") for dose in way.doses],
    )
    assert len(put) == 1 + len(edits)
    states = inputs.states["hypernym"]
    for at in range(len(inputs.questions["hypernym"])):
        fitted_on = states.fold != inputs.fold[at]
        rows = states.values[BEHIND.layer, "last"][fitted_on, 0].astype(float)
        rows = rows - rows.mean(0)
        member = np.isin(states.leaves[fitted_on], circuit.TAXONOMY["bird"])
        mass_mean = rows[member].mean(0) - rows[~member].mean(0)
        first = None
        for (kind, dose), value in zip(edits, put[1:]):
            step = (value - clean)[at, 0]
            if kind in ("probe", "mass_mean"):
                unit = {"probe": probe["bird"], "mass_mean": mass_mean}[kind]
                unit = unit / np.linalg.norm(unit)
                np.testing.assert_allclose(step, dose * (rows @ unit).std() * unit, atol=1e-6)
                first = first or np.linalg.norm(step) / abs(dose)
            assert kind == "mass_mean" or np.linalg.norm(step) == pytest.approx(abs(dose) * first)


def test_any_direction_can_be_the_only_one(inputs):
    given = {"bird": np.ones(circuit.WIDTH)}
    way = Steering((2.0,), ("text",), {("text", BEHIND.layer, "last"): given})
    parts = steer(replace(inputs, hypernyms=("bird",)), SpanAtLayer(BEHIND.layer, "last"), way)
    assert set(parts["edit"]) == {"none", "text", "random", "shuffled"}


def spoilt(inputs, fold, seed=0):
    """The same inputs, with garbage in all states of the leaves of a fold, that nothing for them may be fitted on."""
    rng = np.random.default_rng(seed)

    def garbage(states):
        held_out = (states.fold == fold)[:, None, None]
        values = {
            place: np.where(held_out, 50 * rng.standard_normal(value.shape), value)
            for place, value in states.values.items()
        }
        return SpanStates(values, states.leaves, states.fold)

    return replace(inputs, states={task: garbage(states) for task, states in inputs.states.items()})


def test_erasers_of_a_fold_do_not_see_its_leaves(inputs):
    clean = list(erased_states(inputs, "hypernym", BEHIND))
    after = list(erased_states(spoilt(inputs, fold=1), "hypernym", BEHIND))
    assert len(clean) == len(after) == 1 + 2 * 3
    np.testing.assert_array_equal(after[0], clean[0])
    for before, value in zip(clean[1:], after[1:]):
        np.testing.assert_array_equal(value[inputs.fold == 1], before[inputs.fold == 1])
        assert np.abs(value - before)[inputs.fold == 0].max() > 1e-3


def test_directions_and_doses_of_a_fold_do_not_see_its_leaves(inputs, steered):
    given = {
        ("probe", BEHIND.layer, "last"): dict.fromkeys(("bird", "tool"), np.arange(1.0, circuit.WIDTH + 1))
    }
    way = Steering((2.0,), ("mass_mean", "probe"), given)
    before, after = (steps(one, "hypernym", BEHIND, "bird", way) for one in (inputs, spoilt(inputs, fold=1)))
    assert set(before) == {"mass_mean", "probe", "random", "shuffled"}
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


@pytest.fixture(scope="module")
def tables():
    """An erasure table of two spans and three hypernyms, a steering table of two places; numbers of their own."""
    parts = planted_parts(2.0).assign(leaf_margin=1.0)
    spans = [
        parts.assign(span=span, hypernym=name)
        for span in ("slot", "cue")
        for name in ("bird", "tool", "fish")
    ]
    weights = draw_weights(40, 20)
    erased = drawn.distinct(
        erasure_table(pd.concat(spans, ignore_index=True), weights, 0).assign(run="planted")
    )
    steered = [
        parts[(parts["edit"] == "none") & (parts["layer"] == 3) & ~parts["member"]].assign(
            edit=edit, dose=dose, layer=layer, span=span, hypernym=name
        )
        for span, layer in (("slot", 3), ("cue", 5))
        for name in ("bird", "tool")
        for edit, dose in [("none", 0.0), *((kind, dose) for kind in DIRECTIONS for dose in (-2.0, 2.0, 4.0))]
    ]
    pushed = steering_table(pd.concat(steered, ignore_index=True), draw_weights(20, 20), 0)
    shift = {"value": -0.5, "lower": -0.5, "upper": -0.5}  # some are below 0, some above
    return [
        one.assign(**{name: one[name] + by for name, by in shift.items()})
        for one in (erased, drawn.distinct(pushed.assign(run="planted")))
    ]


def test_the_figures_of_erasure_show_the_rows_of_their_span_measure_and_edit(tables, tmp_path):
    table = tables[0]
    figures = erasure.draw(drawn.reread(table, tmp_path))
    assert set(figures) == {"layers", "hypernyms"}
    colours, mean = drawing.colours(list(EDITS)), table[table["target"] == "mean"]
    panels = iter(drawn.panels(figures["layers"]))
    for span in ("slot", "cue"):
        for measure, label in PANELS.items():
            axes, rows = next(panels), mean[(mean["span"] == span) & (mean["measure"] == measure)]
            drawn.assert_dotted(axes, rows[rows["edit"] == "none"], colours["none"])
            for edit in ("erased", "random", "shuffled"):
                drawn.assert_curve(axes, rows[rows["edit"] == edit], colours[edit])
            assert drawn.lines_drawn(axes) == 4
            assert axes.get_ylabel() == label
            assert axes.get_title() == (span if measure == "gap" else "")
    assert drawn.legend(figures["layers"]) == {EDITS[edit]: colours[edit].lower() for edit in EDITS}
    assert "mean over bird, fish, tool" in " ".join(figures["layers"].texts[-1].get_text().split())
    change = table[(table["measure"] == "gap_change") & (table["edit"] == BEYOND)]
    order, (left, right) = ["mean", "tool", "fish", "bird"], drawn.panels(figures["hypernyms"])
    for span, axes in (("slot", left), ("cue", right)):
        rows = change[change["span"] == span].pivot(index="target", columns="layer").loc[order]
        np.testing.assert_allclose(drawn.cells(axes), rows["value"])
        np.testing.assert_array_equal(drawn.marks(axes), (rows["lower"] > 0) | (rows["upper"] < 0))
        assert axes.get_title() == span
    assert list(drawn.ticks(left, "y").values()) == order


def test_the_figure_of_steering_shows_the_rows_of_its_place_measure_and_direction(tables, tmp_path):
    table = tables[1]
    figures = erasure.draw(drawn.reread(table, tmp_path))
    assert set(figures) == {"dose_response"}
    colours, mean = drawing.colours(list(DIRECTIONS)), table[table["target"] == "mean"]
    panels = iter(drawn.panels(figures["dose_response"]))
    for span, layer in (("slot", 3), ("cue", 5)):
        for measure, label in STEERED.items():
            axes = next(panels)
            rows = mean[(mean["span"] == span) & (mean["layer"] == layer) & (mean["measure"] == measure)]
            for kind in DIRECTIONS:
                of_kind = rows[rows["edit"] == kind].assign(layer=lambda rows: rows["dose"])
                origin = of_kind.iloc[[0]].assign(layer=0.0, value=0.0, lower=0.0, upper=0.0)
                drawn.assert_curve(axes, pd.concat([of_kind, origin]), colours[kind])
            assert axes.get_ylabel() == f"{label}\n(change, nats)"
            assert axes.get_title() == (f"{span}, behind layer {layer}" if measure == "target_change" else "")
    legend = drawn.legend(figures["dose_response"])
    assert legend == {label: colours[kind].lower() for kind, label in DIRECTIONS.items()}
    assert "n = 20 leaves off the hypernym" in figures["dose_response"].texts[-1].get_text()


def interval(row):
    return f"{row['value']:+.2f} [{row['lower']:+.2f}, {row['upper']:+.2f}]"


def test_the_summary_of_erasure_names_the_layer_of_the_largest_loss_and_its_numbers(tables):
    table = tables[0]
    lines = summary(table).splitlines()
    assert lines[0] == "Erasing a hypernym, planted (nats, mean over hypernyms):"
    mean = table[table["target"] == "mean"].set_index(["span", "measure", "edit"])
    for at, span in enumerate(("slot", "cue")):
        beyond = mean.loc[(span, "gap_change", BEYOND)].set_index("layer")
        layer = beyond["value"].idxmin()
        there = mean[mean["layer"] == layer].loc[span]
        bands = mean.loc[(span, "gap_loss_lower_band", BEYOND), "value"]
        assert lines[1 + 3 * at : 4 + 3 * at] == [
            f"  {span:5} most behind layer {layer:.0f}: gap {interval(there.loc[('gap', 'none')])} to "
            f"{interval(there.loc[('gap', 'erased')])}; beyond controls {interval(beyond.loc[layer])}, n = 40; "
            f"beyond them at {(bands > 0).sum()} of 2 layers (corrected)",
            f"        other hypernyms there: {interval(there.loc[('other_off_change', 'erased')])}",
            f"        name of the leaf there: {interval(there.loc[('leaf_under_change', 'erased')])}",
        ]
    assert len(lines) == 7


def test_the_summary_of_steering_has_each_direction_at_the_largest_dose(tables):
    table = tables[1]
    lines = summary(table).splitlines()
    assert lines[0].startswith("Steering towards a hypernym, planted")
    rows = table[(table["target"] == "mean") & (table["measure"] == "target_change") & (table["dose"] == 4)]
    for line, (span, layer) in zip(lines[1:], (("slot", 3), ("cue", 5)), strict=True):
        assert line.startswith(f"  {span:5} behind layer {layer}, 4 sd: ")
        at = rows[(rows["span"] == span) & (rows["layer"] == layer)].set_index("edit")
        assert dict(re.findall(r"(\w+) ([+-]\S+ \[\S+ \S+\])", line)) == {
            kind: interval(at.loc[kind]) for kind in DIRECTIONS
        }
        assert line.endswith("n = 20")


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
    same = ~both["measure"].str.endswith("_band")  # a band is over all asked layers
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


def test_a_layer_that_the_model_does_not_have_and_a_taxonomy_of_large_hypernyms_are_refused(toy):
    with pytest.raises(KeyError, match="layers 0 to 1"):
        erasure.compute([toy], erasure.Options(layers=(7,), hypernyms=("bird",)))
    with pytest.raises(ValueError, match="name one or more with --hypernym: bird, fruit"):
        erasure.compute([toy], erasure.Options())


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
