"""How do answers change when a hypernym is erased from a layer, or pictures are steered towards it?

    python -m analyses.erasure --run RUN [--run RUN2 …] [--steer] [--hypernym …] [--layer …] [--span …] [--step …]

Reads: projector snapshots, manifests and taxonomy of each run; with --steer also analyses/layer_probes/directions.h5.
Writes: analyses/erasure/ in each run: erasure.parquet and .csv (with --steer: steering), figures (png and svg), and a
part for each span and layer, from which a second start goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from analyses.erasure.digest import summary
from analyses.erasure.directions import FILE, check_directions, read_directions
from analyses.erasure.edits import MATCHES, EditInputs, choose_hypernyms, choose_leaves
from analyses.erasure.effects import edit_effects
from analyses.erasure.erasing import erase
from analyses.erasure.figures import draw
from analyses.erasure.rows import erasure_table, steering_table
from analyses.erasure.steering import DIRECTIONS, Steering, steer
from analyses.frame.analysis import Analysis, Result
from analyses.frame.command_line import EXTENT, TABLE, Resampling, option
from analyses.frame.parts import Parts
from analyses.frame.results import one_or_several
from analyses.frame.tables import CAUSES, Evidence
from analyses.inputs.effects import with_effects
from analyses.inputs.span_states import SpanAtLayer, fold_of_leaves, layers_of, span_states
from analyses.inputs.subject import TASKS, Subject, shown_pictures
from analyses.inputs.subject import check as check_run
from probing.stats import draw_weights
from probing.store import records
from taxogen.runs.flags import note
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "compute", "draw", "main", "summary"]

SPANS = ("slot", "cue", "last")


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """What is edited where, and how many pictures are asked.

    Attributes:
        step: of a saved projector, by default the last
        steer: steer towards hypernyms instead of erasing them
        hypernyms: which; by default the largest with at most a sixth of the leaves, else half, no two sharing one
        count: how many hypernyms, where none is named
        layers: behind which; by default eight, evenly spaced (for steering the middle one)
        spans: where states are edited
        each: leaves asked about under each hypernym, one picture each
        others: leaves asked about under none of them
        folds: what is done to a leaf is fitted on the leaves of all other folds
        shrinkage: of covariances, a share in [0, 1); see `probing.edits.erasure.Whitening`
        controls: draws of each control; by default 19, which give a p, and for steering 4 for each hypernym
        matches: in what controls equal an edit, each kind beside it; by default the rank of an erasure and the length
            of a step. Those of an erasure in length or kl (divergence of the answers) are of one hypernym each, and it
            then takes several times as long
        doses: for steering, in standard deviations
        directions: for steering; "probe" and "text" need the layer probes of the run
    """

    step: int | None = option(None)
    steer: bool = option(False, role=TABLE)
    hypernyms: tuple[str, ...] = option((), flag="--hypernym", role=EXTENT)
    count: int = option(6, flag="--hypernyms", role=EXTENT)
    layers: tuple[int, ...] = option((), flag="--layer", role=EXTENT)
    spans: tuple[str, ...] = option(("slot", "cue"), flag="--span", choices=SPANS, role=EXTENT)
    each: int = option(12, role=EXTENT)
    others: int = option(30, role=EXTENT)
    folds: int = option(3, role=EXTENT)
    shrinkage: float = option(0.1)
    controls: int | None = option(None, role=EXTENT)
    matches: tuple[str, ...] = option((), flag="--match", choices=MATCHES, role=EXTENT)
    doses: tuple[float, ...] = option((-4.0, 2.0, 4.0, 8.0), flag="--dose", role=EXTENT)
    directions: tuple[str, ...] = option(DIRECTIONS, flag="--direction", choices=DIRECTIONS, role=EXTENT)


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses what cannot be asked of a run, before anything is loaded.

    Raises:
        KeyError: an unknown span, hypernym or direction.
        ValueError: a run has no word to be read, no dose differs from 0, no control was asked for, or controls of
            equal rank were for steering.
        FileNotFoundError: a projector was not saved at that step, or a probe's direction was asked for and the run was
            not probed.
    """
    if unknown := [span for span in options.spans if span not in SPANS]:
        raise KeyError(f"span {unknown[0]!r} was asked for; known: {', '.join(SPANS)}")
    if draws_of(options) < 1:
        raise ValueError(
            f"{options.controls} draws of each control were asked for; at least 1 is compared with"
        )
    if options.steer and not any(options.doses):
        raise ValueError(f"doses {options.doses} were asked for; give at least one that is not 0")
    if options.steer and "rank" in options.matches:
        raise ValueError(
            "--match rank was asked for with --steer; every step has rank 1: match its length, or kl, or both"
        )
    for run in runs:
        check_run(run, options.step)
        if unknown := sorted(set(options.hypernyms) - set(run.taxonomy.hypernyms)):
            raise KeyError(
                f"hypernym {unknown[0]!r} is not in the taxonomy of {run.path}: {', '.join(run.taxonomy.hypernyms)}"
            )
        if options.steer:
            check_directions(run, options.directions)


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """Long table of read-outs of a run under erasure, or of their changes under steering; see `analyses.erasure.rows`.

    Raises:
        KeyError: an unknown layer.
        ValueError: words that cannot be read by their first token.
    """
    (run,) = runs
    subject, name = Subject.of(run, options.step), "steering" if options.steer else "erasure"
    places, names = places_of(subject, options), hypernyms_of(subject, options)
    # A part is the same whichever other places are asked for.
    idle = {"draws", "layers", "spans", "steer"} | (set() if options.steer else {"doses", "directions"})
    settings = {field: value for field, value in asdict(options).items() if field not in idle}
    settings |= {
        "controls": draws_of(options),
        "matches": matches_of(options),
        "step": subject.step,
        "what": name,
        **subject.wording,
        "makers": subject.makers,
    }
    settings |= {"read": {path: records.sha256(run.path / path) for path in _reads(options)}}
    parts = Parts.of(run.folder("analyses", "erasure"), settings)
    given = read_directions(run, subject.step, options.directions, places, names) if options.steer else {}
    inputs = cache(lambda: edit_inputs(subject, options, places, names))

    def make(part: str) -> pd.DataFrame:
        place = SpanAtLayer.parse(part)
        if options.steer:
            return steer(inputs(), place, Steering(options.doses, options.directions, given))
        return erase(inputs(), place)

    with threadpool_limits(1):
        read_outs = parts.collect([place.name for place in places], make, f"{name}, {run.name}")
    weights = draw_weights(read_outs["leaf"].nunique(), options.draws, options.seed)
    table = (steering_table if options.steer else erasure_table)(read_outs, weights, options.seed)
    extras = with_effects(edit_effects(read_outs, options.steer), "erasure", name)
    return Result(table.assign(run=run.name, step=subject.step), extras)


def draws_of(options: Options) -> int:
    """Draws of each control: those of erasure are shared by all hypernyms, those of steering are of one each."""
    return options.controls if options.controls is not None else 4 if options.steer else 19


def matches_of(options: Options) -> tuple[str, ...]:
    """In what controls equal an edit."""
    return options.matches or (("length",) if options.steer else ("rank",))


def _reads(options: Options) -> tuple[str, ...]:
    of_probes = options.steer and any(kind != "mass_mean" for kind in options.directions)
    return (FILE,) if of_probes else ()


def places_of(subject: Subject, options: Options) -> list[SpanAtLayer]:
    """Every span × layer that is edited.

    Raises:
        KeyError: the model has no such layer.
    """

    def spaced(depth: int) -> list[int]:
        return (
            [depth // 2]
            if options.steer
            else np.unique(np.linspace(0, depth - 1, 9).round().astype(int))[:-1].tolist()
        )

    layers = layers_of(subject.bench.vlm.model, options.layers, spaced)
    return [SpanAtLayer(layer, span) for span in options.spans for layer in layers]


def hypernyms_of(subject: Subject, options: Options) -> tuple[str, ...]:
    """The hypernyms that are erased, or steered towards.

    Raises:
        ValueError: one cannot be read by its first token, or there is none.
    """
    readable = subject.candidates("hypernym").names
    if unread := [name for name in options.hypernyms if name not in readable]:
        raise ValueError(
            f"hypernym {unread[0]!r} begins with the same token as another in {subject.run.path}, so that it cannot be "
            f"read by its first token; those that can: {', '.join(readable)}"
        )
    taxonomy = subject.run.taxonomy
    names = options.hypernyms or choose_hypernyms(taxonomy, readable, options.count)
    if not names and (names := choose_hypernyms(taxonomy, readable, options.count, share=0.5)):
        text = f"no hypernym has at most a sixth of the leaves of {subject.run.name}; those of up to half are taken"
        note(f"erasure: {text}: {', '.join(names)}")
    if not names:
        raise ValueError(
            f"no hypernym of {subject.run.path} has at most half of the leaves; name one or more with --hypernym: "
            f"{', '.join(readable)}"
        )
    return tuple(names)


def edit_inputs(
    subject: Subject, options: Options, places: Sequence[SpanAtLayer], names: tuple[str, ...]
) -> EditInputs:
    """Questions about the drawn pictures, and the states of all captured ones."""
    run = subject.run
    everything = shown_pictures(run, per_leaf=2)
    known = sorted(set(everything["leaf"]))
    leaves = choose_leaves(run.taxonomy, known, names, options.each, options.others, options.seed)
    shown, of_leaf = shown_pictures(run, leaves), everything["leaf"].to_numpy().astype(str)
    fold = fold_of_leaves(run.taxonomy, of_leaf, options.folds, options.seed)
    fold_of = dict(zip(of_leaf.tolist(), fold.tolist()))
    layers, spans = (sorted({getattr(place, part) for place in places}) for part in ("layer", "span"))
    return EditInputs(
        {task: subject.ask(task, shown) for task in TASKS},
        {task: span_states(subject, task, everything, layers, spans, fold) for task in TASKS},
        run.taxonomy,
        names,
        np.array([fold_of[leaf] for leaf in shown["leaf"]]),
        options.shrinkage,
        options.seed,
        draws_of(options),
        matches_of(options),
    )


ALONG_LAYERS = (
    Evidence(kind="erasure", about=CAUSES, rows={"target": "erased", "measure": "hypernym_change"}, sign=-1),
)

ANALYSIS = Analysis(
    "erasure",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.erasure --run artifacts/runs/demo-pretrained --hypernym mammal --layer 10 --layer 20",
    of_stores="it asks the model again, with directions erased from its activations or added to them",
    reads=_reads,
    check=check,
    table_name=lambda options: "steering" if options.steer else "erasure",
    also=("steering",),
    quick={"count": 2, "spans": ("cue",), "each": 6, "others": 10},
)
main = ANALYSIS.main
