"""Figures of a table of evidence: every kind on a row of its own along the layers, and onsets by training step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analyses.emergence.curves import END, HALF, ONSET
from analyses.emergence.evidence import CURVE, HOLDS, MISSING
from analyses.emergence.sentences import PLACES, of_last_step
from analyses.frame import drawing
from analyses.frame.tables import CAUSES, PICTURES, SHARED, WORDS
from analyses.inputs.intervals import ONE_SEED

COLOURS = {WORDS: "#009E73", PICTURES: "#0072B2", SHARED: "#D55E00", CAUSES: "#6A3D9A"}
_OTHER = "#595959"
_GREY = "0.5"
_MARKS = ("s", "^", "D", "v", "P", "X")
"""Of other conditions."""


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """A figure of each condition by its name, and one of its onsets over training where there are several steps."""
    figures = {}
    with drawing.style():
        for condition in dict.fromkeys(table.loc[table["measure"] == CURVE, "condition"]):
            name = file_name(str(condition))
            figures[name] = side_by_side(table, str(condition))
            rows = over_training(table[table["condition"] == condition])
            if rows["step"].nunique() > 1:
                figures[f"{name}-training"] = training(rows, str(condition))
    return figures


def side_by_side(table: pd.DataFrame, condition: str) -> Figure:
    """A row for each kind of evidence, a column for each place in the prompt; controls in grey under each row."""
    rows = of_last_step(table[table["condition"] == condition])
    others = {
        str(name): of_last_step(own)
        for name, own in table[table["condition"] != condition].groupby("condition", sort=False)
    }
    kinds = kinds_of(rows)
    places = places_of(rows)
    figure = Figure(figsize=(2.5 * len(places) + 2.2, 0.34 * len(kinds) + 2.3), layout="constrained")
    grid = figure.subplots(1, len(places), sharex=True, sharey=True, squeeze=False)[0]
    depth = float(rows.loc[rows["measure"] == CURVE, "layer"].max())
    for axes, place in zip(grid, places):
        own = rows[(rows["span"] == place) & rows["kind"].isin(kinds)]
        for number, kind in enumerate(kinds):
            _row(axes, own[own["kind"] == kind], number)
            for mark, (_, other) in zip(_MARKS, others.items()):
                elsewhere = other[
                    (other["span"] == place) & (other["kind"] == kind) & (other["control"] == "")
                ]
                _control(axes, elsewhere, number, mark, depth)
            placebos = own[(own["kind"] == kind) & (own["control"] != "")]
            _control(axes, placebos, number, "|", depth)
        _frame(axes, PLACES.get(place, place), depth)
    grid[0].set_yticks(range(len(kinds)), kinds)
    for label, kind in zip(grid[0].get_yticklabels(), kinds):
        label.set_color(_colour(kind, rows))
    grid[0].set_ylim(len(kinds) - 0.4, -0.6)
    title = f"{drawing.readable(condition, ' · ')}; above the panels the share of the model's depth"
    figure.legend(
        handles=_legend(others),
        loc="outside upper center",
        ncols=5,
        fontsize=6.5,
        title=title,
        title_fontsize=8.5,
    )
    drawing.footnote(figure, _footnote(rows))
    return figure


def _frame(axes: Axes, title: str, depth: float) -> None:
    """The title and axes of a panel: blocks below, the share of the model's depth above."""

    def share(block: Any) -> Any:
        return (block + 1) / (depth + 1)

    def block(share: Any) -> Any:
        return share * (depth + 1) - 1

    axes.set_title(title)
    axes.set_xlabel("block")
    axes.set_xlim(-1.8, depth + 2.2)
    above = axes.secondary_xaxis("top", functions=(share, block))
    above.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"], fontsize=6)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def kinds_of(rows: pd.DataFrame) -> list[str]:
    """All kinds of a condition, by what they are about, then in the order of the table."""
    about = rows[rows["measure"] == CURVE].drop_duplicates("kind")
    order = [WORDS, PICTURES, SHARED, CAUSES]
    known = zip(about["kind"].astype(str), about["about"].astype(str))
    return [kind for kind, _ in sorted(known, key=lambda one: _rank(one[1], order))]


def places_of(rows: pd.DataFrame) -> list[str]:
    """Places in the prompt, in its order; paths of attention count as where they end."""
    places = [str(place) for place in rows.loc[rows["measure"] == CURVE, "span"].unique()]
    known = [place for place in PLACES if place in places]
    return known + sorted(set(places) - set(known))


def over_training(rows: pd.DataFrame) -> pd.DataFrame:
    """Half-rises over the steps of training, of the kinds that were looked at in several, where they are detected."""
    rows = rows[(rows["control"] == "") & (rows["step"] >= 0)]
    onsets, half = (rows[rows["measure"] == measure] for measure in (ONSET, HALF))
    keys = ["kind", "span", "step"]
    detected = onsets.loc[onsets["value"].notna(), keys]
    steps = half.groupby("kind")["step"].transform("nunique")
    return half[steps > 1].merge(detected, on=keys)


def training(rows: pd.DataFrame, condition: str) -> Figure:
    """The half-rise by training step, a line for each kind and a panel for each place."""
    places = [place for place in PLACES if place in set(rows["span"])]
    palette = drawing.colours(list(map(str, dict.fromkeys(rows["kind"]))))
    figure = Figure(figsize=(2.6 * len(places) + 0.6, 3.2), layout="constrained")
    grid = figure.subplots(1, len(places), sharex=True, sharey=True, squeeze=False)[0]
    for axes, place in zip(grid, places):
        for kind, own in rows[rows["span"] == place].groupby("kind", sort=False):
            own = own.sort_values("step")
            reached = own[own["value"].notna()]
            colour = palette[str(kind)]
            axes.plot(own["step"], own["value"], color=colour, marker="o", markersize=3, label=str(kind))
            limits = reached[["lower", "upper"]].to_numpy(float)
            axes.vlines(reached["step"], limits[:, 0], limits[:, 1], color=colour, linewidth=0.8, alpha=0.6)
        axes.set_title(PLACES[place])
        axes.set_xlabel("training step")
    grid[0].set_ylabel(f"{drawing.readable(condition, ' · ')}\nblock of the half-rise")
    handles = {text: line for axes in grid for line, text in zip(*axes.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4)
    text = "Bars: 95 % over leaf concepts. A step without a mark: nothing is detected to the last block."
    drawing.footnote(figure, f"n = {int(rows['n'].max())} leaf concepts. {text}")
    return figure


def _row(axes: Axes, rows: pd.DataFrame, number: int) -> None:
    """One kind at one place: its curve as a strip of colour, the layers that hold, onset, half-rise and end."""
    own = rows[rows["control"] == ""]
    curve = own[own["measure"] == CURVE].sort_values("layer")
    if curve.empty:
        return
    colour = COLOURS.get(str(curve["about"].iloc[0]), _OTHER)
    layers, values = curve["layer"].to_numpy(float), curve["value"].to_numpy(float)
    edges = _edges(layers)
    top = np.nanmax(values)
    shade = LinearSegmentedColormap.from_list("shade", ["white", colour])
    share = np.clip(values / top, 0, 1) if top > 0 else np.zeros_like(values)
    axes.pcolormesh(edges, [number - 0.3, number + 0.14], share[None], cmap=shade, vmin=0, vmax=1.6, zorder=1)
    axes.plot(edges[[0, -1]], [number + 0.17] * 2, color="0.88", linewidth=0.8, zorder=0.5)
    held = own[(own["measure"] == HOLDS) & (own["value"] > 0)]["layer"]
    for left, right, layer in zip(edges[:-1], edges[1:], layers):
        if layer in set(held):
            axes.plot([left, right], [number + 0.17] * 2, color=colour, linewidth=1.4, solid_capstyle="butt")
    if not own[own["measure"] == ONSET]["value"].notna().any():
        return
    for measure, mark, face, size in (
        (END, ">", colour, 4),
        (ONSET, "o", colour, 5),
        (HALF, "D", "white", 3),
    ):
        for one in own[(own["measure"] == measure) & own["value"].notna()].to_dict("records"):
            if measure == ONSET and np.isfinite(one["lower"]):
                upper = min(one["upper"], edges[-1])
                axes.plot([one["lower"], upper], [number - 0.08] * 2, color="black", linewidth=1.0, zorder=3)
            axes.plot(
                one["value"], number - 0.08, mark, color=face, mec="black", mew=0.6, markersize=size, zorder=4
            )


def _control(axes: Axes, rows: pd.DataFrame, number: int, mark: str, depth: float) -> None:
    """The onset of a control in grey; at the right edge where there is none."""
    for one in rows[rows["measure"] == ONSET].to_dict("records"):
        never = pd.isna(one["value"])
        at = depth + 1.2 if never else one["value"]
        axes.plot(
            at, number + 0.32, mark, color="white" if never else _GREY, mec=_GREY, mew=0.6, markersize=3
        )


def _edges(layers: np.ndarray) -> np.ndarray:
    """Edges of strips around layers that were looked at: half of the way to the next."""
    if len(layers) == 1:
        return np.array([layers[0] - 0.5, layers[0] + 0.5])
    middle = (layers[1:] + layers[:-1]) / 2
    first, last = layers[0] - min(0.5, middle[0] - layers[0]), layers[-1] + min(0.5, layers[-1] - middle[-1])
    return np.concatenate([[first], middle, [last]])


def _colour(kind: str, rows: pd.DataFrame) -> str:
    about = rows.loc[rows["kind"] == kind, "about"].iloc[0]
    return COLOURS.get(str(about), _OTHER)


def _legend(others: Iterable[str]) -> list[Line2D | Patch]:
    ink = {"color": "black", "linestyle": "", "markersize": 4}
    marks = [
        Line2D([], [], marker="o", label="onset, with interval", **ink),
        Line2D([], [], marker="D", label="half-rise", mfc="white", **ink),
        Line2D([], [], marker=">", label="end (of causes)", **ink),
        Line2D([], [], color="black", linewidth=1.4, label="blocks beyond the null"),
        Line2D([], [], marker="|", color=_GREY, linestyle="", markersize=4, label="placebo's onset"),
    ]
    grey = {"color": _GREY, "linestyle": "", "markersize": 3.5}
    marks += [
        Line2D([], [], marker=mark, label=drawing.readable(name, " "), **grey)
        for mark, name in zip(_MARKS, others)
    ]
    return [*marks, *(Patch(color=colour, alpha=0.6, label=about) for about, colour in COLOURS.items())]


def _footnote(rows: pd.DataFrame) -> str:
    curves = rows[rows["measure"] == CURVE]
    fewest, most = int(curves["n"].min()), int(curves["n"].max())
    least, seeds = int(curves["seeds"].min()), int(curves["seeds"].max())
    counts = (
        f"n = {fewest} to {most} leaf concepts or pairs of them"
        if fewest < most
        else f"n = {most} leaf concepts"
    )
    counts += f", {f'{least} to ' if least < seeds else ''}{seeds} seeds" if seeds > 1 else f"; {ONE_SEED}"
    text = (
        f"{counts}. Intervals: 95 %. Shade: each kind from its null (white) to its maximum. "
        "Onset: first block from which the corrected lower limit stays above the null; of causes the beginning of the "
        "stretch that holds the largest effect. Half-rise: half of the maximum is kept. Grey, under each kind: onsets "
        "of controls, open at the right edge where there is none, missing where a control was not asked."
    )
    every, shown = rows.loc[rows["measure"] == MISSING, "kind"].astype(str), tuple(kinds_of(rows))
    missing = [kind for kind in dict.fromkeys(every) if not any(one.startswith(kind) for one in shown)]
    return f"{text} Not asked: {'; '.join(missing)}." if missing else text


def _rank(about: str, order: Sequence[str]) -> int:
    return order.index(about) if about in order else len(order)


def file_name(condition: str) -> str:
    """The name of the figure of a condition, behind that of the table."""
    return "".join(
        letter if letter.isalnum() or letter in "._" else "-" for letter in condition.replace(" · ", "-")
    )
