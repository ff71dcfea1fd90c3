"""Emergence: means over seeds and their limits; figures and best layers are those of the table; refusals."""

import itertools
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from analyses import emergence
from analyses.emergence.rows import QUESTIONS, over_seeds
from analyses.emergence.seeds import seed_rows
from analyses.frame import drawing
from analyses.frame.section import Grid, Shown
from analyses.frame.tables import NO_STEP, layer_of
from analyses.inputs.probe_curves import Draws, read_draws, write_draws
from analyses.layer_probes.layers import LayerProbes
from analyses.layer_probes.table import Condition
from probing.probes.evaluate import Series
from probing.stats import OUT_OF_FOLD
from probing.store import MismatchError
from taxogen.runs.config import Config
from taxogen.runs.run import Run
from tests.analyses import drawn

STREAM = ("hook_embed", *(f"blocks.{layer}.hook_resid_post" for layer in range(3)))
SPANS = {"slot": "at the picture's slot", "cue": "at the cue “is a kind of”", "last": "at the last token"}
RUNS = {  # run → condition, steps
    "a-0": ("pretrained", (10, 0)),
    "a-1": ("pretrained", (10, 0)),
    "mean": ("pretrained", (10, 0)),
    "b-0": ("random_init", (0, 5, 20)),
    "c-0": ("pretrained · hidden 8", (0, 10)),
}
LAST = {"pretrained": 10, "random_init": 20, "pretrained · hidden 8": 10}


def planned():
    """A row for everything that the table has, without its number."""
    rows = []
    for (run, (condition, steps)), span, modality in itertools.product(
        RUNS.items(), SPANS, (*QUESTIONS, "image→text")
    ):
        for step in (NO_STEP,) if modality == "text" else steps:
            for probe in ("ridge", "ridge, centred") if "→" in modality else ("ridge",):
                labels = {
                    "run": run,
                    "condition": condition,
                    "span": span,
                    "modality": modality,
                    "step": step,
                }
                sites = (*STREAM, "ln_final.hook_normalized")
                sites += ("encoder",) if (span, modality) == ("slot", "image") else ()
                rows += [
                    labels | {"probe": probe, "site": site, "measure": measure}
                    for site in sites
                    for measure in ("auroc", "control_auroc", "macro_f1")
                ]
                rows += [
                    labels | {"probe": probe, "site": "", "measure": one} for one in ("onset", "half_rise")
                ]
    return [row | {"seeds": 2 if row["run"] == "mean" else 1} for row in rows]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Four runs of three conditions with other last steps, and a mean of two; no number twice, read from disk."""
    frame = pd.DataFrame(planned()).assign(analysis="layer_probes", target="mean", split="leaf", n=29, seed=0)
    frame["layer"] = [layer_of(site, -2.0) if site else np.nan for site in frame["site"]]
    frame = drawn.distinct(frame)
    onset = frame["measure"].isin(["onset", "half_rise"])
    places = np.arange(onset.sum()) % 3
    frame.loc[onset, ["value", "lower", "upper"]] = np.column_stack([places, places - 1, places * 2.0])
    frame.loc[frame.index[onset & (frame["seeds"] == 2)][0], "upper"] = np.inf  # in the last step of its run
    return drawn.reread(frame, tmp_path_factory.mktemp("emergence"))


@pytest.fixture(scope="module")
def figures(table):
    return emergence.draw(table)


def curve(table, condition, span, modality, measure, step=None):
    """One row for each layer: of the mean over seeds, or of the only run of a condition."""
    step = (NO_STEP if modality == "text" else LAST[condition]) if step is None else step
    labels = {"condition": condition, "span": span, "modality": modality, "measure": measure, "step": step}
    rows = table[(table["probe"] == "ridge") & (table["seeds"] == (2 if condition == "pretrained" else 1))]
    for name, value in labels.items():
        rows = rows[rows[name] == value]
    rows = rows if measure in ("onset", "half_rise") else rows[rows["layer"].notna()]
    return rows.sort_values(["layer", "site"])[["layer", "site", "value", "lower", "upper"]]


def test_curves_of_each_condition_with_band_and_control_at_its_last_step(table, figures):
    figure = figures["emergence"]
    grid = np.array(drawn.panels(figure)).reshape(len(QUESTIONS), len(SPANS))
    named = drawn.legend(figure)
    assert [axes.get_title() for axes in grid[0]] == list(SPANS.values())
    assert [axes.get_ylabel() for axes in grid[:, 0]] == [f"{one}\nmean AUROC" for one in QUESTIONS.values()]
    assert list(named) == ["pretrained", "random init", "pretrained hidden 8"]
    assert len(set(named.values())) == 3
    colours = dict(zip(LAST, named.values(), strict=True))
    for name in ("pretrained", "random_init"):
        assert colours[name] == drawing.colour(name).lower()
    for (row, modality), (column, span) in itertools.product(enumerate(QUESTIONS), enumerate(SPANS)):
        axes = grid[row, column]
        for condition, colour in colours.items():
            drawn.assert_curve(axes, curve(table, condition, span, modality, "auroc"), colour)
            drawn.assert_dotted(axes, curve(table, condition, span, modality, "control_auroc"), colour)
        assert drawn.lines_drawn(axes) == 6
    text = figure.texts[-1].get_text().replace("\n", " ")
    assert (
        "band: 95 % over leaf concepts and 2 seeds (of a condition with one seed, differences between" in text
    )
    alone = emergence.draw(table[table["condition"] == "random_init"])["emergence"]
    caption = alone.texts[-1].get_text().replace("\n", " ")
    assert "95 % over leaf concepts; differences between seeds not included; fine dashes" in caption


def test_conditions_without_a_colour_of_their_own_do_not_share_one(table):
    names = [f"pretrained · leaves {count}" for count in range(8)]
    rows = table[(table["run"] == "a-0") & (table["span"] == "cue")]
    many = pd.concat([rows.assign(condition=name, run=name) for name in names])
    assert len(set(drawn.legend(emergence.draw(many)["emergence"]).values())) == len(names)


def test_the_heat_maps_over_training_show_each_condition_on_common_steps(table, figures):
    grid = np.array(drawn.panels(figures["training"])).reshape(2, len(LAST))
    steps, layers = [0, 5, 10, 20], [-1, 0, 1, 2]
    assert [axes.get_title() for axes in grid[0]] == list(LAST)
    for (row, modality), (column, condition) in itertools.product(
        enumerate(("image", "text→image")), enumerate(LAST)
    ):
        expected = pd.DataFrame(np.nan, layers, steps)
        for step in steps:
            rows = curve(table, condition, "cue", modality, "auroc", step)
            expected.loc[rows["layer"].astype(int), step] = rows["value"].to_numpy()
        np.testing.assert_allclose(drawn.cells(grid[row, column]), expected)
    assert drawn.ticks(grid[1, 0], "x") == dict(enumerate(map(str, steps)))
    assert drawn.ticks(grid[0, 0], "y") == dict(enumerate(["−1", "0", "1", "2"]))
    assert [axes.get_ylabel() for axes in grid[:, 0]] == [
        f"{QUESTIONS[modality]}\nblock" for modality in ("image", "text→image")
    ]


def test_there_is_no_heat_map_of_one_step_or_without_the_cue(table):
    assert set(emergence.draw(table[table["step"].isin([NO_STEP, 10])])) == {"emergence"}
    assert set(emergence.draw(table[table["span"] == "last"])) == {"emergence"}


def test_places_without_a_name_of_their_own_are_drawn(table):
    figure = emergence.draw(table.replace({"span": {"slot": "image"}}))["emergence"]
    assert [axes.get_title() for axes in drawn.panels(figure)[:3]] == ["image", *list(SPANS.values())[1:]]


def expected_lines(table):
    """Condition, span, modality, best row, its control, and places of the onset and half-rise of each curve."""
    for condition, span, modality in itertools.product(LAST, SPANS, QUESTIONS):
        scores = curve(table, condition, span, modality, "auroc")
        best = scores.loc[scores["value"].idxmax()]
        control = curve(table, condition, span, modality, "control_auroc").set_index("site")["value"][
            best["site"]
        ]
        places = [
            curve(table, condition, span, modality, measure)[["value", "lower", "upper"]].iloc[0]
            for measure in ("onset", "half_rise")
        ]
        yield (condition, span, modality), best, control, places


def test_best_layers_are_those_of_the_table(table):
    best = emergence.best_layers(table).set_index(["condition", "span", "question"])
    lines = list(expected_lines(table))
    assert len(best) == len(lines) == 27
    for (condition, span, modality), row, control, places in lines:
        line = best.loc[condition, span, QUESTIONS[modality]]
        assert line["block"] == row["layer"]
        assert tuple(line[["auroc", "lower", "upper"]]) == tuple(row[["value", "lower", "upper"]])
        assert line["control"] == control
        for name, place in zip(("detected", "half_rise"), places, strict=True):
            assert tuple(line[[name, f"{name}_lower", f"{name}_upper"]]) == tuple(place)
        assert line["n"] == 29


def test_the_summary_and_the_section_say_what_best_layers_are(table):
    best = emergence.best_layers(table)
    head, *lines = emergence.summary(table).splitlines()
    assert head.startswith("Best block of each curve, mean AUROC (chance .5)")
    shown, grid, training = emergence.section(table)
    assert isinstance(grid, Grid)
    assert (shown, training) == (Shown("emergence", shown.caption), Shown("training", training.caption))
    assert len(grid.rows) == len(best)
    assert [re.split("  +", line) for line in lines] == [list(cells) for cells in (grid.header, *grid.rows)]
    names = {-2: "encoder", -1: "input"}
    for cells, line in zip(grid.rows, best.to_dict("records"), strict=True):
        blocks = [
            "never"
            if np.isinf(line[name + part])
            else names.get(line[name + part], f"{line[name + part]:.0f}")
            for name in ("detected", "half_rise")
            for part in ("", "_lower", "_upper")
        ]
        assert list(cells) == [
            line["condition"], line["span"], line["question"], names.get(line["block"], str(line["block"])),
            f"{line['auroc']:.2f} [{line['lower']:.2f}, {line['upper']:.2f}]",
            f"{line['control']:.2f}",
            f"{blocks[0]} [{blocks[1]}, {blocks[2]}]", f"{blocks[3]} [{blocks[4]}, {blocks[5]}]",
        ]  # fmt: skip
    assert any("never" in cells[-2] for cells in grid.rows)
    assert len(emergence.section(table[table["step"].isin([NO_STEP, 10])])) == 2


def test_an_onset_that_is_not_there_is_none(table):
    bare = table.assign(value=table["value"].mask(table["measure"] == "onset"))
    (_, grid, _) = emergence.section(bare)
    assert {cells[-2].partition(" ")[0] for cells in grid.rows} == {"none"}


LEAVES = tuple(f"leaf {number}" for number in range(40))
CURVE = Condition(10, "cue", "image", "ridge")
LEVEL = np.array([-0.2, -0.2, 0.3, 0.4])


def curve_draws(level, error=0.02, leaves=LEAVES, condition=CURVE, seed=0):
    """Draws of one curve along the stream whose errors are the same in every run that has the seed."""
    noise = np.random.default_rng(seed).normal(size=(2000, 1))
    noise *= error / noise.std(ddof=1)
    series = Series(0.5 + level, 0.5 + level + noise, level, level + noise, np.empty((0, 4)))
    return Draws(leaves, {condition: (STREAM, series)})


def rows_of(draws):
    return seed_rows({"pretrained": draws}).set_index(["measure", "site"])[["value", "lower", "upper"]]


def test_limits_of_a_mean_over_seeds_add_the_variance_between_them():
    alike, unlike = ([curve_draws(LEVEL + by) for by in shifts] for shifts in ((0, 0, 0), (-0.1, 0, 0.1)))
    rows, apart = rows_of(alike), rows_of(unlike)
    np.testing.assert_allclose(rows["value"], apart["value"])
    top = ("auroc", STREAM[-1])
    # Errors over leaves are shared, so that a mean over seeds has them whole.
    leaves, between = (0.02 * OUT_OF_FOLD) ** 2, 0.1**2 / 3
    assert rows.loc[top, "upper"] - 0.9 == pytest.approx(student.ppf(0.975, 39) * leaves**0.5)
    half = (student.ppf(0.975, 39) ** 2 * leaves + student.ppf(0.975, 2) ** 2 * between) ** 0.5
    assert apart.loc[top, "upper"] - 0.9 == pytest.approx(half)
    assert 0.9 - apart.loc[top, "lower"] == pytest.approx(half)
    np.testing.assert_allclose(
        rows.xs("auroc")["value"] - rows.xs("control_auroc")["value"], rows.xs("selectivity")["value"]
    )


def test_places_along_the_layers_are_those_of_the_mean_curve():
    alike = rows_of([curve_draws(LEVEL)] * 3)
    assert list(alike.loc["onset", ""]) == [1, 1, 1]
    assert list(alike.loc["half_rise", ""]) == [1, 1, 1]
    # One of three seeds never rises: nothing is detected in their mean.
    unlike = rows_of([curve_draws(LEVEL), curve_draws(LEVEL), curve_draws(0 * LEVEL - 0.3)])
    assert np.isnan(unlike.loc[("onset", ""), "value"])
    assert unlike.loc[("half_rise", ""), "value"] == 1


def test_errors_over_different_leaves_are_taken_to_be_the_same():
    others = tuple(f"other {number}" for number in range(40))
    apart = [curve_draws(LEVEL), curve_draws(LEVEL, 0.06, others, seed=1)]
    upper = rows_of(apart).loc[("auroc", STREAM[-1]), "upper"]
    assert upper - 0.9 == pytest.approx(OUT_OF_FOLD * 0.04 * student.ppf(0.975, 39))


def test_rows_of_a_mean_need_a_curve_that_all_seeds_have():
    other = curve_draws(LEVEL, condition=CURVE._replace(step=20))
    with pytest.raises(MismatchError, match="the seeds of pretrained were probed at no common step and span"):
        seed_rows({"pretrained": [curve_draws(LEVEL), other]})


def test_draws_come_back_from_disk(tmp_path):
    draws = curve_draws(LEVEL)
    text = draws.curves[CURVE]
    across = Condition(NO_STEP, "last", "text→image", "ridge, centred")
    curves = {one: (sites, {"mean": series}) for one, (sites, series) in {CURVE: text, across: text}.items()}
    probes = LayerProbes(pd.DataFrame(), curves, {}, (), LEAVES)
    write_draws(tmp_path / "draws.h5", probes.leaves, probes.curves, "a")
    again = read_draws(tmp_path / "draws.h5")
    assert again.leaves == LEAVES
    assert set(again.curves) == {CURVE, across}
    sites, series = again.curves[across]
    assert sites == STREAM
    for part in ("auroc", "selectivity"):
        value, drawn = getattr(text[1], part), getattr(text[1], f"{part}_draws")
        assert (getattr(series, part) == value).all()
        deviation = drawn - value
        np.testing.assert_allclose(getattr(series, f"{part}_draws") - value, deviation, rtol=6e-4, atol=1e-6)


def probed_run(path: Path, seed: int, **model) -> Run:
    """A run that is a config, a table of layer probes and their draws."""
    settings = Config()
    run = Run(path, replace(settings, seed=seed, model=replace(settings.model, **model)))
    folder = run.folder("analyses", "layer_probes")
    labels = {"run": "", "analysis": "layer_probes", "split": "leaf", "seed": 0, "n": 40, **CURVE._asdict()}
    labels |= {"site": STREAM[0], "layer": -1.0, "measure": "auroc", "lower": 0.0, "upper": 1.0}
    rows = pd.DataFrame({**labels, "target": ["mean", "bird"], "value": [0.1 + seed, 0.9]})
    rows.to_parquet(folder / "layer_probes.parquet")
    curves = {CURVE: (STREAM, {"mean": curve_draws(LEVEL + seed).curves[CURVE][1]})}
    write_draws(folder / "draws.h5", LEAVES, curves, run.name)
    return run


def test_the_table_holds_the_means_of_each_run_under_its_condition_and_over_seeds(tmp_path):
    runs = [
        probed_run(tmp_path / "a", 0),
        probed_run(tmp_path / "b", 1),
        probed_run(tmp_path / "c", 0, init="random"),
    ]
    table = emergence.compute(runs, emergence.Options()).table
    assert table.query("seeds == 1")[["run", "condition", "value"]].to_dict("tight")["data"] == [
        ["a", "pretrained", 0.1], ["b", "pretrained", 1.1], ["c", "random_init", 0.1]
    ]  # fmt: skip
    means = table.query("seeds == 2")
    assert set(means["run"]) == {"pretrained, mean of 2 seeds"}
    assert list(means.query("measure == 'selectivity'")["value"]) == pytest.approx(list(LEVEL + 0.5))
    assert set(over_seeds(table)["run"]) == {"pretrained, mean of 2 seeds", "c"}


def test_a_mean_over_seeds_needs_the_draws_and_one_run_does_not(tmp_path):
    runs = [probed_run(tmp_path / "a", 0), probed_run(tmp_path / "b", 1)]
    (tmp_path / "b" / "analyses" / "layer_probes" / "draws.h5").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"earlier version, without draws\.h5; `python -m analyses\.layer_probes --run .*b`",
    ):
        emergence.compute(runs, emergence.Options())
    assert set(emergence.compute(runs[1:], emergence.Options()).table["seeds"]) == {1}


def test_runs_of_two_seeds_without_probes_are_not_said_to_be_of_an_earlier_version(tmp_path):
    runs = [probed_run(tmp_path / "a", 0), probed_run(tmp_path / "b", 1)]
    for run in runs:
        shutil.rmtree(run.path / "analyses" / "layer_probes")
    with pytest.raises(
        FileNotFoundError, match=r"a has no table of layer_probes; `python -m analyses\.layer_probes"
    ):
        emergence.compute(runs, emergence.Options())


def test_two_folders_of_one_name_are_two_runs_and_one_run_twice_is_refused(tmp_path):
    first, second = probed_run(tmp_path / "x" / "a", 0), probed_run(tmp_path / "y" / "a", 1)
    table = emergence.compute([first, second], emergence.Options()).table.query("seeds == 1")
    assert table[["run", "value"]].to_dict("tight")["data"] == [["x/a", 0.1], ["y/a", 1.1]]
    (tmp_path / "z").symlink_to(tmp_path / "x")
    with pytest.raises(MismatchError, match=r"one run was given twice, as .*x/a and as .*z/a"):
        emergence.compute([first, Run(tmp_path / "z" / "a", first.config)], emergence.Options())
    again = probed_run(tmp_path / "x" / "b", 0)
    with pytest.raises(
        MismatchError, match="a and b are both pretrained with seed 0: one run would count as two"
    ):
        emergence.compute([first, again], emergence.Options())


def test_a_run_without_a_table_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"python -m analyses\.layer_probes --run"):
        emergence.ANALYSIS.ask([Run(tmp_path, Config())], emergence.Options())
