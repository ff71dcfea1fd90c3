"""Where the hypernym becomes readable, condition by condition: `python -m analyses.emergence --run R --run R2 …`.

Reads: the layer-probe table of each run (`python -m analyses.layer_probes` makes it).
Writes: emergence.csv, .parquet and figures into --out.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyses.behaviour import condition_of
from analyses.frame import drawing, tables
from taxogen.runs.run import Run

QUESTIONS = {
    "image": "picture probe → pictures",
    "text→image": "text probe → pictures",
    "text": "text probe → text",
}
SPANS = {"slot": "at the picture's slot", "cue": "at the cue “is a kind of”", "last": "at the last token"}


def compute(runs: Sequence[Run]) -> pd.DataFrame:
    """The layer-probe rows (means over hypernyms) of several runs, with their condition.

    Raises:
        FileNotFoundError: a run was not probed; the command that does it is named.
    """
    parts = []
    for run in runs:
        path = run.path / "analyses" / "layer_probes" / "layer_probes.parquet"
        if not path.is_file():
            raise FileNotFoundError(
                f"{run.path} has no layer-probe table; `python -m analyses.layer_probes --run {run.path}` makes it"
            )
        table = pd.read_parquet(path)
        parts.append(table[table["target"] == "mean"].assign(condition=condition_of(run, runs), run=run.name))
    return pd.concat(parts, ignore_index=True)


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """One row where a condition has one per seed: mean value between mean limits, `seeds` says of how many.

    The mean limits are those of one seed: wide for a mean over seeds. Onsets are medians between the lowest
    and the highest limit.
    """
    same = ["condition", "step", "site", "layer", "span", "modality", "target", "measure", "split", "probe"]
    grouped = table.groupby(same, sort=False, dropna=False)
    numbers = grouped[["value", "lower", "upper"]].mean().assign(n=grouped["n"].max(), seeds=grouped.size())
    onset = numbers.index.get_level_values("measure") == "onset"
    for column, of in (("value", "median"), ("lower", "min"), ("upper", "max")):
        numbers.loc[onset, column] = grouped[column].agg(of)[onset]
    return numbers.reset_index()


def draw(table: pd.DataFrame) -> Figure:
    """Mean AUROC by layer: a row per question put to the layer, a column per place, a line per condition."""
    rows = over_seeds(_last_step(table[table["layer"].notna() & ~table["probe"].str.contains(",")]))
    spans = [span for span in SPANS if (rows["span"] == span).any()]
    with drawing.style():
        figure = Figure(figsize=(2.55 * len(spans) + 0.4, 2.15 * len(QUESTIONS) + 0.7), layout="constrained")
        grid = figure.subplots(len(QUESTIONS), len(spans), sharex=True, sharey=True, squeeze=False)
        for axes_row, modality in zip(grid, QUESTIONS, strict=True):
            for axes, span in zip(axes_row, spans, strict=True):
                _panel(axes, rows[(rows["span"] == span) & (rows["modality"] == modality)])
            axes_row[0].set_ylabel(f"{QUESTIONS[modality]}\nmean AUROC")
        for axes, span in zip(grid[0], spans, strict=True):
            axes.set_title(SPANS[span])
        for axes in grid[-1]:
            axes.set_xlabel("block")
        handles = {
            label: handle for axes in grid.ravel() for handle, label in zip(*axes.get_legend_handles_labels())
        }
        figure.legend(
            handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), frameon=False
        )
        drawing.footnote(figure, _caption(rows))
    return figure


def draw_training(table: pd.DataFrame) -> Figure:
    """Mean AUROC of picture probes by layer and training step at the cue, a panel per condition; text probes below."""
    rows = table[
        (table["measure"] == "auroc")
        & (table["span"] == "cue")
        & table["layer"].notna()
        & (table["step"] >= 0)
    ]
    rows = over_seeds(rows[~rows["probe"].str.contains(",")])
    names = list(dict.fromkeys(rows["condition"]))
    with drawing.style():
        figure = Figure(figsize=(1.75 * len(names) + 0.9, 5.0), layout="constrained")
        grid = figure.subplots(2, len(names), sharex=True, sharey=True, squeeze=False)
        for axes_row, modality in zip(grid, ("image", "text→image"), strict=True):
            for axes, name in zip(axes_row, names, strict=True):
                here = rows[(rows["condition"] == name) & (rows["modality"] == modality)]
                cells = here.pivot_table(index="layer", columns="step", values="value")
                drawing.heat(axes, cells, (0.5, 1.0))
                axes.set_title(name if modality == "image" else "")
            axes_row[0].set_ylabel(f"{QUESTIONS[modality]}\nblock")
        for axes in grid[-1]:
            axes.set_xlabel("training step")
        figure.colorbar(grid[0, 0].images[0], ax=grid, label="mean AUROC at the cue (chance .5)", shrink=0.6)
        n = int(rows["n"].max())
        intervals = "95 %, in the table beside this figure"
        drawing.footnote(figure, drawing.caption(n, "leaf concepts", intervals, "AUROC .5, no information"))
    return figure


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """For each condition, span and question: the best layer with its AUROC, its control, and the onset."""
    rows = over_seeds(_last_step(table[~table["probe"].str.contains(",")]))
    found = []
    for (condition, span, modality), here in rows.groupby(["condition", "span", "modality"], sort=False):
        scores = here[(here["measure"] == "auroc") & here["layer"].notna()]
        if modality not in QUESTIONS or scores.empty:
            continue
        best = scores.iloc[int(scores["value"].argmax())]
        control = here[(here["measure"] == "control_auroc") & (here["site"] == best["site"])]["value"]
        onset = here[here["measure"] == "onset"]
        row = {
            "condition": condition,
            "span": span,
            "question": QUESTIONS[str(modality)],
            "block": int(best["layer"]),
        }
        row |= {"auroc": best["value"], "lower": best["lower"], "upper": best["upper"], "n": int(best["n"])}
        row |= {"control": float(control.iloc[0]) if len(control) else np.nan}
        row |= {
            f"onset{part}": float(onset.iloc[0][name]) if len(onset) else np.nan
            for part, name in (("", "value"), ("_lower", "lower"), ("_upper", "upper"))
        }
        found.append(row)
    return pd.DataFrame(found)


def main(argv: list[str] | None = None) -> None:
    """Joins, prints, draws and saves."""
    parser = argparse.ArgumentParser(prog="python -m analyses.emergence", description=__doc__)
    parser.add_argument("--run", action="append", required=True, type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, metavar="DIR")
    options = parser.parse_args(argv)
    runs = [Run.open(path) for path in options.run]
    table = compute(runs)
    out = options.out or runs[0].folder("analyses", "emergence")
    tables.save(table, out, "emergence")
    drawing.save(draw(table), out, "emergence")
    if table.loc[table["step"] >= 0, "step"].nunique() > 1:
        drawing.save(draw_training(table), out, "training")
    print(summary(table).round(3).to_string(index=False))
    print(f"table and figures: {out}")


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    for condition, here in rows.groupby("condition", sort=False):
        colour = drawing.colour(str(condition))
        drawing.curve(axes, here[here["measure"] == "auroc"], "layer", colour, str(condition))
        drawing.curve(axes, here[here["measure"] == "control_auroc"], "layer", colour, dashed=True)
    axes.axhline(0.5, **drawing.CHANCE)


def _last_step(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of each run's last step, and those that belong to no step."""
    last = table.groupby("run")["step"].transform("max")
    return table[(table["step"] == last) | (table["step"] < 0)]


def _caption(rows: pd.DataFrame) -> str:
    seeds = int(rows["seeds"].max())
    mean = f"mean of {seeds} seeds; " if seeds > 1 else ""
    return (
        f"n = {int(rows['n'].max())} leaf concepts; {mean}ridge probes tested on leaf concepts they were not "
        "fitted on; band: 95 % bootstrap over leaf concepts; fine dashes: control task (each leaf has another "
        "leaf's hypernyms); grey: chance. Block −1 is the input to the first block, −2 what the encoder says."
    )
