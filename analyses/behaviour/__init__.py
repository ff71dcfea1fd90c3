"""What do trained models answer about pictures, beside baselines and condition by condition?

    python -m analyses.behaviour --run R [--run R2 …] [--interval hierarchical|study] [--published FOLDER] [--out DIR]

Reads: scores.h5, baselines.h5, run.json of each run. Runs that differ in nothing but the seed are one condition.
Writes: behaviour.csv, .parquet and figures (behaviour, baselines, and fractions from runs of several fractions) into
--out (default: the first run's analyses/behaviour).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analyses.behaviour.figures import draw, fractions
from analyses.behaviour.rows import behaviour_table, headline, several_fractions, summary
from analyses.behaviour.section import section
from analyses.frame.analysis import Analysis, Extras, Result, Takes
from analyses.frame.command_line import EXTENT, Resampling, option
from analyses.frame.results import one_or_several
from analyses.inputs.conditions import conditions
from analyses.inputs.intervals import INTERVALS
from analyses.inputs.published.scores import curves
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "compute", "draw", "headline", "main", "section", "summary"]


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """Rule of the intervals, and curves behind the scores.

    Attributes:
        interval: hierarchical is over leaf concepts, hypernyms and seeds, crossed; study is the published t-interval
        published: folder of the study's released files, whose curves are drawn behind those of several fractions
    """

    interval: str = option("hierarchical", choices=tuple(sorted(INTERVALS)))
    published: Path | None = option(None, metavar="FOLDER", role=EXTENT)


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """Long table of the scores, baselines and contrasts of the runs' conditions; see `behaviour_table`."""
    released = curves(options.published) if options.published else None
    table = behaviour_table(conditions(runs), options.draws, options.seed, options.interval)
    drawn = released is not None and several_fractions(table)
    return Result(table, Extras(figures={"fractions": fractions(table, released)} if drawn else {}))


ANALYSIS = Analysis(
    "behaviour",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.behaviour --run artifacts/runs/demo-pretrained --run artifacts/runs/demo-across",
    takes=Takes.RUNS_TOGETHER,
    of_stores="it reads the scores of a run's answers",
    reads=lambda _: ("scores.h5", "baselines.h5"),
    section=section,
    order=0,
    light=True,
)
main = ANALYSIS.main
