"""Attention knock-out of runs: the planted edge is found in its window, placebos are subtracted, toy run, refusals."""

import re
from collections import Counter

import numpy as np
import pandas as pd
import planted as circuit
import pytest
import torch
from matplotlib.colors import same_color
from scipy.stats import norm, t

from analyses import knockout
from analyses.knockout.figures import EDITS, TASKS
from analyses.knockout.parts import PATHS, Window, edges_of, knocked_out, placebo_edges, windows
from analyses.knockout.rows import BEYOND, knockout_table, summary
from probing.edits.knockout import knock_out
from probing.patching.runs import forward
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
        knocked_out(model, questions, window, PATHS, placebos=19, seed=0)
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
    p = changes(table, "slot → last", BEYOND, "margin_change_p_corrected")
    assert (p.loc[at] == 1 / 20).all()
    assert (p.drop(at) > 0.05).all(axis=None)


def test_a_random_set_of_as_many_edges_is_not_found_in_the_place_of_the_path(monkeypatch):
    """The last of twenty-one draws stands where the path's edges would."""
    model = circuit.planted()
    questions = {"hypernym": planted.question(model, "hypernym")}
    monkeypatch.setattr(
        "analyses.knockout.parts.edges_of",
        lambda path, spans: placebo_edges(((9, 2),) * 4, 0, 10, 0, "in the place of the path"),
    )
    parts = [
        knocked_out(model, questions, window, ("slot → last",), placebos=19, seed=0)
        for window in windows(circuit.LAYERS, width=1)
    ]
    rows = knockout_table(pd.concat(parts, ignore_index=True), draw_weights(16, 50), 0)
    p = rows.loc[rows["measure"] == "margin_change_p_corrected", "value"]
    assert len(p) == circuit.LAYERS
    assert (p > 0.05).all()


@pytest.fixture(scope="module")
def noisy():
    """The planted circuit with noise on every weight, so that each edge matters, and a question put to it."""
    model, generator = circuit.planted(), torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    return model, planted.question(model, "hypernym")


def test_read_outs_are_those_of_a_whole_pass_with_the_edges_of_the_path_or_of_a_draw_blocked(noisy):
    model, question = noisy
    path = "slot → cue, last"
    parts = knocked_out(model, {"hypernym": question}, Window(1, 2), (path,), placebos=3, seed=0)
    of_path = edges_of(path, question.clean.rows.spans)
    sets = {("placebo", draw): placebo_edges(of_path, 0, 10, 0, path, str(draw)) for draw in range(3)}
    margins = []
    for (edit, draw), edges in {("knocked out", 0): of_path, **sets}.items():
        with knock_out(model, edges, [1, 2]):
            logits = question.read(forward(model, question.clean.rows).last_hidden_state[:, -1])
        margins.append(question.margin(logits.double().numpy()))
        rows = parts[(parts["edit"] == edit) & (parts["draw"] == draw) & (parts["path"] == path)]
        np.testing.assert_allclose(rows["margin"], margins[-1], atol=1e-4)
    assert np.ptp(margins, axis=0).min() > 1e-2


def test_a_draw_blocks_the_same_edges_in_every_window_and_others_than_the_next_draw(noisy, monkeypatch):
    model, question = noisy
    blocked = []

    def noted(model, edges, layers):
        blocked.append((tuple(layers), tuple(edges)))
        return knock_out(model, edges, layers)

    monkeypatch.setattr("analyses.knockout.parts.knock_out", noted)
    for window in (Window(0, 0), Window(1, 3)):
        knocked_out(model, {"hypernym": question}, window, ("slot → last", "cue → last"), placebos=2, seed=0)
    first, second = (
        [edges for layers, edges in blocked if layers == of_window] for of_window in ((0,), (1, 2, 3))
    )
    assert first == second
    assert len(set(first)) == len(first) == 2 * (1 + 2)


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
            if edit == "knocked out":
                limits = np.quantile(draws, [0.025, 0.975]) - one["value"]
                wider = (3 / 2) ** 0.5 * t.ppf(0.975, 2) / norm.ppf(0.975)
                np.testing.assert_allclose(
                    [one["lower"], one["upper"]], one["value"] + wider * limits, rtol=1e-6
                )
            else:  # two draws: the variance of their mean, times / 2 apart, is added to that over three leaves
                leaves, between = 3 / 2 * draws.var(ddof=1), (times * np.ptp(PLACEBOS.mean(1)) / 2) ** 2
                half = (t.ppf(0.975, 2) ** 2 * leaves + t.ppf(0.975, 1) ** 2 * between) ** 0.5
                np.testing.assert_allclose(
                    [one["lower"], one["upper"]], [one["value"] - half, one["value"] + half]
                )
            assert one["n"] == 3
        for draw, placebo in enumerate(PLACEBOS):
            one = rows.loc[("margin_change", f"placebo {draw}", window)]
            assert one["value"] == pytest.approx(times * placebo.mean())
            assert np.isnan([one["lower"], one["upper"]]).all()
    assert rows.loc[("margin_change", BEYOND, "0-0"), "value"] == pytest.approx(-1.5)
    assert rows.loc[("margin_change", "placebo", "0-0"), "value"] == pytest.approx(-0.5)
    np.testing.assert_allclose(rows.loc[("margin", "none", ""), "value"], 5)
    assert rows.loc["top1", ["lower", "upper"]].stack().dropna().between(0, 1).all(), "a share"
    assert rows.loc["top1_change", ["lower", "upper"]].stack().dropna().between(-1, 1).all()
    p = rows.loc[["margin_change_p", "margin_change_p_corrected"], "value"]
    assert len(p) == 3 + 2
    assert p.isna().all()  # two draws


def test_the_limits_beyond_a_single_placebo_and_of_a_single_leaf_are_not_known():
    parts = hand_made_parts()
    of_leaf, of_draw = parts[parts["leaf"] == "crow"], parts[parts["draw"] == 0]
    for fewer, edits in ((of_draw, ("placebo", BEYOND)), (of_leaf, ("knocked out", "placebo", BEYOND))):
        table = knockout_table(fewer, draw_weights(fewer["leaf"].nunique(), 50), 0)
        rows = table[(table["measure"] == "margin_change") & table["edit"].isin(edits)]
        assert len(rows) == 3 * len(edits)
        assert not np.isfinite(rows[["lower", "upper"]]).any(axis=None)
        assert np.isfinite(rows["value"]).all()


def ranked_parts(loss, draws=19, seed=0):
    """Three narrow windows and one of all layers: the path loses `loss` in the second, each draw about 1 in each."""
    rng, parts = np.random.default_rng(seed), []
    for first, last in ((0, 0), (1, 1), (2, 2), (0, 2)):
        edits = [
            ("none", "", 0, 0.0),
            ("knocked out", "slot → last", 0, loss if (first, last) == (1, 1) else 1.0),
        ]
        edits += [("placebo", "slot → last", draw, rng.normal(1, 0.2)) for draw in range(draws)]
        parts += [
            pd.DataFrame({"leaf": LEAVES, "margin": CLEAN - lost, "top1": 1.0}).assign(
                edit=edit, path=path, draw=draw, task="hypernym", first=first, last=last
            )
            for edit, path, draw, lost in edits
        ]
    return pd.concat(parts, ignore_index=True)


def test_p_is_the_rank_of_the_path_s_loss_among_those_of_the_draws_and_corrected_that_among_the_largest():
    for loss, of_window, corrected in ((9.0, 1 / 20, 1 / 20), (-9.0, 1.0, 1.0)):
        rows = knockout_table(ranked_parts(loss), draw_weights(3, 20), 0).set_index(["measure", "window"])[
            "value"
        ]
        assert rows["margin_change_p"]["1-1"] == pytest.approx(of_window)
        assert rows["margin_change_p_corrected"]["1-1"] == pytest.approx(corrected)
        assert set(rows["margin_change_p_corrected"].index) == {"0-0", "1-1", "2-2"}
        assert set(rows["margin_change_p"].index) == {"0-0", "1-1", "2-2", "0-2"}
        assert (rows["top1_change_p"] == 1).all()  # nothing differs


def test_few_placebos_give_no_p_and_the_summary_says_so():
    table = knockout_table(ranked_parts(9.0, draws=18), draw_weights(3, 20), 0).assign(run="planted")
    assert table.loc[table["measure"].str.contains("_p"), "value"].isna().all()
    text = summary(table)
    assert "no p with 18 placebo draws: --placebos 19 gives one" in text
    assert "no window beyond placebo" not in text


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
            draws = table[(table["measure"] == "margin_change") & table["edit"].str.fullmatch(r"placebo \d+")]
            draws = draws[(draws["target"] == task) & (draws["path"] == path)]
            np.testing.assert_allclose(axes.lines[2].get_ydata(), draws["value"])
            shown = [order[int(at)] for at in axes.lines[2].get_xdata()]
            assert shown == draws["window"].tolist()
            p = table[(table["measure"] == "margin_change_p_corrected") & (table["target"] == task)]
            p = p[(p["path"] == path) & (p["value"] <= 0.05)]
            assert [order[int(at)] for at in axes.lines[3].get_xdata()] == p["window"].tolist()
            if task == "leaf":
                ticks = [tick.get_text() for tick in axes.get_xticklabels()]
                assert ticks == ["0–0", "1–1", "2–2", "3–3", "all"]
            assert axes.get_title() == (path if task == "hypernym" else "")
            assert (TASKS[task] in axes.get_ylabel()) == (path == PATHS[0])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["path blocked", "as many edges at random"]
    text = " ".join(figure.texts[-1].get_text().split())
    assert "n = 16 leaves" in text
    assert "19 draws" in text
    assert "p ≤ .05, corrected over windows" in text


def test_the_summary_names_the_windows_whose_corrected_p_is_small_with_the_numbers_of_the_table(table):
    text = summary(table)
    rows = table[(table["edit"] == BEYOND) & (table["measure"] == "margin_change")]
    p = table[table["measure"] == "margin_change_p_corrected"].set_index(["target", "path", "window"])[
        "value"
    ]
    alone = table[table["measure"] == "margin_change_p"].set_index(["target", "path", "window"])["value"]
    task = ""
    lines = text.splitlines()
    assert lines[0].startswith("Paths of an answer, planted")
    assert (
        lines[-1]
        == "  beyond placebo: more lost than with all of 19 draws, p ≤ .05 (of windows, corrected over them)"
    )
    for line in lines[1:-1]:
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
            window for window in of_path.index if window != "0-3" and p.loc[(task, path, window)] <= 0.05
        ]
        windows_said = re.findall(r"(\d-\d) (\S+ \[\S+ \S+\])", said)
        assert windows_said == [(window, interval(of_path.loc[window])) for window in [*above, "0-3"]]
        assert said.endswith(f"(p = {alone.loc[(task, path, '0-3')]:.2g})")
    assert len(lines) == 2 + 2 * (1 + len(PATHS))
    assert f"{circuit.LAYER}-{circuit.LAYER} " in text


def interval(row):
    return f"{row['value']:+.2f} [{row['lower']:+.2f}, {row['upper']:+.2f}]"


def test_edges_of_paths_and_placebos_of_as_many_of_all():
    edges = edges_of("slot → cue, last", SPANS)
    assert edges == ((4, 2), (4, 3), (5, 2), (5, 3), (6, 2), (6, 3))
    assert edges_of("cue → last", SPANS) == ((6, 4), (6, 5))
    drawn = placebo_edges(edges, 2, 7, 0, "x")
    assert len(set(drawn)) == len(edges)
    assert all(0 < key < query and query >= 2 for query, key in drawn)
    assert drawn == placebo_edges(edges, 2, 7, 0, "x")
    assert drawn != placebo_edges(edges, 2, 7, 1, "x")
    many = [placebo_edges(edges, 2, 7, 0, str(draw)) for draw in range(400)]
    # Every edge with a computed query that is not to the first token, the path's own too, is drawn as often.
    counts = Counter(edge for drawn in many for edge in drawn)
    assert set(counts) == {(query, key) for query in range(2, 7) for key in range(1, query)}
    np.testing.assert_allclose(list(counts.values()), 400 * 6 / 15, atol=40)


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
    with pytest.raises(ValueError, match="--path slot → cue was asked for twice"):
        knockout.ANALYSIS.ask([toy], knockout.Options(paths=("slot → cue", "slot → cue")))
    with pytest.raises(ValueError, match="0 placebos were asked for"):
        knockout.check([toy], knockout.Options(placebos=0))
    with pytest.raises(ValueError, match="this model has 2"):
        knockout.compute([toy], knockout.Options(width=3))
    with pytest.raises(KeyError, match="known: slot → cue"):
        edges_of("noun → last", SPANS)
    with pytest.raises(ValueError, match="the prompt has 1 in all"):
        placebo_edges(((2, 1),), 2, 3, 0)
    with pytest.raises(SystemExit) as refusal:
        knockout.main(["--run", str(toy.path), "--step", "5"])
    assert refusal.value.code == 2
    error = capsys.readouterr().err
    assert "no projector of step 5; it was saved at 0, 12" in error
    assert len(error.splitlines()) == 1
