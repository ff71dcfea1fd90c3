"""Figures of sparse features: errors of reconstruction by layer, and hypernyms whose features pictures share."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analyses.frame import drawing
from analyses.frame.drawing.panels import of_last_step
from analyses.frame.tables import estimate_text
from analyses.sparse_features.shared import OVERLAP, PICTURES

NAMES = {"image": "pictures", "text": "words"}


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure of the table, by name."""
    with drawing.style():
        figures = {"reconstruction": reconstruction(table)}
        if (table["measure"] == PICTURES).any():
            figures["hypernyms"] = hypernyms(table)
        return figures


def reconstruction(table: pd.DataFrame) -> Figure:
    """Variance that a dictionary leaves unexplained, of pictures and of words, at each site."""
    rows = of_last_step(table[table["measure"] == "unexplained"])
    spans = list(dict.fromkeys(rows["span"]))
    palette = drawing.colours(list(NAMES.values()))
    figure = Figure(figsize=(2.9 * len(spans) + 0.8, 3.2), layout="constrained")
    for axes, span in zip(figure.subplots(1, len(spans), squeeze=False, sharey=True)[0], spans):
        for shift, (modality, name) in zip((-0.1, 0.1), NAMES.items()):
            own = rows[(rows["span"] == span) & (rows["modality"] == modality)].sort_values("layer")
            at = own["layer"] + shift
            axes.vlines(at, own["lower"], own["upper"], color=palette[name], linewidth=1.2)
            look = {"color": palette[name], "marker": drawing.marker(palette[name]), "markersize": 3}
            axes.plot(at, own["value"], label=name, **look)
        axes.axhline(1, **drawing.CHANCE)
        axes.set_title(span)
        axes.set_xlabel("block")
    figure.axes[0].set_ylabel("unexplained variance")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    null = "the mean of the same rows (1)"
    drawing.footnote(
        figure, drawing.caption(int(rows["n"].max()), "leaves", "95 % bootstrap over leaves", null)
    )
    return figure


def hypernyms(table: pd.DataFrame) -> Figure:
    """Of each hypernym, how its words' features distinguish pictures of held-out leaves, where the mean is largest."""
    rows = of_last_step(table[table["modality"] == "text→image"])
    means = rows[(rows["measure"] == PICTURES) & (rows["target"] == "mean")]
    best = means.iloc[int(means["value"].argmax())]
    here = rows[(rows["site"] == best["site"]) & (rows["span"] == best["span"]) & (rows["target"] != "mean")]
    own = here[here["measure"] == PICTURES].set_index("target").sort_values("value")
    q = here[here["measure"] == f"{PICTURES}_q"].set_index("target")["value"].reindex(own.index)
    overlap = here[here["measure"] == OVERLAP].set_index("target")["value"].reindex(own.index)
    places = np.arange(len(own))
    figure = Figure(figsize=(6.4, 0.2 * len(own) + 1.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    left.hlines(places, own["lower"], own["upper"], color="0.6", linewidth=1.2)
    left.plot(own["value"], places, "o", color="0.2", markersize=4, markerfacecolor="none")
    shown = (q <= 0.05).to_numpy()
    left.plot(own["value"][shown], places[shown], "o", color="0.2", markersize=4)
    left.axvline(0.5, **drawing.CHANCE)
    left.set_yticks(places, own.index)
    left.set_xlabel("AUROC of pictures by features of words")
    right.barh(places, overlap, color="0.7")
    right.set_xlabel("overlap")
    left.set_title(f"{best['site']}, {best['span']}")
    null = "chance (.5); filled: q ≤ .05 by labels exchanged among leaves (Benjamini–Hochberg)"
    drawing.footnote(
        figure, drawing.caption(int(own["n"].max()), "leaves", "95 % bootstrap over leaves", null)
    )
    return figure


def summary(table: pd.DataFrame) -> str:
    """The table's means as lines a person can read."""
    rows = of_last_step(table[table["target"] == "mean"])
    lines = ["Unexplained variance (0: faithful, 1: no better than the mean; 95 % over leaves)"]
    for row in rows[rows["measure"] == "unexplained"].itertuples():
        lines.append(f"  {row.site:28} {row.span:6} {row.modality:13} {_number(row)}")
    shared = rows[rows["measure"] == PICTURES]
    if len(shared):
        lines.append(
            "Features of words, chosen on other leaves, on pictures: AUROC, mean over hypernyms (chance .5)"
        )
    for row in shared.itertuples():
        at = table[(table["site"] == row.site) & (table["span"] == row.span) & (table["step"] == row.step)]
        p = at.loc[(at["target"] == "mean") & (at["measure"] == f"{PICTURES}_p"), "value"].iloc[0]
        q = at.loc[at["measure"] == f"{PICTURES}_q", "value"]
        beside = f"p {p:.3f}; {int((q <= 0.05).sum())} of {len(q)} hypernyms at q ≤ .05"
        lines.append(f"  {row.site:28} {row.span:6} {_number(row)}, {beside}")
    return "\n".join(lines)


def _number(row) -> str:
    return f"{estimate_text(row._asdict(), '.3f')} (n = {row.n})"
