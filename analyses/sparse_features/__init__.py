"""Which sparse features of the language model fire for pictures as they do for words?

    python -m analyses.sparse_features --run RUN --dictionary DIR [--step …] [--span …] [--site …] [--top 10]
    python -m analyses.sparse_features --images STORE --text STORE --taxonomy TABLE --dictionary DIR

Reads: the activation stores and taxonomy of each run, or stores and a taxonomy; and dictionaries (sparse autoencoders)
of the run's language model, in the layouts of sparsify or SAELens.
Writes: analyses/sparse_features/ in each run, or analyses/STORES/sparse_features/ beside the stores:
sparse_features.parquet, .csv, the features of each hypernym (features.parquet, .csv), and the figures as png and svg.
"""

from __future__ import annotations

from collections.abc import Sequence

from analyses.frame.analysis import Analysis, Extras, Result
from analyses.frame.provenance import CAPTURES
from analyses.frame.results import one_or_several
from analyses.frame.stores import RunOrStores, Stores
from analyses.inputs.leaf_rows import Captures, captures
from analyses.sparse_features.figures import draw, summary
from analyses.sparse_features.rows import Options, dictionaries, features_table
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "compute", "draw", "main", "summary"]


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses runs without the captures that are asked for, and dictionaries that do not fit them."""
    for run in runs:
        dictionaries(options, _captures(run, options).last)


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """The long table of a run, and that of its features; see `analyses.sparse_features.rows.features_table`."""
    (run,) = runs
    return _result(_captures(run, options), run, options)


def of_stores(stores: Stores, options: Options) -> Result:
    """The same of stores that no run made."""
    return _result(_captures(stores, options), stores, options)


def _captures(source: RunOrStores, options: Options) -> Captures:
    """The stores of the steps that are asked for, by default the last."""
    return captures(source, options.steps or source.steps[-1:], options.spans)


def _result(given: Captures, source: RunOrStores, options: Options) -> Result:
    table, features = features_table(given, source.taxonomy, options)
    beside = {"features": features.assign(run=source.name)} if len(features) else {}
    return Result(table.assign(run=source.name), Extras(tables=beside))


ANALYSIS = Analysis(
    "sparse_features",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.sparse_features --run artifacts/runs/demo-pretrained --dictionary saes --site "
    "blocks.20.hook_resid_post",
    of_stores=of_stores,
    reads=lambda _: (CAPTURES,),
    check=check,
    order=75,
    quick={"permutations": 19},
)
main = ANALYSIS.main
