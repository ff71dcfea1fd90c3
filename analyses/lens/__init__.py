"""What does each layer predict? Logit lens and tuned lens on picture and cue tokens, leaf against hypernym.

    python -m analyses.lens --run RUN [--run RUN2 …] [--step …] [--every …] [--leaves …]

Reads: projector snapshots, manifests and taxonomy of each run.
Writes: analyses/lens/ in each run: lens.parquet and .csv, nearest.parquet and .csv (words nearest to projected picture
tokens), figures (png and svg), and a part for each site, from which a second start goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache

import pandas as pd
from threadpoolctl import threadpool_limits

from analyses.frame.analysis import Analysis, Extras, Result
from analyses.frame.command_line import EXTENT, Resampling, option
from analyses.frame.parts import Parts
from analyses.inputs.span_states import fold_of_leaves, post
from analyses.inputs.subject import Subject, draw_leaves, shown_pictures
from analyses.inputs.subject import check as check_run
from analyses.lens.figures import draw
from analyses.lens.parts import LensInputs, look, nearest
from analyses.lens.rows import lens_table, summary
from analyses.lens.tokens import MODALITIES, token_states
from analyses.lens.words import TARGETS, words_of
from probing.hooks.layouts import layout_of
from probing.lens import LogitLens
from probing.sites import EMBED
from probing.stats import draw_weights
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "compute", "draw", "main", "summary"]


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """At which layers and at how many pictures is looked.

    Attributes:
        step: of a saved projector, by default the last
        every: layers from one that is looked at to the next; the last is always looked at
        leaves: leaf concepts that are drawn, one picture and one name each; 0 for all. Translators are fitted on all
        folds: the translator of a leaf is fitted on the leaves of all other folds
        modalities: pictures, names in their place, or both
    """

    step: int | None = option(None)
    every: int = option(2, role=EXTENT)
    leaves: int = option(150, role=EXTENT)
    folds: int = option(2, role=EXTENT)
    modalities: tuple[str, ...] = option(MODALITIES, flag="--modality", choices=MODALITIES, role=EXTENT)


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses what cannot be asked of a run, before anything is loaded.

    Raises:
        ValueError: `every` is not a positive number, or a run has no word to be read.
        FileNotFoundError: a projector was not saved at that step.
    """
    if options.every < 1:
        raise ValueError(f"every {options.every}th layer was asked for; give 1 or more")
    for run in runs:
        check_run(run, options.step)


def compute(runs: Sequence[Run], options: Options) -> Result:
    """Long table of the evidence for words at each layer of a run (see `analyses.lens.rows`), beside it table nearest.

    Raises:
        ValueError: words that cannot be read by their first token.
    """
    (run,) = runs
    subject = Subject.of(run, options.step)
    sites = sites_of(subject, options.every)
    settings = {name: value for name, value in asdict(options).items() if name not in ("draws", "every")}
    settings |= {"step": subject.step, **subject.wording, "makers": subject.makers}
    parts = Parts.of(run.folder("analyses", "lens"), settings)
    inputs = cache(lambda: lens_inputs(subject, sites, options))
    with threadpool_limits(1):
        evidence = parts.collect(sites, lambda site: look(inputs(), site), f"lens, {run.name}")
    near = parts.collect(["nearest"], lambda _: nearest_words_of(subject, options), f"nearest, {run.name}")
    weights = draw_weights(evidence["leaf"].nunique(), options.draws, options.seed)
    table = lens_table(evidence, weights, options.seed).assign(run=run.name, step=subject.step)
    return Result(table, Extras(tables={"nearest": near}))


def sites_of(subject: Subject, every: int) -> list[str]:
    """What enters the blocks, then the states behind every `every`-th layer from the first, and behind the last."""
    depth = len(layout_of(subject.bench.vlm.model).blocks)
    return [EMBED, *(post(layer) for layer in sorted({*range(0, depth, every), depth - 1}))]


def lens_inputs(subject: Subject, sites: Sequence[str], options: Options) -> LensInputs:
    """Tokens of one picture and one name of every captured leaf, and the words that stand for them."""
    run = subject.run
    shown = shown_pictures(run)
    leaves = shown["leaf"].to_numpy().astype(str)
    fold = fold_of_leaves(run.taxonomy, leaves, options.folds, options.seed)
    return LensInputs(
        {modality: token_states(subject, shown, modality, sites) for modality in options.modalities},
        {target: words_of(subject, target, leaves.tolist(), options.seed) for target in TARGETS},
        tuple(leaves.tolist()),
        frozenset(draw_leaves(run, options.leaves, options.seed)),
        dict(zip(leaves.tolist(), fold.tolist())),
        sites[-1],
        LogitLens.of(subject.bench.vlm.model),
    )


def nearest_words_of(subject: Subject, options: Options) -> pd.DataFrame:
    """The words nearest to the projected tokens of each picture that is looked at."""
    shown = shown_pictures(subject.run, draw_leaves(subject.run, options.leaves, options.seed))
    return nearest(subject, token_states(subject, shown, "image", [EMBED]), shown)


ANALYSIS = Analysis(
    "lens",
    __doc__,
    Options,
    compute,
    draw,
    summary,
    example="python -m analyses.lens --run artifacts/runs/demo-pretrained --leaves 40 --every 6",
    of_stores="it reads activations with the model's own head",
    check=check,
)
main = ANALYSIS.main
