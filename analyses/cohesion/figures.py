"""Figures of a cohesion table: curves by modality, treatments, hypernym × layer, training, relation to scores."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.frame import drawing
from probing.categories.massive import TREATMENTS

MODALITIES = {"image": "pictures", "text": "words", "image~text": "pictures of one leaf, words of another"}
_NOT_HYPERNYMS = ("mean", "leaf", "mean of seen", "mean of held-out")
_INTERVAL = "95 % bootstrap over leaves"


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name."""
    made = {}
    with drawing.style():
        inside = table[table["layer"].notna()]
        standard = inside[inside["treatment"] == TREATMENTS[0]]
        made["curves"] = curves(standard)
        made["hypernyms"] = hypernyms(standard)
        if inside["treatment"].nunique() > 1:
            made["treatments"] = treatments(inside)
        if inside.loc[inside["step"] >= 0, "step"].nunique() > 1:
            made["training"] = training(standard)
        if (table["measure"] == "auroc").any():
            made["scores"] = scores(table)
    return made


def curves(table: pd.DataFrame) -> Figure:
    """Mean cohesion by layer and place, and the limit that shuffled leaves stay below."""
    rows = _last(table[table["target"] == "mean"])
    spans, palette = _order(rows["span"]), drawing.colours(list(MODALITIES))
    figure, panels = _panels(len(spans))
    for axes, span in zip(panels, spans):
        for modality, label in MODALITIES.items():
            here = rows[(rows["span"] == span) & (rows["modality"] == modality)]
            drawing.curve(axes, here[here["measure"] == "cohesion"], "layer", palette[modality], label)
            limit = here[here["measure"] == "cohesion_null_limit"]
            drawing.curve(axes, limit, "layer", palette[modality], dashed=True)
        _frame(axes, span)
    panels[0].set_ylabel("cohesion: cosine within − between hypernyms")
    columns = 3 if len(panels) > 1 else 1
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=columns)
    drawing.footnote(figure, _caption(rows, "dotted, leaves shuffled among hypernyms (95 %)"))
    return figure


def runs(table: pd.DataFrame) -> Figure:
    """Cohesion of pictures, and of pictures with words, by layer: one curve a run, coloured by `condition`."""
    with drawing.style():
        kept = (table["target"] == "mean") & (table["measure"] == "cohesion") & table["layer"].notna()
        rows = table[kept & (table["treatment"] == table["treatment"].iloc[0])]
        rows = pd.concat([_last(one) for _, one in rows.groupby("run", sort=False)])
        spans, palette = _order(rows["span"]), drawing.colours(_order(rows["condition"]))
        shown = [name for name in ("image", "image~text") if (rows["modality"] == name).any()]
        figure = Figure(figsize=(2.9 * len(spans) + 0.6, 2.6 * len(shown) + 0.8), layout="constrained")
        grid = figure.subplots(len(shown), len(spans), squeeze=False, sharex=True, sharey="row")
        for line, modality in zip(grid, shown):
            for axes, span in zip(line, spans):
                here = rows[(rows["span"] == span) & (rows["modality"] == modality)]
                drawing.conditions(axes, here, "layer", palette)
                _frame(axes, span)
            line[0].set_ylabel(f"cohesion,\n{MODALITIES[modality]}")
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
        drawing.footnote(figure, _caption(rows, "dashed, 0"))
        return figure


def treatments(table: pd.DataFrame) -> Figure:
    """Mean cohesion of pictures by layer, with and without massive dimensions."""
    kept = (table["target"] == "mean") & (table["modality"] == "image") & (table["measure"] == "cohesion")
    rows = _last(table[kept])
    spans, palette = _order(rows["span"]), drawing.colours(list(TREATMENTS))
    figure, panels = _panels(len(spans))
    for axes, span in zip(panels, spans):
        for name in (name for name in TREATMENTS if (rows["treatment"] == name).any()):
            here = rows[(rows["span"] == span) & (rows["treatment"] == name)]
            drawing.curve(axes, here, "layer", palette[name], name)
        _frame(axes, span)
    panels[0].set_ylabel("cohesion of pictures")
    columns = 3 if len(panels) > 1 else 1
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=columns)
    drawing.footnote(figure, _caption(rows, "0, no cohesion"))
    return figure


def hypernyms(table: pd.DataFrame) -> Figure:
    """Cohesion of each hypernym in pictures by layer; a dot where shuffled leaves reach it in under 5 %."""
    rows = _last(table[(table["modality"] == "image") & ~table["target"].isin(_NOT_HYPERNYMS)])
    span = "slot" if (rows["span"] == "slot").any() else str(rows["span"].iloc[0])
    rows = rows[rows["span"] == span]
    grid, p = (
        rows[rows["measure"] == name].pivot(index="target", columns="layer", values="value")
        for name in ("cohesion", "p")
    )
    order = grid.mean(axis=1).sort_values().index
    figure = Figure(figsize=(6, 0.17 * len(grid) + 1.3), layout="constrained")
    axes = figure.subplots()
    largest = float(np.nanmax(np.abs(grid.to_numpy())))
    label = f"cohesion, pictures, {span}"
    drawing.heat(axes, grid.loc[order], (-largest, largest), label, diverging=True)
    _dots(axes, p.loc[order])
    axes.set_xlabel("layer")
    null = "dot: p < .05 against leaves shuffled among hypernyms, uncorrected"
    drawing.footnote(figure, drawing.caption(len(grid), "hypernyms", "none on the map", null))
    return figure


def training(table: pd.DataFrame) -> Figure:
    """Mean cohesion of pictures by layer and training step; a dot where p, corrected, is under 5 %."""
    rows = table[(table["target"] == "mean") & (table["modality"] == "image") & (table["step"] >= 0)]
    spans = _order(rows["span"])
    figure, panels = _panels(len(spans))
    largest = float(rows.loc[rows["measure"] == "cohesion", "value"].abs().max())
    for axes, span in zip(panels, spans):
        here = rows[rows["span"] == span]
        grid, p = (
            here[here["measure"] == name].pivot(index="step", columns="layer", values="value")
            for name in ("cohesion", "cohesion_p_corrected")
        )
        label = "cohesion" if axes is panels[-1] else None
        drawing.heat(axes, grid, (-largest, largest), label, diverging=True)
        _dots(axes, p)
        axes.set_title(span)
        axes.set_xlabel("layer")
    panels[0].set_ylabel("training step")
    drawing.footnote(figure, _caption(rows, "dot: p < .05, corrected over layers"))
    return figure


def scores(table: pd.DataFrame) -> Figure:
    """Score of each hypernym against its visual coherence and against its cohesion where that is strongest."""
    rows = table[table["measure"] == "auroc"]
    found = dict(zip(rows["target"], rows["value"]))
    rows = _last(table[(table["measure"] == "cohesion") & (table["modality"] == "image")])
    inside = rows[(rows["treatment"] == TREATMENTS[0]) & rows["layer"].notna()]
    best = max(inside[inside["target"] == "mean"].to_dict("records"), key=lambda row: row["value"])
    there = inside[(inside["site"] == best["site"]) & (inside["span"] == best["span"])]
    encoder = table[(table["site"] == "encoder") & (table["measure"] == "cohesion")]
    sites = [("the encoder", encoder)] if len(encoder) else []
    sites.append((f"{best['site']}, {best['span']}", there))
    figure, panels = _panels(len(sites))
    figure.set_size_inches(3.6 * len(sites) + 0.6, 3.8)
    for axes, (name, here) in zip(panels, sites):
        kept = here[here["target"].isin(list(found))]
        _named_points(
            axes, kept["value"].to_numpy(), kept["target"].map(found).to_numpy(), list(kept["target"])
        )
        axes.axhline(0.5, **drawing.CHANCE)
        axes.set_xlabel(f"cohesion at {name}")
        axes.set_title(_correlation(table, here), fontsize=7.5)
    panels[0].set_ylabel("AUROC of the hypernym on test pictures")
    note = drawing.caption(
        len(found), "hypernyms", "95 % bootstrap over hypernyms, in brackets", "dashed, AUROC .5"
    )
    drawing.footnote(figure, note + " Names that would overlap are left out; the table has them.")
    return figure


def _correlation(table: pd.DataFrame, here: pd.DataFrame) -> str:
    """The rank correlation of scores with cohesion at the place of these rows, in words."""
    place = ["site", "span", "step", "treatment", "modality"]
    rows = table[table["measure"] == "correlation_with_score"].merge(here[place].drop_duplicates(), on=place)
    if not len(rows):
        return ""
    at = rows.to_dict("records")[0]
    return f"rank correlation {at['value']:.2f} [{at['lower']:.2f}, {at['upper']:.2f}]"


def _named_points(axes: Axes, x: np.ndarray, y: np.ndarray, names: list[str]) -> None:
    """Points with their names, the outermost first; a name that would cover another is left out."""
    axes.plot(x, y, "o", color=drawing.colour("image"), markersize=3.5)
    axes.margins(0.12)
    width, height = 0.022 * np.ptp(x), 0.045 * max(float(np.ptp(y)), 0.1)
    taken: list[tuple[float, float, float]] = []
    for k in np.argsort(-np.abs(y - np.median(y)) / height - np.abs(x - np.median(x)) / width, kind="stable"):
        left, level = float(x[k]), float(y[k])
        right = left + width * (len(names[k]) + 2)
        if all(abs(level - other) > height or right < start or left > end for start, end, other in taken):
            taken.append((left, right, level))
            axes.annotate(names[k], (left, level), fontsize=6, xytext=(2, 2), textcoords="offset points")


def _dots(axes: Axes, p: pd.DataFrame) -> None:
    """A dot on each cell of a heat map whose p is under 5 %."""
    found = np.argwhere(p.to_numpy() < 0.05)
    axes.plot(found[:, 1], found[:, 0], "k.", markersize=2)


def _frame(axes: Axes, title: str) -> None:
    axes.axhline(0, **drawing.CHANCE)
    axes.set_title(title)
    axes.set_xlabel("layer")


def _caption(rows: pd.DataFrame, null: str) -> str:
    return drawing.caption(int(rows["n"].max()), "leaf concepts", _INTERVAL, null)


def _order(names: pd.Series) -> list[str]:
    return list(dict.fromkeys(names))


def _last(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the last step, and those of no step."""
    return rows[(rows["step"] == rows["step"].max()) | (rows["step"] < 0)]


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(2.9 * count + 0.6, 3.4), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False, sharey=True)[0])
