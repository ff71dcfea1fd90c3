"""Figures of a layer-probe table: curves, heat map over training, seen and held-out, hypernyms, transfer."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from taxogen import files

COLOURS = {"image": "#0072B2", "text": "#009E73", "text→image": "#D55E00", "image→text": "#CC79A7"}
_LABELS = {
    "image": "pictures",
    "text": "text",
    "text→image": "text → pictures",
    "image→text": "pictures → text",
}


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name."""
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        found = {"curves": curves(table), "hypernyms": hypernyms(table), "transfer": transfer(table)}
        if table.loc[table["step"] >= 0, "step"].nunique() > 1:
            found["training"] = training(table)
        if (table["target"] == "mean of held-out").any():
            found["held_out"] = held_out(table)
    return {name: figure for name, figure in found.items() if figure is not None}


def save(figure: Figure, folder: Path, name: str) -> None:
    """Writes name.png and name.svg, whole or not at all."""
    for kind in ("png", "svg"):
        files.write_whole(
            folder / f"{name}.{kind}", lambda part, kind=kind: figure.savefig(part, format=kind, dpi=150)
        )


def curves(table: pd.DataFrame) -> Figure:
    """Mean AUROC by layer at each place, with 95 % intervals, the control task and chance."""
    rows = _last(table[(table["target"] == "mean") & ~table["probe"].str.contains(",")])
    spans = _spans(rows)
    figure = Figure(figsize=(3.4 * len(spans) + 1.2, 3.4), layout="constrained")
    for axes, span in zip(_panels(figure, len(spans)), spans):
        for modality in [m for m in COLOURS if (rows["modality"] == m).any()]:
            here = rows[(rows["span"] == span) & (rows["modality"] == modality)]
            _curve(axes, here[here["measure"] == "auroc"], COLOURS[modality], _LABELS[modality])
            _curve(axes, here[here["measure"] == "control_auroc"], COLOURS[modality], None, dashed=True)
        _frame(axes, f"{span}", rows)
    axes = figure.axes[0]
    axes.set_ylabel("mean AUROC on held-out leaves")
    axes.plot([], [], "--", color="0.4", label="control task")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.suptitle(_caption(rows, "band: 95 % bootstrap over leaves; dotted: chance"), fontsize=8)
    return figure


def held_out(table: pd.DataFrame) -> Figure:
    """Mean AUROC of seen and of held-out hypernyms by layer, pictures only."""
    rows = _last(table[(table["modality"] == "image") & (table["measure"] == "auroc")])
    spans = _spans(rows)
    figure = Figure(figsize=(3.4 * len(spans) + 1.2, 3.2), layout="constrained")
    for axes, span in zip(_panels(figure, len(spans)), spans):
        for subset, colour in (("mean of seen", "#0072B2"), ("mean of held-out", "#D55E00")):
            _curve(axes, rows[(rows["span"] == span) & (rows["target"] == subset)], colour, subset)
        _frame(axes, span, rows)
    figure.axes[0].set_ylabel("mean AUROC on held-out leaves")
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside right center", frameon=False)
    figure.suptitle(_caption(rows, "hypernyms with and without evidence in training"), fontsize=8)
    return figure


def training(table: pd.DataFrame) -> Figure:
    """Mean AUROC of picture rows by layer and training step, one panel a place."""
    kept = (table["target"] == "mean") & (table["modality"] == "image") & (table["measure"] == "auroc")
    rows = table[kept & table["layer"].notna()]
    spans = _spans(rows)
    figure = Figure(figsize=(2.6 * len(spans) + 1, 3.6), layout="constrained")
    panels = _panels(figure, len(spans))
    for axes, span in zip(panels, spans):
        grid = rows[rows["span"] == span].pivot_table(index="layer", columns="step", values="value")
        axes.imshow(grid, origin="lower", aspect="auto", vmin=0.5, vmax=1, cmap="viridis")
        axes.set_xticks(range(len(grid.columns)), [str(step) for step in grid.columns])
        ticks = np.linspace(0, len(grid) - 1, min(len(grid), 7)).round().astype(int)
        axes.set_yticks(ticks, [_tick(float(layer)) for layer in grid.index.to_numpy()[ticks]])
        axes.set(title=span, xlabel="training step")
    panels[0].set_ylabel("layer")
    figure.colorbar(panels[0].images[0], ax=panels, label="mean AUROC (chance .5)")
    figure.suptitle(_caption(rows, "pictures"), fontsize=8)
    return figure


def hypernyms(table: pd.DataFrame) -> Figure | None:
    """AUROC by layer of each target, pictures and text → pictures, at the last place."""
    rows = _last(table[(table["measure"] == "auroc") & ~table["target"].str.startswith(("mean", "seen"))])
    rows = rows[rows["modality"].isin(["image", "text→image"]) & ~rows["probe"].str.contains(",")]
    rows = rows[rows["span"] == _spans(rows)[-1]]
    targets = sorted(rows["target"].unique())[:60]
    if not targets:
        return None
    columns = min(6, len(targets))
    lines = -(-len(targets) // columns)
    figure = Figure(figsize=(1.7 * columns + 1, 1.3 * lines + 0.8), layout="constrained")
    panels = np.atleast_1d(figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)).ravel()
    for axes, target in zip(panels, targets):
        for modality in ("image", "text→image"):
            here = rows[(rows["target"] == target) & (rows["modality"] == modality)]
            _curve(axes, here, COLOURS[modality], _LABELS[modality])
        axes.axhline(0.5, color="0.5", linestyle=":", linewidth=0.8)
        axes.set_title(target, fontsize=8)
    for axes in panels[len(targets) :]:
        axes.set_visible(False)
    figure.supxlabel("layer")
    figure.supylabel("AUROC")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.suptitle(_caption(rows, f"at {rows['span'].iloc[0]}"), fontsize=8)
    return figure


def transfer(table: pd.DataFrame) -> Figure | None:
    """Mean AUROC trained on one modality and tested on another, at the layer best for text → pictures."""
    kept = (table["target"] == "mean") & (table["measure"] == "auroc") & ~table["probe"].str.contains(",")
    rows = _last(table[kept & table["layer"].notna()])
    if not (rows["modality"] == "text→image").any():
        return None
    spans = [
        span for span in _spans(rows) if (rows.loc[rows["span"] == span, "modality"] == "text→image").any()
    ]
    figure = Figure(figsize=(2.5 * len(spans) + 0.9, 2.9), layout="constrained")
    panels = _panels(figure, len(spans), sharey=False)
    for axes, span in zip(panels, spans):
        here = rows[rows["span"] == span]
        across = here[here["modality"] == "text→image"]
        best = across.iloc[int(across["value"].argmax())]
        scores = here[here["site"] == best["site"]].set_index("modality")["value"]
        grid = np.array([[scores["text"], scores["text→image"]], [scores["image→text"], scores["image"]]])
        axes.imshow(grid, vmin=0.5, vmax=1, cmap="viridis")
        for (row, column), value in np.ndenumerate(grid):
            colour = "white" if value < 0.75 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour)
        axes.set_xticks([0, 1], ["text", "pictures"])
        axes.set_yticks([0, 1], ["text", "pictures"])
        axes.set(title=f"{span}, layer {_tick(best['layer'])}", xlabel="tested on")
    panels[0].set_ylabel("trained on")
    figure.colorbar(panels[0].images[0], ax=panels, label="mean AUROC (chance .5)")
    figure.suptitle(_caption(rows, "diagonal: within a modality"), fontsize=8)
    return figure


def _curve(axes: Axes, rows: pd.DataFrame, colour: str, label: str | None, dashed: bool = False) -> None:
    """A line with its interval over layers; the value after the last norm is no layer and is left out."""
    rows = rows[rows["layer"].notna()].sort_values("layer")
    if rows.empty:
        return
    axes.plot(rows["layer"], rows["value"], "--" if dashed else "-", color=colour, label=label, linewidth=1.2)
    if not dashed:
        axes.fill_between(rows["layer"], rows["lower"], rows["upper"], color=colour, alpha=0.2, linewidth=0)


def _frame(axes: Axes, title: str, rows: pd.DataFrame) -> None:
    axes.axhline(0.5, color="0.5", linestyle=":", linewidth=0.8)
    axes.set(title=title, xlabel="layer")
    axes.set_xlim(rows["layer"].min(), rows["layer"].max())


def _panels(figure: Figure, count: int, sharey: bool = True) -> Sequence[Axes]:
    return list(figure.subplots(1, count, sharey=sharey, squeeze=False)[0])


def _last(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the last step, and those of no step."""
    return table[table["step"].isin([table["step"].max(), -1])]


def _spans(rows: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(rows["span"]))


def _tick(layer: float) -> str:
    return "input" if layer < 0 else f"{int(layer)}"


def _caption(rows: pd.DataFrame, note: str) -> str:
    first = rows.iloc[0]
    what = f"{first['run']}: " if first["run"] else ""
    n = int(first["n"])
    return f"{what}step {rows['step'].max()}, {first['probe']} probes, n = {n} leaf concepts; {note}"
