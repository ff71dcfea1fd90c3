"""Whether distance follows the taxonomy: partial RSA, hierarchy as orthogonality, dimension, and a map of leaves.

    python -m analyses.geometry --run RUN [--run RUN2 …] [--step …] [--span …] [--map tsne] [--dimension MLE]

Reads: the activation stores, taxonomy, pictures and their features of each run.
Writes: analyses/geometry/ in each run: geometry.parquet, .csv, and the figures as png and svg.
"""

import argparse
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from analyses.cohesion import encoder_rows
from analyses.frame import drawing, tables
from analyses.geometry import figures
from analyses.geometry.dimension import dimensions
from analyses.geometry.maps import MAPS, Thumbnails, thumbnails
from analyses.geometry.rows import Options, compute
from analyses.inputs.categories import held_out_hypernyms
from analyses.inputs.conditions import condition_of
from probing.categories.massive import TREATMENTS
from probing.stats import DRAWS
from taxogen.runs import prepare
from taxogen.runs.run import Run
from taxogen.world.taxonomy import Taxonomy

__all__ = ["Options", "compute", "draw", "main", "summary"]


def draw(
    table: pd.DataFrame, taxonomy: Taxonomy | None = None, pictures: Thumbnails | None = None
) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name; maps of leaves if the taxonomy is given."""
    return figures.draw(table, taxonomy, pictures)


def summary(found: pd.DataFrame) -> str:
    """What the table says, in about ten lines."""
    lines = [f"Geometry of leaves, {', '.join(found['run'].unique())}:"]
    for (span, modality), here in found[found["layer"].notna()].groupby(["span", "modality"], sort=False):
        here = here[here["step"] == here["step"].max()]
        for name in ("taxonomic_rsa", "taxonomic_rsa_given_encoder"):
            rows = here[here["measure"] == name].to_dict("records")
            if rows:
                best = max(rows, key=lambda row: row["value"])
                p = here.loc[here["measure"] == f"{name}_p_corrected", "value"]
                lines.append(
                    f"  {span:6} {modality:6} {name}: best {best['value']:.2f} [{best['lower']:.2f}, "
                    f"{best['upper']:.2f}] at {best['site']}, n = {best['n']}; "
                    f"above its null at {(p < 0.05).sum()} of {len(p)} sites"
                )
        ratio = here[here["measure"] == "hierarchy_ratio"].to_dict("records")[-1]
        lines.append(
            f"  {span:6} {modality:6} hierarchy ratio at {ratio['site']}: {ratio['value']:.2f} "
            f"[{ratio['lower']:.2f}, {ratio['upper']:.2f}] (1 is orthogonal)"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the runs, prints a summary of each, and writes tables and figures into their folders."""
    args = _parse(argv)
    dimensions(args.dimension)  # refused here, before anything is read
    made_tables = []
    runs = [Run.open(path) for path in args.run]
    for run in runs:
        images = {step: run.store(step) for step in args.step or run.steps}
        text = run.store(None, "text") if run.captured(None) else None
        options = Options(
            treatment=args.treatment, spans=tuple(args.span) if args.span else None, draws=args.draws,
            map=args.map, map_layers=tuple(args.map_layer), estimators=tuple(args.dimension),
            held_out=held_out_hypernyms(run), seed=args.seed,
        )  # fmt: skip
        found = compute(images, text, run.taxonomy, options, encoder_rows(run, images[max(images)]))
        found = found.assign(run=run.name)
        folder = run.folder("analyses", "geometry")
        tables.save(found, folder, "geometry")
        shown = thumbnails(images[max(images)], prepare.world(run).pictures)
        for name, figure in draw(found, run.taxonomy, shown).items():
            drawing.save(figure, folder, name)
        print(summary(found), f"Table and figures: {folder}", sep="\n")
        made_tables.append(found.assign(condition=condition_of(run, runs)))
    if len(made_tables) > 1:
        folder = runs[0].folder("analyses", "geometry")
        drawing.save(figures.runs(pd.concat(made_tables)), folder, "runs")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m analyses.geometry", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--run", action="append", required=True, help="a run directory; may be given again")
    parser.add_argument("--step", action="append", type=int, help="a captured step (default: all)")
    parser.add_argument("--span", action="append", help="slot, cue or last (default: all)")
    parser.add_argument("--treatment", choices=TREATMENTS, default=TREATMENTS[0])
    parser.add_argument("--map", choices=list(MAPS), default="pca", help="how leaves are placed on the map")
    parser.add_argument(
        "--map-layer",
        action="append",
        type=int,
        default=[],
        help="a layer to map (default: first, middle, last)",
    )
    parser.add_argument(
        "--dimension",
        action="append",
        default=[],
        help="an estimator of scikit-dimension, such as MLE or lPCA",
    )
    parser.add_argument("--draws", type=int, default=DRAWS, help="of the bootstrap over leaf concepts")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)
