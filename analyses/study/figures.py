"""Figures of a study: pure functions of its tables of scores, contrasts and transfer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.frame import drawing
from analyses.inputs.measures import MEASURES
from analyses.study import layer_figures
from analyses.study.contrasts import ALIKE, FULL, RANDOM, SHUFFLE, SYSTEMATIC, level_of
from analyses.study.layer_figures import INITS, Members, figure_caption

_BASELINES = {
    "blind": ("picture of another leaf", (0, (1, 1))),
    "gold": ("leaf's name in words", "-"),
    "cascade": ("own name for it, in words", (0, (5, 1))),
    "probe": ("linear probe, leaf seen", "-."),
    "probe_held_out": ("linear probe, other leaves", (0, (3, 1, 1, 1, 1, 1))),
}
PUBLISHED = (
    "Crosses: the published study (yes/no questions on THINGS, 53 hypernyms, DINOv2), {}; another world, compare "
    "shapes"
)
_PANELS = ("auroc", "macro_f1", "top1", "leaf_naming")
_SHUFFLED = ("auroc", "leaf_naming", "macro_f1")
_BELOW = 0.28  # of a line: crosses under our points


@dataclass(frozen=True)
class Numbers:
    """The rows that figures are drawn from.

    Attributes:
        scores: of conditions (`Study.scores`).
        heights: of the hypernyms of conditions in the group `full` (`Study.heights`).
        contrasts: of pairs (`analyses.study.contrasts.table`).
        transfer: by layer (`analyses.study.transfer.curves`), and its `size`.
        cohesion: by layer (`analyses.study.transfer.cohesion`).
        published: macro-F1 of the published study (`analyses.study.published`); no row where it was not collected.
    """

    scores: pd.DataFrame
    heights: pd.DataFrame
    contrasts: pd.DataFrame
    transfer: pd.DataFrame
    cohesion: pd.DataFrame
    published: pd.DataFrame


def draw(numbers: Numbers, members: Members, bound: float) -> dict[str, Figure]:
    """Every figure that there are numbers for, by name.

    Args:
        numbers: the rows.
        members: conditions by group and label.
        bound: of equivalence in AUROC; NaN where the plan states none.
    """
    scores, published = numbers.scores, numbers.published
    known = set(scores["condition"]) if len(scores) else set()
    of: dict[str, dict[str, str]] = {
        group: {label: name for label, name in labels.items() if name in known}
        for group, labels in members.items()
    }
    with drawing.style():
        figures: dict[str, Figure | None] = {
            "evidence": _levels(scores, of.get(RANDOM, {}), published),
            "systematic": _levels(scores, of.get(SYSTEMATIC, {}), published.iloc[:0]),
            "shuffles": _shuffles(scores, of.get(SHUFFLE, {}), published),
            "heights": _heights(numbers.heights, of.get(FULL, {})),
            "alike": _alike(numbers.contrasts, bound),
            "transfer": layer_figures.transfer(numbers.transfer, of),
            "onset": layer_figures.onset(numbers.transfer, scores, of),
            "cohesion": layer_figures.cohesion(numbers.cohesion, of),
        }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _levels(scores: pd.DataFrame, labels: Mapping[str, str], published: pd.DataFrame) -> Figure | None:
    """Scores against the share of evidence that was really removed, a curve per init, with the baselines."""
    if len(labels) < 2:
        return None
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True).ravel()
    rows = _of(scores, labels)
    rows["init"] = [level_of(label)[1] for label in rows["label"]]
    for axes, measure in zip(panels, _PANELS, strict=True):
        here = rows[rows["measure"] == measure]
        for init, name in INITS.items():
            own = here[(here["init"] == init) & (here["baseline"] == "")]
            if len(own):
                drawing.curve(axes, own, "effective", drawing.colour(name), name)
                tint = drawing.colour(name)
                axes.plot(own["effective"], own["value"], drawing.marker(tint), color=tint)
        level = _chance(here, measure)
        axes.plot(level.index, level, **drawing.CHANCE, label="majority answer, chance")
        axes.set_title(MEASURES[measure])
        axes.set_xlim(-0.03, 1.03)
    for baseline, (name, line) in _BASELINES.items():
        own = rows[(rows["baseline"] == baseline) & (rows["init"] == "pretrained")].sort_values("effective")
        panels[0].plot(
            own["effective"], own["value"], color="0.45", linewidth=0.8, linestyle=line, label=name
        )
    for axes in panels[2:]:
        axes.set_xlabel("share of hypernym questions removed")
    null = "chance, dashed; of macro-F1 the majority answer; hypernyms without removed evidence, where none was removed"
    if len(published):
        _published(panels[1], published)
        null += f". {PUBLISHED.format('against the share that its rule really removed')}"
    handles = {name: handle for axes in panels[:2] for handle, name in zip(*axes.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3)
    drawing.footnote(figure, figure_caption(rows, null))
    return figure


def _chance(rows: pd.DataFrame, measure: str) -> pd.Series:
    """What answers that know nothing reach by the share that was removed; of macro-F1 the majority answer."""
    baseline, column = ("majority", "value") if measure == "macro_f1" else ("", "chance")
    own = rows[(rows["measure"] == measure) & (rows["baseline"] == baseline)]
    return own.groupby("effective")[column].mean()


def _published(axes: Axes, rows: pd.DataFrame) -> None:
    """The published study's curves of pictures with their own names, thin, one for each language model."""
    curves = rows[rows["shuffle"] == "none"].groupby(["lm", "init"])
    for number, ((_, init), curve) in enumerate(curves):
        curve = curve.sort_values("effective")
        look: dict[str, Any] = {"color": drawing.colour(INITS[str(init)]), "linewidth": 0.6, "alpha": 0.7}
        label = "published, by language model" if number == 0 else None
        axes.plot(curve["effective"], curve["value"], marker="x", markersize=3, zorder=1, label=label, **look)


def _heights(heights: pd.DataFrame, labels: Mapping[str, str]) -> Figure | None:
    """AUROC of hypernyms by their height above the leaves, and the mean of each height; none where all have one."""
    if heights["height"].nunique() < 2:
        return None
    figure = Figure(figsize=(2.4 * len(labels) + 0.6, 3.2), layout="constrained")
    panels = figure.subplots(1, len(labels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (label, name) in zip(panels, labels.items(), strict=True):
        rows, tint = heights[heights["condition"] == name], drawing.colour(INITS.get(label, label))
        single = rows[rows["hypernym"] != ""]
        axes.plot(single["height"], single["value"], ".", color="0.6", markersize=3.5)
        means = rows[(rows["hypernym"] == "") & rows["height"].notna()]
        axes.vlines(means["height"], means["lower"], means["upper"], color=tint)
        axes.plot(means["height"], means["value"], drawing.marker(tint), color=tint)
        axes.axhline(0.5, **drawing.CHANCE)
        (rho,) = rows[rows["height"].isna()].to_dict("records")
        own = f"rank correlation {rho['value']:+.2f} [{rho['lower']:+.2f}, {rho['upper']:+.2f}]"
        axes.set_title(f"{drawing.readable(INITS.get(label, label), ' ')}\n{own}", fontsize="small")
        axes.set_xticks(sorted(set(single["height"].astype(int))))
        axes.set_xlabel("height of the hypernym")
    panels[0].set_ylabel(MEASURES["auroc"])
    single = heights[heights["hypernym"] != ""]
    null = "AUROC .5, dashed. Grey: single hypernyms; a height of one hypernym has limits over leaves and seeds alone"
    drawing.footnote(figure, figure_caption(single, null))
    return figure


def _shuffles(scores: pd.DataFrame, labels: Mapping[str, str], published: pd.DataFrame) -> Figure | None:
    """AUROC, naming and macro-F1 of every shuffle, this beside the published study's, and AUROC by coherence."""
    if len(labels) < 2:
        return None
    rows = _of(scores, labels)
    own = rows[rows["baseline"] == ""]
    figure = Figure(figsize=(8.4, 1.3 + 0.3 * max(len(labels), 5)), layout="constrained")
    dosed = own["coherence"].notna().any()
    first, *others = figure.subplots(1, 4 if dosed else 3)
    for axes, measure in zip((first, *others), _SHUFFLED):
        if axes is not first:
            axes.sharey(first)
        drawing.points(axes, own[own["measure"] == measure], "label")
        axes.tick_params(labelleft=axes is first)
        axes.axvline(_chance(rows, measure).mean(), **drawing.CHANCE)
        axes.set_title(MEASURES[measure])
    for axes in others[len(_SHUFFLED) - 1 :]:
        _doses(axes, own[(own["measure"] == "auroc") & own["coherence"].notna()], list(labels))
    null = "chance, dashed; of macro-F1 the majority answer"
    if len(published) and (shown := _published_shuffles(others[-2 if dosed else -1], published, own)):
        null += f". {PUBLISHED.format(f'one of each language model, at {shown} of the evidence removed')}"
    drawing.footnote(figure, figure_caption(own, null))
    return figure


def _published_shuffles(axes: Axes, published: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Crosses below our macro-F1, at the share removed that is nearest to ours; says which share that is."""
    labels = list(dict.fromkeys(rows["label"]))
    curves = published[(published["init"] == "pretrained") & published["shuffle"].isin(labels)]
    away = (curves["effective"] - rows["effective"].mean()).abs()
    nearest = curves.loc[away.groupby([curves["lm"], curves["shuffle"]]).idxmin()]
    for label, own in nearest.groupby("shuffle"):
        places = [labels.index(str(label)) + _BELOW] * len(own)
        axes.plot(own["value"], places, "x", color=drawing.colour(str(label)), markersize=3.5)
    shares = sorted({f"{share:.3g}" for share in nearest["effective"]})
    return " to ".join(dict.fromkeys((shares[0], shares[-1]))) if shares else ""


def _doses(axes: Axes, rows: pd.DataFrame, labels: Sequence[str]) -> None:
    """AUROC against realised coherence, in the colours of the shuffles."""
    palette = drawing.colours(labels)
    for row in rows.to_dict("records"):
        tint = palette[row["label"]]
        axes.plot([row["coherence"]] * 2, [row["lower"], row["upper"]], color=tint)
        axes.plot(row["coherence"], row["value"], drawing.marker(tint), color=tint)
    axes.axhline(0.5, **drawing.CHANCE)
    axes.set_xlabel("realised coherence")
    axes.set_title("AUROC by coherence")


def _alike(contrasts: pd.DataFrame, bound: float) -> Figure | None:
    """Differences of encoders, projectors and wordings beside the bounds of equivalence, and the effects of others."""
    kinds = [*ALIKE, "full.embeddings", "full.init", "shuffle.coherence", "shuffle.coherent", "shuffle.truth"]
    rows = contrasts[contrasts["key"].isin(kinds) & contrasts["value"].notna()].copy()
    if not rows["key"].isin(ALIKE).any():
        return None
    rows["label"] = [
        " − ".join(INITS.get(name, name) for name in str(label).split(" − ")) for label in rows["label"]
    ]
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
    drawing.footnote(figure, figure_caption(rows[rows["measure"] == "auroc"], null))
    return figure


def _of(scores: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """The rows of some conditions with their labels, in the order of the plan."""
    parts = [scores[scores["condition"] == name].assign(label=label) for label, name in labels.items()]
    return pd.concat(parts, ignore_index=True)
