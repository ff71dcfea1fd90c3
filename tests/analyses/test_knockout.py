"""Attention knock-out of runs: the planted edge is found in its window, placebos do nothing, toy run, refusals."""

import numpy as np
import pandas as pd
import planted as circuit
import pytest

from analyses import knockout
from analyses.inputs.subject import open_at
from analyses.knockout.parts import PATHS, Window, edges_of, knocked_out, placebo_edges, windows
from analyses.knockout.rows import knockout_table
from probing.stats import draw_weights
from taxogen.runs.run import Run
from taxogen.stages.pipeline import train_run
from tests.analyses import planted_questions as planted
from tests.world import toy_config, write_world

SPANS = {"slot": (2, 3), "cue": (4, 5, 6), "last": (6,)}


@pytest.fixture(scope="module")
def table():
    model = circuit.planted()
    asked = {task: planted.asked(model, task) for task in ("hypernym", "leaf")}
    parts = [
        knocked_out(model, asked, window, PATHS, placebos=2, seed=0)
        for window in windows(circuit.LAYERS, width=1)
    ]
    return knockout_table(pd.concat(parts, ignore_index=True), draw_weights(16, 200), 0)


def changes(table, path, edit="knocked out", measure="margin_change"):
    kept = (table["measure"] == measure) & (table["path"] == path) & (table["edit"] == edit)
    return table[kept].pivot(index="window", columns="target", values="value")


def test_the_answer_goes_from_the_picture_to_the_last_token_in_the_planted_layer_and_nowhere_else(table):
    at = f"{circuit.LAYER}-{circuit.LAYER}"
    found = changes(table, "slot → last")
    assert (found.loc[[at, "0-3"]] < -4).all(axis=None)
    np.testing.assert_allclose(found.drop([at, "0-3"]), 0, atol=1e-5)
    for path in ("slot → cue", "cue → last"):
        np.testing.assert_allclose(changes(table, path), 0, atol=1e-5)
    top = changes(table, "slot → last", "knocked out", "top1")
    assert (top.loc[at] < 0.5).all()
    band = changes(table, "slot → last", "knocked out − placebo", "margin_loss_lower_band")
    assert (band.loc[at] > 0).all()
    assert (band.drop(at) <= 1e-5).all(axis=None)


def test_every_figure_can_be_drawn_from_the_table(table):
    figure = knockout.draw(table)["windows"]
    assert len(figure.axes) == 2 * len(PATHS)
    assert "n = 16 leaves" in figure.texts[-1].get_text()


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
    knockout.main(["--run", str(toy.path), "--window", "1", "--draws", "50"])
    table = pd.read_parquet(toy.path / "analyses" / "knockout" / "knockout.parquet")
    assert (toy.path / "analyses" / "knockout" / "windows.png").is_file()
    assert set(table["window"]) == {"", "0-0", "1-1", "0-1"}
    assert "hypernym: clean" in capsys.readouterr().out
    parts = list((toy.path / "analyses" / "knockout" / "parts").glob("*/0-1.parquet"))
    found = pd.read_parquet(parts[0])
    blocked = found[(found["path"] == "slot → cue, last") & (found["edit"] == "knocked out")]
    # Without any way from the picture to the answer, all pictures of leaves with the same hypernyms answer alike.
    birds = blocked[blocked["leaf"].isin(["crow", "duck", "eagle", "owl"]) & (blocked["task"] == "hypernym")]
    assert np.ptp(birds["margin"]) < 1e-4
    clean = found[
        (found["edit"] == "none") & found["leaf"].isin(birds["leaf"]) & (found["task"] == "hypernym")
    ]
    assert np.ptp(clean["margin"]) > 1e-3


def test_what_is_not_there_is_refused(toy):
    bench, step = open_at(toy)
    with pytest.raises(KeyError, match="known: slot → cue"):
        knockout.compute(bench, step, knockout.Options(paths=("slot → noun",)))
    with pytest.raises(ValueError, match="this model has 2"):
        knockout.compute(bench, step, knockout.Options(width=3))
    with pytest.raises(KeyError, match="known: slot → cue"):
        edges_of("noun → last", SPANS)
    with pytest.raises(ValueError, match="the prompt has 0"):
        placebo_edges(((2, 1),), 2, 3, 0)
