"""Which subspace carries the hypernym from one leaf to another, and is it the same for words and pictures?

    python -m analyses.interchange --run RUN [--layer …] [--span …] [--rank …] [--method …] [--trained-on …]
        [--direction picture-to-picture|word-to-picture|picture-to-word|word-to-word] [--placebo-run RUN2]

Reads: projector, language model, pictures and taxonomy of each run; those of a random-init run for one more placebo.
Writes: analyses/interchange/ in each run: DIRECTION.parquet and .csv, DIRECTION-….png and .svg, DIRECTION-effects.h5
(the effects of every pair, which `analyses.pooling` pools over runs), and a part for each fold, span and layer, from
which a second start goes on. The defaults are cheap: three layers, the last token, one fold of three.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from analyses.frame.analysis import Analysis, Result
from analyses.frame.parts import Parts
from analyses.frame.results import one_or_several
from analyses.frame.tables import CAUSES, Evidence
from analyses.inputs.effects import with_effects
from analyses.inputs.subject import Subject
from analyses.interchange.check import check
from analyses.interchange.effects import interchange_effects
from analyses.interchange.exchanged import exchanged, exchanged_alone
from analyses.interchange.figures import draw
from analyses.interchange.grid import ExchangeGrid
from analyses.interchange.options import DIRECTIONS, Options, lowered
from analyses.interchange.outcomes import chances
from analyses.interchange.rows import interchange_table
from analyses.interchange.summary import summary
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "check", "compute", "draw", "main", "summary"]

_FORMAT = 2
"""Of parts: since 2 all pairs that a search is trained on count the same, and states are ranked among natural ones."""
_IDLE = ("draws", "layers", "spans", "placebo_run", "tested")
"""Options on which a part does not depend, or that stand in its name."""


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """Long table of what is answered when subspaces are exchanged; see `analyses.interchange.rows`.

    Raises:
        KeyError: an unknown layer.
        ValueError: folds with too few pairs, ranks that hypernyms do not span, words that cannot be read.
        MismatchError: a placebo run of another world.
    """
    (run,) = runs
    grid = ExchangeGrid.of(Subject.of(run), options)
    parts = _parts(grid, run)
    placebo = None
    if options.placebo_run:
        twin_run = Run.open(options.placebo_run)
        placebo = _parts(ExchangeGrid.of(Subject.of(twin_run), options, grid), twin_run, alone=True)
    pairs = [pair for of_fold in grid.pairs.values() for pair in of_fold]
    table = interchange_table(parts, chances(grid.stimuli, pairs), options, placebo)
    note = lowered(options, grid.options.ranks, len(pairs))
    table.loc[table["edit"] == "none", "note"] = note
    extras = with_effects(interchange_effects(parts, options), "interchange", options.direction)
    return Result(table.assign(run=run.name, step=grid.stimuli.subject.step), extras)


def _parts(grid: ExchangeGrid, run: Run, alone: bool = False) -> pd.DataFrame:
    """Outcomes of every pair at every place, a part for each place and fold; `alone` is without controls."""
    subject, options = grid.stimuli.subject, grid.options
    settings = {name: value for name, value in asdict(options).items() if name not in _IDLE}
    settings |= {"step": subject.step, **subject.wording, "makers": subject.makers, "alone": alone}
    settings |= {"format": _FORMAT}
    settings |= {"read": {task: grid.stimuli.reading(task) for task in ("hypernym", "leaf")}}
    pairs = {str(fold): [asdict(pair) for pair in of_fold] for fold, of_fold in grid.pairs.items()}
    named = {
        f"{place.span}-{place.layer:03d}-{fold}-{_digest(pairs[str(fold)])}": (place, fold)
        for fold in grid.pairs
        for place in grid.places
    }
    make = exchanged_alone if alone else exchanged
    return Parts.of(run.folder("analyses", "interchange"), settings).collect(
        named, lambda name: make(grid, *named[name]), f"interchange, {run.name}"
    )


def _digest(pairs: Sequence[dict[str, str]]) -> str:
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:8]


ALONG_LAYERS = tuple(
    Evidence(
        kind=f"interchange, {trained}",
        about=CAUSES,
        rows={"target": "hypernym", "method": "das", "trained": trained},
        most="rank",
    )
    for trained in ("pictures", "words")
)

ANALYSIS = Analysis(
    "interchange",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.interchange --run artifacts/runs/demo-pretrained --layer 20 --rank 1 --rank 4 "
    "--placebo-run artifacts/runs/demo-random_init",
    of_stores="it asks the model again, with a part of one state in the place of another's",
    check=check,
    table_name=lambda options: options.direction,
    also=tuple(DIRECTIONS),
    quick={"methods": ("means",), "controls": 4},
)
main = ANALYSIS.main
"""`python -m analyses.interchange`."""
