"""Figures of pooled effects: a forest of runs, conditions and contrasts, and maps of layers × spans."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.frame import drawing
from analyses.pooling.rows import CONTRAST, RUN, heterogeneity_text, main_rows

PLACED = ("site", "span", "layers", "layer")
FIXED = ("analysis", "step", "run", "kind", "condition", "statistic", "state", "split", "treatment", "seed")


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """A forest and a map for each measure and whatever else distinguishes two cells of one place."""
    figures: dict[str, Figure] = {}
    with drawing.style():
        for name, rows in _views(main_rows(table)):
            if rows["value"].notna().any():
                figures[f"forest_{name}"] = forest(table, rows)
                figures[f"map_{name}"] = maps(rows[rows["kind"] != RUN])
    return figures


def forest(table: pd.DataFrame, rows: pd.DataFrame) -> Figure:
    """At the largest cell of each span: each run, each condition and each contrast, with intervals."""
    spans = list(dict.fromkeys(rows["span"]))
    entries = rows.drop_duplicates(["kind", "condition", "run"])
    height = 0.19 * len(entries) + 1.7
    figure = Figure(figsize=(2.6 * len(spans) + 1.8, height), layout="constrained")
    panels = figure.subplots(1, len(spans), sharey=True, squeeze=False)[0]
    notes = [
        _forest_panel(axes, table, rows[rows["span"] == span], entries) for span, axes in zip(spans, panels)
    ]
    n, hypernyms = int(rows["n"].max()), int(rows["hypernyms"].max())
    text = drawing.caption(
        n,
        f"units between {hypernyms} hypernyms; each span at its cell of the largest effect in a condition",
        "95 %, of runs over hypernyms, of conditions and contrasts (diamonds) over hypernyms and seeds",
        "0 (dashed)",
    )
    drawing.footnote(figure, "\n".join([text, *filter(None, notes)]))
    return figure


def maps(rows: pd.DataFrame) -> Figure:
    """Heat maps of layers × spans, one for each condition and contrast; dots mark places that stand."""
    rows = rows.assign(width=[_width(text) for text in rows["layers"]]).sort_values("width", kind="stable")
    rows = rows.drop_duplicates(["condition", "span", "layer"]).sort_index()
    names, spans = list(dict.fromkeys(rows["condition"])), list(dict.fromkeys(rows["span"]))[::-1]
    layers = [int(layer) for layer in rows["layer"].dropna()]
    axis = range(min(layers, default=0), max(layers, default=0) + 1)
    figure = Figure(figsize=(6.2, (0.45 + 0.17 * len(spans)) * len(names) + 1.5), layout="constrained")
    panels = list(figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0])
    most = float(np.nanmax(np.abs(rows["value"]))) or 1.0
    for name, axes in zip(names, panels):
        own = rows[(rows["condition"] == name) & rows["layer"].notna()]
        grid = own.pivot(index="span", columns="layer", values="value").reindex(index=spans, columns=axis)
        drawing.heat(axes, grid, (-most, most), diverging=True)
        marked = own[own["stands"].astype(bool)]
        up = [spans.index(span) for span in marked["span"]]
        axes.plot(marked["layer"] - axis.start, up, ".", color="black", markersize=4)
        axes.set_title(name, loc="left")
    panels[-1].set_xlabel("layer")
    bar: Any = figure.colorbar(panels[0].images[0], ax=panels, label=_label(rows), shrink=0.9)
    bar.outline.set_visible(False)
    drawing.footnote(
        figure,
        drawing.caption(
            int(rows["n"].max()),
            f"units between {int(rows['hypernyms'].max())} hypernyms, up to {int(rows['seeds'].max())} seeds",
            "95 % band over all cells of a panel, over hypernyms and seeds",
            "0; dots: 0 and every placebo are outside the band. Grey: layers that were not asked",
        ),
    )
    return figure


def _forest_panel(axes: Axes, table: pd.DataFrame, rows: pd.DataFrame, entries: pd.DataFrame) -> str:
    """One span; the text is how much the runs of each condition differ there."""
    pooled = rows[rows["kind"] != RUN]
    of_conditions = pooled[pooled["kind"] != CONTRAST]
    among = pooled if of_conditions.empty else of_conditions
    best = among.iloc[int(among["value"].abs().argmax())]
    at_best = rows[(rows["site"] == best["site"]) & (rows["layers"] == best["layers"])]
    palette, names, notes = drawing.colours(list(dict.fromkeys(entries["condition"]))), [], []
    for place, entry in enumerate(entries.to_dict("records")):
        names.append(entry["run"] if entry["kind"] == RUN else entry["condition"])
        same = (at_best["kind"] == entry["kind"]) & (at_best["condition"] == entry["condition"])
        own = at_best[same & (at_best["run"] == entry["run"])]
        for row in own.to_dict("records"):
            run, y = entry["kind"] == RUN, len(entries) - 1 - place
            look = {"color": palette[entry["condition"]], "linewidth": 0.8 if run else 1.6}
            axes.plot([row["lower"], row["upper"]], [y, y], **look)
            axes.plot(row["value"], y, "s" if run else "D", markersize=3 if run else 5, color=look["color"])
            if row["kind"] != RUN and row["seeds"] > 1:
                notes.append(
                    f"{entry['condition']}, {best['span']}: {heterogeneity_text(table, own.iloc[0])}."
                )
    axes.axvline(0, **drawing.CHANCE)
    axes.set_yticks(range(len(entries) - 1, -1, -1), names)
    axes.set_title(f"{best['span']}, {best['site']}".strip(", "), loc="left", fontsize=7)
    axes.set_xlabel(_label(rows))
    return "\n".join(notes)


def _views(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each figure by name: of one target, measure, and of whatever else cells differ in."""
    numbers = (
        "value",
        "lower",
        "upper",
        "n",
        "seeds",
        "hypernyms",
        "band_lower",
        "band_upper",
        "passes",
        "stands",
    )
    keys = [name for name in rows.columns if name not in (*PLACED, *FIXED, *numbers)]
    keys = [name for name in keys if rows[name].nunique() > 1 or name in ("target", "measure")]
    return [
        (re.sub(r"[^A-Za-z0-9]+", "_", "_".join(str(key) for key in of if key != "")), view)
        for of, view in rows.groupby(keys, sort=False)
    ]


def _width(layers: str) -> int:
    first, _, last = str(layers).partition("-")
    return int(last) - int(first) if last else 0


def _label(rows: pd.DataFrame) -> str:
    return str(rows["measure"].iloc[0]).replace("_", " ")
