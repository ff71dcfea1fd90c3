"""Figures of a patching table: heat maps of layer × span with marks where a cell counts, curves, attributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.frame import drawing
from analyses.frame.tables import estimate_text
from probing.sites import Site

NAMES = {
    "clean": "the other run of the pair",
    "sibling": "another leaf of the same hypernym",
    "stranger": "a leaf of another hypernym",
    "random": "random, same norm",
    "random_init": "the same patch, random-init LM",
}
COLOURS = {
    "clean": "#0072B2", "sibling": "#009E73", "stranger": "#D55E00", "random": "#E69F00", "random_init": "#595959",
}  # fmt: skip
_FRACTIONS = ("restored_fraction", "lost_fraction")


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name."""
    figures: dict[str, Figure] = {}
    patched = table[table["measure"] == "effect"]
    with drawing.style():
        for target in patched["target"].unique():
            rows = table[(table["target"] == target) & (table["split"] == "all")]
            for point in dict.fromkeys(_point(site) for site in rows["site"] if site != "all"):
                own = rows[[site == "all" or _point(site) == point for site in rows["site"]]]
                figures |= _of_point(own, f"{target}_{point.replace('.', '_')}")
        if (table["measure"] == "attribution").any():
            figures["screen"] = screen(table)
    return figures


def maps(rows: pd.DataFrame) -> Figure:
    """Heat maps of layer × span, one for each kind of state; dots mark cells that beat every placebo."""
    measure, label = _shown(rows)
    shown = rows[rows["measure"] == measure]
    known = shown.groupby("state")["value"].count()
    kinds = [kind for kind in NAMES if known.get(kind, 0)]
    without = [NAMES[kind] for kind in NAMES if known.get(kind, 1) == 0]
    note = f" Not shown, since its two runs do not differ: {', '.join(without)}." if without else ""
    spans = list(dict.fromkeys(shown["span"]))[::-1]
    figure, panels = _stacked(len(kinds), 0.9 * len(kinds) + 1.6)
    for kind, panel in zip(kinds, panels):
        own = shown[shown["state"] == kind]
        grid = own.pivot(index="span", columns="layer", values="value").reindex(spans)
        drawing.heat(panel, grid, (-_most(shown), _most(shown)), diverging=True)
        panel.set_title(f"state from: {NAMES[kind]}", loc="left")
        if kind == "clean":
            drawing.dots(panel, _counted(grid, rows, "span"))
    _bar(figure, panels, label)
    drawing.footnote(figure, f"{_caption(rows)} Dots: cells that count.{note}")
    return figure


def curves(rows: pd.DataFrame) -> Figure:
    """Effects by layer with their intervals, a panel for each span."""
    shown = rows[rows["measure"] == "effect"]
    spans = list(dict.fromkeys(shown["span"]))
    gap = float(rows.loc[rows["measure"] == "gap", "value"].iloc[0])
    figure = Figure(figsize=(2.3 * len(spans) + 0.6, 3.0), layout="constrained")
    panels = figure.subplots(1, len(spans), sharey=True, squeeze=False)[0]
    for span, panel in zip(spans, panels):
        for kind in [kind for kind in NAMES if kind in set(shown["state"])]:
            own = shown[(shown["span"] == span) & (shown["state"] == kind)]
            drawing.curve(panel, own, "layer", COLOURS[kind], NAMES[kind])
        panel.axhline(gap, **{**drawing.CHANCE, "linestyle": "-"})
        panel.axhline(0, **drawing.CHANCE)
        panel.set_title(span, loc="left")
        panel.set_xlabel("block")
    panels[0].set_ylabel("change of the log-odds, nats")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    drawing.footnote(figure, f"{_caption(rows)} Solid grey line: difference of the two runs of a pair.")
    return figure


def heads(rows: pd.DataFrame) -> Figure:
    """Heat maps of layer × head, one for each span, over the same layers and heads; dots mark cells that count."""
    measure, label = _shown(rows)
    rows = rows.assign(head=[int(head) if head else -1 for head in rows["head"]])
    shown = rows[(rows["measure"] == measure) & (rows["state"] == "clean")]
    spans = list(dict.fromkeys(shown["span"]))
    every_head, every_layer = sorted(set(shown["head"])), sorted(set(shown["layer"]))
    figure, panels = _stacked(len(spans), 1.5 * len(spans) + 1.2)
    for span, panel in zip(spans, panels):
        grid = shown[shown["span"] == span].pivot(index="head", columns="layer", values="value")
        grid = grid.reindex(index=every_head, columns=every_layer)  # a screen leaves other cells in each span
        drawing.heat(panel, grid, (-_most(shown), _most(shown)), diverging=True)
        drawing.dots(panel, _counted(grid, rows[rows["span"] == span], "head"))
        panel.set_title(span, loc="left")
        panel.set_ylabel("head")
    _bar(figure, panels, label)
    drawing.footnote(figure, f"{_caption(rows)} Dots: cells that count.")
    return figure


def screen(table: pd.DataFrame) -> Figure:
    """True effects against attributions, of the cells of which both are known."""
    clean = table[(table["state"] == "clean") & (table["split"] == "all")]
    agreement = table[table["measure"] == "rank_agreement"].iloc[0]
    attributions, effects = (
        clean[(clean["measure"] == name) & (clean["target"] == agreement["target"])]
        for name in ("attribution", "effect")
    )
    both = attributions.merge(effects, on=["site", "span", "head"])
    figure = Figure(figsize=(3.6, 3.6), layout="constrained")
    axes = figure.subplots()
    palette = drawing.colours(list(map(str, both["span"])))
    for span, rows in both.groupby("span", sort=False):
        axes.errorbar(
            rows["value_x"], rows["value_y"], xerr=_limits(rows, "_x"), yerr=_limits(rows, "_y"),
            fmt=drawing.marker(palette[str(span)]), color=palette[str(span)], markersize=3, linewidth=0.7,
            label=str(span),
        )  # fmt: skip
    axes.axhline(0, **drawing.CHANCE)
    axes.axvline(0, **drawing.CHANCE)
    axes.set_xlabel("attribution, nats")
    axes.set_ylabel("effect of the patch, nats")
    axes.legend()
    drawing.footnote(
        figure,
        f"Rank agreement {estimate_text(agreement)} over "
        f"{agreement['n']} random cells (95 %, over cells). n = {both['n_y'].max()} leaf pairs between "
        f"{both['hypernyms_y'].max()} hypernyms. Interval: 95 %, studentised bootstrap over hypernyms. Null: no "
        "effect (dashed).",
    )
    return figure


def _of_point(rows: pd.DataFrame, name: str) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    if (rows["head"] != "").any():
        figures[f"{name}_heads"] = heads(rows[(rows["head"] != "") | (rows["site"] == "all")])
    whole = rows[rows["head"] == ""]
    if (whole["measure"] == "effect").any():
        figures[f"{name}_grid"] = maps(whole)
        figures[f"{name}_curves"] = curves(whole)
    return figures


def _stacked(count: int, height: float) -> tuple[Figure, Sequence[Axes]]:
    """A figure with panels below one another, all over the same layers."""
    figure = Figure(figsize=(6.2, height), layout="constrained")
    return figure, list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])


def _bar(figure: Figure, panels: Sequence[Axes], label: str) -> None:
    """The name of the layers under the last panel, and one colour bar for all."""
    panels[-1].set_xlabel("block")
    bar: Any = figure.colorbar(panels[0].images[0], ax=panels, label=label, shrink=0.9)
    bar.outline.set_visible(False)


def _most(rows: pd.DataFrame) -> float:
    """The largest size of a value, for the ends of a colour scale."""
    return float(np.nanmax(np.abs(rows["value"].to_numpy(float)))) or 1.0


def _shown(rows: pd.DataFrame) -> tuple[str, str]:
    """What a heat map shows: the fraction where the two runs differ, else the plain effect."""
    for measure in _FRACTIONS:
        if rows.loc[rows["measure"] == measure, "value"].notna().any():
            return measure, measure.replace("_", " ")
    return "effect", "change of log-odds, nats"


def _counted(grid: pd.DataFrame, rows: pd.DataFrame, line: str) -> pd.DataFrame:
    """Whether each cell of a grid counts; `line` is the column that names the rows of the grid."""
    cells = rows[rows["measure"] == "counts"].pivot(index=line, columns="layer", values="value")
    return cells.reindex_like(grid) > 0


def _limits(rows: pd.DataFrame, side: str) -> list[pd.Series]:
    """How far an interval reaches below and above its value."""
    value = rows[f"value{side}"]
    return [value - rows[f"lower{side}"], rows[f"upper{side}"] - value]


def _caption(rows: pd.DataFrame) -> str:
    effects = rows[rows["measure"] == "effect"]
    beaten = rows.loc[rows["measure"] == "counts", "note"].iloc[0].removeprefix("beats ").split(", ")
    states = "; ".join({"own": "its own state", **NAMES}[state] for state in beaten)
    windows = any("-" in layers for layers in effects["layers"])
    caption = drawing.caption(
        int(effects["n"].max()),
        f"leaf pairs between {effects['hypernyms'].max()} hypernyms, {effects['direction'].iloc[0]}, "
        f"{effects['mode'].iloc[0]}",
        "95 %, studentised bootstrap over hypernyms",
        f"no change; a cell counts where it beats {states} (95 % band over all cells)",
    )
    return f"{caption} Windows of blocks, named by their last." if windows else caption


def _point(site: str) -> str:
    return Site.parse(site).point
