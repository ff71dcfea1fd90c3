"""How coherent are categories at each layer, in pictures, in text, and across the two?

    python -m analyses.cohesion --run RUN [--run RUN2 …] [--step …] [--span …] [--treatment …]
    python -m analyses.cohesion --images STORE --text STORE --taxonomy TABLE [--span …] [--treatment …]

Reads: the activation stores, taxonomy, pictures' features and scores of each run; or stores and a taxonomy.
Writes: analyses/cohesion/ in each run, or analyses/STORES/cohesion/ beside the stores: cohesion.parquet, .csv, and
the figures as png and svg; of several runs a figure of all of them, in the folder of the first; parts/, from which a
killed start goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from analyses.cohesion import figures
from analyses.cohesion.digest import summary
from analyses.cohesion.figures import draw
from analyses.cohesion.relation import score_tables
from analyses.cohesion.rows import Options, cohesion_table
from analyses.frame.analysis import Analysis, Extras, Result
from analyses.frame.parts import Collect, Parts
from analyses.frame.provenance import CAPTURES
from analyses.frame.results import one_or_several
from analyses.frame.stores import RunOrStores, Stores
from analyses.frame.tables import PICTURES, SHARED, Evidence
from analyses.inputs.categories import MEAN, held_out_hypernyms
from analyses.inputs.conditions import with_conditions
from analyses.inputs.encoder import encoder_rows
from analyses.inputs.leaf_rows import captures
from probing.categories.massive import TREATMENTS
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "compute", "draw", "main", "summary"]


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses runs without the captures that are asked for, before any is read."""
    for run in runs:
        captures(run, options.steps, options.spans)


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """The long table of a run's cohesion; see `analyses.cohesion.rows.cohesion_table`."""
    (run,) = runs
    stores = captures(run, options.steps, options.spans)
    options = replace(options, held_out=held_out_hypernyms(run, options.held_out))
    encoder = encoder_rows(run).of(stores.last.columns["picture"])
    features = encoder.pooled, encoder.leaves
    collect = _parts(run, options)
    table = cohesion_table(stores.images, stores.text, run.taxonomy, options, features, collect)
    whole = pd.concat([table, *score_tables(run, table, options)], ignore_index=True)
    return Result(whole.assign(run=run.name))


def of_stores(stores: Stores, options: Options) -> Result:
    """The long table of stores that no run made, without the features of an encoder and without scores."""
    given = captures(stores, options.steps, options.spans)
    options = replace(options, held_out=held_out_hypernyms(stores, options.held_out))
    collect = _parts(stores, options)
    table = cohesion_table(given.images, given.text, stores.taxonomy, options, collect=collect)
    return Result(table.assign(run=stores.name))


def _parts(source: RunOrStores, options: Options) -> Collect:
    """What keeps each place of the table."""
    return Parts.of_question(ANALYSIS, source, options, idle=("spans", "treatments")).collect_sized


def conclude(runs: Sequence[Run], results: Sequence[Result], options: Options) -> Extras:
    """A figure of several runs by their conditions."""
    if len(runs) < 2:
        return Extras()
    table = with_conditions(runs, [one.table for one in results])
    return Extras(tables={"runs": table}, figures=figures.draw(table))


ALONG_LAYERS = tuple(
    Evidence(
        kind=kind,
        about=about,
        rows={"measure": "cohesion", "target": MEAN, "modality": modality},
        least=("cohesion_null_limit", "cohesion_p_corrected"),
    )
    for kind, about, modality in (
        ("cohesion", PICTURES, "image"),
        ("cross-modal cohesion", SHARED, "image~text"),
    )
)

ANALYSIS = Analysis(
    "cohesion",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.cohesion --run artifacts/runs/demo-pretrained --step 150 --treatment standardised",
    of_stores=of_stores,
    reads=lambda _: (CAPTURES, "scores.h5"),
    check=check,
    conclude=conclude,
    order=40,
    quick={"treatments": TREATMENTS[:1], "permutations": 199},
)
main = ANALYSIS.main
