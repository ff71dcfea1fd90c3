"""Attention knock-out of runs: the planted edge is found in its window, placebos are subtracted, toy run, refusals."""

import re

import numpy as np
import pandas as pd
import planted as circuit
import pytest
from matplotlib.colors import same_color

from analyses import knockout
from analyses.knockout.figures import EDITS, TASKS
from analyses.knockout.parts import PATHS, Window, edges_of, knocked_out, placebo_edges, windows
from analyses.knockout.rows import BEYOND, knockout_table, summary
from probing.stats import draw_weights
from taxogen.runs.run import Run
from taxogen.stages.pipeline import train_run
from tests.analyses import planted_questions as planted
from tests.world import toy_config, write_world

SPANS = {"slot": (2, 3), "cue": (4, 5, 6), "last": (6,)}


@pytest.fixture(scope="module")
def table():
    model = circuit.planted()
    questions = {task: planted.question(model, task) for task in ("hypernym", "leaf")}
    parts = [
        knocked_out(model, questions, window, PATHS, placebos=2, seed=0)
        for window in windows(circuit.LAYERS, width=1)
    ]
    return knockout_table(pd.concat(parts, ignore_index=True), draw_weights(16, 200), 0).assign(run="planted")


def changes(table, path, edit="knocked out", measure="margin_change"):
    chosen = (table["measure"] == measure) & (table["path"] == path) & (table["edit"] == edit)
    return table[chosen].pivot(index="window", columns="target", values="value")


def test_the_answer_goes_from_the_picture_to_the_last_token_in_the_planted_layer_and_nowhere_else(table):
    at = f"{circuit.LAYER}-{circuit.LAYER}"
    direct = changes(table, "slot → last")
    assert (direct.loc[[at, "0-3"]] < -4).all(axis=None)
    np.testing.assert_allclose(direct.drop([at, "0-3"]), 0, atol=1e-5)
    for path in ("slot → cue", "cue → last"):
        np.testing.assert_allclose(changes(table, path), 0, atol=1e-5)
    top = changes(table, "slot → last", "knocked out", "top1")
    assert (top.loc[at] < 0.5).all()
    band = changes(table, "slot → last", BEYOND, "margin_loss_lower_band")
    assert (band.loc[at] > 0).all()
    assert (band.drop(at) <= 1e-5).all(axis=None)


LEAVES = ("crow", "duck", "eagle")
CLEAN = np.array([4.0, 5.0, 6.0])
KNOCKED_OUT = np.array([-3.0, -1.0, -2.0])  # changes of each leaf's margin
PLACEBOS = np.array([[-1.0, -0.5, 0.0], [-2.0, 0.5, 0.0]])  # two draws, whose mean is not 0


def hand_made_parts():
    """Two windows of one layer each, the second with thrice the effects of the first, and one of both layers."""
    scale = {(0, 0): 1.0, (1, 1): 3.0, (0, 1): 4.0}
    parts = []
    for (first, last), times in scale.items():
        edits = [("none", "", 0, 0 * CLEAN), ("knocked out", "slot → last", 0, times * KNOCKED_OUT)]
        edits += [("placebo", "slot → last", draw, times * PLACEBOS[draw]) for draw in range(2)]
        for edit, path, draw, change in edits:
            read_outs = {"leaf": LEAVES, "margin": CLEAN + change, "top1": (CLEAN + change > 4).astype(float)}
            parts.append(
                pd.DataFrame(read_outs).assign(
                    edit=edit, path=path, draw=draw, task="hypernym", first=first, last=last
                )
            )
    return pd.concat(parts, ignore_index=True)


def test_what_is_lost_beyond_placebos_that_are_not_null_by_its_numbers():
    weights = draw_weights(3, 400)
    rows = knockout_table(hand_made_parts(), weights, 0).set_index(["measure", "edit", "window"])
    per_leaf = {
        "knocked out": KNOCKED_OUT,
        "placebo": PLACEBOS.mean(0),
        BEYOND: KNOCKED_OUT - PLACEBOS.mean(0),
    }
    for window, times in (("0-0", 1), ("1-1", 3), ("0-1", 4)):
        for edit, expected in per_leaf.items():
            one, draws = rows.loc[("margin_change", edit, window)], weights @ (times * expected) / 3
            np.testing.assert_allclose(one["value"], times * expected.mean())
            np.testing.assert_allclose([one["lower"], one["upper"]], np.quantile(draws, [0.025, 0.975]))
            assert one["n"] == 3
    assert rows.loc[("margin_change", BEYOND, "0-0"), "value"] == pytest.approx(-1.5)
    assert rows.loc[("margin_change", "placebo", "0-0"), "value"] == pytest.approx(-0.5)
    np.testing.assert_allclose(rows.loc[("margin", "none", ""), "value"], 5)
    # Effects of the second window are thrice those of the first: in studentised units the two are one.
    loss = -per_leaf[BEYOND]
    band = loss.mean() - np.quantile(weights @ loss / 3 - loss.mean(), 0.95, method="inverted_cdf")
    bands = rows.xs("margin_loss_lower_band").droplevel("edit")["value"]
    np.testing.assert_allclose(bands.loc[["0-0", "1-1"]], [band, 3 * band])
    assert "0-1" not in bands.index


def test_only_the_mean_of_the_placebos_that_belong_to_the_path_and_window_is_subtracted():
    parts = hand_made_parts()
    other = parts[parts["edit"] == "placebo"].assign(path="cue → last", margin=100.0)
    blocked = parts[parts["edit"] == "knocked out"].assign(path="cue → last")
    rows = knockout_table(pd.concat([parts, other, blocked], ignore_index=True), draw_weights(3, 50), 0)
    beyond = rows[(rows["measure"] == "margin_change") & (rows["edit"] == BEYOND) & (rows["window"] == "0-0")]
    expected = {"slot → last": -2 - PLACEBOS.mean(), "cue → last": (CLEAN + KNOCKED_OUT).mean() - 100}
    assert beyond.set_index("path")["value"].to_dict() == pytest.approx(expected)


def test_the_figure_shows_the_rows_of_its_task_path_window_and_edit(table, tmp_path):
    table.to_parquet(tmp_path / "table.parquet")
    figure = knockout.draw(pd.read_parquet(tmp_path / "table.parquet"))["windows"]
    order = ["0-0", "1-1", "2-2", "3-3", "0-3"]
    assert len(figure.axes) == 2 * len(PATHS)
    panels = iter(figure.axes)
    for task in ("hypernym", "leaf"):
        for path in PATHS:
            axes = next(panels)
            for at, edit in enumerate(("knocked out", "placebo")):
                rows = table[(table["measure"] == "margin_change") & (table["target"] == task)]
                rows = rows[(rows["path"] == path) & (rows["edit"] == edit)].set_index("window").loc[order]
                np.testing.assert_allclose(axes.lines[at].get_ydata(), rows["value"])
                segments = np.array(axes.collections[at].get_segments())
                np.testing.assert_allclose(segments[:, :, 1], rows[["lower", "upper"]])
                np.testing.assert_allclose(segments[:, 0, 0], axes.lines[at].get_xdata())
                np.testing.assert_array_equal(axes.lines[at].get_xdata().round(), range(5))
                assert axes.lines[at].get_label() == EDITS[edit][1]
                assert same_color(axes.lines[at].get_color(), axes.collections[at].get_color())
            if task == "leaf":
                ticks = [tick.get_text() for tick in axes.get_xticklabels()]
                assert ticks == ["0–0", "1–1", "2–2", "3–3", "all"]
            assert axes.get_title() == (path if task == "hypernym" else "")
            assert (TASKS[task] in axes.get_ylabel()) == (path == PATHS[0])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["path blocked", "as many other edges blocked"]
    assert "n = 16 leaves" in figure.texts[-1].get_text()


def test_the_summary_names_the_windows_whose_band_is_above_0_with_the_numbers_of_the_table(table):
    text = summary(table)
    rows = table[(table["edit"] == BEYOND) & (table["measure"] == "margin_change")]
    bands = table[table["measure"] == "margin_loss_lower_band"].set_index(["target", "path", "window"])
    task = ""
    lines = text.splitlines()
    assert lines[0].startswith("Paths of an answer, planted")
    for line in lines[1:]:
        if "clean" in line:
            task = line.split(":")[0].strip()
            level = table[
                (table["edit"] == "none") & (table["measure"] == "margin") & (table["target"] == task)
            ]
            assert f"clean {interval(level.iloc[0])}, n = 16" in line
            continue
        path, said = line.strip().split(": ", 1)
        of_path = rows[(rows["target"] == task) & (rows["path"] == path)].set_index("window")
        above = [
            window
            for window in of_path.index
            if window != "0-3" and bands.loc[(task, path, window), "value"] > 0
        ]
        windows_said = re.findall(r"(\d-\d) (\S+ \[\S+ \S+\])", said)
        assert windows_said == [(window, interval(of_path.loc[window])) for window in [*above, "0-3"]]
    assert len(lines) == 1 + 2 * (1 + len(PATHS))
    assert f"{circuit.LAYER}-{circuit.LAYER} " in text


def interval(row):
    return f"{row['value']:+.2f} [{row['lower']:+.2f}, {row['upper']:+.2f}]"


def test_edges_of_paths_and_placebos_of_as_many_others():
    edges = edges_of("slot → cue, last", SPANS)
    assert edges == ((4, 2), (4, 3), (5, 2), (5, 3), (6, 2), (6, 3))
    assert edges_of("cue → last", SPANS) == ((6, 4), (6, 5))
    drawn = placebo_edges(edges, 2, 7, 0, "x")
    assert len(drawn) == len(edges)
    assert not set(drawn) & set(edges)
    assert all(0 < key < query and query >= 2 for query, key in drawn)
    assert drawn == placebo_edges(edges, 2, 7, 0, "x")
    assert drawn != placebo_edges(edges, 2, 7, 1, "x")


def test_windows_cover_the_model_and_one_holds_all():
    assert [str(window) for window in windows(7, 3)] == ["0-2", "3-5", "6-6", "0-6"]
    assert [str(window) for window in windows(4, 4)] == ["0-3"]
    assert Window.parse("3-5") == Window(3, 5)


@pytest.fixture(scope="module")
def toy(tmp_path_factory, toy_lm):
    folder = tmp_path_factory.mktemp("toy_knockout")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        run = Run.create(folder / "run", toy_config(write_world(folder, toy_lm), "capture.at=last"))
        train_run(run)
        yield run


def test_a_toy_run_from_the_command_line_where_blocking_everything_leaves_the_picture_unseen(toy, capsys):
    asking = ["--run", str(toy.path), "--window", "1", "--draws", "50"]
    knockout.main(asking)
    table = pd.read_parquet(toy.path / "analyses" / "knockout" / "knockout.parquet")
    assert (toy.path / "analyses" / "knockout" / "windows.png").is_file()
    assert set(table["window"]) == {"", "0-0", "1-1", "0-1"}
    assert "hypernym: clean" in capsys.readouterr().out
    parts = {p: p.stat().st_mtime_ns for p in toy.path.glob("analyses/knockout/parts/*/*.parquet")}
    (of_all,) = (path for path in parts if path.name == "0-1.parquet")
    read_outs = pd.read_parquet(of_all)
    read_outs = read_outs[read_outs["task"] == "hypernym"]
    birds = read_outs["leaf"].isin(["crow", "duck", "eagle", "owl"])
    blocked = (read_outs["path"] == "slot → cue, last") & (read_outs["edit"] == "knocked out")
    # Without any way from the picture to the answer, all pictures of leaves with the same hypernyms answer alike.
    assert np.ptp(read_outs.loc[birds & blocked, "margin"]) < 1e-4
    assert np.ptp(read_outs.loc[birds & (read_outs["edit"] == "none"), "margin"]) > 1e-3
    knockout.main([*asking, "--step", "12"])
    assert {path: path.stat().st_mtime_ns for path in parts} == parts


def test_what_is_not_there_is_refused(toy, capsys):
    with pytest.raises(KeyError, match="known: slot → cue"):
        knockout.check([toy], knockout.Options(paths=("slot → noun",)))
    with pytest.raises(ValueError, match="this model has 2"):
        knockout.compute([toy], knockout.Options(width=3))
    with pytest.raises(KeyError, match="known: slot → cue"):
        edges_of("noun → last", SPANS)
    with pytest.raises(ValueError, match="the prompt has 0"):
        placebo_edges(((2, 1),), 2, 3, 0)
    with pytest.raises(SystemExit) as refusal:
        knockout.main(["--run", str(toy.path), "--step", "5"])
    assert refusal.value.code == 2
    error = capsys.readouterr().err
    assert "no projector of step 5; it was saved at 0, 12" in error
    assert len(error.splitlines()) == 1
