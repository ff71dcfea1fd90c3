"""Which patches of a picture carry the answer? Maps over the picture at its real geometry, and how they point.

    python -m analyses.picture_maps --run RUN [--leaf crow …] [--placebo-run RUN2] [--map …] [--leaves …]

Reads: the projector, manifests, taxonomy and pictures of each run, and for the probe its captured pictures.
Writes: analyses/picture_maps/ in each run: picture_maps.parquet and .csv, maps.h5 with every map of every leaf, figures
(png and svg), and a part for each leaf, from which a second start goes on.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from analyses.frame import provenance
from analyses.frame.analysis import Analysis, Extras, Result
from analyses.frame.command_line import ASKS, EXTENT, PARTNER, Resampling, option
from analyses.frame.parts import ARRAYS, Parts, stored, tracked
from analyses.frame.results import one_or_several
from analyses.inputs.stimuli import placebo_runs
from analyses.inputs.subject import TASKS, Subject, draw_leaves, shown_pictures
from analyses.inputs.subject import check as check_run
from analyses.picture_maps import places
from analyses.picture_maps.figures import draw
from analyses.picture_maps.leaf_maps import MAPS, Arrays, Mapper
from analyses.picture_maps.probe import PatchProbe
from analyses.picture_maps.rows import Shown, fill, maps_table
from analyses.picture_maps.summary import summary
from taxogen.runs.flags import note
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "compute", "draw", "main", "summary"]


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """Which maps are drawn of which pictures, and over how many leaves their pointing is measured.

    Attributes:
        leaf: leaf concepts whose maps are drawn (default: the first four that are measured)
        picture: pictures to draw in place of a leaf's first captured one, as LEAF/FILE
        placebo_run: a run of a random-init language model, of which the same maps are made
        maps: how the patches are asked
        question: which names the answer is
        layer: blocks of the linear probe (default: the middle one of those that were captured)
        leaves: leaf concepts over which pointing is measured, one picture each; 0 for all
        heads: attention heads whose maps are drawn, those that look at the picture most
        integrated: steps of integrated gradients
        step: of a saved projector, by default the last
        dtype: of the language model; that of the run, or float32
    """

    leaf: tuple[str, ...] = option((), role=EXTENT)
    picture: tuple[str, ...] = option((), role=EXTENT, metavar="PICTURE")
    placebo_run: Path | None = option(None, metavar="DIR", role=PARTNER)
    maps: tuple[str, ...] = option(MAPS, flag="--map", choices=MAPS, role=EXTENT)
    question: str = option("hypernym", choices=TASKS, role=ASKS)
    layer: tuple[int, ...] = option((), role=EXTENT)
    leaves: int = option(24, role=EXTENT)
    heads: int = option(2, role=EXTENT)
    integrated: int = option(16, role=EXTENT)
    step: int | None = option(None)
    dtype: str = option("float32", choices=("run", "float32"))


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses what has no map, before anything is loaded.

    Raises:
        ValueError: a projector that flattens the grid, a run of yes/no questions, no map or no step.
        KeyError: a leaf or picture that is not there, or a layer that was not captured.
        FileNotFoundError: a run that is not trained, or nothing was captured that the probe could be fitted on.
        MismatchError: a placebo run that is none, or that cuts pictures otherwise.
    """
    if not options.maps or options.integrated < 1 or options.heads < 0 or options.leaves < 0:
        raise ValueError(
            f"{len(options.maps)} maps, {options.heads} heads, {options.leaves} leaves and {options.integrated} steps "
            "of integrated gradients were asked for; give one map and one step at least, and no negative number"
        )
    placebo = Run.open(options.placebo_run) if options.placebo_run else None
    for run in runs:
        step = check_run(run, options.step)
        if placebo is not None:
            placebo_runs.check(run, placebo)
        places.check(run, placebo)
        _chosen(run, options)
        if "probe" in options.maps:
            PatchProbe.check(run, step, options.layer)
            if placebo is not None:
                PatchProbe.check(placebo, check_run(placebo), options.layer)


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """Long table of maps and of their pointing; see `analyses.picture_maps.rows`.

    Raises:
        ValueError: the places of picture tokens are not known, or no leaf has a right name that can be read.
    """
    (run,) = runs
    subject = Subject.of(run, options.step, options.dtype)
    shown = _shown(subject, options)
    maps = {"run": _maps_of(subject, shown, options, run)}
    step = subject.step
    del subject
    if options.placebo_run:
        placebo = Subject.of(Run.open(options.placebo_run), None, options.dtype)
        maps["placebo"] = _maps_of(placebo, shown, options, run)
    table = maps_table(shown, maps, options.question, options.heads, options.draws, options.seed)
    table = table.assign(run=run.name, step=step)
    return Result(table, Extras(files={"maps.h5": lambda path: fill(path, maps)}))


def _chosen(run: Run, options: Options) -> pd.DataFrame:
    """Leaf and picture of each map; `drawn` where it is drawn, `measured` where its pointing counts."""
    known = run.manifest("test").where(modality="image").frame.astype(str)
    leaf_of = dict(zip(known["picture"], known["leaf"]))
    if lost := sorted(set(options.picture) - set(leaf_of)):
        raise KeyError(f"picture {lost[0]!r} was asked for; {run.path} has no such picture in its test split")
    wanted = {leaf_of[picture]: picture for picture in options.picture}
    captured = shown_pictures(run)
    if lost := sorted({*options.leaf, *wanted} - set(captured["leaf"])):
        names = captured["leaf"].tolist()
        near = difflib.get_close_matches(lost[0], names) or names[:5]
        raise KeyError(
            f"leaf {lost[0]!r} was asked for; {run.path} shows {len(names)} leaves, such as {', '.join(near)}"
        )
    measured = draw_leaves(run, options.leaves, options.seed)
    drawn = dict.fromkeys((*options.leaf, *wanted))
    shown = captured[captured["leaf"].isin({*measured, *drawn})].reset_index(drop=True)
    chosen = [str(wanted.get(leaf, picture)) for leaf, picture in zip(shown["leaf"], shown["picture"])]
    return shown.assign(
        picture=chosen,
        measured=shown["leaf"].isin(measured),
        drawn=shown["leaf"].isin(drawn),
    )


def _shown(subject: Subject, options: Options) -> Shown:
    """The pictures whose maps are made: those of leaves with a right name that can be read."""
    run = subject.run
    chosen = _chosen(run, options)
    read = np.asarray(subject.own(options.question, chosen["leaf"].to_numpy(str)).any(1))
    if unread := chosen["leaf"][chosen["drawn"] & ~read].tolist():
        raise ValueError(
            f"maps of {unread[0]} were asked for; none of its {options.question}s can be read by its first token"
        )
    shown = pd.DataFrame(chosen[read]).reset_index(drop=True)
    if not shown["measured"].any():
        raise ValueError(
            f"no leaf of {run.path} has a {options.question} that can be read by its first token"
        )
    if not shown["drawn"].any():
        shown["drawn"] = shown["leaf"].isin(shown["leaf"][:4])
    hashes = subject.bench.world.table.set_index("picture")["content_hash"]
    shown["content_hash"] = hashes.loc[shown["picture"]].to_numpy()
    return Shown(shown, run.config.data.pictures)


def _maps_of(subject: Subject, shown: Shown, options: Options, run: Run) -> dict[str, Arrays]:
    """The maps of every picture by one model, each leaf's kept as soon as it is made in the folder of `run`.

    Raises:
        MismatchError: the model was trained in a world without one of the pictures.
    """
    probe = None
    if "probe" in options.maps:
        probe = PatchProbe.of(subject.run, subject.step, options.layer)
    mapper = Mapper(subject, options.question, options.maps, probe, options.integrated, options.seed)
    mapper.check(shown.pictures)
    kept = {name: value for name, value in asdict(options).items() if name in _KEPT}
    settings = {**kept, "step": subject.step, **subject.wording, "makers": subject.makers}
    parts = Parts.of(run.folder("analyses", "picture_maps"), settings)
    of_leaf = dict(zip(shown.pictures["leaf"], shown.pictures["picture"]))
    names = {
        leaf: hashlib.sha256(f"{leaf} {picture}".encode()).hexdigest()[:16]
        for leaf, picture in of_leaf.items()
    }
    missing = [
        leaf for leaf, name in names.items() if not (parts.folder / f"{name}{ARRAYS.suffix}").is_file()
    ]
    if missing:
        cost = mapper.cost(missing[0], of_leaf[missing[0]], len(missing))
        note(f"picture_maps of {subject.run.name}: {cost}")
    for leaf in tracked(missing, f"maps, {subject.run.name}", "leaves") if missing else ():
        make = partial(mapper.arrays, leaf, of_leaf[leaf])
        stored(parts.folder, names[leaf], make, ARRAYS, parts.settings)
    arrays = {}
    for leaf, name in names.items():
        arrays[leaf] = stored(
            parts.folder, name, partial(mapper.arrays, leaf, of_leaf[leaf]), ARRAYS, parts.settings
        )
        arrays[leaf]["inside"] = places.inside_of(subject, of_leaf[leaf], arrays[leaf]["boxes"])
    return arrays


_KEPT = ("maps", "question", "layer", "integrated", "dtype", "seed")
"""Options on which the maps of a leaf depend."""

ANALYSIS = Analysis(
    "picture_maps",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.picture_maps --run artifacts/runs/patches --leaf crow --leaf apple",
    of_stores="it asks the model again, patch by patch",
    reads=lambda options: (provenance.CAPTURES,) if "probe" in options.maps else (),
    check=check,
    quick={"leaves": 4, "integrated": 4},
)
main = ANALYSIS.main
