"""Figures of an alignment table: diagonal with null and ceiling, layer × layer maps, training, treatments, splits."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.frame import drawing
from analyses.frame.drawing import panels
from analyses.frame.tables import OUTSIDE, layer_of
from analyses.inputs.references import TWIN
from analyses.text_alignment.rows import measure_of
from probing.categories.massive import TREATMENTS

_MARKS = {True: (".", "white dot, p < .05"), False: ("x", "white cross, p ≥ .05; all other cells p < .05")}
SPLITS = {"": "all leaves", "seen": "leaves of seen hypernyms", "held-out": "leaves of held-out hypernyms"}
_NULL = "dotted, leaves permuted (95 %)"
_CEILING = "0.35"  # grey: the ceiling is of the pictures, whatever they are compared with


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name; of a table of several runs the figure of them."""
    if "condition" in table:
        with drawing.style():
            return {"runs": runs(table)}
    measure, treatment = measure_of(table), panels.treatment_of(table)
    whole = table[table["split"] == ""]
    standard = whole[whole["treatment"] == treatment]
    with drawing.style():
        figures = {"diagonal": diagonals(standard, measure)}
        if len(layered := _with_layers(panels.of_last_step(standard))):
            figures["maps"] = maps(layered, measure)
        if table["treatment"].nunique() > 1:
            names = {name: name for name in TREATMENTS}
            figures["treatments"] = compared(whole, measure, "treatment", names)
        if table["split"].nunique() > 1:
            of_splits = table[table["treatment"] == treatment]
            figures["held_out"] = compared(of_splits, measure, "split", SPLITS)
        if table["step"].nunique() > 1:
            figures["training"] = training(standard, measure)
    return figures


def diagonals(table: pd.DataFrame, measure: str) -> Figure:
    """Similarity of picture rows to each reference by layer, its null's limit (dotted) and noise ceiling (grey)."""
    rows = on_diagonal(panels.of_last_step(table))
    spans, palette = panels.unique(rows["span"]), drawing.colours(panels.unique(rows["reference"]))
    figure, places = panels.side_by_side(len(spans))
    for axes, span in zip(places, spans):
        at_span = rows[rows["span"] == span]
        for name, colour in palette.items():
            _with_limit(axes, at_span[at_span["reference"] == name], measure, colour, name)
        ceiling = at_span[at_span["measure"] == "ceiling"].drop_duplicates("layer").sort_values("layer")
        if len(ceiling):
            look = {"color": _CEILING, "linewidth": 0.8, "label": "noise ceiling (grey)"}
            axes.plot(ceiling["layer"], ceiling["value"], **look)
        panels.frame(axes, span)
    return _finished(figure, places, rows, measure)


def maps(rows: pd.DataFrame, measure: str) -> Figure:
    """Similarity of every picture layer with every `other` layer of each reference; marked by p, corrected."""
    spans, references = panels.unique(rows["span"]), panels.unique(rows["reference"])
    size = (2.9 * len(spans) + 0.8, 2.5 * len(references) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(references), len(spans), squeeze=False)
    limits, rare = _limits(rows, measure), _rarer(rows)
    for line, name in zip(grid, references):
        for axes, span in zip(line, spans):
            place = rows[(rows["span"] == span) & (rows["reference"] == name)]
            label = _named(measure) if axes is line[-1] else None
            _cells(axes, place, measure, ("layer", "other"), limits, label, rare)
            axes.set_title(f"{span}, {name}")
            axes.set_xlabel("block of the words")
        line[0].set_ylabel("block of the pictures")
    null = f"{_MARKS[rare][1]}, corrected for the maximum over layer pairs"
    drawing.footnote(figure, panels.leaves_caption(rows, null, "none on the map"))
    return figure


def compared(table: pd.DataFrame, measure: str, column: str, names: dict[str, str]) -> Figure:
    """The diagonal against the same prompt under each treatment, or over each set of leaves."""
    rows = on_diagonal(panels.of_last_step(table[table["reference"] == _first_reference(table)]))
    spans = panels.unique(rows["span"])
    figure, places = panels.side_by_side(len(spans))
    palette = drawing.colours(list(names.values()))
    for axes, span in zip(places, spans):
        for value, label in names.items():
            own = rows[(rows["span"] == span) & (rows[column] == value)]
            if len(own):
                _with_limit(axes, own, measure, palette[label], label)
        panels.frame(axes, span)
    return _finished(figure, places, rows, measure)


def training(table: pd.DataFrame, measure: str) -> Figure:
    """The diagonal against the same prompt by layer and training step; marked by p, corrected."""
    own = (table["reference"] == _first_reference(table)) & table["layer"].notna()
    rows = on_diagonal(table[own])
    spans = panels.unique(rows["span"])
    figure, places = panels.side_by_side(len(spans))
    limits, rare = _limits(rows, measure), _rarer(rows)
    for axes, span in zip(places, spans):
        label = _named(measure) if axes is places[-1] else None
        _cells(axes, rows[rows["span"] == span], measure, ("step", "layer"), limits, label, rare)
        panels.frame(axes, span, null=None)
    places[0].set_ylabel("training step")
    null = f"{_MARKS[rare][1]}, corrected over layers"
    drawing.footnote(figure, panels.leaves_caption(rows, null, "none on the map"))
    return figure


def runs(table: pd.DataFrame) -> Figure:
    """The diagonal against the same prompt, one curve a run, coloured by `condition`; null limits are dotted."""
    measure = measure_of(table)
    rows = table[(table["treatment"] == panels.treatment_of(table)) & (table["split"] == "")]
    rows = on_diagonal(rows[rows["reference"] == _first_reference(rows)])
    values, limits = (rows[rows["measure"] == name] for name in (measure, "null_limit"))
    return panels.runs({_axis(measure): values}, _NULL, [limits])


def on_diagonal(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of a site with itself, or with the only one of a reference without layers."""
    return table[(table["site"] == table["other_site"]) | table["other_site"].isin(OUTSIDE)]


def _with_layers(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the layer of the reference in the column `other`; a reference without layers has no map."""
    layers = {site: layer_of(site) for site in rows["other_site"].unique() if site}
    rows = rows.assign(other=rows["other_site"].map(layers))
    return rows[rows["other"].notna() & rows["layer"].notna()]


def _with_limit(axes: Axes, rows: pd.DataFrame, measure: str, colour: str, label: str) -> None:
    """A curve with its interval, and dotted the limit that its null stays below."""
    drawing.curve(axes, rows[rows["measure"] == measure], "layer", colour, label)
    drawing.curve(axes, rows[rows["measure"] == "null_limit"], "layer", colour, dashed=True)


def _cells(
    axes: Axes,
    rows: pd.DataFrame,
    measure: str,
    axis_of: tuple[str, str],
    limits: tuple[float, float],
    label: str | None,
    rare: bool,
) -> None:
    """A heat map of a measure over two columns, with a mark where p, corrected, is under 5 %, or where it is not."""
    index, columns = axis_of
    grid, p = (
        rows[rows["measure"] == name].pivot(index=index, columns=columns, values="value")
        for name in (measure, "p_corrected")
    )
    drawing.heat(axes, grid, limits, label)
    p = p.reindex_like(grid)
    drawing.dots(axes, p.notna() & ((p < 0.05) == rare), _MARKS[rare][0], "white", 2.5)


def _limits(rows: pd.DataFrame, measure: str) -> tuple[float, float]:
    """Ends of the colour scale that all panels share."""
    return 0.0, max(float(rows.loc[rows["measure"] == measure, "value"].max()), 0.05)


def _rarer(rows: pd.DataFrame) -> bool:
    """Whether p under 5 % is rarer on the map than p over it: the rarer one is marked."""
    return bool((rows.loc[rows["measure"] == "p_corrected", "value"] < 0.05).mean() <= 0.5)


def _first_reference(table: pd.DataFrame) -> str:
    return TWIN if (table["reference"] == TWIN).any() else str(table["reference"].iloc[0])


def _named(measure: str) -> str:
    return drawing.readable(measure, " ").replace("cka", "CKA")


def _axis(measure: str) -> str:
    return f"{_named(measure)}, pictures against words"


def _finished(figure: Figure, places: Sequence[Axes], rows: pd.DataFrame, measure: str) -> Figure:
    places[0].set_ylabel(_axis(measure))
    panels.legend(figure, places[0], 3)
    drawing.footnote(figure, panels.leaves_caption(rows, _NULL))
    return figure
