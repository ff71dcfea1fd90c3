"""Figures of a study: pure functions of its tables of scores, contrasts and transfer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.frame import drawing
from analyses.inputs.measures import MEASURES
from analyses.study.contrasts import ALIKE, RANDOM, SHUFFLE, SYSTEMATIC, level_of

Members = Mapping[str, Mapping[str, str]]
"""Group → label → condition."""
_INITS = {
    "pretrained": "pretrained",
    "pretrained-embeddings": "pretrained embeddings",
    "random": "random_init",
}
_BASELINES = {
    "blind": ("picture of another leaf", (0, (1, 1))),
    "gold": ("leaf's name in words", "-"),
    "cascade": ("own name for it, in words", (0, (5, 1))),
    "probe": ("linear probe, leaf seen", "-."),
    "probe_held_out": ("linear probe, other leaves", (0, (3, 1, 1, 1, 1, 1))),
}
_BESIDE = 0.012  # so that points of two inits with one value are both seen
_PANELS = ("auroc", "top1", "leaf_naming")
_INTERVAL = "95 %, over leaf concepts, hypernyms and seeds"


def draw(
    scores: pd.DataFrame, contrasts: pd.DataFrame, transfer: pd.DataFrame, members: Members, bound: float
) -> dict[str, Figure]:
    """Every figure that the tables have the numbers for, by name.

    Args:
        scores: rows of conditions (`Study.scores`).
        contrasts: rows of pairs (`analyses.study.contrasts.table`).
        transfer: rows of the transfer by layer (`analyses.study.transfer.curves`), and its `size`.
        members: conditions by group and label.
        bound: of equivalence in AUROC; NaN where the plan states none.
    """
    known = set(scores["condition"]) if len(scores) else set()
    of: dict[str, dict[str, str]] = {
        group: {label: name for label, name in labels.items() if name in known}
        for group, labels in members.items()
    }
    with drawing.style():
        figures: dict[str, Figure | None] = {
            "evidence": _levels(scores, of.get(RANDOM, {}), "share of hypernym questions removed"),
            "systematic": _levels(scores, of.get(SYSTEMATIC, {}), "share of hypernym questions removed"),
            "shuffles": _shuffles(scores, of.get(SHUFFLE, {})),
            "alike": _alike(contrasts, bound),
            "transfer": _transfer(transfer, of),
            "onset": _onset(transfer, scores, of),
        }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _levels(scores: pd.DataFrame, labels: Mapping[str, str], what: str) -> Figure | None:
    """Scores against the share of evidence that was really removed, a curve per init, with the baselines."""
    if len(labels) < 2:
        return None
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    panels = figure.subplots(1, 3, sharex=True)
    rows = _of(scores, labels)
    rows["init"] = [level_of(label)[1] for label in rows["label"]]
    for axes, measure in zip(panels, _PANELS, strict=True):
        here = rows[rows["measure"] == measure]
        for init, name in _INITS.items():
            own = here[(here["init"] == init) & (here["baseline"] == "")]
            if len(own):
                drawing.curve(axes, own, "effective", drawing.colour(name), name)
                marker = drawing.MARKERS.get(name, "o")
                axes.plot(own["effective"], own["value"], marker, color=drawing.colour(name))
        axes.set_title(MEASURES[measure])
        axes.set_xlim(-0.03, 1.03)
    for baseline, (name, line) in _BASELINES.items():
        own = rows[(rows["baseline"] == baseline) & (rows["init"] == "pretrained")].sort_values("effective")
        panels[0].plot(
            own["effective"], own["value"], color="0.45", linewidth=0.8, linestyle=line, label=name
        )
    panels[0].axhline(0.5, **drawing.CHANCE, label="majority answer, chance")
    panels[1].set_xlabel(what)
    _finish(
        figure, panels[0], rows, "chance, dashed; hypernyms without removed evidence, where none was removed"
    )
    return figure


def _shuffles(scores: pd.DataFrame, labels: Mapping[str, str]) -> Figure | None:
    """AUROC and naming of every shuffle, and AUROC against realised coherence."""
    if len(labels) < 2:
        return None
    rows = _of(scores, labels)
    rows = rows[rows["baseline"] == ""]
    figure = Figure(figsize=(7.2, 1.3 + 0.3 * max(len(labels), 5)), layout="constrained")
    dosed = rows["coherence"].notna().any()
    forest, naming, *others = figure.subplots(1, 3 if dosed else 2)
    for axes, measure in ((forest, "auroc"), (naming, "leaf_naming")):
        drawing.points(axes, rows[rows["measure"] == measure], "label")
        axes.set_title(MEASURES[measure])
    forest.axvline(0.5, **drawing.CHANCE)
    for axes in others:
        _doses(axes, rows[(rows["measure"] == "auroc") & rows["coherence"].notna()], list(labels))
    drawing.footnote(figure, _caption(rows, "AUROC .5, dashed"))
    return figure


def _doses(axes: Axes, rows: pd.DataFrame, labels: Sequence[str]) -> None:
    """AUROC against realised coherence, in the colours of the shuffles."""
    palette = drawing.colours(labels)
    for row in rows.to_dict("records"):
        tint = palette[row["label"]]
        axes.plot([row["coherence"]] * 2, [row["lower"], row["upper"]], color=tint)
        axes.plot(row["coherence"], row["value"], drawing.MARKERS.get(row["label"], "o"), color=tint)
    axes.axhline(0.5, **drawing.CHANCE)
    axes.set_xlabel("realised coherence")
    axes.set_title("AUROC by coherence")


def _alike(contrasts: pd.DataFrame, bound: float) -> Figure | None:
    """Differences of encoders, projectors and wordings beside the bounds of equivalence, and the effects of others."""
    kinds = [*ALIKE, "full.embeddings", "full.init", "shuffle.coherence", "shuffle.coherent", "shuffle.truth"]
    rows = contrasts[contrasts["key"].isin(kinds) & contrasts["value"].notna()].copy()
    if not rows["key"].isin(ALIKE).any():
        return None
    figure = Figure(figsize=(7.2, 1.3 + 0.34 * rows["label"].nunique()), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, measure, title in zip(
        panels,
        ("auroc", "leaf_naming"),
        ("difference in hypernym AUROC", "difference in leaf naming"),
        strict=True,
    ):
        drawing.points(axes, rows[rows["measure"] == measure], "label")
        axes.axvline(0, **drawing.CHANCE)
        axes.set_title(title)
    null = "no difference, dashed"
    if not np.isnan(bound):
        panels[0].axvspan(-bound, bound, color="0.9", zorder=0)
        null += f"; grey: bounds of equivalence, ±{bound:g} AUROC"
    drawing.footnote(figure, _caption(rows[rows["measure"] == "auroc"], null))
    return figure


def _transfer(transfer: pd.DataFrame, of: Members) -> Figure | None:
    """AUROC of probes fitted on words and tested on pictures, less their control, by layer: a panel for each group."""
    curves = transfer[(transfer["measure"] == "selectivity") & transfer["layer"].notna()]
    known = set(curves["condition"])
    shown = {group: {k: v for k, v in labels.items() if v in known} for group, labels in of.items()}
    shown = {group: labels for group, labels in shown.items() if len(labels) > 1}
    if not shown:
        return None
    lines = -(-len(shown) // 3)
    figure = Figure(figsize=(7.6, 0.6 + 2.6 * lines), layout="constrained")
    panels = figure.subplots(lines, min(3, len(shown)), sharex=True, sharey=True, squeeze=False)
    for axes, (group, labels) in zip(panels.flat, shown.items(), strict=False):
        if group in (RANDOM, SYSTEMATIC):
            labels = {
                level_of(label)[0]: name
                for label, name in labels.items()
                if level_of(label)[1] == "pretrained"
            }
        shown_as = {label: _INITS.get(label, label) for label in labels}
        palette = drawing.colours(list(shown_as.values()))
        for label, name in labels.items():
            drawing.curve(
                axes, curves[curves["condition"] == name], "layer", palette[shown_as[label]], shown_as[label]
            )
        axes.axhline(0, **drawing.CHANCE)
        axes.set_title(group + (", pretrained" if group in (RANDOM, SYSTEMATIC) else ""))
        axes.legend(fontsize=5.5)
    for axes in list(panels.flat)[len(shown) :]:
        axes.set_visible(False)
    for line in panels:
        line[0].set_ylabel("AUROC above control")
    panels[-1][0].set_xlabel("block")
    drawing.footnote(figure, _caption(curves, "control task, dashed", "95 %, over leaf concepts and seeds"))
    return figure


def _onset(transfer: pd.DataFrame, scores: pd.DataFrame, of: Members) -> Figure | None:
    """The first layer detected and the size of the transfer, against removed evidence and against coherence."""
    known = (
        {name for name in transfer["condition"] if name in set(scores["condition"])} if len(scores) else set()
    )
    about = scores.drop_duplicates("condition").set_index("condition")[["effective", "coherence"]]
    axes_of = {
        "effective": ("share of hypernym questions removed", of.get(RANDOM, {})),
        "coherence": ("realised coherence", of.get(SHUFFLE, {})),
    }
    shown = {
        x: (what, {label: name for label, name in labels.items() if name in known and about[x].notna()[name]})
        for x, (what, labels) in axes_of.items()
    }
    shown = {x: pair for x, pair in shown.items() if len(pair[1]) > 1}
    if not shown:
        return None
    figure = Figure(figsize=(3.4 * len(shown) + 0.4, 4.4), layout="constrained")
    panels = figure.subplots(2, len(shown), sharex="col", sharey="row", squeeze=False)
    rows = transfer.join(about, on="condition")
    never = transfer["layer"].max() + 1
    for column, (x, (what, labels)) in enumerate(shown.items()):
        place = {name: label for label, name in labels.items()}
        for axes, measure in zip(panels[:, column], ("onset", "size"), strict=True):
            here = rows[
                (rows["measure"] == measure) & rows["condition"].isin(place) & np.isfinite(rows["value"])
            ]
            for row in here.to_dict("records"):
                label = place[row["condition"]]
                init = _INITS.get(level_of(label)[1], "pretrained")
                tint = drawing.colour(init) if x == "effective" else drawing.colours(list(labels))[label]
                at = row[x] + (_BESIDE if x == "effective" and init != "pretrained" else 0)
                axes.plot([at] * 2, np.clip([row["lower"], row["upper"]], -1, never), color=tint)
                axes.plot(at, row["value"], drawing.MARKERS.get(init, "o"), color=tint)
        panels[1, column].set_xlabel(what)
    panels[0, 0].set_ylabel("first block detected")
    panels[1, 0].set_ylabel("AUROC words → pictures,\nlast third of the blocks")
    panels[1, 0].axhline(0.5, **drawing.CHANCE)
    drawing.footnote(
        figure,
        _caption(
            rows[rows["measure"] == "onset"],
            "no block detected: no point, or no upper limit; AUROC .5, dashed",
            "95 %; of blocks over leaf concepts and seeds, of sizes over hypernyms and seeds",
        ),
    )
    return figure


def _of(scores: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """The rows of some conditions with their labels, in the order of the plan."""
    parts = [scores[scores["condition"] == name].assign(label=label) for label, name in labels.items()]
    return pd.concat(parts, ignore_index=True)


def _finish(figure: Figure, named: Axes, rows: pd.DataFrame, null: str) -> None:
    handles, names = named.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4)
    drawing.footnote(figure, _caption(rows, null))


def _caption(rows: pd.DataFrame, null: str, interval: str = _INTERVAL) -> str:
    counts = sorted({len(str(seeds).split(",")) for seeds in rows["seeds"]})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    note = "" if counts[0] > 1 else "; of one seed, differences between seeds not included"
    of = f"leaf concepts, {seeds} seed{'s' if counts[-1] > 1 else ''}"
    return drawing.caption(int(rows["n"].max()), of, interval + note, null)
