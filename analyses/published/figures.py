"""Figure of the `published` analysis: macro-F1 against the share of questions that was really removed."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analyses.frame import drawing

CONDITIONS = {"original": "pretrained", "within": "within", "across": "across"}
"""Shuffle of the published study → the condition whose colour it has."""


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """The figure of a table, by name; none where the shares that were removed are not known."""
    if not (table["measure"] == "share_of_questions").any():
        return {}
    with drawing.style():
        return {"published": by_removed_share(table)}


def by_removed_share(table: pd.DataFrame) -> Figure:
    """Macro-F1 on held-out hypernyms against the share of questions removed, by LM and kind of ablation."""
    mean = table[
        (table["section"] == "conditions") & (table["target"] == "mean") & (table["encoder"] == "dinov2")
    ]
    index = ["lm", "init", "shuffle", "ablation", "amount"]
    wide = mean.pivot(index=index, columns="measure", values=["value", "lower", "upper"]).reset_index()
    lms = sorted(set(wide["lm"]))
    figure = Figure(figsize=(3.1 * len(lms), 5.8), layout="constrained")
    axes = figure.subplots(2, len(lms), sharex=True, sharey=True, squeeze=False)
    for line, kind in enumerate(("random", "systematic")):
        for panel, lm in zip(axes[line], lms, strict=True):
            part = wide[(wide["lm"] == lm) & wide["ablation"].isin([kind, "full"])]
            for (init, shuffle), curve in part.groupby(["init", "shuffle"]):
                _curve(panel, curve.sort_values(("value", "share_of_questions")), str(init), str(shuffle))
            panel.set_title(f"{lm}, {kind}" if line == 0 else kind)
    axes[0][0].set_ylim(0, 1)
    figure.supxlabel("share of hypernym questions removed (bands: 95 % over 53 hypernyms and 3 seeds)")
    figure.supylabel("macro-F1 on held-out hypernyms")
    handles, labels = axes[0][-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5)
    return figure


def _curve(panel: Any, curve: pd.DataFrame, init: str, shuffle: str) -> None:
    colour = drawing.colour(CONDITIONS[shuffle] if init == "pretrained" else "random_init")
    label = shuffle if init == "pretrained" else "random-init"
    share, measure = curve[("value", "share_of_questions")].astype(float), "macro_f1_crossed"
    panel.plot(
        share, curve[("value", measure)].astype(float), color=colour, marker=drawing.marker(colour), ms=3, lw=1,
        label=label,
    )  # fmt: skip
    limits = (curve[(limit, measure)].astype(float) for limit in ("lower", "upper"))
    panel.fill_between(share, *limits, color=colour, alpha=0.2, lw=0)
    if shuffle == "original" and init == "pretrained":
        baseline = curve[("value", "majority_macro_f1")].astype(float)
        panel.plot(share, baseline, color="black", ls=":", lw=1, label="majority answer")
