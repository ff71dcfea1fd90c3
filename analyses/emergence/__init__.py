"""Where does the hypernym become readable, condition by condition?

    python -m analyses.emergence --run RUN --run RUN2 … [--out DIR]

Reads: the layer-probe table of each run and, where a condition has several seeds, the bootstrap draws beside it
(`python -m analyses.layer_probes --run RUN` makes both).
Writes: emergence.parquet and .csv and figures (png and svg), into --out or analyses/emergence/ of the first run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analyses.emergence.figures import draw
from analyses.emergence.rows import best_layers, emergence_table, refuse_unlike, section, summary
from analyses.emergence.seeds import stored_draws
from analyses.frame import registry
from analyses.frame.analysis import Analysis, Result, Takes
from analyses.frame.identity import distinguished
from analyses.inputs.probe_curves import FILE
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "best_layers", "compute", "draw", "main", "section", "summary"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """There is nothing to choose."""


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses runs without a layer-probe table, or whose tables do not fit them or each other."""
    probed(runs)


def compute(runs: Sequence[Run], options: Options) -> Result:
    """The layer-probe rows (means over hypernyms) of several runs and their means over seeds; see `emergence_table`.

    Raises:
        MismatchError: one run was given twice, or two that are one condition with one seed; runs were probed
            differently, or a table was made from another projector or world than its run has now.
        FileNotFoundError: a run was not probed, or by a version that kept no draws; the command that does it is named.
        DamagedError: a table is not as it was written.
    """
    runs = distinguished(runs)
    return Result(emergence_table(runs, probed(runs), stored_draws(runs)))


def probed(runs: Sequence[Run]) -> list[pd.DataFrame]:
    """The layer-probe table of each run."""
    layer_probes = registry.load("layer_probes")
    tables = [layer_probes.table(run) for run in runs]
    refuse_unlike(runs, [layer_probes.stored([run])["layer_probes"].require() for run in runs])
    return tables


ANALYSIS = Analysis(
    "emergence",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.emergence --run artifacts/runs/demo-pretrained --run artifacts/runs/demo-random_init",
    takes=Takes.RUNS_TOGETHER,
    of_stores="it compares the layer-probe tables of runs, by condition",
    needs=("layer_probes",),
    reads=lambda _: (f"analyses/layer_probes/{FILE}",),
    check=check,
    section=section,
    order=20,
    light=True,
)
main = ANALYSIS.main
