"""Which layers tell the hypernym: probes on held-out leaf concepts, for picture rows, text rows and across.

    python -m analyses.layer_probes --run RUN [--run RUN2 …] [--step …] [--span …] [--probe …]

Reads: the activation stores and the taxonomy of each run.
Writes: analyses/layer_probes/ in each run: layer_probes.parquet, .csv, and the figures as png and svg.
"""

import argparse
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from analyses import _figures, _probe_figures, _probe_summary, _tables
from analyses._probe_layers import COLUMNS, PROBES, LayerProbes, contrasts, probe_layers
from analyses._probe_rows import SPLITS, TARGETS, Options
from probing.probes.transfer import TRANSFORMS
from probing.store import ActivationStore
from taxogen.run import Run
from taxogen.taxonomy import Taxonomy

DEFAULT = Options()


def compute(
    images: Mapping[int, ActivationStore],
    text: ActivationStore | None,
    taxonomy: Taxonomy,
    options: Options = DEFAULT,
) -> pd.DataFrame:
    """Long table of probe estimates; `images` maps a step of training to the picture rows captured there.

    Modality "image" and "text" are probes within a modality; "text→image" and "image→text" are probes of one
    on held-out leaves of the other. Chance AUROC is .5; `control_auroc` is the floor, the AUROC of the tested
    modality's own probes the ceiling. Step −1 means that no training step touches the rows.
    """
    return probe_layers(images, text, taxonomy, options).table


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """The figures of a table, by name."""
    return _probe_figures.draw(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Probes the runs, prints a summary of each, and writes tables and figures into their folders."""
    args = _parse(argv)
    probed = [_probe(Run.open(path), args) for path in args.run]
    for run, found in zip(args.run, probed):
        _write(Run.open(run), found.table)
    if args.against:
        partners = [_probe(Run.open(path), args) for path in args.against]
        name = f"{Run.open(args.run[0]).name} minus {Run.open(args.against[0]).name}"
        table = contrasts(probed, partners).assign(
            run=name, analysis="layer_probes", seed=args.seed, split=args.split
        )
        _tables.save(
            table[list(COLUMNS)], Run.open(args.run[0]).folder("analyses", "layer_probes"), "contrasts"
        )
        print(_probe_summary.contrast_lines(table))


def _probe(run: Run, args: argparse.Namespace) -> LayerProbes:
    """The probes of one run at the asked steps (default: all that were captured)."""
    steps = args.step or run.steps
    images = {step: run.store(step) for step in steps}
    text = run.store(None, "text") if run.captured(None) else None
    options = Options(
        **{
            name: getattr(args, name)
            for name in ("probe", "target", "split", "folds", "controls", "draws", "seed")
        },
        spans=tuple(args.span) if args.span else None,
        transforms=tuple(args.transfer),
        held_out=held_out_hypernyms(run),
    )
    found = probe_layers(images, text, run.taxonomy, options)
    return LayerProbes(found.table.assign(run=run.name), found.curves, found.leaves)


def held_out_hypernyms(run: Run) -> tuple[str, ...]:
    """The hypernyms whose evidence the run's training data lacks altogether."""
    notes = [step for step in run.manifest("train").provenance if "held_out" in step]
    return tuple(notes[-1]["held_out"]) if notes else ()


def _write(run: Run, table: pd.DataFrame) -> None:
    folder = run.folder("analyses", "layer_probes")
    _tables.save(table, folder, "layer_probes")
    for name, figure in draw(table).items():
        _figures.save(figure, folder, name)
    print(_probe_summary.lines(table), f"Table and figures: {folder}", sep="\n")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m analyses.layer_probes", description="Which layers tell the hypernym."
    )
    parser.add_argument("--run", action="append", required=True, help="a run directory; may be given again")
    parser.add_argument("--against", action="append", help="a run to contrast with, one for each --run")
    parser.add_argument("--step", action="append", type=int, help="a captured step (default: all)")
    parser.add_argument("--span", action="append", help="slot, cue or last (default: all)")
    parser.add_argument("--target", choices=TARGETS, default=DEFAULT.target)
    parser.add_argument("--probe", choices=sorted(PROBES), default=DEFAULT.probe)
    parser.add_argument("--split", choices=SPLITS, default=DEFAULT.split, help="ungrouped leaks by design")
    parser.add_argument("--transfer", nargs="*", choices=TRANSFORMS, default=list(DEFAULT.transforms))
    parser.add_argument("--folds", type=int, default=DEFAULT.folds)
    parser.add_argument(
        "--controls", type=int, default=DEFAULT.controls, help="control tasks; 19 or more give p"
    )
    parser.add_argument(
        "--draws", type=int, default=DEFAULT.draws, help="of the bootstrap over leaf concepts"
    )
    parser.add_argument("--seed", type=int, default=DEFAULT.seed)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
