"""Evidence side by side: planted onsets and agreement come back, what shares leaves is drawn together, nothing is said
that intervals do not support."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analyses import cohesion, emergence, knockout, patching
from analyses.emergence import evidence as side
from analyses.emergence.effects import LeafDraws, effect_curves
from analyses.emergence.sentences import sentences
from analyses.frame import provenance, tables
from analyses.frame.section import Grid, Lines, Shown
from analyses.inputs.effects import Effects, effects_file, write_effects
from analyses.inputs.probe_curves import Condition, write_draws
from probing.probes.evaluate import Series
from probing.stats import Estimate, draw_weights
from taxogen.runs.config import Config
from taxogen.runs.run import Run
from tests.analyses import drawn

DEPTH, DRAWS = 12, 200
LEAVES = [f"leaf {at:02}" for at in range(60)]
HYPERNYMS = [f"kind {at % 10}" for at in range(60)]
SITES = ("hook_embed", *(f"blocks.{layer}.hook_resid_post" for layer in range(DEPTH)))
LAYERS = np.arange(-1.0, DEPTH)


@pytest.fixture(scope="module", autouse=True)
def untrained():
    """Runs that were never trained have makers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "makers", lambda run, step=None: {"run": run.config.hash})
        yield


def probed_run(path: Path, seed: int = 0, init: str = "pretrained", first: int = 4) -> Run:
    """A run whose picture probes at the cue begin at a block, and those of words at the input."""
    settings = Config()
    run = Run(path, replace(settings, seed=seed, model=replace(settings.model, init=init)))
    folder = run.folder("analyses", "layer_probes")
    weights = draw_weights(len(LEAVES), DRAWS, 0)
    noise = (weights / weights.sum(axis=1, keepdims=True)) @ np.random.default_rng(seed).normal(
        0, 0.1, len(LEAVES)
    )
    curves, rows = {}, []
    for step, modality, begins in ((0, "image", 99), (10, "image", first), (10, "text→image", first + 1)):
        level = np.where(begins <= LAYERS, 0.4, -0.2)  # below its control, where it does not hold
        drawn = level + noise[:, None]
        series = Series(0.5 + level, 0.5 + drawn, level, drawn, np.empty((0, len(level))))
        condition = Condition(step, "cue", modality, "ridge")
        curves[condition] = (SITES, {"mean": series})
        common = {
            **condition._asdict(),
            "target": "mean",
            "n": len(LEAVES),
            "analysis": "layer_probes",
            "run": "",
        }
        common |= {"split": "leaf", "seed": 0, "lower": np.nan, "upper": np.nan}
        rows += [
            {**common, "site": site, "layer": layer, "measure": "selectivity", "value": value}
            for site, layer, value in zip(SITES, LAYERS, level)
        ]
        place = float(begins) if begins < DEPTH else np.nan
        for name in ("onset", "half_rise"):
            rows.append(
                {
                    **common,
                    "site": "",
                    "layer": np.nan,
                    "measure": name,
                    "value": place,
                    "lower": place,
                    "upper": place,
                }
            )
    pd.DataFrame(rows).to_parquet(folder / "layer_probes.parquet")
    write_draws(folder / "draws.h5", LEAVES, curves, run.name)
    return run


PAIRS = pd.DataFrame(
    {"clean": LEAVES, "corrupted": np.roll(LEAVES, 7), "up": HYPERNYMS, "down": np.roll(HYPERNYMS, 7)}
)
SINGLE = pd.DataFrame({"leaf": LEAVES, "hypernym": HYPERNYMS})


def store(
    run: Run, analysis, cells: pd.DataFrame, level: np.ndarray, units: pd.DataFrame, noise: float = 0.3
) -> None:
    """Stores effects of these means, as the analysis would."""
    options = analysis.ANALYSIS.options()
    name = analysis.ANALYSIS.table_name_of(options)
    made_from = provenance.made_from(analysis.ANALYSIS, [run], options)
    folder = run.folder("analyses", analysis.ANALYSIS.name)
    tables.save(pd.DataFrame({"value": [1.0]}), folder, name, made_from)
    values = level[:, None] + np.random.default_rng(run.config.seed).normal(
        0, noise, (len(level), len(units))
    )
    write_effects(
        folder / effects_file(analysis.ANALYSIS.name, name), Effects(cells, units, values), made_from
    )


def patched(run: Run, first: int, placebo: int = 99) -> None:
    """Patches at every other block: at the slot they count until a block, at the last token from it on."""
    cells, level = [], []
    for span, state in (("slot", "clean"), ("last", "clean"), ("slot", "stranger"), ("last", "stranger")):
        for layer in range(0, DEPTH, 2):
            labels = {
                "target": "hypernym",
                "site": SITES[layer + 1],
                "span": span,
                "layers": str(layer),
                "head": "",
            }
            cells.append({**labels, "measure": "effect" if state == "clean" else "excess", "state": state})
            own = layer < first if span == "slot" else layer >= first
            by_placebo = span == "last" and layer >= placebo
            level.append(2.0 * own - 2.0 * (state != "clean" and by_placebo and own))
    store(run, patching, pd.DataFrame(cells), np.array(level), PAIRS)


def test_patching_begins_ends_and_crosses_over_where_it_was_planted(tmp_path):
    run = probed_run(tmp_path / "a")
    patched(run, 6)
    curves = effect_curves(patching.ALONG_LAYERS[0], patching.ANALYSIS, [run], LeafDraws(LEAVES, DRAWS, 0))
    of = {(one.kind, one.place): one.places() for one in curves if not one.control}
    assert {name: number.value for name, number in of["patching", "slot"].items()} == {
        "onset": 0,
        "half_rise": 0,
        "end": 4,
    }
    assert {name: number.value for name, number in of["patching", "last"].items()} == {
        "onset": 6,
        "half_rise": 6,
        "end": 10,
    }
    crossing = of["patching: last over slot", "last"]["onset"]
    assert (crossing.value, crossing.lower, crossing.upper, crossing.n) == (6, 6, 6, 60)
    placebos = [one for one in curves if one.control == "stranger"]
    assert {one.place for one in placebos} == {"slot", "last"}
    assert all(np.isnan(one.places()["onset"].value) for one in placebos)


def test_what_a_placebo_has_too_does_not_count(tmp_path):
    run = probed_run(tmp_path / "a")
    patched(run, 6, placebo=8)
    curves = effect_curves(patching.ALONG_LAYERS[0], patching.ANALYSIS, [run], LeafDraws(LEAVES, DRAWS, 0))
    own, placebo = (
        next(c for c in curves if c.place == "last" and c.control == name) for name in ("", "stranger")
    )
    assert own.places()["end"].value == 6
    assert placebo.places()["onset"].value == 8


def test_windows_count_by_their_middle_a_loss_is_evidence_and_a_path_ends_somewhere(tmp_path):
    run = probed_run(tmp_path / "a")
    windows = ["0-3", "4-7", "8-11", "0-11"]
    cells = pd.DataFrame(
        [
            {"target": "hypernym", "site": f"blocks.{window.split('-')[0]}.hook_attn_out", "span": path}
            | {"measure": "margin_change", "state": state, "layers": window}
            for path in ("slot → cue", "slot → cue, last")
            for state in ("", "placebo")
            for window in windows
        ]
    )
    store(run, knockout, cells, np.array([0, -2, 0, -3] * 4), SINGLE)
    curves = effect_curves(knockout.ALONG_LAYERS[0], knockout.ANALYSIS, [run], LeafDraws(LEAVES, DRAWS, 0))
    own = [one for one in curves if not one.control]
    assert [(one.kind, one.place) for one in own] == [
        ("knock-out, slot → cue", "cue"),
        ("knock-out, slot → cue, last", "last"),
    ]
    for one in own:
        assert one.layers.tolist() == [1.5, 5.5, 9.5]
        assert one.value == pytest.approx([0, 2, 0], abs=0.2)
        assert {name: number.value for name, number in one.places().items()} == dict.fromkeys(
            ("onset", "half_rise", "end"), 5.5
        )


def test_leaves_are_drawn_as_probes_drew_them_whichever_units_a_kind_has():
    weights = LeafDraws(LEAVES, DRAWS, 3)
    drawn = draw_weights(len(LEAVES), DRAWS, 3)
    np.testing.assert_array_equal(weights.of(SINGLE[10:30]), drawn[:, 10:30])
    np.testing.assert_array_equal(weights.of(PAIRS), drawn * np.roll(drawn, 7, axis=1))
    other = weights.of(pd.DataFrame({"leaf": ["another", LEAVES[0]], "hypernym": ["kind 0"] * 2}))
    np.testing.assert_array_equal(other[:, 1], drawn[:, 0])
    np.testing.assert_array_equal(
        weights.of(pd.DataFrame({"leaf": ["another"], "hypernym": ["kind 0"]})), other[:, :1]
    )


def cohesive(run: Run, first: int) -> None:
    """A table of cohesion: pictures from a block on, across modalities three blocks later."""
    rows = []
    for modality, begins in (("image", first), ("image~text", first + 3)):
        for site, layer in zip(SITES, LAYERS):
            labels = {"site": site, "span": "cue", "modality": modality, "target": "mean", "step": 10}
            labels |= {"treatment": "raw"}
            value = 0.3 if layer >= begins else 0.05
            rows.append(tables.row("cohesion", Estimate(value, value - 0.02, value + 0.02, 60), **labels))
            rows.append(tables.row("cohesion_null_limit", 0.1, 60, **labels))
            rows.append(tables.row("cohesion_p_corrected", 0.01 if layer >= begins else 0.9, 60, **labels))
    options = cohesion.Options()
    made_from = provenance.made_from(cohesion.ANALYSIS, [run], options)
    tables.save(tables.table(rows, "cohesion", 0), run.folder("analyses", "cohesion"), "cohesion", made_from)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two seeds of one condition, and a random-init run that was only probed."""
    folder = tmp_path_factory.mktemp("evidence")
    for name, seed in (("a", 0), ("b", 1)):
        run = probed_run(folder / name, seed)
        patched(run, 6)
        cohesive(run, 5)
    return folder


@pytest.fixture(scope="module")
def table(folder):
    """Their evidence, read from disk."""
    runs = [Run(folder / name, replace(Config(), seed=seed)) for seed, name in enumerate("ab")]
    runs.append(probed_run(folder / "c", 0, init="random", first=99))
    table = emergence.compute(runs, emergence.Options()).extras.tables[side.TABLE]
    return drawn.reread(table, folder)


def test_the_table_has_every_kind_of_each_condition_with_its_place_and_what_is_missing(table, folder):
    rows = table[(table["control"] == "") & (table["step"] == 10)]
    of = rows.set_index(["condition", "span", "kind", "measure"])[["value", "seeds", "interval", "share"]]
    expected = {
        ("cue", "picture probe"): (4, 2, "stored", 5 / 12),
        ("cue", "transfer probe"): (5, 2, "stored", 6 / 12),
        ("cue", "cohesion"): (5, 2, "limits", 6 / 12),
        ("cue", "cross-modal cohesion"): (8, 2, "limits", 9 / 12),
        ("last", "patching"): (6, 2, "draws", 7 / 12),
        ("last", "patching: last over slot"): (6, 2, "draws", 7 / 12),
    }
    for (place, kind), numbers in expected.items():
        assert tuple(of.loc[("pretrained", place, kind, "onset")]) == pytest.approx(numbers), kind
    assert np.isnan(of.loc[("random_init", "cue", "picture probe", "onset"), "value"])
    missing = table[table["measure"] == "missing"]
    notes = missing[missing["condition"] == "random_init"].set_index("kind")["note"]
    assert (
        notes["patching"] == "python -m analyses.patching --run c"
    )  # not the folder: equal tables wherever runs lie
    assert notes["cross-modal cohesion"] == "python -m analyses.cohesion --run c"
    assert set(missing[missing["condition"] == "pretrained"]["kind"]) == {
        *("CKA with the word", "erasure", "heads and MLPs", "interchange, pictures", "interchange, words"),
        *("knock-out", "logit lens"),
    }
    at_cue = table[(table["measure"] == "within") & (table["span"] == "cue") & (table["of"] == "onset")]
    at_cue = at_cue[(at_cue["about"] == "all")].set_index("kind")
    assert at_cue.loc["picture probe; transfer probe", "value"] == 1
    assert at_cue.loc[
        "picture probe; transfer probe; cohesion; cross-modal cohesion", "upper"
    ] == pytest.approx(0.1)


def test_a_kind_that_only_some_seeds_have_is_of_these_and_the_others_are_named(tmp_path):
    runs = [probed_run(tmp_path / name, seed) for seed, name in enumerate("ab")]
    patched(runs[1], 6)
    rows = emergence.compute(runs, emergence.Options()).extras.tables[side.TABLE]
    own = rows[(rows["kind"] == "patching") & (rows["span"] == "last") & (rows["control"] == "")]
    assert own[own["measure"] == "onset"][["value", "seeds"]].to_numpy().tolist() == [[6, 1]]
    missing = rows[(rows["kind"] == "patching") & (rows["measure"] == "missing")]
    assert missing["note"].tolist() == ["python -m analyses.patching --run a"]
    assert "pretrained: not of all seeds: patching" in sentences(rows)


def test_effects_that_do_not_fit_their_run_are_left_out_with_the_reason(tmp_path):
    run = probed_run(tmp_path / "a")
    patched(run, 6)
    path = tmp_path / "a" / "analyses" / "patching" / "text-to-image-denoising-effects.h5"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    found = emergence.compute([run], emergence.Options()).extras.tables[side.TABLE]
    note = found[(found["measure"] == "missing") & (found["kind"] == "patching")]["note"].item()
    assert "is damaged" in note
    assert str(tmp_path) not in note
    assert "python -m analyses.patching" in note
    assert not ((found["kind"] == "patching") & (found["measure"] == "onset")).any()


def test_sentences_are_those_that_the_table_supports(table):
    said = sentences(table)
    assert (
        "pretrained: at the cue: picture probe from block 4 [4, 4]; transfer probe from block 5 [5, 5]; "
        "cohesion from block 5 [5, 5]; cross-modal cohesion from block 8 [8, 8]"
    ) in said
    assert (
        "pretrained: at the cue: onsets of picture probe and transfer probe are spread over 1 block [1, 1]; they lie "
        "within 2 blocks (probability 1.00)"
    ) in said
    last = "at the last token: patching from block 6 [6, 6] to block 10; patching: last over slot from block 6 [6, 6]"
    assert f"pretrained: {last}" in said
    assert "random init: at the cue: nothing is detected by picture probe and transfer probe" in said
    assert any("pretrained: not asked" in line and "erasure" in line for line in said)
    before = table[table["measure"] == "before"]
    ordered = before[before["lower"] > 0]["kind"].str.split("; ").tolist()
    assert ordered
    for first, second in ordered:
        assert any(f" of {first} is before that of " in line and f"{second} by " in line for line in said)
    controls = table.assign(control=table["control"].where(table["control"] == "", "random_norm"))
    controls.loc[controls["control"] != "", "value"] = 1.0
    assert any("detected too: random change of equal norm of " in line for line in sentences(controls))
    unsure = table.assign(lower=table["lower"].where(table["measure"] != "before", 0.0))
    assert not any(" is before that of " in line for line in sentences(unsure))


def test_the_figure_has_a_row_for_each_kind_a_panel_for_each_place_and_its_controls(table):
    figures = emergence.draw(table)
    assert set(figures) == {"pretrained", "random_init"}
    figure = figures["pretrained"]
    grid = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in grid] == ["at the picture's slot", "at the cue", "at the last token"]
    kinds = [label.get_text() for label in grid[0].get_yticklabels()]
    assert kinds == [
        *("picture probe", "cohesion", "transfer probe", "cross-modal cohesion"),
        *("patching", "patching: last over slot"),
    ]
    marks = {
        (round(float(np.asarray(line.get_ydata())[0]) + 0.08), line.get_marker()): float(
            np.asarray(line.get_xdata())[0]
        )
        for line in grid[1].lines
        if line.get_marker() in ("o", "D") and line.get_markeredgecolor() == "black"
    }
    places = {"picture probe": 4, "cohesion": 5, "transfer probe": 5, "cross-modal cohesion": 8}
    assert marks == {(kinds.index(kind), mark): at for kind, at in places.items() for mark in ("o", "D")}
    grey = [
        line for line in grid[1].lines if line.get_marker() == "s"
    ]  # random init: never, at the right edge
    assert sorted(round(line.get_ydata()[0] - 0.32) for line in grey) == [0, 2]
    assert {line.get_xdata()[0] for line in grey} == {DEPTH - 1 + 1.2}
    footnote = figure.texts[-1].get_text().replace("\n", " ")
    assert ", 2 seeds." in footnote
    one = (table["kind"] == "cohesion") & (table["condition"] == "pretrained")
    fewer = emergence.draw(table.assign(seeds=table["seeds"].mask(one, 1)))["pretrained"]
    assert ", 1 to 2 seeds." in fewer.texts[-1].get_text().replace("\n", " ")
    assert "Not asked: " in footnote


def test_the_section_has_the_figures_where_kinds_begin_and_the_commands_for_those_that_are_missing(table):
    blocks = emergence.section(table)
    assert [block.figure for block in blocks if isinstance(block, Shown)] == list(emergence.draw(table))
    begins, missing = (block for block in blocks if isinstance(block, Grid))
    rows = {tuple(row[:3]): list(row[4:]) for row in begins.rows}
    assert rows["pretrained", "at the cue", "transfer probe"] == ["5 [5, 5]", "0.50", "5 [5, 5]", "60"]
    assert rows["random_init", "at the cue", "picture probe"] == ["none", "–", "–", "60"]
    assert ("random_init", "patching") in {tuple(row[:2]) for row in missing.rows}
    assert "\n".join(sentences(table)) in [block.text for block in blocks if isinstance(block, Lines)]
