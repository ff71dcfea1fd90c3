"""Figures of a lens table: evidence for leaf and hypernym by layer beside the words of other leaves; nearest words."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analyses.frame import drawing

TARGETS = {"leaf": "name of the leaf", "hypernym": "its hypernyms"}
MODALITIES = {"image": "pictures", "text": "words"}
SPANS = ("slot", "cue", "last")
OF_TOKENS = ("logit", "tuned", "jacobian", "patchscope")
"""Lenses that read words of the model's vocabulary."""
_NEAREST = {"own name": "name of the leaf", "own hypernym": "its hypernyms"}
_INTERVAL = "95 % bootstrap over leaves, of levels widened (see docs/lenses.md)"


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name."""
    inside = table[table["layer"].notna()]
    words, sentences = inside[inside["lens"].isin(OF_TOKENS)], inside[inside["lens"] == "contextual"]
    views = {f"{measure}_{{}}": words[words["measure"] == measure] for measure in ("log10_rank", "log_prob")}
    views["cosine_{}"] = sentences[sentences["measure"] == "cosine"]
    near = sentences[sentences["measure"] == "nearest"]
    with drawing.style():
        figures = {
            name.format(modality): curves(rows[rows["modality"] == modality], str(rows["measure"].iloc[0]))
            for name, rows in views.items()
            for modality in MODALITIES
            if (rows["modality"] == modality).any()
        }
        return figures | {
            f"nearest_{modality}": nearest(near[near["modality"] == modality])
            for modality in MODALITIES
            if (near["modality"] == modality).any()
        }


def curves(table: pd.DataFrame, measure: str) -> Figure:
    """A measure by layer, lens × span; dashed, the words of other leaves."""
    rows = table
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
        axes.set_xlabel("block")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    of = f"leaves, {MODALITIES[str(rows['modality'].iloc[0])]}"
    null = "dashed, the words of other leaves; each word is as often another's as its own"
    text = drawing.caption(int(rows["n"].max()), of, _INTERVAL, null)
    said = "Words are read by their first token."
    if measure == "cosine":
        said = "A word's cosine is that of its most similar token in the bank."
    drawing.footnote(figure, f"{text} Tuned and Jacobian lenses are fitted on other leaves. {said}")
    return figure


def nearest(table: pd.DataFrame) -> Figure:
    """The share of tokens whose nearest word in sentences is an own one, by layer; dashed, with words exchanged."""
    panels = [
        (str(span), str(near)) for span, near in table[["span", "treatment"]].drop_duplicates().to_numpy()
    ]
    palette = drawing.colours(list(_NEAREST.values()))
    figure = Figure(figsize=(7.2, 3.1), layout="constrained")
    for axes, (span, near) in zip(figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels):
        view = table[(table["span"] == span) & (table["treatment"] == near)]
        for kind, label in _NEAREST.items():
            of_kind = view[view["target"] == kind]
            for words, dashed in (("bank", False), ("shuffled bank", True)):
                name = f"{label}, words exchanged" if dashed else label
                drawing.curve(
                    axes, of_kind[of_kind["words"] == words], "layer", palette[label], name, dashed=dashed
                )
        axes.set_title(f"{span}, {near or 'same layer'}")
        axes.set_xlabel("block")
    figure.axes[0].set_ylabel("share of tokens")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    of = f"leaves, {MODALITIES[str(table['modality'].iloc[0])]}"
    null = "dashed, banks in which words of a kind are exchanged, with limits over banks as well"
    drawing.footnote(figure, drawing.caption(int(table["n"].max()), of, "95 % bootstrap over leaves", null))
    return figure


def _axis(measure: str) -> str:
    return {"log10_rank": "rank in the vocabulary", "cosine": "cosine"}.get(measure, "log-probability (nats)")


def _rank_axis(axes) -> None:
    """Rank 1 on top, powers of ten as ticks."""
    low, high = axes.get_ylim()
    if low < high:
        axes.set_ylim(high, min(low, 0))
    powers = np.arange(0, int(np.ceil(max(axes.get_ylim()))) + 1)
    axes.set_yticks(powers, [f"{10**power:,}" for power in powers.tolist()])
    axes.set_ylim(max(low, high), min(low, high, 0))
