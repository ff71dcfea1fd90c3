"""Figures of a table of circuits: curves beside random sets, contributions by layer, what sets share, paths."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.circuits.halves import MODALITIES, WORDS
from analyses.circuits.routes import ANSWER
from analyses.circuits.rows import FOUND
from analyses.circuits.search import RANDOM
from analyses.frame import drawing
from probing.patching.circuits import HeadOrMLP

COLOURS = {
    "attribution": "#0072B2", "greedy": "#009E73", "other modality": "#D55E00", "random": "#595959",
    "random by layer": "#E69F00",
}  # fmt: skip
_PAPER: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
MEASURES = {
    "faithfulness": "faithfulness\n(share left of the effect,\nall else ablated)",
    "completeness": "completeness\n(share lost,\nset ablated)",
    "minimality": "minimality\n(share lost\nwithout one member)",
}


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure of the table, by name."""
    with drawing.style():
        figures = {"parts": contributions(table), "paths": paths(table), "sharing": sharing(table)}
        if table.loc[table["measure"] == "faithfulness", "value"].notna().any():
            figures = {"curves": curves(table), **figures}
        return figures


def curves(table: pd.DataFrame) -> Figure:
    """Faithfulness, completeness and minimality over the size of the set, a column for each modality."""
    figure = Figure(figsize=(6.6, 6.4), layout="constrained")
    grid = figure.subplots(len(MEASURES), len(MODALITIES), squeeze=False, sharex=True, sharey="row")
    for line, (measure, label) in zip(grid, MEASURES.items()):
        for axes, modality in zip(line, MODALITIES):
            rows = table[(table["measure"] == measure) & (table["modality"] == modality)]
            for order in (*FOUND, *RANDOM):
                own = rows[rows["order"] == order]
                if len(own):
                    drawing.curve(axes, own, "size", COLOURS[order], order)
            axes.set_xscale("log")
            axes.axhline(0, **drawing.CHANCE)
            if measure != "minimality":
                axes.axhline(1, **drawing.CHANCE)
            if measure == "faithfulness":
                axes.set_title(f"tested on {WORDS[modality]}")
        line[0].set_ylabel(label)
    sizes = sorted(table.loc[table["measure"] == "faithfulness", "size"].unique())
    for axes in grid[-1]:
        axes.set_xticks(sizes, [str(size) for size in sizes], minor=False)
        axes.minorticks_off()
        axes.set_xlabel("parts in the set")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    n = int(table.loc[table["measure"] == "effect", "n"].max())
    over = "95 % over leaves, of random sets over draws as well"
    null = "random sets of equal size, of any parts and of as many heads and MLPs in each layer"
    text = drawing.caption(n, "leaves, each tested with the set found on the other half", over, null)
    drawing.footnote(
        figure, f"{text} 1: the whole effect of all parts. “Other modality”: the set found there."
    )
    return figure


def contributions(table: pd.DataFrame) -> Figure:
    """Contribution of every part: heads and MLP by layer, a panel for each modality."""
    rows = table[table["measure"] == "contribution"]
    named = [HeadOrMLP.parse(site) for site in rows["site"]]
    heads = max(part.head for part in named if part.head is not None) + 1
    rows = rows.assign(head=[heads if part.head is None else part.head for part in named])
    most = float(rows["value"].abs().max()) or 1.0
    figure = Figure(figsize=(6.6, 4.2), layout="constrained")
    panels = list(figure.subplots(2, 1, sharex=True))
    for axes, modality in zip(panels, MODALITIES):
        grid = rows[rows["modality"] == modality].pivot(index="head", columns="layer", values="value")
        drawing.heat(axes, grid, (-most, most), diverging=True)
        axes.set_yticks([*range(0, heads, max(1, heads // 4)), heads])
        axes.set_yticklabels([*map(str, range(0, heads, max(1, heads // 4))), "MLP"])
        axes.set_title(WORDS[modality], loc="left")
        axes.set_ylabel("head")
    panels[-1].set_xlabel("block")
    bar = figure.colorbar(panels[0].images[0], ax=panels, label="contribution, nats", shrink=0.9)
    bar.outline.set_visible(False)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    text = drawing.caption(
        int(rows["n"].max()), "leaves", "in the table", "a part whose gate changes nothing: 0"
    )
    drawing.footnote(
        figure, f"{text} Integrated gradients of gates; all parts together add up to the effect."
    )
    return figure


def sharing(table: pd.DataFrame) -> Figure:
    """What sets of words and of pictures share, beside chance, and Jaccard indices across halves of the leaves."""
    rows = table[table["target"] == "sets"]
    figure = Figure(figsize=(6.6, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    palette = {"any parts": "#595959", "same layers": "#E69F00"}
    shared = rows[(rows["measure"] == "shared") & (rows["order"] == "any parts")]
    _line(left, shared["size"], shared["value"] / shared["size"], "#0072B2", "shared")
    for null, colour in palette.items():
        chance = rows[(rows["measure"] == "shared_expected") & (rows["order"] == null)]
        _line(left, chance["size"], chance["value"] / chance["size"], colour, f"chance, {null}", "--")
    left.set_ylabel("share of a set that is in the other\n(words, pictures; same leaves)")
    for name, colour in (("words and pictures", "#D55E00"), ("words", "#009E73"), ("pictures", "#0072B2")):
        own = rows[(rows["measure"] == "jaccard") & (rows["order"] == name)]
        _line(right, own["size"], own["value"], colour, name)
    right.set_ylabel("Jaccard index of sets\nof different halves of the leaves")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(sorted(rows["size"].unique()), [str(size) for size in sorted(rows["size"].unique())])
        axes.minorticks_off()
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("parts in the set")
        axes.legend(loc="upper left" if axes is left else "lower left")
    text = "Means of both halves. Exact p of the overlap (larger of both halves, corrected over sizes) in the table."
    drawing.footnote(figure, text)
    return figure


def _line(axes: Axes, sizes: pd.Series, values: pd.Series, colour: str, label: str, style: str = "-") -> None:
    axes.plot(sizes, values, style, marker=drawing.marker(colour), color=colour, label=label)


def paths(table: pd.DataFrame) -> Figure:
    """Loss by each route between windows of layers, a column for each path and a line for each modality."""
    rows = table[table["measure"] == "loss"]
    names = list(dict.fromkeys(rows["path"]))
    # Straight to the answer goes nearly all of the effect: its colour would leave the other routes pale.
    most = float(rows.loc[rows["receiver"] != ANSWER, "value"].abs().max()) or 1.0
    figure = Figure(figsize=(2.0 * len(names) + 0.9, 5.0), layout="constrained")
    grid = figure.subplots(len(MODALITIES), len(names), squeeze=False)
    image = None
    for line, modality in zip(grid, MODALITIES):
        for axes, path in zip(line, names):
            own = rows[(rows["modality"] == modality) & (rows["path"] == path)]
            senders, receivers = (list(dict.fromkeys(own[side])) for side in ("sender", "receiver"))
            cells = own.pivot(index="sender", columns="receiver", values="value").reindex(senders)[receivers]
            image = drawing.heat(axes, cells, (-most, most), diverging=True)
            counted = table[(table["measure"] == "counts") & (table["value"] > 0)]
            counted = counted[(counted["modality"] == modality) & (counted["path"] == path)]
            across = [receivers.index(name) for name in counted["receiver"]]
            axes.plot(
                across, [senders.index(name) for name in counted["sender"]], ".", color="black", markersize=4
            )
            for up, value in enumerate(cells.get(ANSWER, ())):
                axes.text(-0.42, up, f"{value:.2f}", va="center", fontsize="x-small", bbox=_PAPER)
            axes.tick_params(axis="x", rotation=60)
            axes.set_title(path if modality == MODALITIES[0] else "")
        line[0].set_ylabel(f"{WORDS[modality]}\nblocks that send")
    for axes in grid[-1]:
        axes.set_xlabel("blocks that receive")
    assert image is not None
    bar = figure.colorbar(image, ax=list(grid.flat), label="loss of log-odds, nats", shrink=0.8)
    bar.outline.set_visible(False)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    null = "no loss; dots: above 0 by one 95 % band over all routes of a modality"
    text = drawing.caption(
        int(rows["n"].max()), "leaves", "95 %, studentised bootstrap over leaves (table)", null
    )
    drawing.footnote(figure, f"{text} Numbers: straight to the answer, beyond the colour scale.")
    return figure
