"""Where does the hypernym become readable, condition by condition?

    python -m analyses.emergence --run RUN --run RUN2 … [--out DIR]

Reads: the layer-probe table of each run (`python -m analyses.layer_probes --run RUN` makes it).
Writes: emergence.parquet and .csv and figures (png and svg), into --out or analyses/emergence/ of the first run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analyses.emergence.figures import draw
from analyses.emergence.rows import best_layers, emergence_table, section, summary
from analyses.frame.analysis import Analysis, Result, Takes
from analyses.inputs.conditions import distinct_names
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "best_layers", "compute", "draw", "main", "section", "summary"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """There is nothing to choose."""


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses runs that share a name, and runs without a layer-probe table."""
    distinct_names(runs)
    for run in runs:
        if not probed(run).is_file():
            raise FileNotFoundError(
                f"{run.path} has no layer-probe table; `python -m analyses.layer_probes --run {run.path}` makes it"
            )


def compute(runs: Sequence[Run], options: Options) -> Result:
    """The layer-probe rows (means over hypernyms) of several runs, with their condition; see `emergence_table`.

    Raises:
        MismatchError: two runs share a name, or are one condition with one seed.
        FileNotFoundError: a run was not probed; the command that does it is named.
    """
    check(runs, options)
    return Result(emergence_table(runs, [probed(run) for run in runs]))


def probed(run: Run) -> Path:
    """The path of a run's layer-probe table."""
    return run.file("analyses/layer_probes/layer_probes.parquet")


ANALYSIS = Analysis(
    "emergence",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.emergence --run artifacts/runs/demo-pretrained --run artifacts/runs/demo-random_init",
    takes=Takes.RUNS_TOGETHER,
    needs=("layer_probes",),
    check=check,
    section=section,
    order=20,
    light=True,
)
main = ANALYSIS.main
