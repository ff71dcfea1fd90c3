"""Figures of the `mediation` analysis: read-outs, effects, sensitivity, and the naming × taxonomy plane."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.frame import drawing
from analyses.frame.drawing.panels import unique
from analyses.inputs.intervals import limits_text

READOUTS = {
    "model": ("the model's answer", "o"),
    "names": ("its names, in words", "P"),
    "name": ("its likeliest name, in words", "X"),
    "right name": ("the right name, in words", "*"),
    "direct part": ("the model's answer less its names", "d"),
}
"""Read-outs of the table, as legends name them, with their markers."""
AGAINST = {
    "called": ("what it is called", "o"),
    "own name": ("its own name", "P"),
    "shown": ("what is shown", "s"),
}
"""What the labels are the hypernyms of, likewise."""
EFFECTS = {
    "total": "difference",
    "indirect": "by way of the name",
    "state": "… other names",
    "meaning": "… other words for a name",
    "direct": "past the name",
    "indirect_if_first": "by way of the name, all else the first's",
    "direct_if_second": "past the name, names the second's",
    "matched": "at matched naming",
    "named exactly": "pictures named exactly",
}
"""Measures of a contrast, as figures name them, from top to bottom."""
TINTS = {"direct": "#0072B2", "indirect": "#D55E00"}
"""Colours of the two ways; those of one side are drawn in the same."""
_HEIGHT = 0.34  # of a line of a forest plot, in inches


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name."""
    with drawing.style():
        figures = {"readouts": _readouts(table)}
        if (table["contrast"] != "").any():
            figures |= {"effects": _effects(table), "sensitivity": _sensitivity(table)}
        if table["step"].notna().any():
            figures["plane"] = _plane(table)
    return figures


def _readouts(table: pd.DataFrame) -> Figure:
    """AUROC of each read-out, and of the model's answers by the hypernyms of what: a line a condition."""
    rows = table[(table["condition"] != "") & table["step"].isna() & (table["measure"] == "auroc")]
    names = unique(rows["condition"])
    figure = Figure(figsize=(7.2, 1.9 + 0.62 * len(names)), layout="constrained")
    panels = list(figure.subplots(1, 3, sharey=True))
    whole, exact = rows["pictures"] == "all", rows["pictures"] == "named exactly"
    _lines(panels[0], rows[rows["readout"] != ""], "readout", READOUTS, names)
    _lines(panels[1], rows[whole & (rows["against"] != "")], "against", AGAINST, names)
    _lines(panels[2], rows[exact & (rows["against"] != "")], "against", AGAINST, names)
    exactly = rows.loc[exact, "rows"]
    titles = (
        "read-outs, by what it is called",
        "the model's answers, by",
        "the same, pictures named exactly",
    )
    for axis, title in zip(panels, titles, strict=True):
        axis.axvline(0.5, **drawing.CHANCE)
        axis.set_title(title)
        axis.set_xlabel("hypernym AUROC")
    panels[0].set_yticks(range(len(names)), [drawing.readable(name) for name in names])
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    for label, marker in (*READOUTS.values(), *AGAINST.values()):
        filled = label in dict(AGAINST.values())
        panels[0].plot(
            [], [], marker, color="0.35", mfc="white" if filled else "0.35", markersize=5, label=label
        )
    figure.legend(loc="outside upper center", ncols=4)
    some = f"; {exactly.min():.0f} to {exactly.max():.0f} pictures are named exactly" if len(exactly) else ""
    drawing.footnote(figure, _caption(rows, f"AUROC .5, dashed{some}"))
    return figure


def _lines(
    axis: Axes, rows: pd.DataFrame, column: str, kinds: dict[str, tuple[str, str]], names: list[str]
) -> None:
    for row in rows[rows[column].isin(list(kinds))].to_dict("records"):
        place = list(kinds).index(row[column])
        at = names.index(row["condition"]) + 0.13 * (place - (len(kinds) - 1) / 2)
        colour = drawing.colour(row["condition"])
        look: dict[str, Any] = {"color": colour, "mfc": "white" if column == "against" else colour}
        axis.plot([row["lower"], row["upper"]], [at, at], linewidth=1.0, color=colour)
        axis.plot(row["value"], at, kinds[row[column]][1], markersize=5, **look)


def _effects(table: pd.DataFrame) -> Figure:
    """Every contrast's difference in AUROC, by way of the name and past it, and at matched naming."""
    rows = table[(table["contrast"] != "") & (table["varied"] == "") & table["measure"].isin(list(EFFECTS))]
    contrasts = unique(rows["contrast"])
    most = rows.groupby("contrast")["measure"].size().max()
    figure, panels = _panels(len(contrasts), 1.1 + _HEIGHT * most)
    for axis, name in zip(panels, contrasts, strict=True):
        own = rows[rows["contrast"] == name]
        order = own["measure"].map(list(EFFECTS).index)
        own = own.assign(order=order).sort_values(["order", "at"], kind="stable")
        _forest(axis, own, [_effect_text(row) for row in own.to_dict("records")])
        axis.set_title(drawing.readable(name, " "))
        axis.set_xlabel("difference in hypernym AUROC")
    drawing.footnote(figure, _caption(rows, "no difference, dashed"))
    return figure


def _effect_text(row: dict[Any, Any]) -> str:
    if row["measure"] not in ("matched", "named exactly"):
        return EFFECTS[row["measure"]]
    width = f" ±{row['at']:g}" if row["measure"] == "matched" else ""
    kind = "pairs" if width else "pictures"
    return f"{EFFECTS[row['measure']]}{width}\n({row['n']:.0f} leaves, {row['rows']:.0f} {kind})"


def _forest(axis: Axes, rows: pd.DataFrame, labels: list[str]) -> None:
    """A line a row with its interval, the number beside it, and a line at no difference."""
    for place, row in enumerate(rows.to_dict("records")):
        tint = TINTS.get(row["measure"].partition("_")[0], "0.25")
        axis.plot(
            [row["lower"], row["upper"]], [place, place], color=tint, linewidth=1.6, solid_capstyle="butt"
        )
        axis.plot(row["value"], place, "o", color=tint, mec="white", mew=0.5, markersize=5.5)
        number = f"{row['value']:+.3f}" if np.isfinite(row["value"]) else "–"
        axis.text(
            1.02,
            place,
            number,
            transform=axis.get_yaxis_transform(),
            va="center",
            fontsize="small",
            color=tint,
        )
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.axvline(0, **drawing.CHANCE)


def _sensitivity(table: pd.DataFrame) -> Figure:
    """The direct and the indirect effect by how well names are read, and the direct one under other assumptions."""
    rows = table[(table["contrast"] != "") & table["measure"].isin(["direct", "indirect"])]
    contrasts = unique(rows["contrast"])
    figure = Figure(figsize=(3.4 * len(contrasts) + 0.4, 5.6), layout="constrained")
    grid = figure.subplots(2, len(contrasts), squeeze=False)
    for (above, below), name in zip(grid.T, contrasts, strict=True):
        own = rows[rows["contrast"] == name]
        plain = own[own["varied"] == ""]
        curve = pd.concat([plain.assign(at=1.0), own[own["varied"] == "reliability"]])
        for measure, colour in TINTS.items():
            drawing.curve(above, curve[curve["measure"] == measure], "at", colour, EFFECTS[measure])
        above.axhline(0, **drawing.CHANCE)
        above.set_xlabel("reliability of the read-out of names")
        above.set_title(drawing.readable(name, " "))
        other = own[(own["measure"] == "direct") & (own["varied"] != "reliability")]
        _forest(below, other, [_assumed_text(row) for row in other.to_dict("records")])
        below.set_xlabel("past the name")
        above.set_ylabel("difference in hypernym AUROC")
    grid[0, 0].legend()
    drawing.footnote(figure, _caption(rows, "no effect, dashed"))
    return figure


def _assumed_text(row: dict[Any, Any]) -> str:
    valued = row["varied"] in ("temperature", "top names")
    return f"{row['varied']} {row['at']:g}" if valued else row["varied"] or "as read"


def _plane(table: pd.DataFrame) -> Figure:
    """Hypernym AUROC against naming after each saved step, a curve a condition; beside it gaps at equal naming."""
    rows, gaps = table[table["step"].notna()], table[table["measure"] == "gap at equal naming"]
    names, contrasts = unique(rows["condition"]), unique(gaps["contrast"])
    palette = drawing.colours(names)
    figure = Figure(figsize=(7.2 if len(gaps) else 4.2, 3.9), layout="constrained")
    panels = figure.subplots(1, 2 if len(gaps) else 1, squeeze=False)[0]
    for name in names:
        own = rows[rows["condition"] == name].pivot(
            index="step", columns="measure", values=["value", "lower", "upper"]
        )
        x, y = own["value", "naming"], own["value", "auroc"]
        reach = {axis: _reach(own, measure) for axis, measure in (("xerr", "naming"), ("yerr", "auroc"))}
        panels[0].errorbar(
            x, y, **reach, color=palette[name], marker=drawing.marker(palette[name]), markersize=4,
            elinewidth=0.6, label=drawing.readable(name, " · "),
        )  # fmt: skip
    panels[0].axhline(0.5, **drawing.CHANCE)
    panels[0].set_xlabel("pictures whose likeliest name is the right one")
    panels[0].set_ylabel("hypernym AUROC")
    panels[0].legend(loc="lower right", bbox_to_anchor=(1, 0.1))  # above the line of chance
    for colour, name in zip(drawing.colours(contrasts).values(), contrasts, strict=True):
        drawing.curve(panels[1], gaps[gaps["contrast"] == name], "at", colour, name)
    if len(gaps):
        panels[1].axhline(0, **drawing.CHANCE)
        panels[1].set_title("difference in AUROC at equal naming")
        panels[1].set_xlabel("pictures whose likeliest name is the right one")
        panels[1].legend()
    steps = [rows.loc[rows["condition"] == name, "step"].astype(int).drop_duplicates() for name in names]
    saved = unique(", ".join(map(str, sorted(each))) for each in steps)
    points = f" Points along a curve: after steps {'; or '.join(saved)}."
    drawing.footnote(figure, _caption(rows, "AUROC .5, or no difference, dashed") + points)
    return figure


def _reach(rows: pd.DataFrame, measure: str) -> np.ndarray:
    """How far the limits of a measure lie from its values, below and above."""
    return np.stack([
        rows["value", measure] - rows["lower", measure], rows["upper", measure] - rows["value", measure]
    ]).clip(0)  # fmt: skip


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """Panels side by side, wide enough for the names of their lines."""
    figure = Figure(figsize=(3.6 * count + 0.4, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _caption(rows: pd.DataFrame, null: str) -> str:
    return drawing.caption(int(rows["n"].max()), "leaf concepts", limits_text(rows["runs"]), null)
