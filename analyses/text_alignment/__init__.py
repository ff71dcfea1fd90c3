"""At which layer picture tokens become like the words for what they show: leaf geometry against that of text.

    python -m analyses.text_alignment --run RUN [--run RUN2 …] [--step …] [--measure …] [--other LM] [--encoder NAME]

Reads: the activation stores and taxonomy of each run; its layer-probe table, if there is one; its language model.
Writes: analyses/text_alignment/ in each run: text_alignment.parquet, .csv, and the figures as png and svg.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analyses.frame import drawing, tables
from analyses.inputs import leaf_rows
from analyses.inputs.categories import held_out_hypernyms
from analyses.inputs.conditions import condition_of
from analyses.inputs.references import TWIN, Nouns, bare_nouns
from analyses.inputs.text_encoders import PACKAGED, encoded_nouns
from analyses.text_alignment import figures
from analyses.text_alignment.rows import Options, compute, matrix_measure
from probing.categories.massive import TREATMENTS
from probing.similarity import MEASURES
from probing.stats import DRAWS
from taxogen.models import lms
from taxogen.runs.run import Run

__all__ = ["Options", "compute", "draw", "main", "summary"]
BARE = "bare nouns"


def draw(table: pd.DataFrame, measure: str = Options.measure) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name."""
    return figures.draw(table, measure)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the runs, prints a summary of each, and writes tables and figures into their folders."""
    args = _parse(argv)
    matrix_measure(args.measure)
    made_tables = []
    runs = [Run.open(path) for path in args.run]
    for run in runs:
        found = _measured(run, args).assign(run=run.name)
        folder = run.folder("analyses", "text_alignment")
        tables.save(found, folder, "text_alignment")
        for name, figure in draw(found, args.measure).items():
            drawing.save(figure, folder, name)
        print(summary(found, args.measure, probe_onsets(run)), f"Table and figures: {folder}", sep="\n")
        made_tables.append(found.assign(condition=condition_of(run, runs)))
    if len(made_tables) > 1:
        folder = runs[0].folder("analyses", "text_alignment")
        drawing.save(figures.runs(pd.concat(made_tables), args.measure), folder, "runs")


def _measured(run: Run, args: argparse.Namespace) -> pd.DataFrame:
    images = {step: run.store(step) for step in args.step or run.steps}
    text = run.store(None, "text") if run.captured(None) else None
    options = Options(
        measure=args.measure, treatments=tuple(args.treatment), draws=args.draws, seed=args.seed,
        spans=tuple(args.span) if args.span else None, held_out=held_out_hypernyms(run),
    )  # fmt: skip
    nouns = _nouns(run, images[max(images)].sites, args.other, args.encoder)
    return compute(images, text, run.taxonomy, options, nouns)


def _nouns(
    run: Run, sites: Sequence[str], others: Sequence[str], encoders: Sequence[str]
) -> dict[str, Nouns]:
    """Bare nouns in the run's own language model, in any other, and in text encoders that were asked for."""
    model, leaves = run.config.model, run.taxonomy.leaves
    own = lms.load(model.lm, init=cast(lms.Init, model.init), seed=run.config.seed)
    found = {BARE: bare_nouns(own, leaves, sites)}
    for name in others:
        known = bare_nouns(lms.load(name), leaves, ["blocks.*.hook_resid_post"])
        found[f"{BARE}, {Path(name).name}"] = known
    for name in encoders:
        found[Path(name).name] = encoded_nouns(name, leaves)
    return found


def probe_onsets(run: Run) -> dict[str, float]:
    """The layer from which probes tell hypernyms of pictures at each place, where layer probes were run."""
    path = run.file("analyses/layer_probes/layer_probes.parquet")
    if not path.is_file():
        return {}
    rows = pd.read_parquet(path)
    kept = (rows["measure"] == "onset") & (rows["modality"] == "image") & (rows["target"] == "mean")
    rows = rows[kept & (rows["probe"] == "ridge")]
    rows = rows[rows["step"] == rows["step"].max()]
    return {str(span): float(value) for span, value in zip(rows["span"], rows["value"])}


def summary(
    found: pd.DataFrame, measure: str = Options.measure, probes: dict[str, float] | None = None
) -> str:
    """What the table says, in about ten lines."""
    rows = found[(found["step"] == found["step"].max()) & (found["split"] == "")]
    standard = rows[rows["treatment"] == TREATMENTS[0]]
    lines = [f"Pictures against words, {', '.join(found['run'].unique())} ({measure}, leaf means):"]
    for (span, reference), here in standard.groupby(["span", "reference"], sort=False):
        here = figures.on_diagonal(here)
        values = here[here["measure"] == measure].to_dict("records")
        p = dict(
            zip(*here.loc[here["measure"] == "p_corrected", ["site", "value"]].to_numpy().T, strict=True)
        )
        best = max(values, key=lambda row: row["value"])
        lines.append(
            f"  {span:6} {reference:18} best at {best['site']}: {best['value']:.2f} [{best['lower']:.2f}, "
            f"{best['upper']:.2f}], n = {best['n']} leaves; above its null at "
            f"{sum(value < 0.05 for value in p.values())} of {len(p)} sites"
        )
    return "\n".join([*lines, *_onset_lines(standard, probes or {}), *_treatment_lines(rows, measure)])


def _onset_lines(rows: pd.DataFrame, probes: dict[str, float]) -> list[str]:
    """When pictures become like the word, and whether that is before probes tell the hypernym."""
    onsets = rows[(rows["measure"] == "onset") & (rows["reference"] == TWIN)]
    halves = {
        row["span"]: row
        for row in rows[(rows["measure"] == "half_rise") & (rows["reference"] == TWIN)].to_dict("records")
    }
    lines = []
    for at in onsets.to_dict("records"):
        if not np.isfinite(at["value"]):
            lines.append(f"  {at['span']}: never like the word to the last layer")
            continue
        text = f"  {at['span']}: above chance from layer {at['value']:.0f} [{at['lower']:.0f}, {at['upper']:.0f}] on"
        half = halves[at["span"]]
        text += f", half its best from {half['value']:.0f} [{half['lower']:.0f}, {half['upper']:.0f}]"
        if at["span"] in probes:
            probe = probes[at["span"]]
            order = "before" if at["value"] < probe else "after" if at["value"] > probe else "at"
            text += f"; {order} the hypernym probe's onset at layer {probe:.0f}"
        lines.append(text)
    return lines


def _treatment_lines(rows: pd.DataFrame, measure: str) -> list[str]:
    """Where other treatments disagree with the default: massive dimensions or massive rows then own one of the two."""
    here = figures.on_diagonal(rows[(rows["measure"] == measure) & (rows["reference"] == TWIN)])
    return leaf_rows.disagreements(here, ("raw", "unit rows"))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m analyses.text_alignment", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--run", action="append", required=True, help="a run directory; may be given again")
    parser.add_argument("--step", action="append", type=int, help="a captured step (default: all)")
    parser.add_argument("--span", action="append", help="slot, cue or last (default: all)")
    known = [name for name, measure in MEASURES.items() if measure.matrix is not None]
    parser.add_argument("--measure", default=Options.measure, help=f"one of {', '.join(known)}")
    parser.add_argument("--treatment", nargs="+", choices=TREATMENTS, default=list(TREATMENTS))
    parser.add_argument(
        "--other", action="append", default=[], help="another language model: hub name or path"
    )
    parser.add_argument(
        "--encoder", action="append", default=[], help=f"a text encoder: {PACKAGED}, hub name or path"
    )
    parser.add_argument("--draws", type=int, default=DRAWS, help="of the bootstrap over leaf concepts")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)
