"""Figures of a lens table: how high leaf and hypernym rank by layer, beside the words of other leaves."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analyses.frame import drawing

TARGETS = {"leaf": "name of the leaf", "hypernym": "its hypernyms"}
MODALITIES = {"image": "pictures", "text": "words"}
SPANS = ("slot", "cue", "last")
_INTERVAL = "95 % bootstrap over leaves, of levels widened (see docs/causes.md)"


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name."""
    inside = table[table["layer"].notna() & table["lens"].isin(["logit", "tuned"])]
    with drawing.style():
        return {
            f"{measure}_{modality}": curves(inside[inside["modality"] == modality], measure)
            for measure in ("log10_rank", "log_prob")
            for modality in MODALITIES
            if (inside["modality"] == modality).any()
        }


def curves(table: pd.DataFrame, measure: str) -> Figure:
    """A measure by layer, lens × span; dashed, the words of other leaves."""
    rows = table[table["measure"] == measure]
    spans = [span for span in SPANS if (rows["span"] == span).any()]
    lenses = list(dict.fromkeys(rows["lens"]))
    palette = drawing.colours(list(TARGETS.values()))
    figure = Figure(figsize=(7.2, 2.2 * len(lenses) + 0.9), layout="constrained")
    grid = figure.subplots(len(lenses), len(spans), squeeze=False, sharex=True, sharey=True)
    for line, lens in zip(grid, lenses):
        for axes, span in zip(line, spans):
            view = rows[(rows["lens"] == lens) & (rows["span"] == span)]
            for target, label in TARGETS.items():
                own = view[(view["target"] == target) & (view["words"] == "own")]
                other = view[(view["target"] == target) & (view["words"] == "other")]
                drawing.curve(axes, own, "layer", palette[label], label)
                drawing.curve(axes, other, "layer", palette[label], f"{label}, of other leaves", dashed=True)
            axes.set_title(span if lens == lenses[0] else "")
        line[0].set_ylabel(f"{lens} lens\n{_axis(measure)}")
        if measure == "log10_rank":
            _rank_axis(line[0])
    for axes in grid[-1]:
        axes.set_xlabel("layer")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    of = f"leaves, {MODALITIES[str(rows['modality'].iloc[0])]}"
    null = "dashed, the words of other leaves; each word is as often another's as its own"
    text = drawing.caption(int(rows["n"].max()), of, _INTERVAL, null)
    drawing.footnote(
        figure, f"{text} Tuned lenses are fitted on other leaves. Words are read by their first token."
    )
    return figure


def _axis(measure: str) -> str:
    return "rank in the vocabulary" if measure == "log10_rank" else "log-probability (nats)"


def _rank_axis(axes) -> None:
    """Rank 1 on top, powers of ten as ticks."""
    low, high = axes.get_ylim()
    if low < high:
        axes.set_ylim(high, min(low, 0))
    powers = np.arange(0, int(np.ceil(max(axes.get_ylim()))) + 1)
    axes.set_yticks(powers, [f"{10**power:,}" for power in powers.tolist()])
    axes.set_ylim(max(low, high), min(low, high, 0))
