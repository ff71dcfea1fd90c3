"""What becomes of the answers when a hypernym is erased from a layer, or when pictures are steered towards it.

    python -m analyses.erasure --run RUN [--run RUN2 …] [--steer] [--hypernym …] [--layer …] [--span …] [--step …]

Reads: projector snapshots, manifests and taxonomy of each run; with --steer also analyses/layer_probes/directions.h5.
Writes: analyses/erasure/ in each run: erasure.parquet and .csv (with --steer: steering), figures (png and svg), and a
part for each span and layer, from which a second start goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any, cast

import h5py
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from analyses.erasure import figures
from analyses.erasure.parts import (
    DIRECTIONS,
    Place,
    Steering,
    World,
    choose_hypernyms,
    choose_leaves,
    erase,
    steer,
)  # fmt: skip
from analyses.erasure.rows import erasure_table, steering_table
from analyses.frame import drawing, tables
from analyses.frame.command_line import parser_of
from analyses.frame.parts import Parts
from analyses.inputs.span_states import fold_of_leaves, post, span_states
from analyses.inputs.subject import TASKS, ask, open_at, shown_pictures
from probing.hooks.layouts import layout_of
from probing.stats import DRAWS, draw_weights
from taxogen.runs.bench import Bench
from taxogen.runs.run import Run

SPANS = ("slot", "cue", "last")


@dataclass(frozen=True)
class Options:
    """What is edited where, and how many pictures are asked.

    Attributes:
        hypernyms: which; by default the `count` largest with at most a sixth of the leaves, no two sharing one.
        layers: behind which; by default eight, evenly spaced (for steering the middle one).
        spans: slot, cue, last.
        each: leaves under each hypernym that are asked about, one picture each.
        others: leaves under none of them.
        folds: the eraser of a leaf is fitted on the leaves of all other folds.
        shrinkage: of covariances, see `probing.edits.erasure.Whitening`.
        doses: for steering, in standard deviations.
        directions: for steering; "probe" and "text" need the layer probes of the run.
    """

    hypernyms: tuple[str, ...] = ()
    count: int = 6
    layers: tuple[int, ...] = ()
    spans: tuple[str, ...] = ("slot", "cue")
    each: int = 12
    others: int = 30
    folds: int = 3
    shrinkage: float = 0.1
    doses: tuple[float, ...] = (-4.0, 2.0, 4.0, 8.0)
    directions: tuple[str, ...] = DIRECTIONS
    draws: int = DRAWS
    seed: int = 0


DEFAULT = Options()


def compute(bench: Bench, step: int, options: Options = DEFAULT) -> pd.DataFrame:
    """Long table of read-outs under erasure; see `analyses.erasure.rows`."""
    return _compute(bench, step, options, None)


def compute_steering(bench: Bench, step: int, options: Options = DEFAULT) -> pd.DataFrame:
    """Long table of changes under steering; see `analyses.erasure.rows`.

    Raises:
        FileNotFoundError: a probe's direction was asked for, and the run was not probed.
    """
    steering = Steering(options.doses, tuple(options.directions), _given(bench.run, step, bench, options))
    return _compute(bench, step, options, steering)


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """The figures of a table, by name."""
    steered = (table["analysis"] == "steering").all()
    return figures.draw_steering(table) if steered else figures.draw_erasure(table)


def _compute(bench: Bench, step: int, options: Options, steering: Steering | None) -> pd.DataFrame:
    run = bench.run
    name = "erasure" if steering is None else "steering"
    places = _places(bench, options, steering is not None)
    # A part is the same whichever other places are asked for.
    idle = {"draws", "layers", "spans"} | (set() if steering else {"doses", "directions"})
    deciding = {k: v for k, v in asdict(options).items() if k not in idle}
    parts = Parts.of(run.folder("analyses", "erasure"), {**deciding, "step": step, "what": name})
    world = cache(partial(_world, bench, options, places))

    def make(part: str) -> pd.DataFrame:
        place = Place.parse(part)
        return erase(world(), place) if steering is None else steer(world(), place, steering)

    with threadpool_limits(1):
        found = parts.collect([place.name for place in places], make, f"{name}, {run.name}")
    weights = draw_weights(found["leaf"].nunique(), options.draws, options.seed)
    table = (erasure_table if steering is None else steering_table)(found, weights, options.seed)
    return table.assign(run=run.name, step=step)


def _places(bench: Bench, options: Options, steered: bool) -> list[Place]:
    """Every span × layer, refused before anything is computed where there is none.

    Raises:
        KeyError: an unknown span, layer or hypernym.
    """
    depth = len(layout_of(bench.vlm.model).blocks)
    if unknown := [span for span in options.spans if span not in SPANS]:
        raise KeyError(f"span {unknown[0]!r} was asked for; known: {', '.join(SPANS)}")
    if unknown := [layer for layer in options.layers if not 0 <= layer < depth]:
        raise KeyError(f"layer {unknown[0]} was asked for; this model has layers 0 to {depth - 1}")
    if unknown := sorted(set(options.hypernyms) - set(bench.run.taxonomy.hypernyms)):
        raise KeyError(
            f"hypernym {unknown[0]!r} is not in the taxonomy: {', '.join(bench.run.taxonomy.hypernyms)}"
        )
    spaced = np.unique(np.linspace(0, depth - 1, 9).round().astype(int))[:-1].tolist()
    layers = options.layers or ((depth // 2,) if steered else tuple(spaced))
    return [Place(layer, span) for span in options.spans for layer in layers]


def _world(bench: Bench, options: Options, places: Sequence[Place]) -> World:
    """Questions about the drawn pictures, and the states of all captured ones."""
    run = bench.run
    names = options.hypernyms or choose_hypernyms(run.taxonomy, options.count)
    everything = shown_pictures(run, per_leaf=2)
    known = sorted(set(everything["leaf"]))
    leaves = choose_leaves(run.taxonomy, known, names, options.each, options.others, options.seed)
    shown = shown_pictures(run, leaves)
    fold = fold_of_leaves(
        run.taxonomy, everything["leaf"].to_numpy().astype(str), options.folds, options.seed
    )
    fold_of = dict(zip(everything["leaf"], fold))
    layers, spans = (sorted({getattr(place, what) for place in places}) for what in ("layer", "span"))
    return World(
        {task: ask(bench, task, shown) for task in TASKS},
        {task: span_states(bench, task, everything, layers, spans, fold) for task in TASKS},
        run.taxonomy,
        tuple(names),
        np.array([fold_of[leaf] for leaf in shown["leaf"]]),
        options.shrinkage,
        options.seed,
    )


def _given(
    run: Run, step: int, bench: Bench, options: Options
) -> Mapping[tuple[str, int, str], Mapping[str, np.ndarray]]:
    """Directions of the run's layer probes, of pictures and of words, at every asked place."""
    wanted = [kind for kind in options.directions if kind != "mass_mean"]
    if unknown := [kind for kind in options.directions if kind not in DIRECTIONS]:
        raise KeyError(f"direction {unknown[0]!r} was asked for; known: {', '.join(DIRECTIONS)}")
    if not wanted:
        return {}
    path = run.path / "analyses" / "layer_probes" / "directions.h5"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing, and directions {wanted} come from it; `python -m analyses.layer_probes --run "
            f"{run.path}` makes it, or steer with --direction mass_mean alone"
        )
    found = {}
    with h5py.File(path) as file:
        targets = [str(name) for name in cast(Sequence, file.attrs["targets"])]
        for place in _places(bench, options, True):
            for kind in wanted:
                group = f"image/{step}" if kind == "probe" else "text/none"
                name = f"{group}/{place.span}/{post(place.layer)}"
                if name not in file:
                    raise KeyError(
                        f"{path} has no directions {name}; probe that step, span and site with `python -m "
                        f"analyses.layer_probes --run {run.path} --step {step} --span {place.span}`"
                    )
                values = cast(h5py.Dataset, file[name])[:]
                found[kind, place.layer, place.span] = dict(zip(targets, values.astype(np.float64)))
    return found


def summary(table: pd.DataFrame) -> str:
    """What a table says, in a few lines."""
    rows = table[table["target"] == "mean"]
    return _steering_lines(rows) if (table["analysis"] == "steering").all() else _erasure_lines(rows)


def _erasure_lines(rows: pd.DataFrame) -> str:
    lines = [f"Erasing a hypernym, {', '.join(rows['run'].unique())} (nats, mean over hypernyms):"]
    for span, here in rows.groupby("span", sort=False):
        beyond = here[(here["measure"] == "gap_change") & (here["edit"] == "erased − controls")]
        bands = here.loc[here["measure"] == "gap_loss_lower_band", "value"]
        most = min(beyond.to_dict("records"), key=lambda one: one["value"])
        at = here[here["layer"] == most["layer"]].set_index(["measure", "edit"])
        lines.append(
            f"  {span:5} most behind layer {most['layer']:.0f}: gap {_said(at.loc[('gap', 'none')])} to "
            f"{_said(at.loc[('gap', 'erased')])}; beyond controls {_said(most)}, n = {most['n']}; "
            f"beyond them at {(bands > 0).sum()} of {len(bands)} layers (corrected)"
        )
        for measure, what in (("other_off", "other hypernyms"), ("leaf_under", "name of the leaf")):
            if (f"{measure}_change", "erased") in at.index:
                lines.append(f"        {what} there: {_said(at.loc[(f'{measure}_change', 'erased')])}")
    return "\n".join(lines)


def _steering_lines(rows: pd.DataFrame) -> str:
    lines = [
        f"Steering towards a hypernym, {', '.join(rows['run'].unique())} (change of its log-odds, nats):"
    ]
    most = rows[(rows["measure"] == "target_change") & (rows["dose"] == rows["dose"].max())]
    for (span, layer), here in most.groupby(["span", "layer"], sort=False):
        said = ", ".join(f"{one['edit']} {_said(one)}" for one in here.to_dict("records"))
        lines.append(
            f"  {span:5} behind layer {layer:.0f}, {here['dose'].iloc[0]:g} sd: {said}, n = {here['n'].iloc[0]}"
        )
    return "\n".join(lines)


def _said(one: Any) -> str:
    return f"{one['value']:+.2f} [{one['lower']:+.2f}, {one['upper']:+.2f}]"


def main(argv: Sequence[str] | None = None) -> None:
    """Edits the runs, prints a summary of each, and writes tables and figures into their folders."""
    args = _parse(argv)
    options = Options(
        tuple(args.hypernym), args.hypernyms, tuple(args.layer), tuple(args.span or DEFAULT.spans), args.each,
        args.others, args.folds, args.shrinkage, tuple(args.dose or DEFAULT.doses),
        tuple(args.direction or DEFAULT.directions), args.draws, args.seed,
    )  # fmt: skip
    name = "steering" if args.steer else "erasure"
    for path in args.run:
        run = Run.open(path)
        bench, step = open_at(run, args.step)
        table = (compute_steering if args.steer else compute)(bench, step, options)
        folder = run.folder("analyses", "erasure")
        tables.save(table, folder, name)
        for figure_name, figure in draw(table).items():
            drawing.save(figure, folder, figure_name)
        print(summary(table), f"Table and figures: {folder}", sep="\n")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_of("erasure", __doc__, DEFAULT.draws, DEFAULT.seed)
    parser.add_argument(
        "--steer", action="store_true", help="steer towards hypernyms instead of erasing them"
    )
    parser.add_argument(
        "--hypernym", action="append", default=[], help="default: the largest that share no leaf"
    )
    parser.add_argument("--hypernyms", type=int, default=DEFAULT.count, help="how many, where none is named")
    parser.add_argument(
        "--layer", action="append", type=int, default=[], help="default: eight, evenly spaced"
    )
    parser.add_argument("--span", action="append", choices=SPANS, help="default: slot and cue")
    parser.add_argument(
        "--each", type=int, default=DEFAULT.each, help="leaves asked about under each hypernym"
    )
    parser.add_argument("--others", type=int, default=DEFAULT.others, help="leaves asked about under none")
    parser.add_argument("--folds", type=int, default=DEFAULT.folds)
    parser.add_argument(
        "--shrinkage", type=float, default=DEFAULT.shrinkage, help="of covariances, in [0, 1)"
    )
    parser.add_argument("--dose", action="append", type=float, help="in standard deviations")
    parser.add_argument("--direction", action="append", choices=DIRECTIONS, help="default: all")
    return parser.parse_args(argv)
