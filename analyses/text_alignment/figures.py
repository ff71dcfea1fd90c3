"""Figures of an alignment table: diagonal with null and ceiling, layer × layer maps, training, treatments, splits."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.frame import drawing
from analyses.frame.tables import OUTSIDE, layer_of
from analyses.inputs.references import TWIN
from probing.categories.massive import TREATMENTS

_MARKS = {True: (".", "white dot, p < .05"), False: ("x", "white cross, p ≥ .05; all other cells p < .05")}
SPLITS = {"": "all leaves", "seen": "leaves of seen hypernyms", "held-out": "leaves of held-out hypernyms"}


def draw(table: pd.DataFrame, measure: str) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name."""
    made = {}
    with drawing.style():
        whole = table[table["split"] == ""]
        made["diagonal"] = diagonals(whole, measure)
        made["maps"] = maps(whole, measure)
        if table["treatment"].nunique() > 1:
            made["treatments"] = compared(whole, measure, "treatment", {name: name for name in TREATMENTS})
        if table["split"].nunique() > 1:
            standard = table[table["treatment"] == TREATMENTS[0]]
            made["held_out"] = compared(standard, measure, "split", SPLITS)
        if table["step"].nunique() > 1:
            made["training"] = training(whole, measure)
    return made


def diagonals(table: pd.DataFrame, measure: str) -> Figure:
    """Similarity of picture rows to each reference by layer, its null's limit (dotted) and noise ceiling (dashed)."""
    rows = on_diagonal(_last(table[table["treatment"] == TREATMENTS[0]]))
    spans, palette = _order(rows["span"]), drawing.colours(_order(rows["reference"]))
    figure, panels = _panels(len(spans))
    for axes, span in zip(panels, spans):
        here = rows[rows["span"] == span]
        for name, colour in palette.items():
            mine = here[here["reference"] == name]
            drawing.curve(axes, mine[mine["measure"] == measure], "layer", colour, name)
            drawing.curve(axes, mine[mine["measure"] == "null_limit"], "layer", colour, dashed=True)
        ceiling = here[(here["measure"] == "ceiling")].drop_duplicates("layer").sort_values("layer")
        axes.plot(ceiling["layer"], ceiling["value"], color="0.35", linewidth=0.8)
        _frame(axes, span)
    panels[0].plot([], [], color="0.35", linewidth=0.8, label="noise ceiling (grey)")
    return _finished(figure, panels, rows, measure, "dotted, leaves permuted (95 %)")


def maps(table: pd.DataFrame, measure: str) -> Figure:
    """Similarity of every picture layer with every layer of each reference; marked by p, corrected."""
    rows = _last(table[table["treatment"] == TREATMENTS[0]])
    rows = rows.assign(other=rows["other_site"].map(_layer_names(rows)))
    rows = rows[rows["other"].notna()]  # references without layers have no map
    spans, references = _order(rows["span"]), _order(rows["reference"])
    figure = Figure(figsize=(2.9 * len(spans) + 0.8, 2.5 * len(references) + 0.6), layout="constrained")
    grid = figure.subplots(len(references), len(spans), squeeze=False)
    largest, rare = float(rows.loc[rows["measure"] == measure, "value"].max()), _rarer(rows)
    for line, name in zip(grid, references):
        for axes, span in zip(line, spans):
            here = rows[(rows["span"] == span) & (rows["reference"] == name) & rows["layer"].notna()]
            values, p = (_map(here, which) for which in (measure, "p_corrected"))
            drawing.heat(axes, values, (0.0, max(largest, 0.05)), measure if axes is line[-1] else None)
            _mark(axes, p, rare)
            axes.set_title(f"{span}, {name}")
            axes.set_xlabel("layer of the words")
        line[0].set_ylabel("layer of the pictures")
    said = f"{_MARKS[rare][1]}, corrected for the maximum over layer pairs"
    drawing.footnote(figure, _caption(rows, said, "none on the map"))
    return figure


def compared(table: pd.DataFrame, measure: str, column: str, names: dict[str, str]) -> Figure:
    """The diagonal against the same prompt under each treatment, or over each set of leaves."""
    rows = on_diagonal(_last(table[table["reference"] == _first_reference(table)]))
    spans = _order(rows["span"])
    figure, panels = _panels(len(spans))
    palette = drawing.colours(list(names.values()))
    for axes, span in zip(panels, spans):
        for value, label in names.items():
            here = rows[(rows["span"] == span) & (rows[column] == value)]
            if not len(here):
                continue
            drawing.curve(axes, here[here["measure"] == measure], "layer", palette[label], label)
            drawing.curve(axes, here[here["measure"] == "null_limit"], "layer", palette[label], dashed=True)
        _frame(axes, span)
    return _finished(figure, panels, rows, measure, "dotted, leaves permuted (95 %)")


def training(table: pd.DataFrame, measure: str) -> Figure:
    """The diagonal against the same prompt by layer and training step; marked by p, corrected."""
    kept = (table["treatment"] == TREATMENTS[0]) & (table["reference"] == _first_reference(table))
    rows = on_diagonal(table[kept & table["layer"].notna()])
    spans = _order(rows["span"])
    figure, panels = _panels(len(spans))
    largest, rare = float(rows.loc[rows["measure"] == measure, "value"].max()), _rarer(rows)
    for axes, span in zip(panels, spans):
        here = rows[(rows["span"] == span) & rows["layer"].notna()]
        grid, p = (
            here[here["measure"] == name].pivot(index="step", columns="layer", values="value")
            for name in (measure, "p_corrected")
        )
        drawing.heat(axes, grid, (0.0, max(largest, 0.05)), measure if axes is panels[-1] else None)
        _mark(axes, p, rare)
        axes.set_title(span)
        axes.set_xlabel("layer")
    panels[0].set_ylabel("training step")
    said = f"{_MARKS[rare][1]}, corrected over layers"
    drawing.footnote(figure, _caption(rows, said, "none on the map"))
    return figure


def runs(table: pd.DataFrame, measure: str) -> Figure:
    """The diagonal against the same prompt, one curve a run, coloured by `condition`; null limits are dotted."""
    with drawing.style():
        rows = table[(table["treatment"] == TREATMENTS[0]) & (table["split"] == "")]
        rows = on_diagonal(rows[rows["reference"] == _first_reference(rows)])
        rows = pd.concat([_last(one) for _, one in rows.groupby("run", sort=False)])
        spans, palette = _order(rows["span"]), drawing.colours(_order(rows["condition"]))
        figure, panels = _panels(len(spans))
        for axes, span in zip(panels, spans):
            here = rows[rows["span"] == span]
            drawing.conditions(axes, here[here["measure"] == measure], "layer", palette)
            for (name, _), limit in here[here["measure"] == "null_limit"].groupby(["condition", "run"]):
                drawing.curve(axes, limit, "layer", palette[str(name)], dashed=True)
            _frame(axes, span)
        return _finished(figure, panels, rows, measure, "dotted, leaves permuted (95 %)")


def on_diagonal(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of a site with itself, or with the only one of a reference without layers."""
    return table[(table["site"] == table["other_site"]) | table["other_site"].isin(OUTSIDE)]


def _rarer(rows: pd.DataFrame) -> bool:
    """Whether p under 5 % is what is rarer on the map: the rarer is what is marked."""
    return bool((rows.loc[rows["measure"] == "p_corrected", "value"] < 0.05).mean() <= 0.5)


def _mark(axes: Axes, p: pd.DataFrame, significant: bool) -> None:
    """A mark on each cell of a heat map whose p is under 5 %, or on each whose is not."""
    values = p.to_numpy(dtype=float)
    found = np.argwhere(np.isfinite(values) & ((values < 0.05) == significant))
    axes.plot(found[:, 1], found[:, 0], _MARKS[significant][0], color="white", markersize=2.5, mew=0.7)


def _map(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    here = rows[(rows["measure"] == measure) & rows["other"].notna()]
    return here.pivot(index="layer", columns="other", values="value")


def _layer_names(rows: pd.DataFrame) -> dict[str, float]:
    return {site: layer_of(site) for site in rows["other_site"].unique() if site}


def _first_reference(table: pd.DataFrame) -> str:
    return TWIN if (table["reference"] == TWIN).any() else str(table["reference"].iloc[0])


def _order(names: pd.Series) -> list[str]:
    return list(dict.fromkeys(names))


def _last(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["step"] == rows["step"].max()]


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(2.9 * count + 0.6, 3.4), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False, sharey=True)[0])


def _frame(axes: Axes, title: str) -> None:
    axes.axhline(0, **drawing.CHANCE)
    axes.set_title(title)
    axes.set_xlabel("layer")


def _finished(figure: Figure, panels: Sequence[Axes], rows: pd.DataFrame, measure: str, null: str) -> Figure:
    panels[0].set_ylabel(f"{measure}, pictures against words")
    columns = 3 if len(panels) > 1 else 1
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=columns)
    drawing.footnote(figure, _caption(rows, null, "95 % bootstrap over leaves"))
    return figure


def _caption(rows: pd.DataFrame, null: str, interval: str) -> str:
    return drawing.caption(int(rows["n"].max()), "leaf concepts", interval, null)
