"""Figures of a cohesion table: curves by modality, treatments, hypernym × layer, training, relation to scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.frame import drawing
from analyses.frame.drawing import panels
from analyses.frame.tables import estimate_text
from analyses.inputs.categories import HELD_OUT, MEAN, SEEN
from analyses.inputs.encoder import ENCODER
from probing.categories.massive import TREATMENTS

MODALITIES = {"image": "pictures", "text": "words", "image~text": "pictures of one leaf, words of another"}
LEVEL = 0.05
_NOT_HYPERNYMS = (MEAN, "leaf", SEEN, HELD_OUT)


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name; of a table of several runs the figure of them."""
    if "condition" in table:
        return {"runs": runs(table)}
    inside = table[table["layer"].notna()]
    standard = inside[inside["treatment"] == panels.treatment_of(inside)]
    with drawing.style():
        figures = {"curves": curves(standard), "hypernyms": hypernyms(standard)}
        if inside["treatment"].nunique() > 1:
            figures["treatments"] = treatments(inside)
        if inside.loc[inside["step"] >= 0, "step"].nunique() > 1:
            figures["training"] = training(standard)
        if (table["measure"] == "auroc").any():
            figures["scores"] = scores(table)
    return figures


def curves(table: pd.DataFrame) -> Figure:
    """Mean cohesion by layer and place, and the limit that shuffled leaves stay below."""
    rows = panels.of_last_step(table[table["target"] == MEAN])
    spans, palette = panels.unique(rows["span"]), drawing.colours(list(MODALITIES))
    figure, places = panels.side_by_side(len(spans))
    for axes, span in zip(places, spans):
        for modality, label in MODALITIES.items():
            own = rows[(rows["span"] == span) & (rows["modality"] == modality)]
            drawing.curve(axes, own[own["measure"] == "cohesion"], "layer", palette[modality], label)
            limit = own[own["measure"] == "cohesion_null_limit"]
            drawing.curve(axes, limit, "layer", palette[modality], dashed=True)
        panels.frame(axes, span)
    places[0].set_ylabel("cohesion: cosine within − between hypernyms")
    panels.legend(figure, places[0], 3)
    drawing.footnote(figure, panels.leaves_caption(rows, "dotted, leaves shuffled among hypernyms (95 %)"))
    return figure


def runs(table: pd.DataFrame) -> Figure:
    """Cohesion of pictures, and of pictures with words, by layer: one curve a run, coloured by `condition`."""
    inside = table[table["layer"].notna() & (table["target"] == MEAN) & (table["measure"] == "cohesion")]
    rows = inside[inside["treatment"] == panels.treatment_of(inside)]
    by_modality = {name: rows[rows["modality"] == name] for name in ("image", "image~text")}
    lines = {f"cohesion,\n{MODALITIES[name]}": own for name, own in by_modality.items() if len(own)}
    return panels.runs(lines, "dashed, 0")


def treatments(table: pd.DataFrame) -> Figure:
    """Mean cohesion of pictures (or words alone) by layer under each treatment of massive activations."""
    modality = panels.shown_modality(table)
    own = (table["target"] == MEAN) & (table["modality"] == modality) & (table["measure"] == "cohesion")
    rows = panels.of_last_step(table[own])
    spans, palette = panels.unique(rows["span"]), drawing.colours(TREATMENTS)
    figure, places = panels.side_by_side(len(spans))
    for axes, span in zip(places, spans):
        for name in (name for name in TREATMENTS if (rows["treatment"] == name).any()):
            one = rows[(rows["span"] == span) & (rows["treatment"] == name)]
            drawing.curve(axes, one, "layer", palette[name], name)
        panels.frame(axes, span)
    places[0].set_ylabel(f"cohesion of {MODALITIES[modality]}")
    panels.legend(figure, places[0], 3)
    drawing.footnote(figure, panels.leaves_caption(rows, "0, no cohesion"))
    return figure


def hypernyms(table: pd.DataFrame) -> Figure:
    """Cohesion of each hypernym in pictures (or words alone) by layer; a dot where q is at most .05."""
    modality = panels.shown_modality(table)
    own = (table["modality"] == modality) & ~table["target"].isin(_NOT_HYPERNYMS)
    rows = panels.of_last_step(table[own])
    span = "slot" if (rows["span"] == "slot").any() else str(rows["span"].iloc[0])
    rows = rows[rows["span"] == span]
    grid, q = (
        rows[rows["measure"] == name].pivot(index="target", columns="layer", values="value")
        for name in ("cohesion", "q")
    )
    order = grid.mean(axis=1).sort_values().index
    figure = Figure(figsize=(6, 0.17 * len(grid) + 1.3), layout="constrained")
    axes = figure.subplots()
    largest = float(np.nanmax(np.abs(grid.to_numpy())))
    label = f"cohesion, {MODALITIES[modality]}, {span}"
    drawing.heat(axes, grid.loc[order], (-largest, largest), label, diverging=True)
    drawing.dots(axes, q.reindex_like(grid.loc[order]) <= LEVEL)
    axes.set_xlabel("block")
    null = "leaves shuffled among hypernyms; dot: q ≤ .05 (Benjamini–Hochberg over hypernyms and sites)"
    drawing.footnote(figure, drawing.caption(len(grid), "hypernyms", "none on the map", null))
    return figure


def training(table: pd.DataFrame) -> Figure:
    """Mean cohesion of pictures by layer and training step; a dot where p, corrected, is under 5 %."""
    rows = table[(table["target"] == MEAN) & (table["modality"] == "image") & (table["step"] >= 0)]
    spans = panels.unique(rows["span"])
    figure, places = panels.side_by_side(len(spans))
    largest = float(rows.loc[rows["measure"] == "cohesion", "value"].abs().max())
    for axes, span in zip(places, spans):
        own = rows[rows["span"] == span]
        grid, p = (
            own[own["measure"] == name].pivot(index="step", columns="layer", values="value")
            for name in ("cohesion", "cohesion_p_corrected")
        )
        label = "cohesion" if axes is places[-1] else None
        drawing.heat(axes, grid, (-largest, largest), label, diverging=True)
        drawing.dots(axes, p.reindex_like(grid) < LEVEL)
        panels.frame(axes, span, null=None)
    places[0].set_ylabel("training step")
    null = "dot: p < .05, corrected over layers"
    drawing.footnote(figure, panels.leaves_caption(rows, null, "none on the map"))
    return figure


def scores(table: pd.DataFrame) -> Figure:
    """Score of each hypernym against its visual coherence and against its cohesion where that is strongest."""
    asked = table[table["measure"] == "auroc"]
    score_of = dict(zip(asked["target"], asked["value"]))
    rows = panels.of_last_step(table[(table["measure"] == "cohesion") & (table["modality"] == "image")])
    inside = rows[rows["layer"].notna()]
    inside = inside[inside["treatment"] == panels.treatment_of(inside)]
    best = max(inside[inside["target"] == MEAN].to_dict("records"), key=lambda row: row["value"])
    sites = {"the encoder": rows[rows["site"] == ENCODER]}
    sites[f"{panels.place_of(best['site'])}, {best['span']}"] = inside[
        (inside["site"] == best["site"]) & (inside["span"] == best["span"])
    ]
    sites = {name: own for name, own in sites.items() if len(own)}
    figure, places = panels.side_by_side(len(sites))
    figure.set_size_inches(3.6 * len(sites) + 0.6, 3.8)
    for axes, (name, own) in zip(places, sites.items()):
        _score_panel(axes, own, score_of, name)
        axes.set_title(_correlation(table, own), fontsize="small")
    places[0].set_ylabel("AUROC of the hypernym on test pictures")
    note = drawing.caption(
        len(score_of), "hypernyms", "95 % bootstrap over hypernyms, in brackets", "dashed, AUROC .5"
    )
    drawing.footnote(figure, note + " Names that would overlap are left out; the table has them.")
    return figure


def _score_panel(axes: Axes, rows: pd.DataFrame, score_of: Mapping[str, float], place: str) -> None:
    """The hypernyms at one place: their score over their cohesion there."""
    rows = rows[rows["target"].isin(list(score_of))]
    y = rows["target"].map(dict(score_of)).to_numpy(dtype=float)
    _named_points(axes, rows["value"].to_numpy(), y, list(rows["target"]))
    axes.axhline(0.5, **drawing.CHANCE)
    axes.set_xlabel(f"cohesion at {place}")


def _correlation(table: pd.DataFrame, place: pd.DataFrame) -> str:
    """The rank correlation of scores with cohesion at the place of these rows, in words."""
    keys = ["site", "span", "step", "treatment", "modality"]
    rows = table[table["measure"] == "correlation_with_score"].merge(place[keys].drop_duplicates(), on=keys)
    if not len(rows):
        return ""
    one = rows.to_dict("records")[0]
    return f"rank correlation {estimate_text(one)}"


def _named_points(axes: Axes, x: np.ndarray, y: np.ndarray, names: list[str]) -> None:
    """Points with their names, the outermost first; a name that would cover another is left out."""
    axes.plot(x, y, "o", color=drawing.colour("image"), markersize=3.5)
    axes.margins(0.12)
    width, height = 0.022 * np.ptp(x), 0.045 * max(float(np.ptp(y)), 0.1)
    taken: list[tuple[float, float, float]] = []
    outermost = -np.abs(y - np.median(y)) / height - np.abs(x - np.median(x)) / width
    for k in np.argsort(outermost, kind="stable"):
        left, level = float(x[k]), float(y[k])
        right = left + width * (len(names[k]) + 2)
        if all(abs(level - other) > height or right < start or left > end for start, end, other in taken):
            taken.append((left, right, level))
            axes.annotate(
                names[k], (left, level), fontsize="x-small", xytext=(2, 2), textcoords="offset points"
            )
