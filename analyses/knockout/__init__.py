"""Which way an answer takes: attention from picture to cue and last token blocked, a window of layers at a time.

    python -m analyses.knockout --run RUN [--run RUN2 …] [--path …] [--window …] [--leaves …] [--step …]

Reads: projector snapshots, manifests and taxonomy of each run.
Writes: analyses/knockout/ in each run: knockout.parquet and .csv, a figure (png and svg), and a part for each window,
from which a second start goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analyses.frame import drawing, tables
from analyses.frame.command_line import parser_of
from analyses.frame.parts import Parts
from analyses.inputs.subject import TASKS, Asked, ask, draw_leaves, open_at, shown_pictures
from analyses.knockout import figures
from analyses.knockout.parts import PATHS, Window, knocked_out, windows
from analyses.knockout.rows import BEYOND, knockout_table
from probing.hooks.layouts import layout_of
from probing.stats import DRAWS, draw_weights
from taxogen.runs.run import Run
from taxogen.stages.pipeline import Bench


@dataclass(frozen=True)
class Options:
    """What is blocked, and how many pictures are asked.

    Attributes:
        paths: of `PATHS`.
        width: of a window of layers; the windows follow each other, and one holds all layers.
        leaves: how many are drawn, one picture each; 0 for all.
        placebos: draws of as many other edges, averaged.
    """

    paths: tuple[str, ...] = PATHS
    width: int = 5
    leaves: int = 120
    placebos: int = 2
    draws: int = DRAWS
    seed: int = 0


DEFAULT = Options()


def compute(bench: Bench, step: int, options: Options = DEFAULT) -> pd.DataFrame:
    """Long table of read-outs with paths blocked; see `analyses.knockout.rows`.

    Raises:
        KeyError: an unknown path.
        ValueError: a window without a layer.
    """
    run, model = bench.run, bench.vlm.model
    if unknown := [path for path in options.paths if path not in PATHS]:
        raise KeyError(f"path {unknown[0]!r} was asked for; known: {'; '.join(PATHS)}")
    depth = len(layout_of(model).blocks)
    if not 1 <= options.width <= depth:
        raise ValueError(f"windows of {options.width} layers were asked for; this model has {depth}")
    settings = {k: v for k, v in asdict(options).items() if k not in ("draws", "width")} | {"step": step}
    parts = Parts.of(run.folder("analyses", "knockout"), settings)

    @cache
    def asked() -> dict[str, Asked]:
        shown = shown_pictures(run, draw_leaves(run, options.leaves, options.seed))
        return {task: ask(bench, task, shown) for task in TASKS}

    def make(part: str) -> pd.DataFrame:
        return knocked_out(model, asked(), Window.parse(part), options.paths, options.placebos, options.seed)

    names = [str(window) for window in windows(depth, options.width)]
    found = parts.collect(names, make, f"knock-out, {run.name}")
    weights = draw_weights(found["leaf"].nunique(), options.draws, options.seed)
    return knockout_table(found, weights, options.seed).assign(run=run.name, step=step)


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """The figures of a table, by name."""
    return figures.draw(table)


def summary(table: pd.DataFrame) -> str:
    """What the table says: for each path, the windows in which it carries something beyond its placebo."""
    clean = table[(table["edit"] == "none") & (table["measure"] == "margin")].set_index("target")
    lines = [f"Paths of an answer, {', '.join(table['run'].unique())} (log-odds of right names, nats):"]
    for task in clean.index:
        level = clean.loc[task]
        lines.append(f"  {task}: clean {_estimate(level)}, n = {level['n']}")
        rows = table[(table["target"] == task) & (table["edit"] == BEYOND)]
        for path, here in rows.groupby("path", sort=False):
            changes = here[here["measure"] == "margin_change"]
            bands = here[here["measure"] == "margin_loss_lower_band"]
            said = changes[changes["window"].isin(bands.loc[bands["value"] > 0, "window"])]
            found = "; ".join(_said(one) for one in said.to_dict("records")) or "no window"
            whole = changes[~changes["window"].isin(bands["window"])].to_dict("records")
            lines.append(
                f"    {path}: {found} beyond placebo{''.join(f'; all layers {_said(one)}' for one in whole)}"
            )
    return "\n".join(lines)


def _said(one: dict) -> str:
    return f"{one['window']} {_estimate(one)}"


def _estimate(one: Any) -> str:
    return f"{one['value']:+.2f} [{one['lower']:+.2f}, {one['upper']:+.2f}]"


def main(argv: Sequence[str] | None = None) -> None:
    """Blocks the paths in the runs, prints a summary of each, and writes tables and figures into their folders."""
    args = _parse(argv)
    options = Options(
        tuple(args.path or DEFAULT.paths), args.window, args.leaves, args.placebos, args.draws, args.seed
    )
    for path in args.run:
        run = Run.open(path)
        bench, step = open_at(run, args.step)
        table = compute(bench, step, options)
        folder = run.folder("analyses", "knockout")
        tables.save(table, folder, "knockout")
        for name, figure in draw(table).items():
            drawing.save(figure, folder, name)
        print(summary(table), f"Table and figure: {folder}", sep="\n")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_of("knockout", __doc__, DEFAULT.draws, DEFAULT.seed)
    parser.add_argument("--path", action="append", choices=PATHS, help="default: all")
    parser.add_argument(
        "--window", type=int, default=DEFAULT.width, help="how many layers are blocked at a time"
    )
    parser.add_argument("--leaves", type=int, default=DEFAULT.leaves, help="how many are drawn; 0: all")
    parser.add_argument("--placebos", type=int, default=DEFAULT.placebos, help="draws of as many other edges")
    return parser.parse_args(argv)
