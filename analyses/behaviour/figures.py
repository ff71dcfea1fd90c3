"""Figures of the `behaviour` analysis: scores and contrasts, baselines beside scores, scores by removed evidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.behaviour.rows import headline, several_fractions
from analyses.frame import drawing
from analyses.inputs.intervals import limits_text
from analyses.inputs.measures import MEASURES

KINDS = {
    "": ("the model", "o"),
    "majority": ("majority answer", "x"),
    "blind": ("picture of another leaf", "v"),
    "gold": ("leaf's name in words", "*"),
    "cascade": ("own name for it, in words", "P"),
    "probe": ("linear probe, leaf seen", "<"),
    "probe_held_out": ("linear probe, other leaves", ">"),
}
"""The model and its baselines, as legends say them, with their markers, from top to bottom."""
SCORED = {"held_out": "evidence removed", "seen": "evidence seen", "all": "all hypernyms"}
_PUBLISHED = {
    "original": "pretrained",
    "within": "within",
    "across": "across",
}


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name."""
    made = {"behaviour": forest(headline(table)), "baselines": baselines(table)}
    return made | ({"fractions": fractions(table)} if several_fractions(table) else {})


def forest(table: pd.DataFrame) -> Figure:
    """Scores of each condition with their intervals, a panel per measure, and the contrasts between conditions."""
    means = table[(table["target"] == "mean") & (table["modality"] == "image")]
    shown, differences = means[means["contrast"] == ""], means[means["contrast"] != ""]
    differences = differences[differences["measure"] == "auroc"]
    rows = max(shown["condition"].nunique(), len(differences))
    lines = 1 + max([0, *(name.count(" · ") for name in means["condition"])])
    with drawing.style():
        figure = Figure(
            figsize=(7.2, 1.3 + 0.4 * max(rows, 2) * (1 + 0.3 * (lines - 1))), layout="constrained"
        )
        axes = figure.subplots(1, 3, width_ratios=(1, 1, 1.15)) if len(differences) else figure.subplots(1, 2)
        parts = [shown[shown["measure"] == measure] for measure in ("auroc", "leaf_naming")]
        for axis, measure, part in zip(axes, ("auroc", "leaf_naming"), parts, strict=False):
            drawing.points(axis, part, label="condition")
            axis.axvline(part["chance"].iloc[0], **drawing.CHANCE)
            axis.set_title(MEASURES[measure])
        if list(parts[0]["condition"]) == list(parts[1]["condition"]):
            axes[1].tick_params(labelleft=False)
        if len(differences):
            drawing.points(axes[2], differences, label="contrast")
            axes[2].axvline(0, **drawing.CHANCE)
            axes[2].set_title("difference in hypernym AUROC")
        drawing.footnote(figure, _caption(shown, "chance or no difference, dashed"))
    return figure


def baselines(table: pd.DataFrame) -> Figure:
    """Every condition's score with the baselines on the same rows beside it, a panel per measure."""
    means = table[(table["target"] == "mean") & (table["modality"] == "image") & (table["contrast"] == "")]
    means = means[means["headline"] | (means["baseline"] != "")]
    names = list(dict.fromkeys(means["condition"]))
    with drawing.style():
        figure = Figure(figsize=(7.2, 1.7 + 0.62 * len(names)), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axis, measure in zip(panels, ("auroc", "macro_f1"), strict=True):
            for place, name in enumerate(names):
                here = means[(means["condition"] == name) & (means["measure"] == measure)]
                _beside(axis, here, place)
            axis.set_title(MEASURES[measure])
        panels[0].axvline(0.5, **drawing.CHANCE)
        panels[0].set_yticks(range(len(names)), [drawing.readable(name) for name in names])
        panels[0].set_ylim(len(names) - 0.5, -0.5)
        for name in KINDS:
            if (means["baseline"] == name).any():
                label, marker = KINDS[name]
                panels[0].plot([], [], marker, color="0.35", markersize=4.5 if name else 6, label=label)
        figure.legend(loc="outside upper center", ncols=4)
        drawing.footnote(figure, _caption(means, "chance, dashed"))
    return figure


def fractions(table: pd.DataFrame, published: pd.DataFrame | None = None) -> Figure:
    """Scores against the share of hypernym questions that was really removed, by series; the study's curves behind."""
    means = table[(table["target"] == "mean") & (table["modality"] == "image") & (table["contrast"] == "")]
    means = means[(means["leaves"] == "all") & means["baseline"].isin(["", "majority"])]
    kinds = [name for name in SCORED if name != "all" and (means["scored"] == name).any()]
    series = list(dict.fromkeys(means["series"]))
    palette = drawing.colours(series)
    with drawing.style():
        figure = Figure(figsize=(7.2, 1.5 + 2.4 * len(kinds)), layout="constrained")
        panels = figure.subplots(len(kinds), 2, sharex=True, squeeze=False)
        for line, scored in zip(panels, kinds, strict=True):
            for axis, measure in zip(line, ("auroc", "macro_f1"), strict=True):
                here = means[(means["scored"] == scored) & (means["measure"] == measure)]
                if published is not None and (scored, measure) == ("held_out", "macro_f1"):
                    _published_curves(axis, published)
                for name in series:
                    own = here[(here["series"] == name) & (here["baseline"] == "")]
                    _dotted(axis, own, palette[name], name)
                baseline = here[here["baseline"] == "majority"]
                if measure == "auroc" or set(baseline["effective"]) == set(here["effective"]):
                    _majority(axis, baseline, measure)
                axis.set_title(f"{MEASURES[measure]}, {SCORED[scored]}")
        for axis in panels[-1]:
            axis.set_xlabel("share of hypernym questions removed")
            axis.set_xlim(-0.03, 1.03)
        handles = {
            label: handle for axis in panels.flat for handle, label in zip(*axis.get_legend_handles_labels())
        }
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4)
        drawing.footnote(
            figure, _caption(means, "dashed, chance; dotted, the majority answer") + _note(published)
        )
    return figure


def _beside(axis: Axes, rows: pd.DataFrame, place: float) -> None:
    """One condition's score and, below each other, its baselines."""
    tint = drawing.colour(str(rows["condition"].iloc[0]))
    for row in rows.to_dict("records"):
        name = str(row["baseline"])
        _, marker = KINDS[name]
        at = place - 0.3 + 0.1 * list(KINDS).index(name)
        style: dict[str, Any] = {"color": tint if not name else "0.35", "zorder": 3 if not name else 2}
        axis.plot([row["lower"], row["upper"]], [at, at], linewidth=1.6 if not name else 0.7, **style)
        axis.plot(row["value"], at, marker, markersize=6 if not name else 4.5, **style)


def _dotted(axis: Axes, rows: pd.DataFrame, colour: str, name: str) -> None:
    """A curve with a marker at each fraction; a lone fraction keeps its interval."""
    if not len(rows):
        return
    drawing.curve(axis, rows, "effective", colour, name)
    axis.plot(rows["effective"], rows["value"], drawing.marker(colour), color=colour, markersize=4)
    if len(rows) == 1:
        axis.plot(rows["effective"].tolist() * 2, rows[["lower", "upper"]].to_numpy()[0], color=colour)


def _majority(axis: Axes, rows: pd.DataFrame, measure: str) -> None:
    """The line of no knowledge: chance for an AUROC, the majority answer for an F1."""
    if measure == "auroc":
        axis.axhline(0.5, **drawing.CHANCE)
    elif len(rows):
        baseline = rows.groupby("effective")["value"].mean()
        axis.plot(
            baseline.index,
            baseline.to_numpy(),
            color="0.3",
            linestyle=":",
            marker=".",
            label="majority answer",
        )


def _published_curves(axis: Axes, table: pd.DataFrame) -> None:
    """The study's curves, thin, one per LM, in the colour of the condition that they stand for."""
    for (_, init, shuffle), curve in table.groupby(["lm", "init", "shuffle"]):
        name = "random_init" if init == "random" else _PUBLISHED[str(shuffle)]
        curve = curve.sort_values("effective")
        look: dict[str, Any] = {"color": drawing.colour(name), "linewidth": 0.7, "alpha": 0.6, "zorder": 1}
        axis.plot(curve["effective"], curve["value"], marker="x", markersize=3, **look)
    axis.plot([], [], color="0.5", linewidth=0.7, marker="x", markersize=3, label="published (by LM)")


def _note(published: pd.DataFrame | None) -> str:
    if published is None:
        return ""
    return (
        "\nCrosses: the published study's macro-F1 (yes/no questions on THINGS, 53 hypernyms, single-class hypernyms "
        "counted as 1), against the share that its rule really removed: another world and threshold, compare shapes. "
        "Its across may show a leaf as one that shares a hypernym (across-plain)."
    )


def _caption(rows: pd.DataFrame, null: str) -> str:
    study = (rows["interval"] == "study").any()
    what = "hypernym × seed" if study else "leaf concepts"
    n = int(np.nanmax(rows["n"]))
    interval = limits_text(rows["runs"], "study" if study else "hierarchical")
    return drawing.caption(n, what, interval, null)
