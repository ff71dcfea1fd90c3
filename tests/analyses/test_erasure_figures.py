"""Figures and summaries of erasure and steering: each panel and number is that of its rows of the table."""

import numpy as np
import pandas as pd
import pytest

from analyses import erasure
from analyses.erasure.digest import summary
from analyses.erasure.figures import DIRECTIONS, EDITS, PANELS, STEERED
from analyses.erasure.measured import CONTROLS
from analyses.erasure.rows import BEYOND, erasure_table, steering_table
from analyses.frame import drawing
from probing.stats import draw_weights
from tests.analyses import drawn
from tests.analyses.planted_edits import planted_parts


@pytest.fixture(scope="module")
def tables():
    """An erasure table of two spans and three hypernyms, a steering table of two places; numbers of their own."""
    parts = planted_parts(2.0).assign(leaf_margin=1.0)
    spans = [
        parts.assign(span=span, hypernym=name)
        for span in ("slot", "cue")
        for name in ("bird", "tool", "fish")
    ]
    weights = draw_weights(40, 20)
    erased = drawn.distinct(
        erasure_table(pd.concat(spans, ignore_index=True), weights, 0).assign(run="planted")
    )
    kinds = [kind for kind in DIRECTIONS if kind not in CONTROLS]
    drawn_of = [(kind, 0, "") for kind in kinds]
    drawn_of += [(control, draw, kind) for kind in kinds for control in CONTROLS for draw in range(5)]
    steered = [
        parts[(parts["edit"] == "none") & (parts["layer"] == 3) & ~parts["member"]].assign(
            edit=edit,
            draw=draw,
            dose=dose,
            layer=layer,
            span=span,
            hypernym=name,
            beside=beside,
            matched="length" if beside else "",
        )
        for span, layer in (("slot", 3), ("cue", 5))
        for name in ("bird", "tool")
        for edit, draw, beside, dose in [
            ("none", 0, "", 0.0),
            *((*kind, dose) for kind in drawn_of for dose in (-2.0, 2.0, 4.0)),
        ]
    ]
    pushed = steering_table(pd.concat(steered, ignore_index=True), draw_weights(20, 20), 0)
    tables = [erased, drawn.distinct(pushed.assign(run="planted"))]
    for table in tables:
        table[["value", "lower", "upper"]] -= 0.5  # some are below 0, some above
        table.loc[table["target"].isin(["bird"]), "lower"] -= 1  # and some intervals hold it
        table.loc[table["target"].isin(["bird"]), "upper"] += 1
    p = erased["measure"] == "gap_change_p_corrected"
    erased.loc[p, "value"] = np.where(erased.loc[p, "span"] == "slot", 0.05, 0.1)
    pushed_p = tables[1]["measure"] == "target_change_p_corrected"
    tables[1].loc[pushed_p, "value"] = np.where(tables[1].loc[pushed_p, "span"] == "slot", 0.25, np.nan)
    return tables


def test_the_figures_of_erasure_show_the_rows_of_their_span_measure_and_edit(tables, tmp_path):
    table = tables[0]
    figures = erasure.draw(drawn.reread(table, tmp_path))
    assert set(figures) == {"layers", "hypernyms"}
    colours, mean = drawing.colours(list(EDITS)), table[table["target"] == "mean"]
    panels = iter(drawn.panels(figures["layers"]))
    for span in ("slot", "cue"):
        for measure, label in PANELS.items():
            axes, rows = next(panels), mean[(mean["span"] == span) & (mean["measure"] == measure)]
            drawn.assert_dotted(axes, rows[rows["edit"] == "none"], colours["none"])
            for edit in ("erased", "random", "shuffled"):
                drawn.assert_curve(axes, rows[rows["edit"] == edit], colours[edit])
            assert drawn.lines_drawn(axes) == 4
            assert axes.get_ylabel() == label
            assert axes.get_title() == (span if measure == "gap" else "")
    assert drawn.legend(figures["layers"]) == {EDITS[edit]: colours[edit].lower() for edit in EDITS}
    assert "mean over bird, fish, tool" in " ".join(figures["layers"].texts[-1].get_text().split())
    change = table[(table["measure"] == "gap_change") & (table["edit"] == BEYOND)]
    order, (left, right) = ["mean", "tool", "fish", "bird"], drawn.panels(figures["hypernyms"])
    for span, axes in (("slot", left), ("cue", right)):
        rows = change[change["span"] == span].pivot(index="target", columns="layer", values="value")
        rows = rows.reindex(index=order, columns=drawn.every(rows.columns))
        np.testing.assert_allclose(drawn.cells(axes), rows)
        largest = change["value"].abs().max()
        assert axes.images[0].get_clim() == (-largest, largest)
        q = table[(table["measure"] == "gap_change_q") & (table["span"] == span)]
        q = q.pivot(index="target", columns="layer", values="value")
        assert "mean" not in q.index
        np.testing.assert_array_equal(drawn.marks(axes), q.reindex_like(rows) <= 0.05)
        assert axes.get_title() == span
    assert list(drawn.ticks(left, "y").values()) == order


def test_the_figure_of_steering_shows_the_rows_of_its_place_measure_and_direction(tables, tmp_path):
    table = tables[1]
    figures = erasure.draw(drawn.reread(table, tmp_path))
    assert set(figures) == {"dose_response", "controls"}
    colours, mean = drawing.colours(list(DIRECTIONS)), table[table["target"] == "mean"]
    panels = iter(drawn.panels(figures["controls"]))
    for span, layer in (("slot", 3), ("cue", 5)):
        for kind in ("mass_mean", "probe", "text"):
            axes, rows = next(panels), mean[(mean["span"] == span) & (mean["measure"] == "target_change")]
            for edit in (kind, *CONTROLS):
                own = rows[(rows["edit"] == edit) & rows["beside"].isin(["", kind])]
                own = own.assign(layer=own["dose"])
                origin = own.iloc[[0]].assign(layer=0.0, value=0.0, lower=0.0, upper=0.0)
                drawn.assert_curve(axes, pd.concat([own, origin]), colours[edit])
            assert axes.get_title() == (DIRECTIONS[kind] if layer == 3 else "")
    mean = mean[mean["beside"].isin(["", "mass_mean"])]
    panels = iter(drawn.panels(figures["dose_response"]))
    for span, layer in (("slot", 3), ("cue", 5)):
        for measure, label in STEERED.items():
            axes = next(panels)
            rows = mean[(mean["span"] == span) & (mean["layer"] == layer) & (mean["measure"] == measure)]
            for kind in DIRECTIONS:
                of_kind = rows[rows["edit"] == kind].assign(layer=lambda rows: rows["dose"])
                origin = of_kind.iloc[[0]].assign(layer=0.0, value=0.0, lower=0.0, upper=0.0)
                drawn.assert_curve(axes, pd.concat([of_kind, origin]), colours[kind])
            assert axes.get_ylabel() == f"{label}\n(change, nats)"
            assert axes.get_title() == (f"{span}, behind block {layer}" if measure == "target_change" else "")
    legend = drawn.legend(figures["dose_response"])
    assert legend == {label: colours[kind].lower() for kind, label in DIRECTIONS.items()}
    assert "n = 20 leaves off the hypernym" in figures["dose_response"].texts[-1].get_text()


def interval(row):
    return f"{row['value']:+.2f} [{row['lower']:+.2f}, {row['upper']:+.2f}]"


def test_the_summary_of_erasure_names_the_layer_of_the_largest_loss_and_its_numbers(tables):
    table = tables[0]
    lines = summary(table).splitlines()
    assert lines[0] == "Erasing a hypernym, planted (nats, mean over hypernyms):"
    mean = table[table["target"] == "mean"].set_index(["span", "measure", "edit"])
    for at, span in enumerate(("slot", "cue")):
        beyond = mean.loc[(span, "gap_change", BEYOND)].set_index("layer")
        layer = beyond["value"].idxmin()
        there = mean[mean["layer"] == layer].loc[span]
        at_layers = {"slot": 2, "cue": 0}[span]
        assert lines[1 + 3 * at : 4 + 3 * at] == [
            f"  {span:5} most behind block {layer:.0f}: gap {interval(there.loc[('gap', 'none')])} to "
            f"{interval(there.loc[('gap', 'erased')])}; beyond controls of equal rank "
            f"{interval(beyond.loc[layer])}, n = 40; "
            f"beyond each draw of them at {at_layers} of 2 blocks (p ≤ .05, corrected)",
            f"        other hypernyms there: {interval(there.loc[('other_off_change', 'erased')])}",
            f"        name of the leaf there: {interval(there.loc[('leaf_under_change', 'erased')])}",
        ]
    assert len(lines) == 7


def test_the_summary_of_steering_has_each_direction_at_the_largest_dose(tables):
    table = tables[1]
    lines = summary(table).splitlines()
    assert lines[0].startswith("Steering towards a hypernym, planted")
    rows = table[(table["target"] == "mean") & (table["measure"] == "target_change") & (table["dose"] == 4)]
    places = [(place, kind) for place in (("slot", 3), ("cue", 5)) for kind in ("mass_mean", "probe", "text")]
    for line, ((span, layer), kind) in zip(lines[1:], places, strict=True):
        at = rows[(rows["span"] == span) & (rows["layer"] == layer)].set_index("edit")
        p = {
            "slot": "p = 0.25 (corrected)",
            "cue": "no p: it takes 19 draws of each control for one hypernym, ",
        }[span]
        start = (
            f"  {span:5} behind block {layer}, 4 sd: {kind} {interval(at.loc[kind])}, n = 20; beyond controls of equal "
            f"length {interval(at.loc[f'{kind} − controls'])}, {p}"
        )
        assert line.startswith(start)
