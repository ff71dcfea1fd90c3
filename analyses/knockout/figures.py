"""Figures of an attention knock-out table: the loss from blocking each path, window by window, beside its placebo."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from analyses.frame import drawing
from analyses.knockout.rows import LEVEL
from probing.edits.placebos import FEWEST

EDITS = {"knocked out": (-0.15, "path blocked"), "placebo": (0.15, "as many edges at random")}
_STAR = {"color": "0.15", "markersize": 6, "mew": 0}
TASKS = {"hypernym": "right hypernyms", "leaf": "name of the leaf"}


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure of the table, by name."""
    with drawing.style():
        return {"windows": windows(table)}


def windows(table: pd.DataFrame) -> Figure:
    """Change of the log-odds of right names with a path blocked in a window of layers, and with random edges."""
    rows = table[table["measure"] == "margin_change"]
    paths = list(dict.fromkeys(rows["path"]))
    tasks = [task for task in TASKS if (rows["target"] == task).any()]
    order = sorted(set(rows["window"]), key=_bounds)
    whole = max(order, key=lambda window: _bounds(window)[1] - _bounds(window)[0])
    order = [window for window in order if window != whole] + [whole]
    palette = drawing.colours(["knocked out", "placebo"])
    draws = rows[rows["edit"].str.fullmatch(r"placebo \d+")]
    ranks = table[table["measure"] == "margin_change_p_corrected"]
    figure = Figure(figsize=(7.2, 2.0 * len(tasks) + 1.0), layout="constrained")
    grid = figure.subplots(len(tasks), len(paths), squeeze=False, sharex=True, sharey="row")
    for line, task in zip(grid, tasks):
        for axes, path in zip(line, paths):
            for edit, (shift, label) in EDITS.items():
                shown = (rows["target"] == task) & (rows["path"] == path) & (rows["edit"] == edit)
                points = rows[shown].set_index("window").reindex(order)
                places = [at + shift for at in range(len(order))]
                axes.vlines(places, points["lower"], points["upper"], color=palette[edit], linewidth=1.4)
                shape = drawing.marker(palette[edit])
                axes.plot(places, points["value"], shape, color=palette[edit], markersize=3, label=label)
            drawn = draws[(draws["target"] == task) & (draws["path"] == path)]
            at = [order.index(window) + EDITS["placebo"][0] for window in drawn["window"]]
            axes.plot(at, drawn["value"], "_", color=palette["placebo"], markersize=5, mew=0.6, alpha=0.6)
            p = ranks[(ranks["target"] == task) & (ranks["path"] == path) & (ranks["value"] <= LEVEL)]
            at = [order.index(window) for window in p["window"]]
            axes.plot(at, [0.94] * len(at), "*", transform=axes.get_xaxis_transform(), **_STAR)
            axes.axhline(0, **drawing.CHANCE)
            axes.set_xticks(
                range(len(order)), ["all" if one == whole else one.replace("-", "–") for one in order]
            )
            axes.tick_params(axis="x", rotation=60)
            if task == tasks[0]:
                axes.set_title(path)
        line[0].set_ylabel(f"{TASKS[task]}\n(change, nats)")
    for axes in grid[-1]:
        axes.set_xlabel("blocks")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    count = draws["edit"].nunique()
    null = f"as many edges at random, {count} draws (dashes: each of them; none to the first token)"
    over = "95 % over leaves, of the mean placebo over draws as well"
    star = (
        "Star: more lost than with every draw, p ≤ .05, corrected over windows (that of all blocks has none)."
    )
    none = f"No p: it takes {FEWEST} draws."
    text = drawing.caption(int(rows["n"].max()), "leaves", over, null)
    drawing.footnote(figure, f"{text} {star if count >= FEWEST else none}")
    return figure


def _bounds(window: str) -> tuple[int, int]:
    first, last = window.split("-")
    return int(first), int(last)
