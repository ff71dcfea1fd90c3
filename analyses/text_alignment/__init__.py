"""At which layer do picture tokens become similar to the words for their content?

    python -m analyses.text_alignment --run RUN [--run RUN2 …] [--step …] [--measure …] [--other LM] [--encoder NAME]
    python -m analyses.text_alignment --images STORE [--text STORE] --taxonomy TABLE [--other LM] [--encoder NAME]

Reads: the activation stores and taxonomy of each run, its layer-probe table, if there is one, and its language model;
or stores, a taxonomy, and the layer-probe table about them.
Writes: analyses/text_alignment/ in each run, or analyses/STORES/text_alignment/ beside the stores:
text_alignment.parquet, .csv, and the figures as png and svg; of several runs a figure of all of them, in the folder of
the first; parts/, from which a killed start goes on.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from analyses.frame.analysis import Analysis, Extras, Result
from analyses.frame.parts import ARRAYS, Parts, stored
from analyses.frame.provenance import CAPTURES
from analyses.frame.results import one_or_several
from analyses.frame.stores import RunOrStores, Stores
from analyses.frame.tables import SHARED, Evidence
from analyses.inputs.categories import held_out_hypernyms
from analyses.inputs.conditions import with_conditions
from analyses.inputs.leaf_rows import captures
from analyses.inputs.references import TWIN, Nouns, bare_nouns
from analyses.text_alignment import figures
from analyses.text_alignment.digest import probe_lines, probe_onsets, summary
from analyses.text_alignment.figures import draw
from analyses.text_alignment.rows import Options, alignment_table, matrix_measure
from analyses.text_alignment.text_encoders import encoded_nouns
from probing.categories.massive import TREATMENTS
from probing.store import MismatchError
from probing.store.records import DamagedError
from taxogen.models import lms
from taxogen.runs.bench import own_lm
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "compute", "draw", "main", "summary"]
BARE = "bare nouns"


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses an unknown measure, references of one name, and runs without the captures that are asked for.

    Raises:
        ValueError: two language models or text encoders would have the same name in the table, or are one folder.
    """
    matrix_measure(options.measure)
    names = [*(_bare(name) for name in options.others), *(Path(name).name for name in options.encoders)]
    if same := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"two references are named {same[0]!r}; give each once, or rename its folder")
    folders = [Path(name).resolve() for name in options.others if Path(name).exists()]
    if same := [folder for folder, count in Counter(folders).items() if count > 1]:
        raise ValueError(f"{same[0]} is the folder of two references; give each once")
    for run in runs:
        captures(run, options.steps, options.spans)


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """The long table of a run's alignment; see `analyses.text_alignment.rows.alignment_table`."""
    (run,) = runs
    stores = captures(run, options.steps, options.spans)
    options = replace(options, held_out=held_out_hypernyms(run, options.held_out))
    others = _nouns(run, options)
    parts = _parts(run, options, others)
    nouns = _own_nouns(run, stores.last.sites, parts) | others
    table = alignment_table(stores.images, stores.text, run.taxonomy, options, nouns, parts.collect_sized)
    table = table.assign(run=run.name)
    return Result(table, Extras(notes=_beside_probes(run, table)))


def of_stores(stores: Stores, options: Options) -> Result:
    """The long table of stores that no run made, without bare nouns in the model that they are of.

    Raises:
        ValueError: there are no picture rows.
    """
    if not stores.images:
        raise ValueError("text_alignment compares pictures with words, and --images was not given; give both")
    given = captures(stores, options.steps, options.spans)
    options = replace(options, held_out=held_out_hypernyms(stores, options.held_out))
    nouns = _nouns(stores, options)
    collect = _parts(stores, options, nouns).collect_sized
    table = alignment_table(given.images, given.text, stores.taxonomy, options, nouns, collect)
    table = table.assign(run=stores.name)
    return Result(table, Extras(notes=_beside_probes(stores, table)))


def conclude(runs: Sequence[Run], results: Sequence[Result], options: Options) -> Extras:
    """A figure of several runs by their conditions."""
    if len(runs) < 2:
        return Extras()
    table = figures.on_diagonal(with_conditions(runs, [one.table for one in results]))
    return Extras(tables={"runs": table}, figures=figures.draw(table))


def _parts(source: RunOrStores, options: Options, others: Mapping[str, Nouns]) -> Parts:
    """What keeps each place of the table, whichever are asked for; a folder may hold another model later."""
    digests = {
        name: hashlib.sha256(b"".join(layer.tobytes() for layer in nouns.layers.values())).hexdigest()
        for name, nouns in others.items()
    }
    return Parts.of_question(ANALYSIS, source, options, idle=("spans", "treatments"), others=digests)


def _beside_probes(run: RunOrStores, table: pd.DataFrame) -> list[str]:
    """The alignment's onsets beside those of layer probes, or why these are not to be used."""
    try:
        return probe_lines(table, probe_onsets(run))
    except (DamagedError, MismatchError) as refusal:
        return [f"  {refusal}"]


def _own_nouns(run: Run, sites: Sequence[str], parts: Parts) -> dict[str, Nouns]:
    """Bare nouns in the run's own language model, which is loaded the first time only."""
    leaves = run.taxonomy.leaves

    def make() -> dict[str, np.ndarray]:
        return dict(bare_nouns(own_lm(run), leaves, sites).layers)

    return {BARE: Nouns(leaves, stored(parts.folder, "bare_nouns", make, ARRAYS, parts.settings))}


def _nouns(source: RunOrStores, options: Options) -> dict[str, Nouns]:
    """Bare nouns in other language models, and in text encoders, that were asked for."""
    leaves = source.taxonomy.leaves
    encoded = {Path(name).name: encoded_nouns(name, leaves) for name in options.encoders}
    for_others = ((_bare(name), lms.load(name)) for name in options.others)
    return {name: bare_nouns(lm, leaves, ["blocks.*.hook_resid_post"]) for name, lm in for_others} | encoded


def _bare(model: str) -> str:
    """The name of the bare nouns of another language model in the table."""
    return f"{BARE}, {Path(model).name}"


ALONG_LAYERS = (
    Evidence(
        kind="CKA with the word",
        about=SHARED,
        rows={"measure": "cka_debiased", "reference": TWIN},
        least=("null_limit", "p_corrected"),
    ),
)

ANALYSIS = Analysis(
    "text_alignment",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.text_alignment --run artifacts/runs/demo-pretrained --step 150",
    of_stores=of_stores,
    reads=lambda _: (CAPTURES,),
    check=check,
    conclude=conclude,
    order=50,
    quick={"treatments": TREATMENTS[:1], "permutations": 199, "splits": 2},
)
main = ANALYSIS.main
