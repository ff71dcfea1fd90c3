"""Figures of an emergence table: AUROC by layer and condition at the last step, and by layer and training step."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.emergence.rows import (
    QUESTIONS,
    of_last_steps,
    over_seeds,
    seeds_text,
    seen_in_training,
    training_rows,
    unadapted,
)
from analyses.frame import drawing

SPANS = {"slot": "at the picture's slot", "cue": "at the cue “is a kind of”", "last": "at the last token"}


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name."""
    with drawing.style():
        figures = {"emergence": emergence(table)}
        if seen_in_training(table):
            figures["training"] = training(table)
        return figures


def emergence(table: pd.DataFrame) -> Figure:
    """Mean AUROC by layer: a row per question put to the layer, a column per place, a line per condition."""
    rows = over_seeds(of_last_steps(unadapted(table[table["layer"].notna()])))
    spans = sorted(
        set(rows["span"]), key=lambda span: (list(SPANS).index(span) if span in SPANS else -1, span)
    )
    palette = drawing.colours(list(map(str, rows["condition"])))
    figure = Figure(figsize=(2.55 * len(spans) + 0.4, 2.15 * len(QUESTIONS) + 0.7), layout="constrained")
    grid = figure.subplots(len(QUESTIONS), len(spans), sharex=True, sharey=True, squeeze=False)
    for line, modality in zip(grid, QUESTIONS, strict=True):
        for axes, span in zip(line, spans, strict=True):
            _panel(axes, rows[(rows["span"] == span) & (rows["modality"] == modality)], palette)
        line[0].set_ylabel(f"{QUESTIONS[modality]}\nmean AUROC")
    for axes, span in zip(grid[0], spans, strict=True):
        axes.set_title(SPANS.get(span, span))
    for axes in grid[-1]:
        axes.set_xlabel("block")
    handles = {
        label: handle for axes in grid.ravel() for handle, label in zip(*axes.get_legend_handles_labels())
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), frameon=False
    )
    drawing.footnote(figure, _caption(rows))
    return figure


def training(table: pd.DataFrame) -> Figure:
    """Mean AUROC of picture probes by layer and training step at the cue, a panel per condition; text probes below."""
    rows = over_seeds(unadapted(training_rows(table)))
    layers, steps = sorted(set(rows["layer"])), sorted(set(rows["step"]))
    names = list(dict.fromkeys(rows["condition"]))
    figure = Figure(figsize=(1.75 * len(names) + 0.9, 5.0), layout="constrained")
    grid = figure.subplots(2, len(names), sharex=True, sharey=True, squeeze=False)
    for line, modality in zip(grid, ("image", "text→image"), strict=True):
        for axes, name in zip(line, names, strict=True):
            panel = rows[(rows["condition"] == name) & (rows["modality"] == modality)]
            cells = panel.pivot_table(index="layer", columns="step", values="value")
            # Panels share their axes: a step that one condition lacks must not shift another's columns.
            drawing.heat(axes, cells.reindex(index=layers, columns=steps), (0.5, 1.0))
            axes.set_title(name if modality == "image" else "")
        line[0].set_ylabel(f"{QUESTIONS[modality]}\nblock")
    for axes in grid[-1]:
        axes.set_xlabel("training step")
    figure.colorbar(grid[0, 0].images[0], ax=grid, label="mean AUROC at the cue (chance .5)", shrink=0.6)
    n = int(rows["n"].max())
    intervals = "95 %, in the table beside this figure"
    drawing.footnote(figure, drawing.caption(n, "leaf concepts", intervals, "AUROC .5, no information"))
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, palette: dict[str, str]) -> None:
    for condition, curve in rows.groupby("condition", sort=False):
        colour = palette[str(condition)]
        drawing.curve(axes, curve[curve["measure"] == "auroc"], "layer", colour, str(condition))
        drawing.curve(axes, curve[curve["measure"] == "control_auroc"], "layer", colour, dashed=True)
    axes.axhline(0.5, **drawing.CHANCE)


def _caption(rows: pd.DataFrame) -> str:
    return (
        f"n = {int(rows['n'].max())} leaf concepts; ridge probes tested on leaf concepts they were not fitted on; "
        f"band: 95 % over leaf concepts{seeds_text(rows)}; fine dashes: control task (each leaf has another "
        "leaf's hypernyms); grey: chance. Block −1 is the input to the first block, −2 the encoder's features."
    )
