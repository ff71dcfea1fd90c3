"""Do visually coherent hypernyms generalise better?

    python -m analyses.visual_coherence --run R [--run R2 …] [--rule centred|uncentred|study …] [--out DIR]

Reads: the encoder features (from the cache), taxonomy and scores.h5 of each run.
Writes: visual_coherence.csv, .parquet and the figures coherence and scores into --out (default: the first run's
analyses/visual_coherence).
"""

from __future__ import annotations

from collections.abc import Sequence

from analyses.frame.analysis import Analysis, Result, Takes
from analyses.frame.parts import tracked
from analyses.frame.results import one_or_several
from analyses.inputs.conditions import condition_of, conditions
from analyses.inputs.encoder import encoder_rows
from analyses.visual_coherence.coherence import Options, Shown, known_rules
from analyses.visual_coherence.figures import draw
from analyses.visual_coherence.rows import coherence_table, summary
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "compute", "draw", "main", "summary"]


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses unknown rules."""
    known_rules(options.rules)


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """The long table of all runs; see `analyses.visual_coherence.rows.coherence_table`.

    Raises:
        FileNotFoundError: a run was not evaluated.
        MismatchError: two runs of a condition have the same seed.
    """
    grouped = conditions(runs)
    reading = tracked(runs, "the encoder's features", "runs")
    shown = {(condition_of(run, runs), run.config.seed): Shown.of(encoder_rows(run)) for run in reading}
    return Result(coherence_table(grouped, shown, options))


ANALYSIS = Analysis(
    "visual_coherence",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.visual_coherence --run artifacts/runs/demo-pretrained --run artifacts/runs/demo-across",
    takes=Takes.RUNS_TOGETHER,
    of_stores="it reads the encoder's features of a run's pictures and the scores of its answers",
    reads=lambda _: ("scores.h5",),
    check=check,
    order=70,
    quick={"permutations": 199},
)
main = ANALYSIS.main
