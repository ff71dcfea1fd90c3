"""Figures of an attention knock-out table: the loss from blocking each path, window by window, beside its placebo."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from analyses.frame import drawing

EDITS = {"knocked out": (-0.15, "path blocked"), "placebo": (0.15, "as many other edges blocked")}
TASKS = {"hypernym": "right hypernyms", "leaf": "name of the leaf"}


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure of the table, by name."""
    with drawing.style():
        return {"windows": windows(table)}


def windows(table: pd.DataFrame) -> Figure:
    """Change of the log-odds of right names with a path blocked in a window of layers, and with as many other edges."""
    rows = table[table["measure"] == "margin_change"]
    paths = list(dict.fromkeys(rows["path"]))
    tasks = [task for task in TASKS if (rows["target"] == task).any()]
    order = sorted(set(rows["window"]), key=_bounds)
    whole = max(order, key=lambda window: _bounds(window)[1] - _bounds(window)[0])
    order = [window for window in order if window != whole] + [whole]
    palette = drawing.colours(["knocked out", "placebo"])
    figure = Figure(figsize=(7.2, 2.0 * len(tasks) + 1.0), layout="constrained")
    grid = figure.subplots(len(tasks), len(paths), squeeze=False, sharex=True, sharey="row")
    for line, task in zip(grid, tasks):
        for axes, path in zip(line, paths):
            for edit, (shift, label) in EDITS.items():
                shown = (rows["target"] == task) & (rows["path"] == path) & (rows["edit"] == edit)
                points = rows[shown].set_index("window").reindex(order)
                places = [at + shift for at in range(len(order))]
                axes.vlines(places, points["lower"], points["upper"], color=palette[edit], linewidth=1.4)
                axes.plot(places, points["value"], "o", color=palette[edit], markersize=3, label=label)
            axes.axhline(0, **drawing.CHANCE)
            axes.set_xticks(
                range(len(order)), ["all" if one == whole else one.replace("-", "–") for one in order]
            )
            axes.tick_params(axis="x", rotation=60)
            if task == tasks[0]:
                axes.set_title(path)
        line[0].set_ylabel(f"{TASKS[task]}\n(change, nats)")
    for axes in grid[-1]:
        axes.set_xlabel("layers")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    null = "as many edges drawn from all others, none to the first token"
    drawing.footnote(
        figure, drawing.caption(int(rows["n"].max()), "leaves", "95 % bootstrap over leaves", null)
    )
    return figure


def _bounds(window: str) -> tuple[int, int]:
    first, last = window.split("-")
    return int(first), int(last)
