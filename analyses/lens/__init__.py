"""What each layer would say: logit lens and tuned lens on picture and cue tokens, leaf against hypernym.

    python -m analyses.lens --run RUN [--run RUN2 …] [--step …] [--every …] [--leaves …]

Reads: projector snapshots, manifests and taxonomy of each run.
Writes: analyses/lens/ in each run: lens.parquet and .csv, nearest.parquet and .csv (words nearest to projected picture
tokens), figures (png and svg), and a part for each site, from which a second start goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache

import pandas as pd
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from analyses.frame import drawing, tables
from analyses.frame.command_line import parser_of
from analyses.frame.parts import Parts
from analyses.inputs.span_states import fold_of_leaves, post
from analyses.inputs.subject import draw_leaves, open_at, shown_pictures
from analyses.lens import figures
from analyses.lens.parts import MODALITIES, TARGETS, World, look, nearest, token_states, words_of
from analyses.lens.rows import lens_table
from probing.hooks.layouts import layout_of
from probing.lens import LogitLens
from probing.sites import EMBED
from probing.stats import DRAWS, draw_weights
from taxogen.runs.bench import Bench
from taxogen.runs.run import Run


@dataclass(frozen=True)
class Options:
    """Where is looked, and at how many pictures.

    Attributes:
        every: how many layers from one that is looked at to the next; the last is always looked at.
        leaves: how many are looked at, one picture and one name each; 0 for all. Translators are fitted on all.
        folds: the translator of a leaf is fitted on the leaves of all other folds.
    """

    every: int = 2
    leaves: int = 150
    folds: int = 2
    modalities: tuple[str, ...] = MODALITIES
    draws: int = DRAWS
    seed: int = 0


DEFAULT = Options()


def compute(bench: Bench, step: int, options: Options = DEFAULT) -> pd.DataFrame:
    """Long table of what layers say; see `analyses.lens.rows`.

    Raises:
        ValueError: `every` is not a positive number.
    """
    run = bench.run
    sites = sites_of(bench, options.every)
    settings = {k: v for k, v in asdict(options).items() if k not in ("draws", "every")} | {"step": step}
    parts = Parts.of(run.folder("analyses", "lens"), settings)

    @cache
    def world() -> World:
        return _world(bench, sites, options)

    with threadpool_limits(1):
        found = parts.collect(sites, lambda site: look(world(), site), f"lens, {run.name}")
    weights = draw_weights(found["leaf"].nunique(), options.draws, options.seed)
    return lens_table(found, weights, options.seed).assign(run=run.name, step=step)


def nearest_to_pictures(bench: Bench, options: Options = DEFAULT) -> pd.DataFrame:
    """The words nearest to the projected tokens of each picture that is looked at."""
    shown = shown_pictures(bench.run, draw_leaves(bench.run, options.leaves, options.seed))
    return nearest(bench, token_states(bench, shown, "image", [EMBED]), shown)


def draw(table: pd.DataFrame) -> dict[str, Figure]:
    """The figures of a table, by name."""
    return figures.draw(table)


def sites_of(bench: Bench, every: int) -> list[str]:
    """What enters the blocks, every so many layers from the first, and the last."""
    if every < 1:
        raise ValueError(f"every {every}th layer was asked for; give 1 or more")
    depth = len(layout_of(bench.vlm.model).blocks)
    return [EMBED, *(post(layer) for layer in sorted({*range(0, depth, every), depth - 1}))]


def _world(bench: Bench, sites: Sequence[str], options: Options) -> World:
    """Tokens of one picture and one name of every captured leaf, and the words that stand for them."""
    run = bench.run
    shown = shown_pictures(run)
    leaves = shown["leaf"].to_numpy().astype(str)
    fold = fold_of_leaves(run.taxonomy, leaves, options.folds, options.seed)
    return World(
        {modality: token_states(bench, shown, modality, sites) for modality in options.modalities},
        {target: words_of(bench, target, leaves.tolist(), options.seed) for target in TARGETS},
        tuple(leaves.tolist()),
        frozenset(draw_leaves(run, options.leaves, options.seed)),
        dict(zip(leaves.tolist(), fold.tolist())),
        sites[-1],
        LogitLens.of(bench.vlm.model),
    )


def summary(table: pd.DataFrame) -> str:
    """Which comes first, leaf or hypernym, and how high they stand at the end."""
    lines = [f"What layers say, {', '.join(table['run'].unique())} (own words against other leaves'):"]
    onsets = table[table["measure"] == "onset"]
    for keys, here in onsets.groupby(["modality", "lens", "span"], sort=False):  # pyright: ignore[reportGeneralTypeIssues]
        at = {one["target"]: one for one in here.to_dict("records")}
        said = "; ".join(f"{target} {_said(one)}" for target, one in at.items())
        lines.append(f"  {' '.join(map(str, keys)):17} onset: {said}, n = {here['n'].iloc[0]}")
    last = table[(table["words"] == "own − other") & (table["layer"] == table["layer"].max())]
    last = last[(last["measure"] == "log_prob") & (last["span"] == "last") & (last["lens"] == "logit")]
    lines += [
        f"  at the last token of the last layer, {one['modality']}, {one['target']}: "
        f"{one['value']:+.2f} [{one['lower']:+.2f}, {one['upper']:+.2f}] nats beyond other words"
        for one in last.to_dict("records")
    ]
    near = table[
        (table["lens"] == "cosine") & (table["words"] == "own − other") & (table["measure"] == "cosine")
    ]
    lines += [
        f"  projected picture tokens, {one['target']}: cosine to own words {one['value']:+.3f} "
        f"[{one['lower']:+.3f}, {one['upper']:+.3f}] beyond others'"
        for one in near.to_dict("records")
    ]
    return "\n".join(lines)


def _said(one: dict) -> str:
    return f"{one['value']:g} [{one['lower']:g}, {one['upper']:g}]"


def main(argv: Sequence[str] | None = None) -> None:
    """Looks into the runs, prints a summary of each, and writes tables and figures into their folders."""
    args = _parse(argv)
    options = Options(
        args.every, args.leaves, args.folds, tuple(args.modality or MODALITIES), args.draws, args.seed
    )
    for path in args.run:
        run = Run.open(path)
        bench, step = open_at(run, args.step)
        table = compute(bench, step, options)
        folder = run.folder("analyses", "lens")
        tables.save(table, folder, "lens")
        tables.save(nearest_to_pictures(bench, options), folder, "nearest")
        for name, figure in draw(table).items():
            drawing.save(figure, folder, name)
        print(summary(table), f"Tables and figures: {folder}", sep="\n")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_of("lens", __doc__, DEFAULT.draws, DEFAULT.seed)
    parser.add_argument("--every", type=int, default=DEFAULT.every, help="layers from one look to the next")
    parser.add_argument("--leaves", type=int, default=DEFAULT.leaves, help="how many are looked at; 0: all")
    parser.add_argument("--folds", type=int, default=DEFAULT.folds)
    parser.add_argument("--modality", action="append", choices=MODALITIES, help="default: both")
    return parser.parse_args(argv)
