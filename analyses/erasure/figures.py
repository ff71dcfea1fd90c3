"""Figures of erasure and steering tables: read-outs by layer under each edit, changes by hypernym, dose–response."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.erasure.rows import BEYOND, LEVEL
from analyses.frame import drawing
from analyses.inputs.stimuli.natural import WARNED
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
    "random": "random",
    "shuffled": "exchanged labels",
}
_EQUAL = {"rank": "of rank 1 as well", "length": "as long", "kl": "that move the answers as far"}
_FAR = "Crosses: over half of the states lie beyond the 99th percentile of natural ones."
_INTERVAL = "95 % over leaves, of controls over their draws as well"


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure of an erasure table, or of a steering table, by name."""
    with drawing.style():
        if (table["analysis"] == "steering").all():
            return {"dose_response": dose_response(table), "controls": controls(table)}
        figures: dict[str, Figure] = {}
        for nth, matched in enumerate(_matches(table)):
            name, rows = f"_{matched}" if nth else "", table[table["matched"].isin(["", matched])]
            figures |= {f"layers{name}": layers(rows, matched), f"hypernyms{name}": hypernyms(rows, matched)}
        return figures


def layers(table: pd.DataFrame, matched: str) -> Figure:
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
                curve = panel[panel["edit"] == edit]
                drawing.curve(axes, curve, "layer", palette[edit], label, edit == "none")
                _cross(axes, curve, rows, "layer", palette[edit])
            axes.axhline(0, **drawing.CHANCE)
            axes.set_title(f"{span}" if measure == shown[0] else "")
            axes.set_ylabel(PANELS[measure])
    for axes in grid[-1]:
        axes.set_xlabel("edited behind block")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    names = sorted(set(table["target"]) - {"mean"})
    null = (
        f"the mean of {_draws(table)} random directions, or of as many concepts whose labels were exchanged among "
        f"leaves, {_EQUAL[matched]}"
    )
    text = drawing.caption(int(rows["n"].max()), f"leaves, mean over {', '.join(names)}", _INTERVAL, null)
    drawing.footnote(figure, f"{text} Erasers are fitted on other leaves than those shown. {_FAR}")
    return figure


def hypernyms(table: pd.DataFrame, matched: str) -> Figure:
    """Change of each hypernym's gap beyond the mean of the controls; a dot where q is at most .05."""
    rows = table[(table["measure"] == "gap_change") & (table["edit"] == BEYOND)]
    ranks = table[table["measure"] == "gap_change_q"]
    spans = list(dict.fromkeys(rows["span"]))
    names = rows["target"].nunique()
    figure = Figure(figsize=(3.4 * len(spans) + 0.8, 0.24 * names + 1.5), layout="constrained")
    panels = figure.subplots(1, len(spans), squeeze=False, sharey=True)[0]
    largest = float(rows["value"].abs().max())
    for axes, span in zip(panels, spans):
        panel = rows[rows["span"] == span]
        grid = panel.pivot(index="target", columns="layer", values="value")
        q = ranks[ranks["span"] == span].pivot(index="target", columns="layer", values="value")
        order = [name for name in grid.index if name != "mean"][::-1]
        order = ["mean", *order]
        label = "change (nats)" if axes is panels[-1] else None
        drawing.heat(axes, grid.loc[order], (-largest, largest), label, diverging=True)
        drawing.dots(axes, q.reindex_like(grid.loc[order]) <= LEVEL)
        axes.set_title(span)
        axes.set_xlabel("edited behind block")
    dot = "dot: more is lost than with all, q ≤ .05 (Benjamini–Hochberg over hypernyms and layers)"
    draws = _draws(table)
    if names * ranks["layer"].nunique() > LEVEL * (draws + 1):
        dot += f"; with {draws} draws p is {1 / (draws + 1):.2g} at least, and one alone cannot have it"
    dot = dot if ranks["value"].notna().any() else f"no p: it takes {FEWEST} draws"
    null = f"each of {draws} draws of both controls, {_EQUAL[matched]}; {dot}"
    drawing.footnote(figure, drawing.caption(int(rows["n"].max()), "leaves", _INTERVAL, null))
    return figure


def dose_response(table: pd.DataFrame) -> Figure:
    """Change of read-outs of pictures off a hypernym by the dose of its direction; the mean over hypernyms."""
    first, matched = table.loc[table["beside"] != "", "beside"].iloc[0], _matches(table)[0]
    rows = table[(table["target"] == "mean") & _of(table, first, matched)]
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
                    _cross(axes, points, rows, "dose", palette[edit])
            axes.axhline(0, **drawing.CHANCE)
            axes.axvline(0, **drawing.CHANCE)
            axes.set_ylabel(f"{STEERED[measure]}\n(change, nats)")
            axes.set_title(f"{span}, behind block {layer:.0f}" if measure == shown[0] else "")
    for axes in grid[-1]:
        axes.set_xlabel("dose (standard deviations)")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    names = sorted(set(table["target"]) - {"mean"})
    null = (
        f"the mean of {_draws(table)} random steps for each hypernym, or of as many along the difference of means of "
        f"exchanged labels, {_EQUAL[matched]} (as along the {DIRECTIONS[first]})"
    )
    of = f"leaves off the hypernym, mean over {', '.join(names)}"
    drawing.footnote(figure, f"{drawing.caption(int(rows['n'].max()), of, _INTERVAL, null)} {_FAR}")
    return figure


def controls(table: pd.DataFrame) -> Figure:
    """Change of the hypernym's log-odds by dose, a column a direction: along it, and by its own controls."""
    rows = table[(table["target"] == "mean") & (table["measure"] == "target_change")]
    kinds = [kind for kind in rows["beside"].unique() if kind]
    lines = [
        (span, layer, matched)
        for span, layer in dict.fromkeys(zip(rows["span"], rows["layer"]))
        for matched in _matches(table)
    ]
    palette = drawing.colours(list(DIRECTIONS))
    figure = Figure(figsize=(2.4 * len(kinds) + 1.2, 2.1 * len(lines) + 0.9), layout="constrained")
    grid = figure.subplots(len(lines), len(kinds), squeeze=False, sharex=True, sharey=True)
    for line, (span, layer, matched) in zip(grid, lines):
        place = rows[(rows["span"] == span) & (rows["layer"] == layer)]
        for axes, kind in zip(line, kinds):
            own = place[_of(place, kind, matched)]
            for edit in (kind, "random", "shuffled"):
                points = own[own["edit"] == edit]
                origin = points.iloc[[0]].assign(dose=0.0, value=0.0, lower=0.0, upper=0.0)
                drawing.curve(axes, pd.concat([points, origin]), "dose", palette[edit], DIRECTIONS[edit])
            axes.axhline(0, **drawing.CHANCE)
            axes.set_title(DIRECTIONS[kind] if (span, layer, matched) == lines[0] else "")
        line[0].set_ylabel(f"{span}, behind block {layer:.0f},\ncontrols of equal {matched}\n(change, nats)")
    for axes in grid[-1]:
        axes.set_xlabel("dose (standard deviations)")
    handles = dict(pair[::-1] for axes in grid[0] for pair in zip(*axes.get_legend_handles_labels()))
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3)
    equal = " or ".join(_EQUAL[matched] for matched in _matches(table))
    null = f"the mean of {_draws(table)} steps of each control for each hypernym, {equal} as that along the direction"
    of = f"leaves off the hypernym, mean over {', '.join(sorted(set(table['target']) - {'mean'}))}"
    drawing.footnote(figure, drawing.caption(int(rows["n"].max()), of, _INTERVAL, null))
    return figure


def _of(table: pd.DataFrame, kind: str, matched: str) -> pd.Series:
    """Rows that are of no control, or of the controls of a direction that equal it in this."""
    return (table["matched"] == "") | ((table["beside"] == kind) & (table["matched"] == matched))


def _matches(table: pd.DataFrame) -> list[str]:
    """In what controls equal an edit, each kind once."""
    return [matched for matched in table["matched"].unique() if matched]


def _cross(axes: Axes, curve: pd.DataFrame, rows: pd.DataFrame, along: str, colour: str) -> None:
    """Crosses on the points of a curve at which most states are unnatural."""
    keys = ["span", "layer", "edit", along]
    far = rows.loc[(rows["measure"] == "unnatural") & (rows["value"] > WARNED), list(dict.fromkeys(keys))]
    if len(far):
        crossed = curve.merge(far.drop_duplicates())
        axes.plot(crossed[along], crossed["value"], "x", color=colour, markersize=5)


def _draws(table: pd.DataFrame) -> int:
    """Draws of each control."""
    return table.loc[table["edit"].str.fullmatch(r"shuffled \d+"), "edit"].nunique()
