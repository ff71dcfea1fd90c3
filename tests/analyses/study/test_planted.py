"""A study with planted outcomes: claims come out as planted, and figures show the planted numbers where they belong."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analyses.frame import drawing
from analyses.inputs.answers import Part
from analyses.inputs.measures import chance
from analyses.study import answers, layer_figures, main, transfer
from analyses.study.claims import FAILS, HOLDS, UNDECIDED, verdicts
from analyses.study.contrasts import table as contrast_table
from analyses.study.estimates import Study
from analyses.study.figures import Numbers, draw
from analyses.study.tables import Tables
from probing.stats import ClusterAUROC
from taxogen.stages.sweeping import plan_file
from tests.analyses.drawn import misprints
from tests.analyses.study.planted import planted

CHANCE = drawing.CHANCE["zorder"]
DRAWS = 60
PLAN = """
name = "toy"
seeds = [0, 1, 2]
[equivalence]
auroc = 0.06
[groups.full]
vary.model.init = ["pretrained", "random"]
[groups.random]
vary.model.init = ["pretrained", "random"]
[groups.random.cases]
".5" = { data.ablation = "random", data.fraction = 0.5 }
"1" = { data.ablation = "full" }
[groups.shuffle.cases]
none = {}
within = { data.shuffle = "within" }
category = { data.shuffle = "category" }
across = { data.shuffle = "across" }
[groups.encoder.cases]
one = {}
two = { model.encoder = "vit-s14-saliency" }
[groups.projector.cases]
flat = {}
patches = { model.projector = "gelu-mlp", model.encoder_tokens = 4 }
"""


def strength(config):
    """Of read-outs: across loses almost all, category nothing, the projector of patches much."""
    known = {"pretrained": 2.2, "random": 0.0}[config.model.init]
    known += 1.5 if config.data.ablation == "random" else 0.0
    known *= 0.4 if config.model.projector == "gelu-mlp" else 1.0
    return known * {"none": 1.0, "within": 1.0, "category": 1.0, "across": 0.1}[config.data.shuffle]


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    path.write_text(PLAN)
    return plan_file.read(path)


@pytest.fixture(scope="module")
def tables(plan):
    return planted(plan, strength, lacking=lambda run: run == "toy-shuffle-within-2")


@pytest.fixture(scope="module")
def drawn(tables):
    return answers(tables, "toy", DRAWS)[:2]


@pytest.mark.parametrize(
    ("key", "measure", "outcome"),
    [
        ("pretrained", "auroc", HOLDS),
        ("full.init", "auroc", HOLDS),
        ("random.init", "auroc", HOLDS),
        ("shuffle.coherence", "auroc", HOLDS),
        ("shuffle.coherent", "auroc", HOLDS),
        ("shuffle.truth", "auroc", FAILS),
        ("encoder", "auroc", HOLDS),
        ("projector", "auroc", FAILS),
        ("format", "auroc", UNDECIDED),
        ("systematic.init", "auroc", UNDECIDED),
        ("full.init", "transfer", HOLDS),
        ("shuffle.coherence", "transfer", HOLDS),
        ("encoder", "transfer", HOLDS),
    ],
)
def test_claims_come_out_as_planted(drawn, key, measure, outcome):
    (found,) = [one for one in drawn[1] if (one.claim.key, one.claim.measure) == (key, measure)]
    assert found.outcome == outcome, str(found)


def test_a_contrast_rests_on_the_seeds_that_both_have(tables):
    study = Study.of(tables, "toy", DRAWS)
    rows = contrast_table(study, tables).set_index(["key", "measure"])["seeds"]
    assert rows["shuffle.coherence", "auroc"] == rows["shuffle.coherence", "transfer"] == "0,1"
    assert rows["full.init", "auroc"] == "0,1,2"
    difference = study.contrast("toy-full-pretrained", "toy-full-random", "auroc")
    assert difference is not None
    assert difference["lower"] < difference["value"] < difference["upper"]


def test_a_contrast_rests_on_the_leaves_that_both_show(tables):
    lost = ["kind0-0", "kind3-1"]
    gone = tables.pictures["run"].str.startswith("toy-shuffle-category") & tables.pictures["leaf"].isin(lost)
    fewer = Study.of(replace(tables, pictures=tables.pictures[~gone]), "toy", DRAWS)
    everywhere = tables.pictures["leaf"].isin(lost)
    neither = Study.of(replace(tables, pictures=tables.pictures[~everywhere]), "toy", DRAWS)
    for measure in ("auroc", "leaf_naming"):
        pair = ("toy-full-pretrained", "toy-shuffle-category", measure)
        found, expected = fewer.contrast(*pair), neither.contrast(*pair)
        assert found is not None
        assert expected is not None
        assert found["n"] == expected["n"] == 48
        assert found["value"] == pytest.approx(expected["value"], abs=1e-12)


def test_a_contrast_of_lists_rests_on_the_hypernyms_of_the_shorter(tmp_path):
    lists = 'groups.systematic = { settings.data.ablation = "systematic", vary.data.fraction = [0.2, 0.6] }'
    (tmp_path / "plan.toml").write_text(f'name = "toy"\nseeds = [0, 1]\n{lists}\n')
    plan = plan_file.read(tmp_path / "plan.toml")
    study = Study.of(planted(plan, lambda config: config.data.fraction), "toy", DRAWS)
    found = study.contrast("toy-systematic.6", "toy-systematic.2", "auroc")
    means = []
    for one, other in zip(*(study.conditions[f"toy-systematic{size}"].answers for size in (".6", ".2"))):
        each = []
        for answers_of in (one, other):
            values, labels, leaves = answers_of.read(Part(scored="held_out"))
            each.append(ClusterAUROC(values, labels, leaves).value)
        shared = ~np.isnan(each[0]) & ~np.isnan(each[1])
        assert shared.sum() == 2 < (~np.isnan(each[0])).sum() == 6
        means.append((each[0] - each[1])[shared].mean())
    assert found is not None
    assert found["value"] == pytest.approx(np.mean(means), abs=1e-12)


def test_figures_show_the_scores_at_the_share_that_was_really_removed(tables, drawn):
    scores = Study.of(tables, "toy", DRAWS).scores()
    axes = drawn[0]["evidence"].axes[0]
    assert axes.get_title() == "hypernym AUROC"
    assert drawn[0]["evidence"].axes[2].get_xlabel() == "share of hypernym questions removed"
    lines = {line.get_label(): line for line in axes.get_lines()}
    pretrained = ["toy-random.5-pretrained", "toy-full-pretrained"]
    own = scores[(scores["measure"] == "auroc") & scores["condition"].isin(pretrained)]
    for label, baseline in (
        ("pretrained", ""),
        ("leaf's name in words", "gold"),
        ("linear probe, leaf seen", "probe"),
    ):
        rows = own[own["baseline"] == baseline].sort_values("effective")
        np.testing.assert_allclose(lines[label].get_xdata(), rows["effective"])
        np.testing.assert_allclose(lines[label].get_ydata(), rows["value"])
    assert set(own["effective"].round(1)) == {0.6, 1.0}  # of five leaves .5 takes three


def test_figures_of_shuffles_of_likeness_and_of_the_transfer(drawn):
    figures = drawn[0]
    assert set(figures) == {"evidence", "shuffles", "alike", "transfer", "onset", "cohesion"}
    names = [label.get_text() for label in figures["shuffles"].axes[0].get_yticklabels()]
    assert names == ["none", "within", "category", "across"]
    assert [axes.get_title() for axes in figures["shuffles"].axes] == [
        "hypernym AUROC", "leaf naming", "hypernym macro-F1", "AUROC by coherence",
    ]  # fmt: skip
    assert figures["shuffles"].axes[3].get_xlabel() == "realised coherence"
    assert figures["alike"].axes[0].get_yticklabels()[0].get_text() == "pretrained − random init"
    assert "bounds of equivalence, ±0.06" in " ".join(figures["alike"].texts[0].get_text().split())
    titles = [axes.get_title() for axes in figures["transfer"].axes if axes.get_visible()]
    assert titles == ["full", "random, pretrained", "shuffle", "encoder", "projector"]
    curve = {line.get_label(): line for line in figures["transfer"].axes[0].get_lines()}["pretrained"]
    np.testing.assert_allclose(np.asarray(curve.get_ydata())[[0, -1]], [0, 0.33], atol=1e-6)
    assert {axes.get_ylabel() for axes in figures["onset"].axes} >= {"first block detected"}


def test_every_column_of_panels_by_layer_has_its_blocks_and_legends_lie_over_no_curve(drawn):
    figure = drawn[0]["transfer"]
    with drawing.style():
        drawing.lay_out(figure)
    assert misprints(figure) == []
    shown = [axes for axes in figure.axes if axes.get_visible()]
    last = {axes.get_subplotspec().colspan.start: axes for axes in shown}  # pyright: ignore
    assert len(last) == 3
    assert {axes for axes in shown if axes.get_xlabel() == "block"} == set(last.values())
    for axes in last.values():
        assert any(text.get_visible() and text.get_text() for text in axes.get_xticklabels())
    for axes in shown:
        box = axes.get_legend().get_window_extent()
        for line in axes.get_lines():
            assert not any(box.contains(x, y) for x, y in axes.transData.transform(line.get_xydata()))


def test_legends_of_panels_by_layer_lie_above_curves_that_are_high_from_the_first_block_on():
    names = ["none", "within", "category", "across", "graded.25", "graded.5", "graded.75"]
    rows = pd.DataFrame(
        [(name, layer) for name in names for layer in range(6)], columns=["condition", "layer"]
    )
    rows = rows.assign(measure="selectivity", value=0.4, lower=0.3, upper=0.5, seeds="0", n=9)
    with drawing.style():
        figure = layer_figures.transfer(rows, {"shuffle": {name: name for name in names}})
        assert figure is not None
        drawing.lay_out(figure)
        figure.draw_without_rendering()
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_window_extent().y0 > axes.transData.transform((0, 0.5))[1]


def chance_lines(axes):
    """The points of the lines that are drawn as chance is."""
    return [np.asarray(line.get_xydata()) for line in axes.get_lines() if line.get_zorder() == CHANCE]


def test_chance_is_drawn_in_every_panel_of_scores(tables, drawn):
    scores = Study.of(tables, "toy", DRAWS).scores()
    scores = scores[scores["baseline"] == ""]
    naming = 1 / tables.runs["leaf_choices"].iloc[0]
    for axes, measure in zip(
        drawn[0]["evidence"].axes, ("auroc", "macro_f1", "top1", "leaf_naming"), strict=True
    ):
        (line,) = chance_lines(axes)
        assert len(line) == 2
        if measure != "macro_f1":
            own = scores[(scores["measure"] == measure) & (scores["condition"] == "toy-full-pretrained")]
            assert line[-1] == pytest.approx([1, own["chance"].iloc[0]])
    assert line[:, 1] == pytest.approx(naming)
    (line,) = chance_lines(drawn[0]["shuffles"].axes[1])
    assert line[:, 0] == pytest.approx(naming)


def test_chance_of_top1_is_that_of_a_scored_hypernym_where_a_true_one_is_scored(tables):
    condition = Study.of(tables, "toy", DRAWS).conditions["toy-random.5-pretrained"]
    values, labels, _ = condition.answers[0].read(condition.headline)
    shares = [
        own[~np.isnan(value)].mean() for value, own in zip(values, labels) if own[~np.isnan(value)].any()
    ]
    assert 0 < len(shares) < len(values)
    assert chance(condition, condition.headline, "top1") == pytest.approx(np.mean(shares))


def test_cohesion_is_a_mean_over_seeds_with_the_variance_of_leaves_and_of_seeds(plan, tables):
    rows = transfer.cohesion(tables, Study.of(tables, "toy", DRAWS).plan)
    last = rows[(rows["condition"] == "toy-full-pretrained") & (rows["layer"] == 5)].iloc[0]
    assert last["value"] == pytest.approx(0.33 + 0.01, abs=1e-6)
    t = scipy.stats.t.ppf(0.975, [49, 2])
    half = np.sqrt((t[0] * 0.1 / 1.96) ** 2 + (t[1] * 0.01 / np.sqrt(3)) ** 2)
    assert last["upper"] - last["value"] == pytest.approx(half, rel=1e-5)
    first = transfer.cohesion(tables, tables.plan[tables.plan["seed"] == 0])
    alone = first[(first["condition"] == "toy-full-pretrained") & (first["layer"] == 5)].iloc[0]
    assert (alone["value"], alone["upper"]) == pytest.approx((0.33, 0.43), abs=1e-6)


def test_heights_are_means_of_the_hypernyms_of_a_height(plan, tables):
    study = Study.of(tables, "toy", DRAWS)
    rows = study.heights(["toy-full-pretrained", "no such condition"])
    single, mean = rows[rows["hypernym"] != ""], rows[(rows["hypernym"] == "") & rows["height"].notna()]
    scores = study.scores()
    scores = scores[(scores["condition"] == "toy-full-pretrained") & (scores["baseline"] == "")]
    whole = scores[scores["measure"] == "auroc"].iloc[0]
    assert len(single) == 10
    assert mean["height"].tolist() == [1]
    np.testing.assert_allclose(
        mean[["value", "lower", "upper"]].to_numpy(float)[0],
        whole[["value", "lower", "upper"]].to_numpy(float),
    )
    assert single["value"].mean() == pytest.approx(whole["value"])
    assert np.isnan(rows.iloc[-1]["value"])  # all are of one height: nothing to correlate


def test_the_figure_of_heights_needs_two_of_them(tables):
    study = Study.of(tables, "toy", DRAWS)
    rows = study.heights(["toy-full-pretrained"])
    none = pd.DataFrame(columns=["condition"])
    numbers = Numbers(
        study.scores(), rows, contrast_table(study, tables), transfer.curves(tables, study.plan), none, none
    )
    members = {"full": {"pretrained": "toy-full-pretrained"}}
    assert "heights" not in draw(numbers, members, 0.06)
    higher = rows[rows["hypernym"] != ""].head(4).assign(height=3)
    two = pd.concat([rows, higher, rows.iloc[[-2]].assign(height=3, value=0.6)], ignore_index=True)
    axes = draw(replace(numbers, heights=two), members, 0.06)["heights"].axes[0]
    points = {line.get_marker(): line for line in axes.get_lines()}
    np.testing.assert_allclose(np.asarray(points["o"].get_xydata()), [[1, rows.iloc[-2]["value"]], [3, 0.6]])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "3"]


def test_published_curves_stand_in_the_panel_of_macro_f1(tables, tmp_path):
    rows = pd.DataFrame(
        {"lm": "a", "init": ["pretrained", "random"] * 2, "shuffle": ["none"] * 3 + ["across"]}
    )
    rows = rows.assign(effective=[1.0, 1.0, 0.2, 0.3], value=[0.7, 0.4, 0.5, 0.1], lower=0.0, upper=1.0, n=53)
    drawn, *_ = answers(tables, "toy", DRAWS, rows)
    crosses = [line for line in drawn["evidence"].axes[1].get_lines() if line.get_marker() == "x"]
    assert sorted(np.concatenate([line.get_ydata() for line in crosses])) == [0.4, 0.5, 0.7]
    assert "another world" in " ".join(drawn["evidence"].texts[-1].get_text().split())


def test_published_shuffles_stand_below_ours_at_the_share_that_is_nearest(tables):
    rows = pd.DataFrame(
        [
            ("a", "pretrained", "none", 0.2, 0.9), ("a", "pretrained", "none", 0.99, 0.7),
            ("b", "pretrained", "none", 1.0, 0.6),
            ("a", "pretrained", "across", 0.98, 0.4), ("a", "random", "none", 1.0, 0.5),
        ],
        columns=["lm", "init", "shuffle", "effective", "value"],
    ).assign(lower=0.0, upper=1.0, n=53)  # fmt: skip
    figure = answers(tables, "toy", DRAWS, rows)[0]["shuffles"]
    axes = figure.axes[2]
    crosses = {line.get_color(): line.get_xydata() for line in axes.get_lines() if line.get_marker() == "x"}
    assert set(crosses) == {drawing.colour("none"), drawing.colour("across")}
    assert sorted(crosses[drawing.colour("none")][:, 0]) == [0.6, 0.7]
    assert crosses[drawing.colour("across")].tolist() == [[0.4, pytest.approx(3.28)]]
    text = " ".join(figure.texts[-1].get_text().split())
    assert "Crosses: the published study" in text
    assert "at 0.98 to 1 of the evidence removed" in text
    plain = answers(tables, "toy", DRAWS)[0]["shuffles"]
    assert "Crosses" not in plain.texts[-1].get_text()


def test_tables_come_back_as_they_were_and_in_any_order(plan, tables, tmp_path):
    (tmp_path / "one").mkdir()
    tables.write(tmp_path / "one")
    again = Tables.read(tmp_path / "one")
    for name in ("runs", "pictures", "draws", "numbers", "readouts"):
        one, other = getattr(again, name), getattr(tables, name)
        for column in one:
            assert [*map(str, one[column].map(_plain))] == [*map(str, other[column].map(_plain))], (
                name,
                column,
            )
    assert again.runs.groupby("words").size().max() > 1, "read-outs that runs share are stored once"


def _plain(value):
    """A cell as plain data, of the precision that is stored."""
    if isinstance(value, (list, np.ndarray)):
        return np.asarray(value).tolist()
    return float(np.float32(value)) if isinstance(value, (float, int, np.number)) else value


def test_without_a_run_there_is_no_figure_and_every_claim_says_so(plan):
    figures, each, _ = answers(planted(plan, strength, lacking=lambda run: True), "toy", DRAWS)
    assert figures == {}
    assert {one.outcome for one in each} == {UNDECIDED}


def test_shares_that_were_removed_decide_what_levels_say(tmp_path):
    text = """name = "toy"
[equivalence]
auroc = 0.06
[groups.random.cases]
".2" = { data.ablation = "random", data.fraction = 0.2 }
".4" = { data.ablation = "random", data.fraction = 0.4 }
[groups.random]
vary.model.init = ["pretrained"]
[groups.full]
settings.data.ablation = "none"
vary.model.init = ["pretrained", "random"]
"""
    (tmp_path / "plan.toml").write_text(text)
    plan = plan_file.read(tmp_path / "plan.toml")
    tables = planted(plan, lambda config: 3.0)
    study = Study.of(tables, "toy", 20)
    found = verdicts(study.scores(), contrast_table(study, tables), study.members("full"), 0.06)
    because = {one.claim.key: one for one in found if one.claim.measure == "auroc"}
    for key, share in (("random.level", "40.0%"), ("pretrained", "0.0%"), ("full.init", "0.0%")):
        assert because[key].outcome == UNDECIDED
        assert f"trained without {share} only" in because[key].because


def test_the_transfer_is_shown_where_the_plan_was_probed(plan, tables):
    own, others = (
        replace(tables, numbers=tables.numbers.assign(span="slot"), draws=tables.draws.assign(span="slot")),
        tables.numbers.assign(run="other-" + tables.numbers["run"]),
    )
    own = replace(own, plan=own.plan[own.plan["group"] == "full"])
    beside = replace(own, numbers=pd.concat([own.numbers, others], ignore_index=True))
    for expected, found in zip(both(own), both(beside), strict=True):
        assert len(expected)
        pd.testing.assert_frame_equal(found, expected)


def both(tables):
    return transfer.curves(tables, tables.plan), transfer.size_rows(transfer.sizes(tables, tables.plan))


def test_runs_with_more_and_with_fewer_draws_are_averaged(tables):
    draws = tables.draws[tables.draws["run"].str.startswith("toy-full-pretrained")]
    whole = replace(tables, draws=draws)
    few = [own[:100] if run.endswith("-0") else own for run, own in zip(draws["run"], draws["deviations"])]
    curves = transfer.curves(replace(whole, draws=draws.assign(deviations=few)), tables.plan)
    expected = transfer.curves(whole, tables.plan)
    assert len(expected)
    np.testing.assert_allclose(curves["value"], expected["value"], atol=1e-6)


def test_without_bounds_the_figure_of_likeness_has_none(plan, tables):
    own = tables.plan[tables.plan["group"] == "encoder"].assign(equivalence=np.nan)
    figures, *_ = answers(replace(tables, plan=own), "toy", 10)
    note = " ".join(figures["alike"].texts[0].get_text().split())
    assert "no difference, dashed" in note
    assert "±" not in note
    assert not figures["alike"].axes[0].patches


def test_versions_that_made_the_runs_are_said_where_there_are_several(tables, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("analyses.study.answers", lambda tables, name, **_: ({}, [], []))
    for codes in (["0"], ["0", "1"]):
        names = np.resize(codes, len(tables.runs))
        replace(tables, runs=tables.runs.assign(code=names)).write(tmp_path)
        main(["--tables", str(tmp_path), "--out", str(tmp_path / "figures")])
        assert ("runs of several versions of taxoprobe: 0 (" in capsys.readouterr().out) == (len(codes) == 2)


def test_limits_of_sizes_end_where_auroc_does():
    sizes = pd.DataFrame([[0.95, 0.9, 0.99], [0.6, 0.55, 0.7]], index=[0, 1])
    row = transfer.size_rows({"one": sizes}).iloc[0]
    assert (row["lower"], row["upper"]) == (0.0, 1.0), "two seeds that differ by .3 exclude nothing"
    found = transfer.size_contrast(sizes, 1 - sizes)
    assert found is not None
    assert (found["lower"], found["upper"]) == (-1.0, 1.0)
