"""Rows of an interchange table: what exchanges change and what stays, their controls, illusions and angles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from analyses.frame import tables
from analyses.inputs.span_states import post
from analyses.inputs.stimuli.natural import MEASURES as NATURAL
from analyses.interchange.exchanged import ANGLES, ARBITRARY_ANGLES, SPECTRUM
from analyses.interchange.measured import At
from analyses.interchange.options import Options
from probing.edits.placebos import rank_p
from probing.stats import Estimate

EXTRA = ("direction", "method", "trained", "rank", "edit", "note", "hypernyms")
MEASURED = {
    "accuracy": ("hypernym", "accuracy"),
    "top_1": ("hypernym", "top_1"),
    "effect": ("hypernym", "effect"),
    "moved": ("hypernym", "moved"),
    "other": ("other", "accuracy"),
    "leaf": ("leaf", "accuracy"),
    **{name: ("hypernym", name) for name in NATURAL},
}
"""Column of an outcome → target and measure of its rows."""
SINGLE = ("none", "whole", "swap", "complement", "read", "unread")
CONTROLS = ("random", "random_norm", "arbitrary")
COMPARED = ("accuracy", "effect")
RANDOM_INIT = "random_init"
Record = dict[str, Any]


def interchange_table(
    parts: pd.DataFrame, chances: Mapping[str, float], options: Options, placebo: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The long table: place × method × what it was trained on × rank × edit, with intervals over hypernyms.

    Edits are `none`, `whole` (the whole state: the ceiling), `swap` (the subspace), its `complement`, its `read` and
    `unread` part (see `probing.patching.subspaces.split`), and the means over draws of `random` (subspaces of equal
    rank in the spectrum of the states), `random_norm` (a change as long, anywhere) and `arbitrary` (labels exchanged
    among leaves); `chance` is what blind answers would give. Measures of the hypernym: `accuracy` (the source's is
    preferred to the base's), `top_1`, `effect` (change of their log-odds, nats), `moved` (share of the squared
    difference of the states that is exchanged); `accuracy` of other hypernyms and of the leaf are what must stay.
    `mahalanobis_percentile` and `neighbour_percentile` say how far the exchanged states lie among natural ones of other
    leaves at the place, `unnatural` is the share of pairs over the 99th.
    `accuracy_excess` and `effect_excess` are those of a swap over the mean of a control; `effect_p` is its rank among
    the draws, `effect_p_corrected` among the largest of all layers of a span, NaN with fewer than 19 draws. `illusion`
    is half the effect of a swap less that of one part alone, `flagged` is 1 where that is above 0 for both parts and
    the effect too. `overlap` is the mean squared cosine of the angles between what words and what pictures gave, a mean
    over folds without an interval, `overlap_p` its rank beside arbitrary labels. n counts pairs or, of angles, folds.
    """
    records: list[Record] = []
    along: dict[tuple[str, ...], list[tuple[Record, dict[str, np.ndarray]]]] = {}
    angles = parts[parts["base"].isna()]
    for (layer, span), part in parts[parts["base"].notna()].groupby(["layer", "span"], sort=False):  # pyright: ignore
        at = At.of(part, options.draws, options.seed)
        place: Record = {"site": post(cast(int, layer)), "span": span}
        records += _singles(at, place)
        records += _controls(at, place)
        for own in at.subspaces:
            labels = place | dict(zip(("method", "trained", "rank"), own))
            records += _illusion(at, own, labels)
            sets = {control: at.sets("effect", own, control) for control in CONTROLS}
            along.setdefault((str(span), *map(str, own)), []).append((labels, sets))
        records += [
            tables.row(measure, chances[column], **place, target=target, edit="chance")
            for column, (target, measure) in MEASURED.items()
            if column in chances
        ]
    for cells in along.values():
        records += _ranks(cells, options.seed)
    if len(angles):
        records += _angles(angles, options.seed)
    if placebo is not None:
        for (layer, span), part in placebo.groupby(["layer", "span"], sort=False):  # pyright: ignore
            at = At.of(part, options.draws, options.seed)
            records += _singles(at, {"site": post(cast(int, layer)), "span": span, "treatment": RANDOM_INIT})
    blank = dict.fromkeys((*EXTRA, "treatment"), "") | {"hypernyms": 0, "rank": 0, "target": "hypernym"}
    fixed = {"direction": options.direction, "modality": options.modalities[1], "split": "all"}
    rows = [{**blank, **record, **fixed} for record in records]
    return tables.table(rows, "interchange", options.seed, EXTRA)


def _singles(at: At, place: Record) -> list[Record]:
    """Every measure under edits that are no draws."""
    records = []
    for column, (target, measure) in MEASURED.items():
        for own, number, hypernyms in at.means(column, SINGLE):
            labels = dict(zip(("method", "trained", "rank", "edit"), own))
            records.append(tables.row(measure, number, **place, **labels, target=target, hypernyms=hypernyms))
    return records


def _controls(at: At, place: Record) -> list[Record]:
    """Means over the draws of each control, and what a swap has beyond them."""
    records = []
    for column in ("accuracy", "top_1", "effect", "other", "moved", *NATURAL):
        target, measure = MEASURED[column]
        for own, number in at.drawn(column, CONTROLS):
            labels = dict(zip(("method", "trained", "rank", "edit"), own))
            records.append(tables.row(measure, number, **place, **labels, target=target))
    for column in COMPARED:
        for own in at.subspaces:
            for control in CONTROLS:
                number = at.beyond(column, own, control)
                labels: Record = {**dict(zip(("method", "trained", "rank"), own)), "edit": control}
                records.append(tables.row(f"{column}_excess", number, **place, **labels))
    return records


def _illusion(at: At, own: tuple[str, str, int], labels: Record) -> list[Record]:
    """By how much half the effect of a swap exceeds that of each part alone, and whether it does for both."""
    records = []
    for part in ("read", "unread"):
        number, hypernyms = at.combined("effect", own, {"swap": 0.5, part: -1.0})
        records.append(tables.row("illusion", number, **labels, edit=part, hypernyms=hypernyms))
    effect, _ = at.combined("effect", own, {"swap": 1.0})
    lower = [effect.lower, *(record["lower"] for record in records)]
    note = "half of the effect comes from neither part alone" if min(lower) > 0 else ""
    flagged = float(min(lower) > 0) if np.isfinite(lower).all() else float("nan")
    return [
        *records,
        tables.row("flagged", Estimate(flagged, np.nan, np.nan, effect.n), **labels, edit="swap", note=note),
    ]


def _ranks(cells: Sequence[tuple[Record, dict[str, np.ndarray]]], seed: int) -> list[Record]:
    """Ranks of an effect among the draws of each control, alone and among the largest of all layers."""
    records = []
    for control in CONTROLS:
        sets = np.stack([of[control] for _, of in cells], axis=-1)[None]
        for name, corrected in (("effect_p", False), ("effect_p_corrected", True)):
            for (labels, _), p in zip(cells, rank_p(sets, seed, corrected)):
                records.append(tables.row(name, float(p), **labels, edit=control))
    return records


def _angles(angles: pd.DataFrame, seed: int) -> list[Record]:
    """Overlaps of subspaces of words and of pictures, and their ranks among null subspaces, alone and over layers."""
    records: list[Record] = []
    for _, rows in angles.groupby(["span", "method", "rank"], sort=False):  # pyright: ignore[reportGeneralTypeIssues]
        records += _overlaps(rows, seed)
    return records


def _overlaps(rows: pd.DataFrame, seed: int) -> list[Record]:
    """The same of one method, rank and span."""
    folds, layers = rows["fold"].nunique(), list(dict.fromkeys(rows["layer"].tolist()))
    fixed: Record = {name: rows[name].iloc[0] for name in ("span", "method", "rank", "trained")}
    labels: list[Record] = [{**fixed, "site": post(layer), "target": "angles"} for layer in layers]

    def by_draw(edit: str, column: str = "overlap") -> np.ndarray:
        of_edit = rows[rows["edit"] == edit]
        means = of_edit.pivot_table(index="draw", columns="layer", values=column, aggfunc="mean")
        return means[layers].to_numpy()

    def add(measure: str, edit: str, values: Iterable[float]) -> list[Record]:
        return [
            tables.row(measure, float(value), folds, **own, edit=edit) for own, value in zip(labels, values)
        ]

    own = by_draw(ANGLES)
    records = add("overlap", ANGLES, own[0]) + add("largest_cosine", ANGLES, by_draw(ANGLES, "nearest")[0])
    for null in (SPECTRUM, ARBITRARY_ANGLES):
        records += add("overlap", null, by_draw(null).mean(0))
    # Subspaces that are made of nothing lie nearer the largest directions of the states than random ones, and overlap
    # more: beside those a p is no p (.3 of worlds). Those of exchanged labels are made as they are.
    sets = np.vstack([own, by_draw(ARBITRARY_ANGLES)])[None]
    for name, corrected in (("overlap_p", False), ("overlap_p_corrected", True)):
        records += add(name, ARBITRARY_ANGLES, rank_p(sets, seed, corrected))
    return records
