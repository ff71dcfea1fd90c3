"""Which state carries the answer, and where? Activation patching between pictures and words.

    python -m analyses.patching --run RUN [--direction text-to-image|image-to-text|picture-to-picture|text-to-text]
        [--mode noising] [--sites …] [--span …] [--heads] [--window N] [--pairs N] [--placebo-run RUN2] [--screen]

Reads: projector, language model, pictures and taxonomy of each run; those of a random-init run for one more placebo.
Writes: analyses/patching/ in each run: NAME.parquet and .csv, NAME-….png and .svg (NAME is direction and mode, or
--name), NAME-effects.h5 (the effects of every pair, which `analyses.pooling` pools over runs), and parts/, from which a
killed grid goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from analyses.frame.analysis import Analysis, Result
from analyses.frame.results import one_or_several
from analyses.frame.tables import CAUSES, Evidence
from analyses.inputs.effects import with_effects
from analyses.inputs.subject import Subject
from analyses.patching.effects import patching_effects
from analyses.patching.figures import draw
from analyses.patching.grid import PatchGrid
from analyses.patching.options import DIRECTIONS, MODES, Options
from analyses.patching.outcomes import Outcomes
from analyses.patching.prepare import check, prepare
from analyses.patching.rows import patching_table
from analyses.patching.screening import screen
from analyses.patching.summary import summary
from probing.store import MismatchError
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "check", "compute", "draw", "main", "prepare", "summary"]


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """Long table of effects of patches and placebos in every cell; see `analyses.patching.rows`.

    Raises:
        ValueError: alignments, windows, heads or pairs that cannot be.
        KeyError: a site that the model does not have.
        MismatchError: a placebo run of another world, tokenizer or depth.
    """
    (run,) = runs
    grid = prepare(Subject.of(run, dtype=options.dtype), options)
    tables: list[pd.DataFrame] = []
    if options.screen:
        table, grid = screen(grid, options.screen, options.sampled)
        tables.append(table)
    random_init = _random_init(grid, options) if options.placebo_run else None
    outcomes = grid.run(f"patch {run.name}")
    results = outcomes, grid.pairs, grid.cells, options, random_init
    tables.append(patching_table(*results))
    extras = with_effects(patching_effects(*results), "patching", options.table)
    return Result(pd.concat(tables, ignore_index=True).assign(run=run.name), extras)


def _random_init(grid: PatchGrid, options: Options) -> dict[str, Outcomes]:
    """The outcomes of the same patches in the placebo run."""
    assert options.placebo_run
    run = Run.open(options.placebo_run)
    twin = prepare(
        Subject.of(run, dtype=options.dtype), replace(options, kinds=(), natural=False), grid.pairs
    )
    if missing := [cell.site for cell in grid.cells if cell not in twin.cells]:
        raise MismatchError(
            f"{run.path} has no {missing[0]}, which is patched; a placebo run has as many layers and heads"
        )
    return replace(twin, cells=grid.cells).run(f"patch {run.name}")


ALONG_LAYERS = (Evidence(kind="patching", about=CAUSES, rows={"target": "hypernym", "head": ""}),)

ANALYSIS = Analysis(
    "patching",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.patching --run artifacts/runs/demo-pretrained --pairs 40 "
    "--placebo-run artifacts/runs/demo-random_init",
    of_stores="it asks the model again, with activations of one picture in place of another's",
    check=check,
    table_name=lambda options: options.table,
    also=tuple(f"{direction}-{mode}" for direction in DIRECTIONS for mode in MODES),
    quick={"pairs": 8, "questions": ("hypernym",), "kinds": ("stranger",)},
)
main = ANALYSIS.main
