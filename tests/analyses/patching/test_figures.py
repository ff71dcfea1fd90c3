"""Patching figures and the summary read back: heat maps, dots, curves, heads and screens show what the table holds."""

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest

from analyses import patching
from analyses.patching.figures import COLOURS, NAMES
from analyses.patching.options import Options
from analyses.patching.rows import patching_table, screen_rows
from probing.patching import Cell
from probing.sites import Site
from tests.analyses import drawn
from tests.analyses.patching.planted_outcomes import HYPERNYMS, PAIRS, planted, whole

OPTIONS = Options(draws=40)
LAYERS = [1, 3, 4]
CELLS = whole(LAYERS)
SPANS = ["slot", "cue", "last"]
HEADS = [(3, 1, "slot"), (5, 7, "slot"), (3, 4, "cue"), (9, 7, "cue"), (5, 1, "cue")]
COUNTED = {("slot", 1.0), ("slot", 3.0), ("last", 4.0)}


def planted_table(cells, options=OPTIONS, seed=0, twin_donor=-1.0, **settings):
    """A table in which every cell and kind of state has numbers of its own."""
    rng = np.random.default_rng(seed)
    states = {kind: rng.normal(0, 2, len(cells)) for kind in options.kinds}
    results = {
        question: planted(cells, seed + at, options=options, **states, **settings)
        for at, question in enumerate(("hypernym", "leaf"))
    }
    alone = Options(kinds=())
    twins = {
        question: planted(
            cells, seed + 9, options=alone, clean=rng.normal(0, 1, len(cells)), donor=twin_donor
        )
        for question in results
    }
    return patching_table(results, PAIRS, cells, options, twins).assign(run="toy")


def counting(table, counted, target="leaf"):
    """The table with other cells that count: (span, layer) or (span, layer, head)."""
    keys = zip(table["span"], table["layer"], table["head"])
    chosen = [key[:2] in counted or key in counted for key in keys]
    own = (table["measure"] == "counts") & (table["target"] == target)
    return table.assign(value=np.where(own, np.array(chosen, float), table["value"]))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return drawn.reread(counting(planted_table(CELLS), COUNTED), tmp_path_factory.mktemp("patching"))


@pytest.fixture(scope="module")
def figures(table):
    return patching.draw(table)


def pick(table, **wanted):
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table


def said(figure):
    return " ".join(figure.texts[-1].get_text().split())


def assert_scaled(image, rows):
    """Red above 0, blue below, as far to either side as the largest number."""
    assert image.get_clim() == pytest.approx((-rows["value"].abs().max(), rows["value"].abs().max()))
    above, below = (
        matplotlib.colors.to_rgb(image.cmap(image.norm(end))) for end in (image.norm.vmax, image.norm.vmin)
    )
    assert above[0] > above[2]
    assert below[2] > below[0]


def bar_of(figure):
    (bar,) = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    return bar.get_ylabel()


def test_there_is_a_figure_for_each_question_and_point(figures):
    assert set(figures) == {
        f"{target}_hook_resid_post_{kind}" for target in ("hypernym", "leaf") for kind in ("grid", "curves")
    }


@pytest.mark.parametrize("target", ["hypernym", "leaf"])
def test_maps_show_the_fraction_of_every_kind_of_state_and_mark_the_cells_that_count(table, figures, target):
    figure = figures[f"{target}_hook_resid_post_grid"]
    rows = pick(table, target=target, measure="restored_fraction", split="all")
    shown = ["clean", "sibling", "stranger", "random"]
    panels = drawn.panels(figure)
    assert [panel.get_title(loc="left") for panel in panels] == [
        f"state from: {NAMES[kind]}" for kind in shown
    ]
    for kind, panel in zip(shown, panels):
        grid = (
            pick(rows, state=kind)
            .pivot(index="span", columns="layer", values="value")
            .reindex(index=SPANS[::-1], columns=drawn.every(LAYERS))
        )
        np.testing.assert_array_equal(drawn.cells(panel), grid)
        assert drawn.ticks(panel, "y") == dict(enumerate(SPANS[::-1]))
        assert_scaled(panel.images[0], rows)
        assert len(panel.lines) == (kind == "clean")
    assert drawn.ticks(panels[-1], "x") == {at - min(LAYERS): str(at) for at in drawn.every(LAYERS)}
    counts = pick(table, target=target, measure="counts").pivot(index="span", columns="layer", values="value")
    counts = counts.reindex(index=SPANS[::-1], columns=drawn.every(LAYERS))
    np.testing.assert_array_equal(drawn.marks(panels[0]), counts > 0)
    if target == "leaf":
        assert drawn.marks(panels[0]).sum() == len(COUNTED)
    assert bar_of(figure) == "restored fraction"


def test_under_a_map_stands_what_it_must_be_read_with(table, figures):
    for target in ("hypernym", "leaf"):
        text = said(figures[f"{target}_hook_resid_post_grid"])
        note = pick(table, target=target, measure="counts")["note"].iloc[0]
        assert f"n = {len(PAIRS)} leaf pairs between {HYPERNYMS} hypernyms, text-to-image, denoising." in text
        beaten = note.removeprefix("beats own, ").split(", ")
        states = "; ".join(["its own state", *(NAMES[one] for one in beaten)])
        assert f"a cell counts where it beats {states} (95 % band over all cells)" in text
        assert f"Not shown, since its two runs do not differ: {NAMES['random_init']}." in text
        assert "Windows" not in text
    differing = patching.draw(planted_table(CELLS, twin_donor=3.0))["leaf_hook_resid_post_grid"]
    assert "Not shown" not in said(differing)
    assert drawn.panels(differing)[-1].get_title(loc="left") == f"state from: {NAMES['random_init']}"
    never_run = table[table["state"] != "random_init"]
    assert "Not shown" not in said(patching.draw(never_run)["leaf_hook_resid_post_grid"])


def test_where_no_fraction_is_known_maps_show_effects():
    table = planted_table(CELLS, donor=-1.0)
    assert pick(table, measure="restored_fraction")["value"].isna().all()
    figure = patching.draw(table)["leaf_hook_resid_post_grid"]
    rows = pick(table, target="leaf", measure="effect", split="all")
    panels = drawn.panels(figure)
    assert len(panels) == 5
    grid = pick(rows, state="random_init").pivot(index="span", columns="layer", values="value")
    np.testing.assert_array_equal(
        drawn.cells(panels[-1]), grid.reindex(SPANS[::-1], columns=drawn.every(LAYERS))
    )
    assert_scaled(panels[0].images[0], rows)
    assert bar_of(figure) == "change of log-odds, nats"
    assert "Not shown" not in said(figure)


@pytest.mark.parametrize("target", ["hypernym", "leaf"])
def test_curves_are_effects_with_their_intervals_in_the_colour_of_their_state(table, figures, target):
    figure = figures[f"{target}_hook_resid_post_curves"]
    panels = drawn.panels(figure)
    assert [panel.get_title(loc="left") for panel in panels] == SPANS
    gap = pick(table, target=target, measure="gap")["value"].iloc[0]
    for span, panel in zip(SPANS, panels):
        for kind, colour in COLOURS.items():
            rows = pick(table, target=target, measure="effect", split="all", span=span, state=kind)
            drawn.assert_curve(panel, rows, colour)
        assert drawn.lines_drawn(panel) == len(COLOURS)
        levels = {
            float(np.ravel(line.get_ydata())[0]): line.is_dashed()
            for line in panel.lines
            if line.get_zorder() == 0.5
        }
        assert levels == {gap: False, 0.0: True}
    names = {NAMES[kind]: matplotlib.colors.to_hex(colour) for kind, colour in COLOURS.items()}
    assert drawn.legend(figure) == names
    assert panels[0].get_ylabel() == "change of the log-odds, nats"
    assert f"n = {len(PAIRS)} leaf pairs between {HYPERNYMS} hypernyms" in said(figure)


def test_kinds_of_states_are_told_by_colours_that_differ():
    assert set(COLOURS) == set(NAMES)
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_windows_are_drawn_at_their_last_layer():
    table = planted_table(whole([2, 3], point="hook_attn_out", window=2))
    figure = patching.draw(table)["leaf_hook_attn_out_grid"]
    assert drawn.ticks(drawn.panels(figure)[-1], "x") == {0: "2", 1: "3"}
    assert "Windows of blocks, named by their last. Dots: cells that count." in said(figure)


def test_points_are_drawn_apart():
    table = planted_table([*whole([1, 2]), *whole([1, 2], point="hook_mlp_out")])
    figures = patching.draw(table)
    assert len(figures) == 2 * 2 * 2
    for point in ("hook_resid_post", "hook_mlp_out"):
        rows = pick(table, target="leaf", measure="restored_fraction", split="all", state="clean")
        own = rows[rows["site"].str.endswith(point)]
        grid = own.pivot(index="span", columns="layer", values="value").loc[SPANS[::-1]]
        np.testing.assert_array_equal(drawn.cells(drawn.panels(figures[f"leaf_{point}_grid"])[0]), grid)


def test_heads_that_a_screen_left_stand_at_their_layer_and_head_in_every_panel(tmp_path):
    cells = [Cell((Site("attn.hook_z", layer),), span, head) for layer, head, span in HEADS]
    counted = {("slot", 5.0, "7"), ("cue", 3.0, "4"), ("cue", 5.0, "1")}
    table = drawn.reread(counting(planted_table(cells), counted), tmp_path)
    figures = patching.draw(table)
    assert set(figures) == {f"{target}_attn_hook_z_heads" for target in ("hypernym", "leaf")}
    panels = drawn.panels(figures["leaf_attn_hook_z_heads"])
    assert [panel.get_title(loc="left") for panel in panels] == ["slot", "cue"]
    rows = pick(table, target="leaf", measure="restored_fraction", state="clean", split="all")
    layers, heads = drawn.every([3, 5, 9]), [1, 4, 7]
    for panel in panels:
        span = panel.get_title(loc="left")
        values, dots = np.full((3, 7), np.nan), np.zeros((3, 7), bool)
        for row in pick(rows, span=span).to_dict("records"):
            at = heads.index(int(row["head"])), layers.index(row["layer"])
            values[at], dots[at] = row["value"], (span, row["layer"], row["head"]) in counted
        np.testing.assert_array_equal(drawn.cells(panel), values)
        np.testing.assert_array_equal(drawn.marks(panel), dots)
        assert drawn.ticks(panel, "y") == dict(enumerate(map(str, heads)))
        assert_scaled(panel.images[0], rows)
        assert panel.get_ylabel() == "head"
    assert drawn.ticks(panels[-1], "x") == dict(enumerate(map(str, layers)))


def screened(tmp_path):
    """A table in which a screen's attributions stand beside the effects of the cells that it left."""
    cells, rng = whole(range(6)), np.random.default_rng(0)
    attribution = rng.normal(0, 1, (len(cells), len(PAIRS)))
    screens = screen_rows(attribution, attribution[:7] + 0.1, range(7), PAIRS, cells, OPTIONS)
    return drawn.reread(
        pd.concat([screens.assign(run="toy"), planted_table(CELLS)], ignore_index=True), tmp_path
    )


def test_a_screen_shows_effects_over_attributions_with_both_intervals(tmp_path):
    table = screened(tmp_path)
    figure = patching.draw(table)["screen"]
    (axes,) = figure.axes
    known = pick(table, target="hypernym", state="clean", split="all").set_index(["span", "site"])
    attribution = known[known["measure"] == "attribution"]
    effect = known[known["measure"] == "effect"]
    assert [box.get_label() for box in axes.containers] == SPANS
    for box in axes.containers:
        points, _, (across, up) = box.lines
        rows = effect.loc[box.get_label()]
        screen = attribution.loc[box.get_label()].loc[rows.index]
        np.testing.assert_array_equal(points.get_xydata(), np.stack([screen["value"], rows["value"]], 1))
        for segments, limits, axis in ((across, screen, 0), (up, rows, 1)):
            ends = np.array(segments.get_segments())[:, :, axis]
            np.testing.assert_allclose(ends, limits[["lower", "upper"]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("attribution, nats", "effect of the patch, nats")
    ranks = pick(table, measure="rank_agreement").iloc[0]
    assert (
        f"Rank agreement {ranks['value']:.2f} [{ranks['lower']:.2f}, {ranks['upper']:.2f}] over 7 random cells "
        f"(95 %, over cells). n = {len(PAIRS)} leaf pairs between {HYPERNYMS} hypernyms."
    ) in said(figure)


def test_the_summary_s_numbers_are_those_of_the_table(table, tmp_path):
    lines = patching.summary(table).splitlines()
    assert lines[0] == "Patching text-to-image, denoising, toy:"
    at = 1
    for target in ("hypernym", "leaf"):
        gap = pick(table, target=target, measure="gap").iloc[0]
        numbers = f"{gap['value']:.2f} [{gap['lower']:.2f}, {gap['upper']:.2f}] nats"
        assert (
            lines[at] == f"  {target}: the two runs differ by {numbers}, n = {len(PAIRS)} leaf pairs "
            f"between {HYPERNYMS} hypernyms"
        )
        for shift, span in enumerate(SPANS, start=1):
            rows = pick(table, target=target, span=span, measure="effect", state="clean", split="all")
            best = rows.loc[rows["value"].idxmax()]
            counted = pick(table, target=target, span=span, measure="counts", value=1.0)["layers"].tolist()
            numbers = f"{best['value']:+.2f} [{best['lower']:+.2f}, {best['upper']:+.2f}] nats"
            layers = f": blocks {', '.join(counted)}" if counted else ""
            assert lines[at + shift] == (
                f"  {target:8} {span:5} most at {best['site']}: {numbers}; counts at {len(counted)} of 3 cells{layers}"
            )
        at += 4
    assert len(lines) == at
    assert "leaf     slot  " in lines[6]
    assert lines[6].endswith("counts at 2 of 3 cells: blocks 1, 3")
    assert lines[7].endswith("counts at 0 of 3 cells")
    ranks = pick(screened(tmp_path), measure="rank_agreement").iloc[0]
    assert patching.summary(screened(tmp_path)).splitlines()[-1] == (
        f"  attribution ranks cells as patches do: {ranks['value']:.2f} [{ranks['lower']:.2f}, {ranks['upper']:.2f}] "
        "over 7 cells"
    )


def test_the_summary_names_the_best_head():
    cells = [Cell((Site("attn.hook_z", layer),), span, head) for layer, head, span in HEADS]
    table = planted_table(cells)
    rows = pick(table, target="leaf", span="cue", measure="effect", state="clean", split="all")
    best = rows.loc[rows["value"].idxmax()]
    assert f"most at {best['site']} head {best['head']}: {best['value']:+.2f}" in patching.summary(table)
