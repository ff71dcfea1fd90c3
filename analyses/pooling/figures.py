"""Figures of pooled effects: a forest of runs, conditions and contrasts, and maps of places.

A place is a span and a layer; of heads a layer and a head, a column of panels for each span; of routes what sends and
what receives, a column of panels for each path.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.frame import drawing
from analyses.frame.drawing.panels import place_of
from analyses.pooling.rows import CONTRAST, RUN, SHOWN, heterogeneity_text, main_rows

PLACED = ("site", "span", "layers", "layer", "head", "sender", "receiver")
"""Columns that say where a number was taken; cells of one figure may differ in them."""
GRIDS = {
    "": ("span", "layer", "target"),
    "heads": ("head", "layer", "span"),
    "routes": ("sender", "receiver", "span"),
}
"""What cells are → the columns of the table that stand up, across, and in panels beside each other."""
FIXED = ("analysis", "step", "run", "kind", "condition", "statistic", "state", "split", "treatment", "seed")


_NATS = frozenset(
    {
        *("effect", "excess", "margin_change", "hypernym_change", "leaf_change", "contribution", "loss"),
    }
)
"""Measures in nats; others are shares, or what their lens measures."""


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """A forest and a map for each measure and whatever else distinguishes two cells of one place."""
    figures: dict[str, Figure] = {}
    with drawing.style():
        for name, rows in _views(main_rows(table)):
            if rows["value"].notna().any():
                figures[f"forest_{name}"] = forest(table, rows)
                pooled = rows[rows["kind"] != RUN]
                if len(placed := _placed(pooled)):
                    figures[f"map_{name}"] = maps(placed, len(pooled) - len(placed))
    return figures


def forest(table: pd.DataFrame, rows: pd.DataFrame) -> Figure:
    """At the largest cell of each span: each run, each condition and each contrast, with intervals."""
    spans = list(dict.fromkeys(rows["span"]))
    entries = rows.drop_duplicates(["kind", "condition", "run"])
    height = 0.19 * len(entries) + 1.7
    figure = Figure(figsize=(2.6 * len(spans) + 1.8, height), layout="constrained")
    panels = figure.subplots(1, len(spans), sharey=True, squeeze=False)[0]
    notes = [
        _forest_panel(axes, table, rows[rows["span"] == span], entries) for span, axes in zip(spans, panels)
    ]
    n, hypernyms = int(rows["n"].max()), int(rows["hypernyms"].max())
    text = drawing.caption(
        n,
        f"units between {hypernyms} hypernyms; each span at its cell of the largest effect in a condition",
        "95 %, of runs over hypernyms, of conditions and contrasts (diamonds) over hypernyms and seeds",
        "0 (dashed)",
    )
    drawing.footnote(figure, "\n".join([text, *filter(None, notes)]))
    return figure


def maps(rows: pd.DataFrame, left_out: int = 0) -> Figure:
    """Heat maps of places, a line for each condition and contrast; dots mark those that stand.

    Args:
        rows: one for each place.
        left_out: how many cells of the table have no place of their own; a note tells it.
    """
    up, across, apart = GRIDS[_grid(rows)]
    rows = _spread(rows) if (up, across) == ("span", "layer") else rows
    names, columns = (list(dict.fromkeys(rows[label])) for label in ("condition", apart))
    tallest = max(rows.loc[rows[apart] == column, up].nunique() for column in columns)
    size = (max(6.2, 2.4 * len(columns) + 1.0), (0.45 + 0.17 * tallest) * len(names) + 1.5)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(names), len(columns), squeeze=False)
    for column, of_column in zip(columns, panels.T):
        own = rows[rows[apart] == column]
        most = float(np.nanmax(np.abs(own["value"]), initial=0)) or 1.0
        for name, axes in zip(names, of_column):
            _panel(axes, own[own["condition"] == name], _ordered(own, up), _ordered(own, across), most)
            if column == columns[0] and up != "span":
                axes.set_ylabel(SHOWN.get(up, up))
            title = [drawing.readable(name, " ")] * (column == columns[0]) + [str(column)] * (
                len(columns) > 1
            )
            axes.set_title("\n".join(title), loc="left")
        of_column[-1].set_xlabel(SHOWN.get(across, across))
        last = column == columns[-1]
        bar: Any = figure.colorbar(
            of_column[0].images[0], ax=list(of_column), label=_label(rows) if last else "", shrink=0.9
        )
        bar.outline.set_visible(False)
    note = f" Cells in the table alone, of wider windows or without a block: {left_out}."
    seeds, marked = int(rows["seeds"].max()), bool(rows["stands"].astype(bool).any())
    cells = [axes.images[0].get_array() for axes in panels.flat]
    grey = any(bool(np.ma.getmaskarray(own).any()) for own in cells)
    note = " Grey: places that were not asked." * grey + note * bool(left_out)
    text = drawing.caption(
        int(rows["n"].max()),
        f"units between {int(rows['hypernyms'].max())} hypernyms, up to {seeds} seed{'s' * (seeds > 1)}",
        "95 % band over all cells of a condition or contrast, over hypernyms and seeds",
        "; ".join(["0", *["dots: 0 and every placebo are outside the band"] * marked]),
    )
    drawing.footnote(figure, text + note)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, up: Sequence[Any], across: Sequence[Any], most: float) -> None:
    """One condition at the places of one column of panels."""
    line, column, _ = GRIDS[_grid(rows)]
    grid = rows.pivot(index=line, columns=column, values="value").reindex(
        index=pd.Index(up), columns=pd.Index(across)
    )
    drawing.heat(axes, grid, (-most, most), diverging=True)
    axes.tick_params(axis="x", rotation=0 if column == "layer" else 60)
    marked = rows[rows["stands"].astype(bool)]
    places = [[values.index(one) for one in marked[of]] for values, of in ((across, column), (up, line))]
    axes.plot(*places, ".", color="black", markersize=4)


def _grid(rows: pd.DataFrame) -> str:
    """What the cells of a view are."""
    return str(_grids(rows).iloc[0])


def _grids(rows: pd.DataFrame) -> pd.Series:
    """What each cell is: a route, a head or MLP, or a span at a layer."""
    has = {name: rows[name].fillna("") != "" if name in rows else False for name in ("receiver", "head")}
    return pd.Series(np.select([has["receiver"], has["head"]], ["routes", "heads"], ""), rows.index)


def _placed(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each condition and place: of windows at one layer the narrowest, and none without a layer."""
    up, across, apart = GRIDS[_grid(rows)]
    rows = rows.assign(width=[_width(text) for text in rows["layers"]]).sort_values("width", kind="stable")
    places = ["condition", *dict.fromkeys([up, across, apart])]
    return rows[rows[across].notna()].drop_duplicates(places).sort_index()


def _spread(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each layer of a window that has no cell of its own in this line; one of them stands for all."""
    made = []
    for _, line in rows.groupby(["condition", "target", "span"], sort=False, dropna=False):
        taken = {int(layer) for layer in line["layer"]}
        for row in line.to_dict("records"):
            first, last = _ends(row["layers"])
            free = set(range(first, last + 1)) - taken
            taken |= free
            layers = sorted({int(row["layer"]), *free})
            middle = layers[len(layers) // 2]
            made += [{**row, "layer": one, "stands": row["stands"] and one == middle} for one in layers]
    return pd.DataFrame(made, columns=rows.columns)


def _ordered(rows: pd.DataFrame, of: str) -> list[Any]:
    """The places along an axis: all layers between the first and the last, heads by number, else as they come."""
    names = list(dict.fromkeys(rows[of]))
    if of == "layer":
        return list(range(int(min(names)), int(max(names)) + 1))
    if of == "head":
        return sorted(names, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0))
    return names[::-1] if of == "span" else names


def _forest_panel(axes: Axes, table: pd.DataFrame, rows: pd.DataFrame, entries: pd.DataFrame) -> str:
    """One span; the text is how much the runs of each condition differ there."""
    pooled = rows[rows["kind"] != RUN]
    of_conditions = pooled[pooled["kind"] != CONTRAST]
    among = pooled if of_conditions.empty else of_conditions
    best = among.iloc[int(among["value"].abs().argmax())]
    places = [name for name in PLACED if name in rows and name != "layer"]
    at_best = rows[(rows[places] == best[places]).all(axis=1)]
    palette, names, notes = drawing.colours(list(dict.fromkeys(entries["condition"]))), [], []
    for place, entry in enumerate(entries.to_dict("records")):
        names.append(entry["run"] if entry["kind"] == RUN else drawing.readable(entry["condition"], " "))
        same = (at_best["kind"] == entry["kind"]) & (at_best["condition"] == entry["condition"])
        own = at_best[same & (at_best["run"] == entry["run"])]
        for row in own.to_dict("records"):
            run, y = entry["kind"] == RUN, len(entries) - 1 - place
            look = {"color": palette[entry["condition"]], "linewidth": 0.8 if run else 1.6}
            axes.plot([row["lower"], row["upper"]], [y, y], **look)
            axes.plot(row["value"], y, "s" if run else "D", markersize=3 if run else 5, color=look["color"])
            if row["kind"] != RUN and row["seeds"] > 1:
                name = drawing.readable(entry["condition"], " ")
                notes.append(f"{name}, {best['span']}: {heterogeneity_text(table, own.iloc[0])}.")
    axes.axvline(0, **drawing.CHANCE)
    axes.set_yticks(range(len(entries) - 1, -1, -1), names)
    route = f"{best['sender']} to {best['receiver']}" if _grid(rows) == "routes" else place_of(best["site"])
    axes.set_title(f"{best['span']}, {route}".strip(", "), loc="left", fontsize="small")
    axes.set_xlabel(_label(rows))
    return "\n".join(notes)


def _views(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each figure by name: of one target, measure, and of whatever else cells differ in."""
    numbers = (
        "value",
        "lower",
        "upper",
        "n",
        "seeds",
        "hypernyms",
        "band_lower",
        "band_upper",
        "passes",
        "stands",
    )
    keys = [name for name in rows.columns if name not in (*PLACED, *FIXED, *numbers)]
    points = rows["site"].str.replace(r"^blocks\.\d+\.|#\d+$", "", regex=True)
    rows = rows.assign(cells=_grids(rows), point=points)
    place = [name for name in (*PLACED, "kind", "condition", "run") if name in rows and name != "site"]
    keys += ["cells"] + ["point"] * bool(rows.duplicated([*keys, *place]).any())
    keys = [name for name in keys if rows[name].nunique() > 1 or name in ("target", "measure")]
    return [
        (re.sub(r"[^A-Za-z0-9]+", "_", "_".join(str(key) for key in of if key != "")), view)
        for of, view in rows.groupby(keys, sort=False)
    ]


def _width(layers: str) -> int:
    first, last = _ends(layers)
    return last - first


def _ends(layers: str) -> tuple[int, int]:
    """The first and last layer of "20-24" or "20"; of no layer, ends that hold none."""
    first, _, last = str(layers).partition("-")
    return (int(first), int(last or first)) if first else (0, -1)


def _label(rows: pd.DataFrame) -> str:
    measure = str(rows["measure"].iloc[0])
    return measure.replace("_", " ") + " (nats)" * (measure in _NATS)
