"""Figures of the `lm_knowledge` analysis: read-outs and heights, every hypernym, agreement with picture answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.frame import drawing
from analyses.inputs.intervals import limits_text

AGREEMENT = {
    "yes_if_known": "Yes for pictures\nof a true pair words know",
    "yes_if_unknown": "Yes for pictures of\na true pair words do not",
    "kappa": "agreement beyond\nchance (κ)",
}
_INTERVAL = "95 %, over leaf concepts and hypernyms"


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name."""
    table = table.assign(source=_source(table))
    with drawing.style():
        made = {"knowledge": _knowledge(table), "hypernyms": _hypernyms(table)}
        if (table["condition"] != "").any():
            made["agreement"] = _agreement(table[table["condition"] != ""])
    return made


def _knowledge(table: pd.DataFrame) -> Figure:
    """Mean AUROC by read-out and template, and by the height of the hypernym."""
    words = table[table["condition"] == ""]
    means = words[(words["measure"] == "auroc") & (words["target"] == "mean")]
    heights = words[words["measure"] == "auroc_by_height"]
    lines = 1 + max(name.count(" · ") for name in means["source"])
    figure = Figure(figsize=(7.2, 1.5 + 0.3 * max(len(means) * lines, 5)), layout="constrained")
    left, right = figure.subplots(1, 2)
    drawing.points(left, means, label="source")
    left.axvline(0.5, **drawing.CHANCE)
    left.set_title("hypernym AUROC, words alone")
    palette = drawing.colours(list(dict.fromkeys(means["source"])))
    for place, (name, rows) in enumerate(heights.groupby("source", sort=False)):
        x = rows["target"].str.removeprefix("height ").astype(float) + 0.08 * place
        spread = np.abs(rows[["lower", "upper"]].to_numpy(float).T - rows["value"].to_numpy(float))
        look: dict[str, Any] = {"fmt": "o", "color": palette[str(name)], "linewidth": 1.2, "markersize": 4}
        right.errorbar(x, rows["value"], spread, **look)
    right.axhline(0.5, **drawing.CHANCE)
    right.set_xlabel("height of the hypernym above the leaves")
    right.set_xticks(sorted(set(heights["target"].str.removeprefix("height ").astype(int))))
    right.set_title("by height")
    drawing.footnote(
        figure, drawing.caption(int(means["n"].max()), "leaf concepts", _INTERVAL, "chance, dashed")
    )
    return figure


def _hypernyms(table: pd.DataFrame) -> Figure:
    """AUROC of every hypernym in words, a marker per read-out; sorted by the first read-out, the best on top."""
    rows = table[(table["condition"] == "") & (table["measure"] == "auroc") & (table["target"] != "mean")]
    names = list(dict.fromkeys(rows["source"]))
    order = rows[rows["source"] == names[0]].sort_values("value")["target"].tolist()
    palette = drawing.colours(names)
    figure = Figure(figsize=(5.4, 1.3 + 0.14 * len(order)), layout="constrained")
    axis = figure.subplots()
    for name in names:
        here = rows[rows["source"] == name].set_index("target").reindex(order)
        place = np.arange(len(order))
        axis.hlines(place, here["lower"], here["upper"], color=palette[name], linewidth=0.8, alpha=0.6)
        axis.plot(
            here["value"],
            place,
            "o",
            color=palette[name],
            markersize=3.5,
            label=drawing.readable(name, ", "),
        )
    axis.set_yticks(range(len(order)), order, fontsize="x-small")
    axis.set_ylim(-0.7, len(order) - 0.3)
    axis.axvline(0.5, **drawing.CHANCE)
    axis.set_xlabel("AUROC, words alone")
    figure.legend(loc="outside upper center", ncols=2)
    n = int(table.loc[(table["measure"] == "auroc") & (table["target"] == "mean"), "n"].max())
    interval = "95 %, over leaf concepts"
    drawing.footnote(figure, drawing.caption(n, "leaf concepts", interval, "chance, dashed"))
    return figure


def _agreement(table: pd.DataFrame) -> Figure:
    """Agreement of the answers about pictures with those about words, by condition; a row of panels per read-out."""
    readouts = list(dict.fromkeys(table["readout"]))
    names = list(dict.fromkeys(table["condition"]))
    size = (7.2, 1.4 + (0.5 + 0.42 * len(names)) * len(readouts))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(readouts), len(AGREEMENT), sharey=True, squeeze=False)
    for row, (line, readout) in enumerate(zip(panels, readouts, strict=True)):
        for axis, (measure, title) in zip(line, AGREEMENT.items(), strict=True):
            here = table[(table["readout"] == readout) & (table["measure"] == measure)]
            _any_and_all(axis, here, names)
            axis.set_title("" if row else title)
        line[0].set_ylabel(readout.replace("_", "/"))
        line[0].set_yticks(range(len(names)), [drawing.readable(name) for name in names])
        line[0].set_ylim(len(names) - 0.5, -0.5)
    found = dict(zip(*panels[0][0].get_legend_handles_labels()[::-1], strict=True))
    figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=2)
    n = int(table.loc[table["measure"] == "kappa", "n"].max())
    null = "κ = 0; words and pictures say Yes to as many pairs as are true"
    interval = limits_text(table["runs"], over=("leaf concepts",))
    drawing.footnote(figure, drawing.caption(n, "leaf concepts", interval, null))
    return figure


def _any_and_all(axis: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    for pictures, marker, shift in (("any", "o", -0.14), ("all", "s", 0.14)):
        for row in rows[rows["pictures"] == pictures].to_dict("records"):
            at, tint = names.index(row["condition"]) + shift, drawing.colour(row["condition"])
            fill = tint if pictures == "any" else "white"
            axis.plot([row["lower"], row["upper"]], [at, at], color=tint, linewidth=1.2, zorder=1)
            look: dict[str, Any] = {"mfc": fill, "mec": tint, "markersize": 5, "linestyle": ""}
            axis.plot(
                row["value"],
                at,
                marker,
                label=f"{pictures} picture{'s' * (pictures == 'all')} of the leaf",
                **look,
            )


def _source(table: pd.DataFrame) -> list[str]:
    """The source of a number, in as few words as distinguish it from the others."""
    parts = []
    for name in ("lm", "init", "leaves", "readout", "prompt"):
        if name == "readout" or table[name].nunique() > 1:
            parts.append(table[name].astype(str).tolist())
    return [" · ".join(words) for words in zip(*parts, strict=True)]
