"""Figures and summary of layer probes, read back: every curve, cell, band and number stands in the table."""

import itertools

import numpy as np
import pandas as pd
import pytest

from analyses.frame import drawing
from analyses.frame.tables import NO_STEP, layer_of
from analyses.inputs.probe_curves import ENCODER_LAYER
from analyses.layer_probes import draw
from analyses.layer_probes.contrasts import contrast_summary
from analyses.layer_probes.rows import summary
from analyses.layer_probes.table import COLUMNS
from tests.analyses import drawn

STREAM = ("hook_embed", *(f"blocks.{layer}.hook_resid_post" for layer in range(4)))
PARTS = ("blocks.1.hook_attn_out", "blocks.3.hook_attn_out", "blocks.0.hook_mlp_out", "blocks.2.hook_mlp_out")
HEADS = tuple(f"blocks.{layer}.attn.hook_z#{head}" for layer in (1, 3) for head in range(3))
FINAL = "ln_final.hook_normalized"
TARGETS = ("mean", "mean of seen", "mean of held-out", "bird", "seen from afar", "tool")
MODALITIES = {
    "image": "pictures",
    "text": "text",
    "text→image": "text → pictures",
    "image→text": "pictures → text",
}
SPANS = ("slot", "last")
STEPS = (0, 30, 9)  # not in order, so that "the last" is the largest and not the last that is listed


def planned(sites, steps=STEPS):
    """A row for everything that layer probes tell at these sites, without its number."""
    rows = []
    for span, modality, target in itertools.product(SPANS, MODALITIES, TARGETS):
        for step in (NO_STEP,) if modality == "text" else steps:
            probes = ("ridge", "ridge, centred") if "→" in modality else ("ridge",)
            for probe in probes:
                labels = {"span": span, "modality": modality, "target": target, "step": step, "probe": probe}
                own = (*sites, "encoder") if (span, modality) == ("slot", "image") else sites
                measures = (
                    ("auroc", "control_auroc", "selectivity") if target.startswith("mean") else ("auroc",)
                )
                rows += [labels | {"site": site, "measure": name} for site in own for name in measures]
                rows.append(labels | {"site": "", "measure": "onset"})
    return rows


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """All that a run with parts and heads can give, no number twice, read from disk."""
    frame = pd.DataFrame(planned((*STREAM, *PARTS, *HEADS, FINAL)))
    frame["layer"] = [layer_of(site, ENCODER_LAYER) if site else np.nan for site in frame["site"]]
    having = frame["target"].map({"bird": 7, "seen from afar": 12, "tool": 3}).fillna(31).astype(int)
    frame = frame.assign(run="toy", analysis="layer_probes", split="leaf", n=having, seed=0)
    frame = drawn.distinct(frame)
    onset = frame["measure"] == "onset"
    limits = np.tile([[2.0, 1.0, 3.0], [1.0, 0.0, np.inf], [3.0, 3.0, 3.0]], (len(frame), 1))[: onset.sum()]
    frame.loc[onset, ["value", "lower", "upper"]] = limits
    return drawn.reread(frame[list(COLUMNS)], tmp_path_factory.mktemp("probes"))


@pytest.fixture(scope="module")
def figures(table):
    return draw(table)


def pick(table, **wanted):
    """Rows with these labels that have a layer."""
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table[table["layer"].notna()]


def stream(table):
    return table[table["site"].isin((*STREAM, "encoder"))]


def titled(figure):
    return {axes.get_title(): axes for axes in drawn.panels(figure) if axes.get_visible()}


def test_all_figures_are_drawn(figures):
    assert set(figures) == {"curves", "hypernyms", "transfer", "training", "held_out", "parts", "heads"}


def test_curves_of_each_modality_with_band_and_control_at_the_last_step(table, figures):
    panels = titled(figures["curves"])
    assert tuple(panels) == SPANS
    for (span, axes), modality in itertools.product(panels.items(), MODALITIES):
        step = NO_STEP if modality == "text" else max(STEPS)
        rows = pick(stream(table), span=span, modality=modality, target="mean", probe="ridge", step=step)
        drawn.assert_curve(axes, pick(rows, measure="auroc"), drawing.COLOURS[modality])
        drawn.assert_dotted(axes, pick(rows, measure="control_auroc"), drawing.COLOURS[modality])
    assert [drawn.lines_drawn(axes) for axes in panels.values()] == [8, 8]
    assert [axes.get_xlim() for axes in panels.values()] == [(-2, 3), (-2, 3)]
    assert drawn.legend(figures["curves"]) == {
        label: drawing.COLOURS[modality].lower() for modality, label in MODALITIES.items()
    }


def test_seen_and_held_out_hypernyms_have_their_own_curves(table, figures):
    panels, named = titled(figures["held_out"]), drawn.legend(figures["held_out"])
    assert set(named) == {"seen", "held-out"}
    for (span, axes), subset in itertools.product(panels.items(), named):
        wanted = {"target": f"mean of {subset}", "measure": "auroc", "step": max(STEPS)}
        drawn.assert_curve(axes, pick(stream(table), span=span, modality="image", **wanted), named[subset])
    assert [drawn.lines_drawn(axes) for axes in panels.values()] == [2, 2]
    seen_alone = table[~table["target"].str.contains("held-out")]
    assert "held_out" in draw(seen_alone)
    assert "held_out" not in draw(table[~table["target"].str.startswith("mean of")])


def test_hypernyms_are_shown_at_the_last_place_each_under_its_name(table, figures):
    panels = titled(figures["hypernyms"])
    assert set(panels) == {"bird (7)", "seen from afar\n(12)", "tool (3)"}
    for (title, axes), modality in itertools.product(panels.items(), ("image", "text→image")):
        wanted = {
            "target": title.rpartition("(")[0].strip(),
            "modality": modality,
            "measure": "auroc",
            "probe": "ridge",
        }
        rows = pick(stream(table), span=SPANS[-1], step=max(STEPS), **wanted)
        drawn.assert_curve(axes, rows, drawing.COLOURS[modality])
    assert {drawn.lines_drawn(axes) for axes in panels.values()} == {2}
    about = figures["hypernyms"].texts[-1].get_text().replace("\n", " ")
    assert f"At {SPANS[-1]}; each panel" in about
    assert "n = 31 leaf concepts." in about
    assert "its hypernym (how many) against" in about
    older = draw(table.assign(n=31))["hypernyms"]
    assert set(titled(older)) == {"bird", "seen from afar", "tool"}
    assert "(how many)" not in older.texts[-1].get_text().replace("\n", " ")


def test_the_heat_map_over_training_has_every_step_and_one_axis_of_layers(table, figures):
    panels = titled(figures["training"])
    assert tuple(panels) == SPANS
    layers = [ENCODER_LAYER, -1, 0, 1, 2, 3]
    rows = pick(stream(table), modality="image", target="mean", measure="auroc")
    for span, axes in panels.items():
        wide = rows[rows["span"] == span].pivot(index="layer", columns="step", values="value")
        np.testing.assert_allclose(drawn.cells(axes), wide.reindex(index=layers, columns=sorted(STEPS)))
        assert drawn.ticks(axes, "x") == {0: "0", 1: "9", 2: "30"}
    # Only the slot has the encoder: the other panel must not name its rows one too low.
    assert drawn.ticks(panels["slot"], "y") == dict(enumerate(["−2", "−1", "0", "1", "2", "3"]))
    assert np.isnan(drawn.cells(panels["last"])[0]).all()
    assert "training" not in draw(table[table["step"].isin([NO_STEP, 9])])


def test_transfer_is_shown_at_the_best_layer_of_text_to_pictures(table, figures):
    panels = drawn.panels(figures["transfer"])
    for span, axes in zip(SPANS, panels, strict=True):
        rows = stream(table)[lambda t: t["step"].isin([NO_STEP, max(STEPS)])]
        rows = pick(rows, span=span, target="mean", measure="auroc", probe="ridge")
        across = pick(rows, modality="text→image")
        best = across.loc[across["value"].idxmax()]
        where = "the input" if best["layer"] == -1 else f"block {best['layer']:.0f}"
        assert axes.get_title() == f"{span}, {where}"
        at = pick(rows, site=best["site"]).set_index("modality")
        grid = [["image", "image→text"], ["text→image", "text"]]  # trained on, tested on
        np.testing.assert_allclose(
            drawn.cells(axes), [[at.loc[one, "value"] for one in line] for line in grid]
        )
        for text in axes.texts:
            column, row = (round(one) for one in text.get_position())
            cell = at.loc[grid[row][column]]
            assert text.get_text() == f"{cell['value']:.2f}\n[{cell['lower']:.2f}, {cell['upper']:.2f}]"
        assert len(axes.texts) == 4
        assert axes.get_xlabel() == "tested on"
        for axis in "xy":
            assert drawn.ticks(axes, axis) == {0: "pictures", 1: "text"}
    assert panels[0].get_ylabel() == "trained on"


def test_parts_of_the_blocks_each_with_their_control(table, figures):
    panels, named = titled(figures["parts"]), drawn.legend(figures["parts"])
    sites = {"resid post": STREAM[1:], "attn out": PARTS[:2], "mlp out": PARTS[2:]}
    assert set(named) == set(sites)
    for (span, axes), part in itertools.product(panels.items(), sites):
        rows = pick(table, span=span, modality="image", target="mean", step=max(STEPS))
        rows = rows[rows["site"].isin(sites[part])]
        drawn.assert_curve(axes, pick(rows, measure="auroc"), named[part])
        drawn.assert_dotted(axes, pick(rows, measure="control_auroc"), named[part])
    assert [drawn.lines_drawn(axes) for axes in panels.values()] == [6, 6]


def test_heads_one_by_one(table, figures):
    for span, axes in titled(figures["heads"]).items():
        wanted = {"modality": "image", "target": "mean", "measure": "auroc", "step": max(STEPS)}
        values = pick(table, span=span, **wanted).set_index("site")["value"]
        first, between, second = drawn.cells(axes)
        np.testing.assert_allclose([*first, *second], values[list(HEADS)])
        assert np.isnan(between).all()  # heads of layer 2 were not probed
        assert span != SPANS[0] or drawn.ticks(axes, "y") == {0: "1", 1: "2", 2: "3"}
        assert drawn.ticks(axes, "x") == {0: "0", 1: "1", 2: "2"}


def test_the_text_under_a_figure_names_run_step_probe_and_n(figures):
    text = figures["curves"].texts[-1].get_text().replace("\n", " ")
    assert "toy, step 30; ridge probes, leaf concepts held out." in text
    assert "n = 31 leaf concepts." in text
    assert "toy, steps 0, 9, 30;" in figures["training"].texts[-1].get_text().replace("\n", " ")


def test_the_summary_says_the_numbers_of_the_table(table):
    head, *lines = summary(table).splitlines()
    assert head == (
        "Layer probes of toy: 3 targets, 31 leaf concepts, split by leaf, step 30, mean AUROC (chance .5)"
    )
    assert len(lines) == 6
    cases = itertools.product(SPANS, ("image", "text", "text→image"))
    for line, (span, modality) in zip(lines, cases, strict=True):
        step = NO_STEP if modality == "text" else max(STEPS)
        rows = table[(table["span"] == span) & (table["modality"] == modality) & (table["step"] == step)]
        rows = rows[rows["target"] == "mean"]
        best = rows.loc[rows["value"].where(rows["measure"] == "auroc").idxmax()]
        same = rows[(rows["probe"] == best["probe"])]
        at = same[same["site"] == best["site"]].set_index("measure")["value"]
        onset = same[same["measure"] == "onset"].iloc[0]
        limits = ["never" if np.isinf(one) else f"{one:.0f}" for one in (onset["lower"], onset["upper"])]
        assert line.split()[:3] == [span, modality, "best"]
        for said in (
            f"best {best['value']:.3f} [{best['lower']:.3f}, {best['upper']:.3f}] at ",
            f"control {at['control_auroc']:.3f}, selectivity {at['selectivity']:.3f}",
            f"first block detected {onset['value']:.0f} [{limits[0]}, {limits[1]}]",
        ):
            assert said in line
        assert line.endswith(f"({best['probe']})") == (modality == "text→image")


@pytest.mark.parametrize(
    ("site", "said"),
    [
        ("encoder", "the encoder"),
        ("hook_embed", "the input"),
        ("blocks.2.hook_resid_post", "block 2"),
        ("blocks.1.hook_attn_out", "blocks.1.hook_attn_out"),
        (FINAL, "the last norm"),
    ],
)
def test_the_summary_names_the_place_of_the_best_probe(table, site, said):
    best = (table["site"] == site) & (table["measure"] == "auroc") & (table["step"] == max(STEPS))
    raised = table.assign(value=table["value"].mask(best, 1.5))
    line = next(line for line in summary(raised).splitlines() if line.startswith("  slot  image "))
    assert f"] at {said}, control" in line


def test_the_summary_of_contrasts_names_the_largest_difference_of_either_sign():
    sites = [*STREAM]
    common = {"run": "a minus b", "span": "cue", "probe": "ridge", "target": "mean", "site": sites}
    values = {9: [0.1, -0.4, 0.2, 0.3, 0.0], 3: [0.9] * 5}
    image = [
        pd.DataFrame(common | {"modality": "image", "step": step, "value": v}) for step, v in values.items()
    ]
    text = pd.DataFrame(common | {"modality": "text", "step": NO_STEP, "value": [0, 0, 0, 0.25, 0.1]})
    table = pd.concat([*image, text, image[0].assign(target="bird", value=2.0)], ignore_index=True)
    table["layer"] = [layer_of(site) for site in table["site"]]
    table = table.assign(lower=table["value"] - 0.01, upper=table["value"] + 0.02, pairs=3)
    assert contrast_summary(table).splitlines() == [
        "Mean AUROC, a minus b (paired by leaf; mean of 3 pairs of runs)",
        "  cue   image       ridge: -0.400 [-0.410, -0.380] at block 0",
        "  cue   text        ridge: 0.250 [0.240, 0.270] at block 2",
    ]
