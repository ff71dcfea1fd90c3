"""Where does the hypernym become readable, condition by condition?

    python -m analyses.emergence --run RUN --run RUN2 … [--out DIR]

Reads: the layer-probe table of each run and the bootstrap draws beside it (`python -m analyses.layer_probes --run RUN`
makes both); of cohesion, text_alignment, lens, patching, knockout, interchange, erasure and circuits what is there.
Writes: emergence.parquet and .csv, all evidence side by side as evidence.parquet and .csv, and figures (png and svg) of
both, into --out or analyses/emergence/ of the first run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from analyses.emergence import figures, side_by_side
from analyses.emergence.evidence import TABLE, evidence_table, read_by
from analyses.emergence.rows import best_layers, emergence_table, of_probes, refuse_unlike, summary
from analyses.emergence.section import of_evidence
from analyses.emergence.seeds import stored_draws
from analyses.emergence.sentences import sentences
from analyses.frame import registry
from analyses.frame.analysis import Analysis, Extras, Result, Takes
from analyses.frame.identity import distinguished
from analyses.frame.results import one_or_several
from analyses.frame.section import Block
from analyses.inputs.probe_curves import FILE
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "best_layers", "compute", "draw", "main", "section", "summary"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """There is nothing to choose."""


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses runs without a layer-probe table, or whose tables do not fit them or each other."""
    probed(runs)


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """The layer-probe rows (means over hypernyms) of several runs and their means over seeds; see `emergence_table`.

    Beside it the table `evidence`, with a figure of each condition; see `analyses.emergence.evidence.evidence_table`.

    Raises:
        MismatchError: one run was given twice, or two that are one condition with one seed; runs were probed
            differently, or a table was made from another projector or world than its run has now.
        FileNotFoundError: a run was not probed, or by a version that kept no draws; the command that does it is named.
        DamagedError: a table is not as it was written.
    """
    runs = distinguished(runs)
    draws = stored_draws(runs)
    several = {name: members for name, members in draws.items() if len(members) > 1}
    table = emergence_table(runs, probed(runs), several)
    evidence = evidence_table(runs, table, draws)
    shown = {f"{TABLE}-{name}": figure for name, figure in side_by_side.draw(evidence).items()}
    return Result(table, Extras(tables={TABLE: evidence}, figures=shown, notes=sentences(evidence)))


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """Every figure that a table has the numbers for: of probes by condition, or of all evidence side by side."""
    return side_by_side.draw(table) if "kind" in table else figures.draw(table)


def section(table: pd.DataFrame) -> list[Block]:
    """The blocks of a report section about either table."""
    return of_evidence(table) if "kind" in table else of_probes(table)


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
    reads=lambda _: (f"analyses/layer_probes/{FILE}", *read_by()),
    check=check,
    also=(TABLE,),
    section=section,
    order=20,
    light=True,
)
main = ANALYSIS.main
