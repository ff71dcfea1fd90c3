"""What do many runs say together? Effects of a causal analysis pooled over pairs of leaves, hypernyms and seeds.

    python -m analyses.pooling --of patching --run RUN --run RUN2 … [--table NAME] [--contrast A,B …]

Reads: the effects that the analysis stored in each run (effects.h5 beside its table).
Writes: analyses/pooling/ in the first run, or --out: NAME.parquet and .csv (NAME is that of the analysis, and of
--table), a forest plot and a map of places (layers × spans, layers × heads, or routes) for each measure (png and svg).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analyses.frame import registry
from analyses.frame.analysis import Analysis, Result, Takes
from analyses.frame.command_line import EXTENT, TABLE, Resampling, option
from analyses.frame.results import one_or_several
from analyses.inputs.effects import effects_file
from analyses.inputs.subject import check as check_run
from analyses.pooling.figures import draw
from analyses.pooling.groups import contrasts_of, groups_of
from analyses.pooling.rows import pooled_table, summary
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "check", "compute", "draw", "main", "summary"]

SHOWN = ("erasure", "erasure-steering", "knockout", "lens", "interchange", "circuits")
"""Pooled tables beside that of patching which a report shows, where there are any."""


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """What is pooled, and which conditions are contrasted.

    Attributes:
        of: the analysis whose effects are pooled
        table: of that analysis, where it is not its default one, such as steering or image-to-text-denoising
        minus: a second table of that analysis, whose effects are taken off cell by cell, such as those in words
        contrasts: two conditions as A,B; by default all that differ in one thing
    """

    of: str = option("patching", role=TABLE)
    table: str = option("", role=TABLE)
    minus: str = option("", metavar="TABLE", role=TABLE)
    contrasts: tuple[str, ...] = option((), flag="--contrast", role=EXTENT)


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses runs that are not trained, or have no effects that fit them, and conditions that are not there.

    Raises:
        KeyError: an analysis that is not known, or a condition that no run has.
        ValueError: a table is to be taken off itself.
        FileNotFoundError: a run without effects; the command that makes them is named.
        DamagedError, MismatchError: effects that are not as they were written, are stale, or share nothing.
    """
    registry.load(options.of)
    for run in runs:
        check_run(run)
    if options.minus and options.minus == (options.table or _default_table(options)):
        raise ValueError(
            f"--minus {options.minus} was asked for, which is the table itself; give another one"
        )
    contrasts_of(groups_of(runs, options.of, options.table, options.minus), options.contrasts)


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """Long table of the effects of each run, condition and contrast; see `analyses.pooling.rows`."""
    groups = groups_of(runs, options.of, options.table, options.minus)
    contrasts = contrasts_of(groups, options.contrasts)
    return Result(pooled_table(groups, contrasts, options.of, options.draws, options.seed))


def _reads(options: Options) -> tuple[str, ...]:
    """The effects, in a run."""
    analysis, tables = registry.load(options.of), [options.table or _default_table(options)]
    tables += [options.minus] if options.minus else []
    return tuple(f"analyses/{analysis.name}/{effects_file(analysis.name, table)}" for table in tables)


def _default_table(options: Options) -> str:
    analysis = registry.load(options.of)
    return analysis.table_name_of(analysis.options())


def _table_name(options: Options) -> str:
    minus = f"minus-{options.minus}" if options.minus else ""
    return "-".join(filter(None, (options.of, options.table, minus)))


ANALYSIS = Analysis(
    "pooling",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.pooling --of patching --run artifacts/runs/demo-pretrained "
    "--run artifacts/runs/demo-random_init",
    takes=Takes.RUNS_TOGETHER,
    of_stores="it pools what causal analyses stored in runs",
    reads=_reads,
    check=check,
    table_name=_table_name,
    also=SHOWN,
    order=90,
)
main = ANALYSIS.main
