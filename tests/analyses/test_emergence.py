"""Emergence: seeds become one curve; figures and best layers are those of the table; refusals."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyses import emergence
from analyses.emergence.rows import QUESTIONS, over_seeds
from analyses.frame import drawing
from analyses.frame.section import Grid, Shown
from analyses.frame.tables import NO_STEP, layer_of
from probing.store import MismatchError
from taxogen.runs.config import Config
from taxogen.runs.run import Run
from tests.analyses import drawn

STREAM = ("hook_embed", *(f"blocks.{layer}.hook_resid_post" for layer in range(3)))
SPANS = {"slot": "at the picture's slot", "cue": "at the cue “is a kind of”", "last": "at the last token"}
RUNS = {  # run → condition, steps
    "a-0": ("pretrained", (10, 0)),
    "a-1": ("pretrained", (10, 0)),
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
                rows.append(labels | {"probe": probe, "site": "", "measure": "onset"})
    return rows


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Four runs of three conditions with other last steps, no number twice, read from disk."""
    frame = pd.DataFrame(planned()).assign(analysis="layer_probes", target="mean", split="leaf", n=29, seed=0)
    frame["layer"] = [layer_of(site, -2.0) if site else np.nan for site in frame["site"]]
    frame = drawn.distinct(frame)
    onset = frame["measure"] == "onset"
    places = np.arange(onset.sum()) % 3
    frame.loc[onset, ["value", "lower", "upper"]] = np.column_stack([places, places - 1, places * 2.0])
    frame.loc[frame.index[onset][0], "upper"] = np.inf  # in the last step of its run
    return drawn.reread(frame, tmp_path_factory.mktemp("emergence"))


@pytest.fixture(scope="module")
def figures(table):
    return emergence.draw(table)


def curve(table, condition, span, modality, measure, step=None):
    """One row for each layer: means over the runs of a condition."""
    step = (NO_STEP if modality == "text" else LAST[condition]) if step is None else step
    labels = {"condition": condition, "span": span, "modality": modality, "measure": measure, "step": step}
    rows = table[table["probe"] == "ridge"]
    for name, value in labels.items():
        rows = rows[rows[name] == value]
    return rows.groupby(["layer", "site"], as_index=False)[["value", "lower", "upper"]].mean()


def seeds(run, seed, **values):
    common = {
        "run": run,
        "analysis": "layer_probes",
        "condition": "pretrained",
        "span": "cue",
        "modality": "image",
    }
    common |= {"target": "mean", "probe": "ridge", "split": "leaf", "seed": seed, "step": 10, "n": 12}
    for (measure, site, layer), (value, lower, upper) in values["table"].items():
        limits = {"value": value, "lower": lower, "upper": upper}
        yield common | {"measure": measure, "site": site, "layer": layer} | limits


def two_seeds():
    post = ("auroc", "blocks.0.hook_resid_post", 0.0)
    onset = ("onset", "", float("nan"))
    first = {post: (0.6, 0.5, 0.7), onset: (2.0, 1.0, 3.0)}
    second = {post: (0.8, 0.6, 0.9), onset: (4.0, 2.0, float("inf"))}
    return pd.DataFrame([*seeds("a-0", 0, table=first), *seeds("a-1", 1, table=second)])


def test_seeds_are_averaged():
    rows = over_seeds(two_seeds()).set_index("measure")
    assert rows.loc["auroc", "seeds"] == 2
    limits = rows.loc["auroc", ["value", "lower", "upper"]].to_numpy(float)
    assert abs(limits - [0.7, 0.55, 0.8]).max() < 1e-12
    assert list(rows.loc["onset", ["value", "lower", "upper"]]) == [3.0, 1.0, float("inf")]


def test_one_seed_stays_as_it_is():
    one = two_seeds().query("run == 'a-0'")
    rows = over_seeds(one)
    pd.testing.assert_frame_equal(rows[["value", "lower", "upper"]], one[["value", "lower", "upper"]])


def test_best_layers_have_a_line_per_curve_not_per_seed():
    table = two_seeds()
    control = table[table["measure"] == "auroc"].assign(measure="control_auroc", value=0.5)
    best = emergence.best_layers(pd.concat([table, control], ignore_index=True))
    assert list(best["auroc"]) == [0.7]
    assert list(best["onset"]) == [3.0]


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
        assert colours[name] == drawing.COLOURS[name].lower()
    for (row, modality), (column, span) in itertools.product(enumerate(QUESTIONS), enumerate(SPANS)):
        axes = grid[row, column]
        for condition, colour in colours.items():
            drawn.assert_curve(axes, curve(table, condition, span, modality, "auroc"), colour)
            drawn.assert_dotted(axes, curve(table, condition, span, modality, "control_auroc"), colour)
        assert drawn.lines_drawn(axes) == 6
    text = figure.texts[-1].get_text().replace("\n", " ")
    assert "n = 29 leaf concepts; mean of 2 seeds; ridge probes" in text


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
    """Condition, span, modality, best row, its control, and the onsets of each curve."""
    for condition, span, modality in itertools.product(LAST, SPANS, QUESTIONS):
        scores = curve(table, condition, span, modality, "auroc")
        best = scores.loc[scores["value"].idxmax()]
        control = curve(table, condition, span, modality, "control_auroc").set_index("site")["value"][
            best["site"]
        ]
        step = NO_STEP if modality == "text" else LAST[condition]
        onset = table[(table["measure"] == "onset") & (table["probe"] == "ridge") & (table["step"] == step)]
        onset = onset[
            (onset["condition"] == condition) & (onset["span"] == span) & (onset["modality"] == modality)
        ]
        limits = onset["value"].median(), onset["lower"].min(), onset["upper"].max()
        yield (condition, span, modality), best, control, limits


def test_best_layers_are_those_of_the_table(table):
    best = emergence.best_layers(table).set_index(["condition", "span", "question"])
    lines = list(expected_lines(table))
    assert len(best) == len(lines) == 27
    for (condition, span, modality), row, control, limits in lines:
        line = best.loc[condition, span, QUESTIONS[modality]]
        assert line["block"] == row["layer"]
        assert tuple(line[["auroc", "lower", "upper"]]) == pytest.approx(
            tuple(row[["value", "lower", "upper"]])
        )
        assert line["control"] == pytest.approx(control)
        assert tuple(line[["onset", "onset_lower", "onset_upper"]]) == limits
        assert line["n"] == 29


def test_the_summary_and_the_section_say_what_best_layers_are(table):
    best = emergence.best_layers(table)
    head, *lines = emergence.summary(table).splitlines()
    assert head.startswith("Best block of each curve, mean AUROC (chance .5)")
    assert "\n".join(lines) == best.round(3).to_string(index=False)
    shown, grid, training = emergence.section(table)
    assert isinstance(grid, Grid)
    assert (shown, training) == (Shown("emergence", shown.caption), Shown("training", training.caption))
    assert len(grid.rows) == len(best)
    names = {-2: "encoder", -1: "input"}
    for cells, line in zip(grid.rows, best.to_dict("records"), strict=True):
        blocks = [
            "never" if np.isinf(line[part]) else names.get(line[part], f"{line[part]:.0f}")
            for part in ("onset", "onset_lower", "onset_upper")
        ]
        assert list(cells) == [
            line["condition"], line["span"], line["question"], names.get(line["block"], str(line["block"])),
            f"{line['auroc']:.2f} [{line['lower']:.2f}, {line['upper']:.2f}]",
            f"{line['control']:.2f}", blocks[0], f"{blocks[1]} – {blocks[2]}",
        ]  # fmt: skip
    assert any("never" in cells[-1] for cells in grid.rows)
    assert len(emergence.section(table[table["step"].isin([NO_STEP, 10])])) == 2


def test_an_onset_that_is_not_there_is_none(table):
    bare = table.assign(value=table["value"].mask(table["measure"] == "onset"))
    (_, grid, _) = emergence.section(bare)
    assert {cells[-2] for cells in grid.rows} == {"none"}


def probed_run(path: Path, seed: int, **model) -> Run:
    """A run that is a config and a table of layer probes."""
    settings = Config()
    run = Run(path, replace(settings, seed=seed, model=replace(settings.model, **model)))
    folder = run.folder("analyses", "layer_probes")
    rows = pd.DataFrame({"run": "", "target": ["mean", "bird"], "value": [0.1 + seed, 0.9]})
    rows.to_parquet(folder / "layer_probes.parquet")
    return run


def test_the_table_holds_the_means_of_each_run_under_its_condition(tmp_path):
    runs = [
        probed_run(tmp_path / "a", 0),
        probed_run(tmp_path / "b", 1),
        probed_run(tmp_path / "c", 0, init="random"),
    ]
    table = emergence.compute(runs, emergence.Options()).table
    assert table[["run", "condition", "value"]].to_dict("tight")["data"] == [
        ["a", "pretrained", 0.1], ["b", "pretrained", 1.1], ["c", "random_init", 0.1]
    ]  # fmt: skip


def test_two_folders_of_one_name_are_two_runs_and_one_run_twice_is_refused(tmp_path):
    first, second = probed_run(tmp_path / "x" / "a", 0), probed_run(tmp_path / "y" / "a", 1)
    table = emergence.compute([first, second], emergence.Options()).table
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
