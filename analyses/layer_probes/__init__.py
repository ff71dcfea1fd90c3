"""Which layers encode the hypernym? Probes on held-out leaf concepts: picture rows, text rows, and across.

    python -m analyses.layer_probes --run RUN [--run RUN2 …] [--against RUN …] [--step …] [--span …] [--probe …]
    python -m analyses.layer_probes --images STORE --text STORE --taxonomy TABLE [--span …] [--probe …]

Reads: the activation stores, the taxonomy and the encoder features of each run; or stores and a taxonomy.
Writes: analyses/layer_probes/ in each run, or analyses/STORES/layer_probes/ beside the stores: layer_probes.parquet and
.csv, directions.h5, draws.h5 (bootstrap draws of mean curves, for means over runs), figures (png and svg); with
--against also contrasts.parquet and .csv; parts/, from which a killed start goes on. Another probe, target, split or
choice of sites has a folder of its own, such as analyses/layer_probes-leaf-ungrouped/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analyses.frame.analysis import Analysis, Extras, Result
from analyses.frame.identity import distinguished
from analyses.frame.parts import Parts
from analyses.frame.provenance import CAPTURES
from analyses.frame.results import one_or_several
from analyses.frame.stores import RunOrStores, Stores
from analyses.inputs.categories import held_out_hypernyms
from analyses.inputs.encoder import encoder_rows
from analyses.inputs.leaf_rows import captures, places
from analyses.inputs.probe_curves import FILE as DRAWS_FILE
from analyses.inputs.probe_curves import write_draws
from analyses.layer_probes.at_span import Keep, kept_in
from analyses.layer_probes.contrasts import contrast_summary, contrast_table
from analyses.layer_probes.design import design as design_of
from analyses.layer_probes.figures import draw
from analyses.layer_probes.layers import LayerProbes, probe_spans
from analyses.layer_probes.options import Options, refuse_unanswerable, steps_of
from analyses.layer_probes.rows import summary
from taxogen.runs import closed
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "compute", "draw", "main", "summary"]
_UNDEFINED = 3  # lines about numbers that are NaN


@dataclass(frozen=True, kw_only=True)
class Probed(Result):
    """The result of one run, and its probes for contrasts."""

    probes: LayerProbes


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses what cannot be answered, before anything is read: of the runs and of their partners."""
    refuse_unanswerable(options)
    partners = [Run.open(path) for path in options.against]
    if partners and len(partners) != len(runs):
        raise ValueError(f"--against names {len(partners)} partners for {len(runs)} runs; name one for each")
    for run in (one.with_captures(options.captures) for one in (*runs, *partners)):
        captures(run, steps_of(run, options.step), options.spans)


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Probed:
    """Long table of probe estimates of a run; see `analyses.layer_probes.rows.probe_table`.

    Raises:
        KeyError: an unknown probe, target, split, span, site or transform.
        FileNotFoundError: a step was not captured; the command that does it is named.
    """
    (run,) = runs
    return _probed(probe_run(run, options, held_out_hypernyms(run, options.held_out)), run.name)


def of_stores(stores: Stores, options: Options) -> Probed:
    """The same of stores that no run made; without an encoder's features, with the column `source` of pictures.

    Raises:
        KeyError, ValueError: as `compute`; or an option is about runs.
    """
    if options.captures:
        raise ValueError("--captures names captures of a run, and stores were given; name other stores")
    given = captures(stores, steps_of(stores, options.step), options.spans)
    columns = given.last.columns
    sources = dict(zip(columns["picture"], columns["source"])) if "source" in columns else None
    options = replace(options, held_out=held_out_hypernyms(stores, options.held_out))
    plan = design_of(given.images, given.text, stores.taxonomy, options, source_of=sources)
    spans, keep = places(given.images, given.text, options.spans), _kept(stores, options)
    probes = probe_spans(plan, spans, options, keep, f"probes of {stores.name}")
    return _probed(replace(probes, table=probes.table.assign(run=stores.name)), stores.name)


def conclude(runs: Sequence[Run], results: Sequence[Result], options: Options) -> Extras:
    """The contrasts of the runs with their partners, if there are any.

    Seen and held-out hypernyms are those of the runs themselves, so that both sides mean the same.
    """
    if not options.against:
        return Extras()
    partners = distinguished([*runs, *map(Run.open, options.against)])[len(runs) :]
    probes = [result.probes for result in results if isinstance(result, Probed)]
    held_out = [held_out_hypernyms(run, options.held_out) for run in runs]
    others = [probe_run(other, options, names) for other, names in zip(partners, held_out)]
    name = f"{', '.join(run.name for run in runs)} minus {', '.join(run.name for run in partners)}"
    table = contrast_table(probes, others, name, options.split, options.seed)
    return Extras(tables={"contrasts": table}, notes=(contrast_summary(table),))


def probe_run(run: Run, options: Options, held_out: tuple[str, ...]) -> LayerProbes:
    """The probes of one run at the steps that are asked for (default: all that were captured)."""
    run = run.with_captures(options.captures)
    stores = captures(run, steps_of(run, options.step), options.spans)
    table = closed.read(run).table
    source_of = dict(zip(table["picture"], table["style_group"]))
    features = encoder_rows(run).of(item.picture for item in run.manifest("capture").items if item.picture)
    encoder = dict(zip(features.pictures.tolist(), features.raw.numpy()))
    options = replace(options, held_out=held_out)
    plan = design_of(stores.images, stores.text, run.taxonomy, options, encoder, source_of)
    spans = places(stores.images, stores.text, options.spans)
    probes = probe_spans(plan, spans, options, _kept(run, options), f"probes of {run.name}")
    return replace(probes, table=probes.table.assign(run=run.name))


def _kept(source: RunOrStores, options: Options) -> Keep:
    """What keeps the probes of each span of a run, or of stores, whichever spans and partners are asked for."""
    alone = replace(options, against=())
    return kept_in(Parts.of_question(ANALYSIS, source, alone, idle=("spans", "against", "workers")))


def _probed(probes: LayerProbes, name: str) -> Probed:
    """The result of some probes, with their directions and draws as files."""
    files = {
        "directions.h5": lambda path: probes.write_directions(path, name),
        DRAWS_FILE: lambda path: write_draws(path, probes.leaves, probes.curves, name),
    }
    extras = Extras(files=files, notes=probes.undefined[:_UNDEFINED])
    return Probed(table=probes.table, extras=extras, probes=probes)


ANALYSIS = Analysis(
    "layer_probes",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.layer_probes --run artifacts/runs/demo-pretrained --span cue --step last",
    of_stores=of_stores,
    check=check,
    conclude=conclude,
    reads=lambda _: (CAPTURES,),
    order=30,
    quick={"step": ("last",), "controls": 1, "shuffled": 0, "transforms": ("raw",)},
)
main = ANALYSIS.main
