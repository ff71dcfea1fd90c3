"""Do distances follow the taxonomy? Partial RSA, hierarchy as orthogonality, dimension, and a map of leaves.

    python -m analyses.geometry --run RUN [--run RUN2 …] [--step …] [--span …] [--map tsne] [--dimension MLE]
        [--partial [input-embeddings|FILE]]
    python -m analyses.geometry --images STORE --text STORE --taxonomy TABLE [--span …] [--map tsne]

Reads: the activation stores, taxonomy, pictures and their features of each run; or stores and a taxonomy; with
--partial also the run's language model, or a file of word vectors.
Writes: analyses/geometry/ in each run, or analyses/STORES/geometry/ beside the stores: geometry.parquet, .csv, and
the figures as png and svg; of several runs a figure of all of them, in the folder of the first; parts/, from which a
killed start goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

from analyses.frame.analysis import Analysis, Extras, Result
from analyses.frame.parts import Collect, Parts
from analyses.frame.provenance import CAPTURES
from analyses.frame.results import one_or_several
from analyses.frame.stores import RunOrStores, Stores
from analyses.geometry import figures
from analyses.geometry.digest import summary
from analyses.geometry.dimension import dimensions
from analyses.geometry.figures import draw
from analyses.geometry.maps import thumbnails
from analyses.geometry.rows import Options, geometry_table, mapped_sites
from analyses.geometry.words import Vectors, check_words, word_vectors
from analyses.inputs.categories import held_out_hypernyms
from analyses.inputs.conditions import with_conditions
from analyses.inputs.encoder import encoder_rows
from analyses.inputs.leaf_rows import captures
from taxogen.runs import closed
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "compute", "draw", "main", "summary"]


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses unknown estimators and layers, missing word vectors, and runs without the captures that are asked for."""
    dimensions(options.estimators)
    for run in runs:
        check_words(options.partial, run)
        mapped_sites(captures(run, options.steps, options.spans).last.sites, options.map_layers)


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """The long table of a run's geometry, and maps of its leaves; see `analyses.geometry.rows.geometry_table`."""
    (run,) = runs
    stores = captures(run, options.steps, options.spans)
    options = replace(options, held_out=held_out_hypernyms(run, options.held_out))
    encoder = encoder_rows(run).of(stores.last.columns["picture"])
    words = word_vectors(options.partial, run.taxonomy.leaves, run)
    features, collect = (encoder.pooled, encoder.leaves), _parts(run, options, words)
    table = geometry_table(stores.images, stores.text, run.taxonomy, options, features, words, collect)
    table = table.assign(run=run.name)
    shown = thumbnails(stores.last, closed.read(run).pictures)
    places = figures.map_rows(table, run.taxonomy)
    return Result(table, Extras(tables={"map": places}, figures=figures.maps(places, shown)))


def of_stores(stores: Stores, options: Options) -> Result:
    """The long table and the map of stores that no run made, without distances of an encoder and without pictures."""
    given = captures(stores, options.steps, options.spans)
    mapped_sites(given.last.sites, options.map_layers)
    options = replace(options, held_out=held_out_hypernyms(stores, options.held_out))
    words = word_vectors(options.partial, stores.taxonomy.leaves, None)
    collect = _parts(stores, options, words)
    table = geometry_table(given.images, given.text, stores.taxonomy, options, None, words, collect)
    table = table.assign(run=stores.name)
    places = figures.map_rows(table, stores.taxonomy)
    return Result(table, Extras(tables={"map": places}, figures=figures.maps(places)))


def _parts(source: RunOrStores, options: Options, words: Vectors | None) -> Collect:
    """What keeps each place of the table; a file of word vectors may hold others later."""
    leaves = [(leaf, vector.tolist()) for leaf, vector in sorted((words or {}).items())]
    digest = hashlib.sha256(json.dumps(leaves).encode()).hexdigest()
    return Parts.of_question(ANALYSIS, source, options, idle=("spans",), words=digest).collect_sized


def conclude(runs: Sequence[Run], results: Sequence[Result], options: Options) -> Extras:
    """A figure of several runs by their conditions."""
    if len(runs) < 2:
        return Extras()
    table = with_conditions(runs, [one.table for one in results])
    return Extras(tables={"runs": table}, figures=figures.draw(table))


ANALYSIS = Analysis(
    "geometry",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.geometry --run artifacts/runs/demo-pretrained --step 150 --map-layer 10 --map-layer 20",
    of_stores=of_stores,
    reads=lambda _: (CAPTURES,),
    check=check,
    conclude=conclude,
    order=60,
    quick={"permutations": 199},
)
main = ANALYSIS.main
