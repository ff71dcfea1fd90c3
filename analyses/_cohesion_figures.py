"""Figures of a cohesion table: curves by modality, treatments, hypernym × layer, training, relation to scores."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"image": "#0072B2", "text": "#009E73", "image~text": "#D55E00"}
NAMES = {"image": "pictures", "text": "words", "image~text": "pictures of one leaf, words of another"}
SHADES = {"standardised": "#0072B2", "raw": "#999999", "without outliers": "#E69F00"}


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name."""
    made = {}
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        inside = table[table["layer"].notna() & (table["split"] == "")]
        made["curves"] = curves(inside)
        made["hypernyms"] = hypernyms(inside)
        if inside["treatment"].nunique() > 1:
            made["treatments"] = treatments(inside)
        if inside.loc[inside["step"] >= 0, "step"].nunique() > 1:
            made["training"] = training(inside)
        if (table["measure"] == "auroc").any():
            made["scores"] = scores(table)
    return made


def curves(table: pd.DataFrame) -> Figure:
    """Mean cohesion by layer and place, 95 % intervals, and the limit that shuffled leaves stay below."""
    rows = _last(table[(table["target"] == "mean") & (table["treatment"] == "standardised")])
    spans = list(dict.fromkeys(rows["span"]))
    figure, panels = _panels(len(spans))
    for axes, span in zip(panels, spans):
        for modality, colour in COLOURS.items():
            here = rows[(rows["span"] == span) & (rows["modality"] == modality)]
            band(axes, here[here["measure"] == "cohesion"], colour, NAMES[modality])
            limit = here[here["measure"] == "cohesion_null_limit"].sort_values("layer")
            axes.plot(limit["layer"], limit["value"], ":", color=colour, linewidth=1)
        axes.set_title(span)
        axes.set_xlabel("layer")
    panels[0].set_ylabel("cohesion: cosine within − between hypernyms")
    panels[0].plot([], [], ":", color="0.4", label="95 % of shuffled leaves")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def treatments(table: pd.DataFrame) -> Figure:
    """Mean cohesion of pictures by layer, with and without massive dimensions."""
    kept = (table["target"] == "mean") & (table["modality"] == "image") & (table["measure"] == "cohesion")
    rows = _last(table[kept])
    spans = list(dict.fromkeys(rows["span"]))
    figure, panels = _panels(len(spans))
    for axes, span in zip(panels, spans):
        for treatment, colour in SHADES.items():
            band(axes, rows[(rows["span"] == span) & (rows["treatment"] == treatment)], colour, treatment)
        axes.set_title(span)
        axes.set_xlabel("layer")
    panels[0].set_ylabel("cohesion of pictures")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def hypernyms(table: pd.DataFrame) -> Figure:
    """Cohesion of each hypernym in pictures by layer; a dot where shuffled leaves reach it in under 5 %."""
    rows = _last(table[(table["treatment"] == "standardised") & (table["modality"] == "image")])
    rows = rows[~rows["target"].isin(["mean", "leaf", "mean of seen", "mean of held-out"])]
    span = "slot" if (rows["span"] == "slot").any() else rows["span"].iloc[0]
    rows = rows[rows["span"] == span]
    grid = rows[rows["measure"] == "cohesion"].pivot(index="target", columns="layer", values="value")
    grid = grid.loc[grid.mean(axis=1).sort_values(ascending=False).index]
    p = rows[rows["measure"] == "p"].pivot(index="target", columns="layer", values="value").loc[grid.index]
    figure = Figure(figsize=(7.5, 0.22 * len(grid) + 1.6), layout="constrained")
    axes = figure.subplots()
    heat(axes, grid, figure, f"cohesion, pictures, {span}")
    found = np.argwhere(p.to_numpy() < 0.05)
    axes.plot(found[:, 1], found[:, 0], "k.", markersize=2)
    axes.set_xlabel("layer (dot: p < .05, uncorrected)")
    return figure


def training(table: pd.DataFrame) -> Figure:
    """Mean cohesion of pictures by layer and training step; a dot where p, corrected over layers, is under 5 %."""
    rows = table[
        (table["treatment"] == "standardised") & (table["target"] == "mean") & (table["modality"] == "image")
    ]
    spans = list(dict.fromkeys(rows["span"]))
    figure, panels = _panels(len(spans))
    for axes, span in zip(panels, spans):
        here = rows[rows["span"] == span]
        grid = here[here["measure"] == "cohesion"].pivot(index="step", columns="layer", values="value")
        p = here[here["measure"] == "cohesion_p_corrected"].pivot(
            index="step", columns="layer", values="value"
        )
        heat(axes, grid, figure, f"cohesion, {span}")
        found = np.argwhere(p.loc[grid.index].to_numpy() < 0.05)
        axes.plot(found[:, 1], found[:, 0], "k.", markersize=3)
        axes.set_xlabel("layer")
    panels[0].set_ylabel("training step")
    return figure


def scores(table: pd.DataFrame) -> Figure:
    """Score of each hypernym against its visual coherence and against its cohesion where that is strongest."""
    rows = table[table["measure"] == "auroc"]
    found = dict(zip(rows["target"], rows["value"]))
    rows = _last(table[(table["measure"] == "cohesion") & (table["modality"] == "image")])
    inside = rows[(rows["treatment"] == "standardised") & rows["layer"].notna()]
    best = max(inside[inside["target"] == "mean"].to_dict("records"), key=lambda row: row["value"])
    there = inside[(inside["site"] == best["site"]) & (inside["span"] == best["span"])]
    encoder = table[(table["site"] == "encoder") & (table["measure"] == "cohesion")]
    sites = [("the encoder", encoder)] if len(encoder) else []
    sites.append((f"{best['site']}, {best['span']}", there))
    figure, panels = _panels(len(sites))
    for axes, (name, here) in zip(panels, sites):
        kept = here[here["target"].isin(list(found))]
        axes.axhline(0.5, color="0.7", linewidth=0.8)
        for label, x in zip(kept["target"], kept["value"]):
            axes.plot(x, found[label], "o", color=COLOURS["image"], markersize=4)
            axes.annotate(label, (x, found[label]), fontsize=6, xytext=(2, 2), textcoords="offset points")
        axes.set_xlabel(f"cohesion at {name}")
    panels[0].set_ylabel("AUROC of the hypernym on test pictures")
    return figure


def band(axes: Axes, rows: pd.DataFrame, colour: str, label: str | None) -> None:
    """A curve over layers with its interval."""
    rows = rows.sort_values("layer")
    if len(rows):
        axes.fill_between(rows["layer"], rows["lower"], rows["upper"], color=colour, alpha=0.2, linewidth=0)
        axes.plot(rows["layer"], rows["value"], color=colour, label=label)


def heat(axes: Axes, grid: pd.DataFrame, figure: Figure, label: str) -> None:
    """A heat map of a table around 0, its index and columns as tick labels."""
    largest = float(np.nanmax(np.abs(grid.to_numpy()))) or 1.0
    image = axes.imshow(grid.to_numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
    figure.colorbar(image, ax=axes, label=label)
    step = max(1, len(grid.columns) // 8)
    axes.set_xticks(range(0, len(grid.columns), step), [_short(name) for name in grid.columns[::step]])
    axes.set_yticks(range(len(grid.index)), [_short(name) for name in grid.index], fontsize=7)


def _short(name) -> str:
    return f"{name:g}" if isinstance(name, (int, float, np.number)) else str(name)


def _last(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the last step, and those of no step."""
    return rows[(rows["step"] == rows["step"].max()) | (rows["step"] < 0)]


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(3.3 * count + 0.6, 3.6), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])
