"""Do answers about hypernyms go by way of the name that the model gives the picture, or past it?

    python -m analyses.mediation --run R [--run R2 …] [--contrast A,B] [--snapshots] [--names stored] [--out DIR]

Reads: scores.h5, baselines.h5 and run.json of each run. Its model scores the names of all leaves for each test picture,
and with --snapshots a few pictures after each step of which the projector was saved, kept as parts in the run's
analyses/mediation; --names stored takes the one name of each picture from baselines.h5 instead, without the model.
Writes: mediation.csv, .parquet and figures (readouts; of contrasts effects and sensitivity; with --snapshots plane)
into --out (default: the first run's analyses/mediation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analyses.frame.analysis import Analysis, Result, Takes
from analyses.frame.command_line import EXTENT, Resampling, option
from analyses.frame.results import one_or_several
from analyses.inputs.answers import Answers
from analyses.inputs.conditions import Condition, condition_of, conditions
from analyses.inputs.subject import check as check_run
from analyses.mediation.figures import draw
from analyses.mediation.intervals import Intervals
from analyses.mediation.naming import Naming, scored_naming, stored_naming
from analyses.mediation.plane import check_snapshots, score_snapshots
from analyses.mediation.rows import chosen_pairs, mediation_table, summary
from analyses.mediation.section import section
from taxogen.answers.baselines import FILE
from taxogen.runs.flags import note
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "compute", "draw", "main", "section", "summary"]
NAMES = ("all", "stored")


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """Which names count, which conditions are contrasted, and how.

    Attributes:
        names: all is the distribution over all leaf names, which the model scores; stored is the one name of each
            picture in baselines.h5, that with the highest read-out, which need not be the likeliest
        contrast: two conditions, the first minus the second; by default all that differ in one thing
        caliper: by how much two pictures matched by naming may differ in the log-probability of the right name, in
            nats; of stored names both are right or both wrong
        snapshots: whether projectors saved through training are scored, for the naming × taxonomy plane
        pictures: of each leaf, that are scored at snapshots
    """

    names: str = option(NAMES[0], choices=NAMES)
    contrast: str = option("", metavar="A,B")
    caliper: float = option(0.5)
    snapshots: bool = option(False, role=EXTENT)
    pictures: int = option(1, role=EXTENT)


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses what cannot be asked of some runs, before anything is scored.

    Raises:
        ValueError: a run puts yes/no questions, or an option is out of range.
        FileNotFoundError: a run was not trained to its end, not evaluated, or has no projectors saved on the way.
        KeyError, MismatchError: there are no such two conditions, or they have no seed or leaf in common.
    """
    if not options.caliper > 0:
        raise ValueError(f"--caliper {options.caliper:g} was asked for; give more than 0 nats, such as 0.5")
    if options.pictures < 1:
        raise ValueError(f"--pictures {options.pictures} was asked for; give 1 or more of each leaf")
    for run in runs:
        check_run(run)
    chosen_pairs(conditions(runs), options.contrast)
    if options.names == "stored" and (bare := [run for run in runs if not run.file(FILE).is_file()]):
        raise FileNotFoundError(
            f"the run {bare[0].path} has no {FILE} with the name of each picture; `python -m taxogen evaluate --run "
            f"{bare[0].path}` makes it"
        )
    if options.snapshots:
        check_snapshots(runs)


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """The long table of all runs; see `analyses.mediation.rows.mediation_table`."""
    found = conditions(runs)
    of = {(condition_of(run, runs), run.config.seed): run for run in runs}
    answers = {(one.name, each.seed): each for one in found for each in one.answers}
    _say_what_is_undefined(found)
    naming = {key: _naming(run, answers[key], options) for key, run in of.items()}
    snapshots = score_snapshots(of, options.pictures) if options.snapshots else {}
    pairs, intervals = chosen_pairs(found, options.contrast), Intervals(options.draws, options.seed)
    return Result(mediation_table(found, pairs, naming, snapshots, options.caliper, intervals))


def _naming(run: Run, answers: Answers, options: Options) -> Naming:
    return stored_naming(answers) if options.names == "stored" else scored_naming(run, answers)


def _say_what_is_undefined(found: Sequence[Condition]) -> None:
    """Names the conditions with a run that has one picture of each leaf, of which no gain can be estimated."""
    for one in found:
        if not all(answers.scores.image["leaf"].duplicated().any() for answers in one.answers):
            text = f"{one.name} has one picture of each leaf; its gain, direct part and effects need two and are NaN"
            note(f"mediation: {text}")


ANALYSIS = Analysis(
    "mediation",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.mediation --run artifacts/runs/demo-within --run artifacts/runs/demo-across",
    takes=Takes.RUNS_TOGETHER,
    of_stores="it reads the answers of a run and asks its model for names",
    reads=lambda _: ("scores.h5", "baselines.h5"),
    check=check,
    section=section,
    order=5,
)
main = ANALYSIS.main
"""`python -m analyses.mediation`."""
