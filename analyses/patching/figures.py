"""Figures of a patching table: heat maps of layer × span with marks where a cell counts, curves, attributions."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.frame import drawing
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
    for target in patched["target"].unique():
        rows = table[(table["target"] == target) & (table["split"] == "all")]
        for point in dict.fromkeys(_point(site) for site in rows["site"] if site != "all"):
            here = rows[[site == "all" or _point(site) == point for site in rows["site"]]]
            name = f"{target}_{point.replace('.', '_')}"
            if (here["head"] != "").any():
                figures[f"{name}_heads"] = heads(here[(here["head"] != "") | (here["site"] == "all")])
            whole = here[here["head"] == ""]
            if (whole["measure"] == "effect").any():
                figures[f"{name}_grid"] = maps(whole)
                figures[f"{name}_curves"] = curves(whole)
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
    most = float(np.nanmax(np.abs(shown["value"].to_numpy(float)))) or 1.0
    with drawing.style():
        figure, axes = _stacked(len(kinds), 0.9 * len(kinds) + 1.6)
        for kind, panel in zip(kinds, axes[:, 0]):
            grid = _grid(shown[shown["state"] == kind])
            drawing.heat(panel, grid, (-most, most), diverging=True)
            panel.set_title(f"state from: {NAMES[kind]}", loc="left")
            if kind == "clean":
                _mark(panel, grid, rows)
        axes[-1, 0].set_xlabel("layer")
        bar: Any = figure.colorbar(axes[0, 0].images[0], ax=axes[:, 0], label=label, shrink=0.9)
        bar.outline.set_visible(False)
        drawing.footnote(figure, f"{_said(rows)} Dots: cells that count.{note}")
    return figure


def _stacked(panels: int, height: float) -> tuple[Figure, Any]:
    """A figure with panels below one another, all over the same layers."""
    return plt.subplots(panels, 1, figsize=(6.2, height), sharex=True, layout="constrained", squeeze=False)


def curves(rows: pd.DataFrame) -> Figure:
    """Effects by layer with their intervals, a panel for each span."""
    spans = list(dict.fromkeys(rows.loc[rows["measure"] == "effect", "span"]))
    shown = rows[rows["measure"] == "effect"]
    with drawing.style():
        figure, axes = plt.subplots(
            1,
            len(spans),
            figsize=(2.3 * len(spans) + 0.6, 3.0),
            sharey=True,
            layout="constrained",
            squeeze=False,
        )
        for span, panel in zip(spans, axes[0]):
            for kind in [kind for kind in NAMES if kind in set(shown["state"])]:
                here = shown[(shown["span"] == span) & (shown["state"] == kind)]
                drawing.curve(panel, here, "layer", COLOURS[kind], NAMES[kind])
            gap = rows.loc[rows["measure"] == "gap", "value"]
            panel.axhline(float(gap.iloc[0]), **{**drawing.CHANCE, "linestyle": "-"})
            panel.axhline(0, **drawing.CHANCE)
            panel.set_title(span, loc="left")
            panel.set_xlabel("layer")
        axes[0, 0].set_ylabel("change of the log-odds, nats")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2)
        drawing.footnote(figure, f"{_said(rows)} Solid grey line: difference of the two runs of a pair.")
    return figure


def heads(rows: pd.DataFrame) -> Figure:
    """Heat maps of layer × head, one for each span; dots mark cells that beat every placebo."""
    measure, label = _shown(rows)
    shown = rows[(rows["measure"] == measure) & (rows["state"] == "clean")]
    spans = list(dict.fromkeys(shown["span"]))
    most = float(np.nanmax(np.abs(shown["value"].to_numpy(float)))) or 1.0
    with drawing.style():
        figure, axes = _stacked(len(spans), 1.5 * len(spans) + 1.2)
        for span, panel in zip(spans, axes[:, 0]):
            here = shown[shown["span"] == span].assign(head=lambda part: part["head"].astype(int))
            grid = here.pivot(index="head", columns="layer", values="value")
            drawing.heat(panel, grid, (-most, most), diverging=True)
            counted = rows[(rows["measure"] == "counts") & (rows["span"] == span) & (rows["value"] > 0)]
            columns = [list(grid.columns).index(layer) for layer in counted["layer"]]
            panel.plot(columns, counted["head"].astype(int), ".", color="black", markersize=3)
            panel.set_title(span, loc="left")
            panel.set_ylabel("head")
        axes[-1, 0].set_xlabel("layer")
        bar: Any = figure.colorbar(axes[0, 0].images[0], ax=axes[:, 0], label=label, shrink=0.9)
        bar.outline.set_visible(False)
        drawing.footnote(figure, f"{_said(rows)} Dots: cells that count.")
    return figure


def screen(table: pd.DataFrame) -> Figure:
    """True effects against attributions, of the cells of which both are known."""
    keys = ["site", "span", "head"]
    sides = {
        name: table[(table["measure"] == name) & (table["state"] == "clean") & (table["split"] == "all")]
        for name in ("attribution", "effect")
    }
    target = sides["attribution"]["target"].iloc[0]
    both = sides["attribution"].merge(sides["effect"][sides["effect"]["target"] == target], on=keys)
    agreement = table[table["measure"] == "rank_agreement"].iloc[0]
    with drawing.style():
        figure, axes = plt.subplots(figsize=(3.6, 3.6), layout="constrained")
        for span, rows in both.groupby("span", sort=False):
            axes.errorbar(
                rows["value_x"], rows["value_y"],
                xerr=[rows["value_x"] - rows["lower_x"], rows["upper_x"] - rows["value_x"]],
                yerr=[rows["value_y"] - rows["lower_y"], rows["upper_y"] - rows["value_y"]],
                fmt="o", markersize=3, linewidth=0.7, label=str(span), color=drawing.colour(str(span)),
            )  # fmt: skip
        axes.axhline(0, **drawing.CHANCE)
        axes.axvline(0, **drawing.CHANCE)
        axes.set_xlabel("attribution, nats")
        axes.set_ylabel("effect of the patch, nats")
        axes.legend()
        drawing.footnote(
            figure,
            f"Rank agreement {agreement['value']:.2f} [{agreement['lower']:.2f}, {agreement['upper']:.2f}] over "
            f"{agreement['n']} random cells. n = {both['n_y'].max()} leaf pairs. Interval: 95 %, bootstrap over leaf "
            "pairs. Null: no effect (dashed).",
        )
    return figure


def _shown(rows: pd.DataFrame) -> tuple[str, str]:
    """What a heat map shows: the fraction where the two runs differ, else the plain effect."""
    for measure in _FRACTIONS:
        if rows.loc[rows["measure"] == measure, "value"].notna().any():
            return measure, measure.replace("_", " ")
    return "effect", "change of log-odds, nats"


def _grid(rows: pd.DataFrame) -> pd.DataFrame:
    spans = list(dict.fromkeys(rows["span"]))[::-1]
    return rows.pivot(index="span", columns="layer", values="value").reindex(spans)


def _mark(axes: Axes, grid: pd.DataFrame, rows: pd.DataFrame) -> None:
    counted = rows[(rows["measure"] == "counts") & (rows["value"] > 0)]
    columns = [list(grid.columns).index(layer) for layer in counted["layer"]]
    axes.plot(
        columns, [list(grid.index).index(span) for span in counted["span"]], ".", color="black", markersize=4
    )


def _said(rows: pd.DataFrame) -> str:
    effects = rows[rows["measure"] == "effect"]
    note = rows.loc[rows["measure"] == "counts", "note"].iloc[0]
    widths = sorted(set(effects["layers"]))
    window = (
        "" if all("-" not in str(width) for width in widths) else " Windows of layers, named by their last."
    )
    return (
        drawing.caption(
            int(effects["n"].max()),
            f"leaf pairs, {effects['direction'].iloc[0]}, {effects['mode'].iloc[0]}",
            "95 %, bootstrap over leaf pairs",
            f"no change; a cell counts where it {note} (95 % band over all cells)",
        )
        + window
    )


def _point(site: str) -> str:
    return Site.parse(site).point
