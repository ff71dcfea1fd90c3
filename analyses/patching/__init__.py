"""Where a state put into another run carries its answer along: activation patching between pictures and words.

    python -m analyses.patching --run RUN [--direction text-to-image|image-to-text|picture-to-picture|text-to-text]
        [--mode noising] [--sites …] [--span …] [--heads] [--window N] [--pairs N] [--placebo-run RUN2] [--screen]

Reads: the run's projector, language model, pictures and taxonomy; those of a random-init run for one more placebo.
Writes: analyses/patching/ in the run: patching-NAME.parquet, .csv, the figures, and parts/, from which a killed grid
goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from analyses.frame import drawing, tables
from analyses.patching import figures
from analyses.patching import rows as table_rows
from analyses.patching.grid import DIRECTIONS, KINDS, Grid, Options, Parts
from analyses.patching.pairs import Pair, pairs_of
from analyses.patching.rows import compute
from analyses.patching.runs import Subjects
from probing.patching import EACH, Alignment, grid
from probing.patching.alignment import KINDS as ALIGNMENTS
from probing.stats import DRAWS
from probing.stats.seeding import stream
from probing.store import MismatchError
from taxogen.runs.bench import Bench, open_bench
from taxogen.runs.run import Run
from taxogen.stages.train import load_projector

__all__ = ["Options", "compute", "draw", "main", "prepare", "run_grid", "screen"]
PAIRS = 200


def prepare(bench: Bench, options: Options, count: int, pairs: Sequence[Pair] | None = None) -> Grid:
    """The grid of a run whose projector is as trained; pairs are drawn unless given.

    Raises:
        ValueError: alignments, windows, heads or pairs that cannot be.
        KeyError: a site that the model does not have.
        MismatchError: the run has no picture of a leaf of the given pairs.
    """
    run, asked = bench.run, options
    if run.config.data.task != "completion":
        raise ValueError(
            f"patching reads what completes a prompt; {run.path} was trained on {run.config.data.task} questions"
        )
    load_projector(bench.vlm.projector, run.snapshot(run.record["steps"]))
    alignments = {span: Alignment(asked.slot) if span == "slot" else EACH for span in asked.spans}
    subjects = Subjects(bench, _pictures(run, asked.seed), alignments)
    cells = grid(
        bench.vlm.model, asked.sites, asked.spans,
        heads=asked.heads, window=asked.window, cumulative=asked.cumulative,
    )  # fmt: skip
    if pairs is None:
        leaves, noising = sorted(subjects.pictures), asked.mode == "noising"
        pairs = pairs_of(run.taxonomy, leaves, subjects.tokens, count, asked.seed, noising=noising)
    if missing := sorted({leaf for p in pairs for leaf in (p.clean, p.corrupted)} - set(subjects.pictures)):
        raise MismatchError(
            f"{run.path} has no test picture of {missing[:5]}: it is of another world than the pairs"
        )
    if "slot" in asked.spans and asked.slot == "each":
        _check_slot(subjects, asked, pairs)
    return Grid(subjects, cells, asked, pairs, run.folder("analyses", "patching", "parts"))


def _pictures(run: Run, seed: int) -> dict[str, str]:
    """One test picture of each leaf, a seeded draw."""
    frame = run.manifest("test").where(modality="image").frame.astype(str)
    shown = frame.drop_duplicates("picture").sort_values("picture").groupby("leaf", sort=True)["picture"]
    return {
        str(leaf): str(stream(seed, "patched picture", str(leaf)).choice(names.to_numpy()))
        for leaf, names in shown
    }


def _check_slot(subjects: Subjects, options: Options, pairs: Sequence[Pair]) -> None:
    """Refuses to put slots token by token into slots of other lengths, before anything is run."""
    source, target = options.modalities
    for pair in pairs:
        rows = subjects.rows("hypernym", [(pair.clean, source), (pair.corrupted, target)])
        sizes = [
            len(rows[key].spans["image" if key[1] == "image" else "noun"])
            for key in ((pair.clean, source), (pair.corrupted, target))
        ]
        EACH.check("slot", sizes[0], sizes[1])


def run_grid(made: Grid, what: str) -> dict[str, Parts]:
    """The outcomes of every patched run, by question; parts that are on disk are not run again."""
    options, found = made.options, {}
    each = len(made.cells) * len(options.kinds) * len(made.pairs)
    with tqdm(total=each * len(options.questions), desc=what, unit="patch", mininterval=1) as bar:
        for question in options.questions:
            parts = []
            for first in range(0, len(made.pairs), options.chunk):
                at = bar.n
                part = made.part(
                    "patched", question, first, lambda q, some: made.patched(q, some, bar.update)
                )
                bar.update(part["log_odds"].size - (bar.n - at))  # what was on disk
                parts.append(part)
            found[question] = table_rows.joined(parts)
    return found


def screen(made: Grid, top: int, sampled: int) -> tuple[pd.DataFrame, Grid]:
    """The table of every cell's attribution beside a random sample of true effects; the grid of the best cells.

    Args:
        made: the whole grid.
        top: how many cells to go on with, by the size of their mean attribution.
        sampled: how many cells to compare with true patches.
    """
    question = made.options.questions[0]
    parts = [
        made.part("attributed", question, first, made.attributed)
        for first in tqdm(range(0, len(made.pairs), made.options.chunk), desc="attributions", unit="part")
    ]
    attribution = table_rows.joined(parts)["attribution"]
    rng = stream(made.options.seed, "screened sample")
    sample = sorted(rng.choice(len(made.cells), min(sampled, len(made.cells)), replace=False).tolist())
    only = replace(made.options, kinds=("clean",), questions=(question,))
    found = run_grid(replace(made, cells=[made.cells[i] for i in sample], options=only), "sample")[question]
    effect = found["log_odds"][0] - found["base"]
    table = table_rows.screen_rows(attribution, effect, sample, made.pairs, made.cells, made.options)
    best = np.argsort(-np.abs(attribution.mean(1)), kind="stable")[:top]
    return table, replace(made, cells=[made.cells[i] for i in sorted(best.tolist())])


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that the table has the numbers for, by name."""
    return figures.draw(table)


def summary(found: pd.DataFrame) -> str:
    """What the table says, in about ten lines."""
    first = found.iloc[0]
    lines = [f"Patching {first['direction']}, {first['mode']}, {', '.join(found['run'].unique())}:"]
    for target, here in found[found["split"] == "all"].groupby("target", sort=False):
        for row in here[here["measure"] == "gap"].to_dict("records"):
            lines.append(
                f"  {target}: the two runs differ by {row['value']:.2f} [{row['lower']:.2f}, {row['upper']:.2f}] nats, "
                f"n = {row['n']} leaf pairs"
            )
        clean = here[(here["measure"] == "effect") & (here["state"] == "clean")]
        counted = here[(here["measure"] == "counts") & (here["value"] > 0)]
        for span, rows in clean.groupby("span", sort=False):
            best = max(rows.to_dict("records"), key=lambda row: row["value"])
            layers = counted.loc[counted["span"] == span, "layers"].tolist()
            lines.append(
                f"  {target:8} {span:5} most at {best['site']}{' head ' + best['head'] if best['head'] else ''}: "
                f"{best['value']:+.2f} [{best['lower']:+.2f}, {best['upper']:+.2f}] nats; counts at "
                f"{len(layers)} of {len(rows)} cells{': layers ' + ', '.join(layers) if layers else ''}"
            )
    for row in found[found["measure"] == "rank_agreement"].to_dict("records"):
        lines.append(
            f"  attribution ranks cells as patches do: {row['value']:.2f} [{row['lower']:.2f}, {row['upper']:.2f}] "
            f"over {row['n']} cells"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Patches a run, prints a summary, and writes table and figures into its folder."""
    args, options = _parse(argv)
    bench = _bench(args.run, args.dtype)
    made = prepare(bench, options, args.pairs)
    made_tables: list[pd.DataFrame] = []
    if args.screen:
        table, made = screen(made, args.screen, args.sampled)
        made_tables.append(table)
    found = run_grid(made, f"patch {bench.run.name}")
    other = None
    if args.placebo_run:
        only = replace(options, kinds=("clean",))
        twin = prepare(_bench(args.placebo_run, args.dtype), only, args.pairs, made.pairs)
        other = run_grid(replace(twin, cells=made.cells), f"patch {Path(args.placebo_run).name}")
    made_tables.append(compute(found, made.pairs, made.cells, options, other, args.draws))
    table = pd.concat(made_tables, ignore_index=True).assign(run=bench.run.name)
    folder = bench.run.folder("analyses", "patching")
    name = args.name or f"{options.direction}-{options.mode}"
    tables.save(table, folder, name)
    for figure_name, figure in draw(table).items():
        drawing.save(figure, folder, f"{name}-{figure_name}")
    print(summary(table), f"Table and figures: {folder}", sep="\n")


def _bench(path: str, dtype: str) -> Bench:
    """A finished run with everything loaded, in the number type asked for."""
    run = Run.open(path)
    assert run.record
    bench = open_bench(run)
    if dtype != "run":
        bench.vlm.model.to(getattr(torch, dtype))  # pyright: ignore[reportArgumentType, reportCallIssue]
    return bench


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, Options]:
    parser = argparse.ArgumentParser(
        prog="python -m analyses.patching", description=(__doc__ or "").splitlines()[0]
    )
    known: Callable[..., object] = parser.add_argument
    known("--run", required=True, help="a run directory")
    known("--direction", choices=list(DIRECTIONS), default=Options.direction, help="clean to corrupted run")
    known("--mode", choices=["denoising", "noising"], default=Options.mode,
          help="noising puts the corrupted run's states into the clean run")  # fmt: skip
    known("--sites", nargs="+", default=list(Options.sites), help="such as blocks.*.hook_attn_out")
    known("--span", nargs="+", choices=list(Options.spans), default=list(Options.spans))
    known("--slot", choices=list(ALIGNMENTS), default=Options.slot, help="how a slot is put into another")
    known("--heads", action="store_true", help="each head of attn.hook_z on its own")
    known("--window", type=int, default=1, help="so many layers at once")
    known("--cumulative", action="store_true", help="each layer with all below it")
    known("--question", nargs="+", choices=list(Options.questions), default=list(Options.questions))
    known("--placebo", nargs="*", choices=KINDS[1:], default=list(KINDS[1:]), help="states to compare with")
    known("--placebo-run", help="a run of a random-init language model, patched in the same way")
    known("--pairs", type=int, default=PAIRS, help="of leaves")
    known("--screen", type=int, nargs="?", const=30, default=0, metavar="CELLS",
          help="patch only so many cells, those of the largest attribution")  # fmt: skip
    known("--sampled", type=int, default=30, help="cells on which attributions are compared with patches")
    known("--integrated", type=int, default=0, help="steps of integrated gradients (0: the plain gradient)")
    known("--dtype", choices=["run", "float32"], default="float32")
    known("--name", help="of table and figures (default: direction and mode)")
    known("--draws", type=int, default=DRAWS, help="of the bootstrap over leaf pairs")
    known("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    options = Options(
        direction=args.direction, mode=args.mode, sites=tuple(args.sites), spans=tuple(args.span), slot=args.slot,
        heads=args.heads, window=args.window, cumulative=args.cumulative, questions=tuple(args.question),
        kinds=("clean", *args.placebo), integrated=args.integrated, seed=args.seed,
    )  # fmt: skip
    return args, options
