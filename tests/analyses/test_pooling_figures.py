"""Figures of pooled effects: all heads, MLPs and routes of circuits in few maps, and nothing left out unsaid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analyses.circuits.effects import circuits_effects
from analyses.circuits.routes import Route
from analyses.pooling.figures import draw
from analyses.pooling.groups import Group, contrasts_of
from analyses.pooling.rows import pooled_table
from probing.patching.circuits import HeadOrMLP
from taxogen.world.taxonomy import Taxonomy

LAYERS, HEADS = 6, 3
PARTS = [HeadOrMLP(layer, head) for layer in range(LAYERS) for head in (*range(HEADS), None)]
ROUTES = [
    *(Route("slot", "cue", of, to) for of in ("embedding", "0-2", "3-5") for to in ("0-2", "3-5")),
    *(Route("last", "answer", of, "answer") for of in ("0-2", "3-5")),
]
TAXONOMY = Taxonomy(
    (
        *((f"leaf {at}{end}", f"kind {at}") for at in range(4) for end in "abc"),
        *((f"kind {at}", "being") for at in range(4)),
    )
)


def circuits_group(seeds: int = 2) -> Group:
    """Runs with a contribution of every head and MLP and a loss by every route, pictures and words."""
    effects = circuits_effects(*halves_of_leaves(), [str(part) for part in PARTS], ROUTES, TAXONOMY)
    values = np.stack([effects.values * (1 + 0.1 * seed) for seed in range(seeds)]).astype(float)
    about = {"init": "", "shuffle": "", "encoder": "", "lm": "", "evidence": "", "other": ""}
    names = tuple(f"run {seed}" for seed in range(seeds))
    return Group("one", about, tuple(range(seeds)), names, effects.cells, effects.units, values)


def halves_of_leaves():
    """Searches and paths of two halves of the leaves, which are in another order in each modality."""
    rng, leaves = np.random.default_rng(0), np.array(TAXONOMY.leaves)
    searches, paths = {}, {}
    for modality in ("text", "image"):
        order = rng.permutation(len(leaves))
        for half in (0, 1):
            own = leaves[order[half::2]]
            number = np.array([TAXONOMY.leaves.index(leaf) for leaf in own])
            searches[modality, half] = {
                "contributions": np.arange(len(PARTS))[:, None] + 0.01 * number,
                "leaves": own,
            }
            paths[modality, half] = {"losses": np.arange(len(ROUTES))[:, None] + 0.01 * number, "leaves": own}
    return searches, paths


def drawn(panel) -> np.ndarray:
    """The numbers of a heat map, NaN where it is grey."""
    return np.ma.filled(np.ma.asarray(panel.images[0].get_array(), float), np.nan)


def test_effects_of_circuits_name_heads_and_draw_leaves_by_their_most_special_hypernym():
    effects = circuits_effects(*halves_of_leaves(), [str(part) for part in PARTS], ROUTES, TAXONOMY)
    assert effects.units["hypernym"].tolist() == [f"kind {leaf[5]}" for leaf in effects.units["leaf"]]
    number = [TAXONOMY.leaves.index(leaf) for leaf in effects.units["leaf"]]
    of = effects.cells.assign(at=range(len(effects.cells)))
    for modality in ("text", "image"):
        rows = of[(of["modality"] == modality) & (of["measure"] == "contribution")]
        assert rows["head"].tolist() == ["0", "1", "2", "MLP"] * LAYERS
        expected = np.arange(len(PARTS))[:, None] + 0.01 * np.array(number)
        assert effects.values[rows["at"]] == pytest.approx(expected)
    routes = of[of["measure"] == "loss"]
    assert (routes["head"] == "").all()
    assert routes["receiver"].tolist() == [route.to for route in ROUTES] * 2


def test_every_head_mlp_and_route_of_pooled_circuits_is_drawn_in_few_figures():
    group = circuits_group()
    table = pooled_table([group], contrasts_of([group], ()), "circuits", 20, 0)
    figures = draw(table)
    assert (
        len(figures) == 2 * 3 * 2
    )  # a forest and a map of words, pictures and their difference; heads and routes
    means = table[(table["statistic"] == "mean") & (table["kind"] == "condition")]
    for modality in ("text", "image"):
        rows = means[means["modality"] == modality]
        for measure, count in (("contribution", len(PARTS)), ("loss", len(ROUTES))):
            cells = "heads" if measure == "contribution" else "routes"
            name = f"map_{modality}_hypernym_{measure}_{cells}"
            panels = [axes for axes in figures[name].axes if axes.images]
            shown = np.concatenate([drawn(panel).ravel() for panel in panels])
            shown = np.sort(shown[~np.isnan(shown)])
            assert len(shown) == count
            assert shown == pytest.approx(np.sort(rows.loc[rows["measure"] == measure, "value"]))
            text = figures[name].texts[0].get_text()
            assert "table alone" not in text
    (heads,) = (axes for axes in figures["map_text_hypernym_contribution_heads"].axes if axes.images)
    assert [label.get_text() for label in heads.get_yticklabels()] == ["0", "1", "2", "MLP"]
    assert drawn(heads)[1, 2] == pytest.approx(PARTS.index(HeadOrMLP(2, 1)), abs=1.5)
    paths = [axes for axes in figures["map_text_hypernym_loss_routes"].axes if axes.images]
    assert [axes.get_title(loc="left").splitlines()[-1] for axes in paths] == ["slot → cue", "last → answer"]
    forest = figures["forest_text_hypernym_loss_routes"]
    assert [axes.get_title(loc="left") for axes in forest.axes] == [
        "slot → cue, 3-5 to 3-5",
        "last → answer, 3-5 to answer",
    ]
    assert all(
        len(axes.lines) == 2 * 3 + 1 for axes in forest.axes
    )  # of two runs and the condition one route each


def test_a_map_has_one_kind_of_site_and_tells_what_it_leaves_out():
    sites = [
        (f"blocks.{layer}.{point}", str(layer))
        for layer in range(2)
        for point in ("hook_resid_post", "hook_attn_out")
    ]
    sites += [("blocks.1.hook_attn_out", "0-1"), ("ln_final.hook_normalized", "")]
    cells = pd.DataFrame(sites, columns=["site", "layers"]).assign(
        target="hypernym", measure="effect", state="clean", span="cue", head="", modality=""
    )
    units = pd.DataFrame(
        {"leaf": [f"leaf {at}" for at in range(8)], "hypernym": [f"kind {at // 2}" for at in range(8)]}
    )
    values = np.arange(1.0, 7)[None, :, None] + 0.1 * np.random.default_rng(0).normal(size=(2, 6, 8))
    group = replace(circuits_group(), cells=cells, units=units, values=values)
    figures = draw(pooled_table([group], [], "patching", 20, 0))
    maps = {name: figure for name, figure in figures.items() if name.startswith("map_")}
    assert set(maps) == {"map_hypernym_effect_hook_resid_post", "map_hypernym_effect_hook_attn_out"}
    assert all(figure.axes[-1].get_ylabel() == "effect (nats)" for figure in maps.values())
    for (name, figure), expected in zip(maps.items(), ([1, 3], [2, 4])):
        assert drawn(figure.axes[0])[0] == pytest.approx(expected, abs=0.2), name
        text = " ".join(figure.texts[0].get_text().split())
        assert ("Cells in the table alone, of wider windows or without a block: 1." in text) == name.endswith(
            "attn_out"
        )


def test_a_window_is_as_wide_as_its_layers_and_has_one_dot():
    cells = pd.DataFrame(
        [
            ("blocks.2.hook_attn_out", "2-4"),
            ("blocks.5.hook_attn_out", "5-9"),
            ("blocks.2.hook_attn_out", "2-9"),
        ],
        columns=["site", "layers"],
    ).assign(target="hypernym", measure="change", state="", span="slot → last", head="", modality="")
    units = pd.DataFrame(
        {"leaf": [f"leaf {at}" for at in range(8)], "hypernym": [f"kind {at // 2}" for at in range(8)]}
    )
    values = np.array([1.0, 3, 9])[None, :, None] + 0.1 * np.random.default_rng(0).normal(size=(2, 3, 8))
    group = replace(circuits_group(), cells=cells, units=units, values=values)
    table = pooled_table([group], [], "patching", 20, 0)
    table["stands"] = True
    figure = draw(table)["map_hypernym_change"]
    (axes, *_) = figure.axes
    assert drawn(axes)[0] == pytest.approx([1] * 3 + [3] * 5, abs=0.2)
    assert axes.lines[0].get_xdata().tolist() == [1, 5]  # the middle of each, counted from layer 2
    assert axes.get_xticklabels()[0].get_text() == "2"
    text = " ".join(figure.texts[0].get_text().split())
    assert "dots: 0 and every placebo" in text
    assert "Grey" not in text  # every layer lies in a window
    table = table[table["layers"] != "2-9"].assign(stands=False, layers=["2-3", "5-9"] * (len(table) // 3))
    text = " ".join(draw(table)["map_hypernym_change"].texts[0].get_text().split())
    assert "dots" not in text
    assert "Grey: places that were not asked." in text  # layer 4
