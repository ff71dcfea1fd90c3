"""Figures of erasure and steering tables: read-outs by layer under each edit, changes by hypernym, dose–response."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analyses.erasure.rows import LEVEL
from analyses.frame import drawing
from probing.edits.placebos import FEWEST

EDITS = {
    "none": "nothing erased",
    "erased": "hypernym erased",
    "random": "random direction erased",
    "shuffled": "exchanged labels erased",
}
PANELS = {
    "gap": "this hypernym:\nunder it − off it (nats)",
    "other_off": "other hypernyms,\noff it (nats)",
    "leaf_under": "name of the leaf,\nunder it (nats)",
}
STEERED = {
    "target_change": "the hypernym",
    "other_change": "the picture's own hypernyms",
    "leaf_margin_change": "name of the leaf",
}
DIRECTIONS = {
    "mass_mean": "difference of means",
    "probe": "probe of pictures",
    "text": "probe of words",
    "random": "random, same length",
    "shuffled": "exchanged labels, same length",
}
_INTERVAL = "95 % over leaves, of controls over their draws as well"


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure of an erasure table, or of a steering table, by name."""
    with drawing.style():
        if (table["analysis"] == "steering").all():
            return {"dose_response": dose_response(table)}
        return {"layers": layers(table), "hypernyms": hypernyms(table)}


def layers(table: pd.DataFrame) -> Figure:
    """Read-outs by the layer behind which a span is edited, under each edit; the mean over hypernyms."""
    rows = table[table["target"] == "mean"]
    spans = list(dict.fromkeys(rows["span"]))
    shown = [measure for measure in PANELS if (rows["measure"] == measure).any()]
    palette = drawing.colours(list(EDITS))
    figure = Figure(figsize=(7.2, 2.1 * len(spans) + 0.9), layout="constrained")
    grid = figure.subplots(len(spans), len(shown), squeeze=False, sharex=True, sharey="col")
    for line, span in zip(grid, spans):
        for axes, measure in zip(line, shown):
            panel = rows[(rows["span"] == span) & (rows["measure"] == measure)]
            for edit, label in EDITS.items():
                drawing.curve(
                    axes, panel[panel["edit"] == edit], "layer", palette[edit], label, edit == "none"
                )
            axes.axhline(0, **drawing.CHANCE)
            axes.set_title(f"{span}" if measure == shown[0] else "")
            axes.set_ylabel(PANELS[measure])
    for axes in grid[-1]:
        axes.set_xlabel("edited behind layer")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    names = sorted(set(table["target"]) - {"mean"})
    null = (
        f"the mean of {_draws(table)} random directions, or of as many concepts whose labels were exchanged among "
        "leaves (rank 1 as well)"
    )
    text = drawing.caption(int(rows["n"].max()), f"leaves, mean over {', '.join(names)}", _INTERVAL, null)
    drawing.footnote(figure, f"{text} Erasers are fitted on other leaves than those shown.")
    return figure


def hypernyms(table: pd.DataFrame) -> Figure:
    """Change of each hypernym's gap beyond the mean of the controls; a dot where it exceeds that of every draw."""
    rows = table[(table["measure"] == "gap_change") & (table["edit"] == "erased − controls")]
    ranks = table[table["measure"] == "gap_change_p"]
    spans = list(dict.fromkeys(rows["span"]))
    names = rows["target"].nunique()
    figure = Figure(figsize=(3.4 * len(spans) + 0.8, 0.24 * names + 1.5), layout="constrained")
    panels = figure.subplots(1, len(spans), squeeze=False, sharey=True)[0]
    largest = float(rows["value"].abs().max())
    for axes, span in zip(panels, spans):
        panel = rows[rows["span"] == span]
        grid = panel.pivot(index="target", columns="layer", values="value")
        p = ranks[ranks["span"] == span].pivot(index="target", columns="layer", values="value")
        order = [name for name in grid.index if name != "mean"][::-1]
        order = ["mean", *order]
        label = "change (nats)" if axes is panels[-1] else None
        drawing.heat(axes, grid.loc[order], (-largest, largest), label, diverging=True)
        sure = (p <= LEVEL).loc[order].to_numpy()
        y, x = np.nonzero(sure)
        axes.plot(x, y, ".", color="black", markersize=2.5)
        axes.set_title(span)
        axes.set_xlabel("edited behind layer")
    dot = "dot: more is lost than with all, p ≤ .05, uncorrected"
    dot = dot if ranks["value"].notna().any() else f"no p: it takes {FEWEST} draws"
    null = f"each of {_draws(table)} draws of both controls; {dot}"
    drawing.footnote(figure, drawing.caption(int(rows["n"].max()), "leaves", _INTERVAL, null))
    return figure


def dose_response(table: pd.DataFrame) -> Figure:
    """Change of read-outs of pictures off a hypernym by the dose of its direction; the mean over hypernyms."""
    rows = table[table["target"] == "mean"]
    places = list(dict.fromkeys(zip(rows["span"], rows["layer"])))
    shown = [measure for measure in STEERED if (rows["measure"] == measure).any()]
    palette = drawing.colours(list(DIRECTIONS))
    figure = Figure(figsize=(7.2, 2.1 * len(places) + 0.9), layout="constrained")
    grid = figure.subplots(len(places), len(shown), squeeze=False, sharex=True, sharey="col")
    for line, (span, layer) in zip(grid, places):
        place = rows[(rows["span"] == span) & (rows["layer"] == layer)]
        for axes, measure in zip(line, shown):
            for edit, label in DIRECTIONS.items():
                points = place[(place["measure"] == measure) & (place["edit"] == edit)]
                if len(points):
                    origin = points.iloc[[0]].assign(dose=0.0, value=0.0, lower=0.0, upper=0.0)
                    drawing.curve(axes, pd.concat([points, origin]), "dose", palette[edit], label)
            axes.axhline(0, **drawing.CHANCE)
            axes.axvline(0, **drawing.CHANCE)
            axes.set_ylabel(f"{STEERED[measure]}\n(change, nats)")
            axes.set_title(f"{span}, behind layer {layer:.0f}" if measure == shown[0] else "")
    for axes in grid[-1]:
        axes.set_xlabel("dose (standard deviations)")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    names = sorted(set(table["target"]) - {"mean"})
    null = (
        f"the mean of {_draws(table)} random steps for each hypernym, or of as many along the difference of means of "
        "exchanged labels, all as long as that of the first direction"
    )
    of = f"leaves off the hypernym, mean over {', '.join(names)}"
    drawing.footnote(figure, drawing.caption(int(rows["n"].max()), of, _INTERVAL, null))
    return figure


def _draws(table: pd.DataFrame) -> int:
    """Draws of each control."""
    return table.loc[table["edit"].str.fullmatch(r"shuffled \d+"), "edit"].nunique()
