"""What does each layer predict? Logit lens and tuned lens on picture and cue tokens, leaf against hypernym.

    python -m analyses.lens --run RUN [--run RUN2 …] [--step …] [--every …] [--leaves …] [--lens …] [--bank FILE]

Reads: projector snapshots, manifests and taxonomy of each run.
Writes: analyses/lens/ in each run: lens.parquet and .csv, nearest.parquet and .csv (words nearest to projected picture
tokens), with the contextual lens sentences.parquet and .csv (nearest words of picture tokens in their sentences) and a
bank of states in the cache folder, figures (png and svg), and a part for each site, from which a second start goes on.
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
from analyses.frame.results import one_or_several
from analyses.frame.tables import SHARED, Evidence
from analyses.inputs.effects import with_effects
from analyses.inputs.span_states import fold_of_leaves, post
from analyses.inputs.subject import Subject, draw_leaves, shown_pictures
from analyses.inputs.subject import check as check_run
from analyses.lens import further
from analyses.lens.contextual import EVIDENCE, NEAREST, SENTENCE, rows_of
from analyses.lens.effects import lens_effects
from analyses.lens.figures import draw
from analyses.lens.neighbours import neighbour_rows, summary_lines
from analyses.lens.parts import LensInputs, look, nearest
from analyses.lens.rows import lens_table
from analyses.lens.rows import summary as evidence_lines
from analyses.lens.tokens import MODALITIES, token_states
from analyses.lens.words import TARGETS, words_of
from probing.hooks.layouts import layout_of
from probing.lens import LogitLens
from probing.sites import EMBED
from probing.stats import draw_weights
from taxogen.runs.run import Run

__all__ = ["ANALYSIS", "Options", "compute", "draw", "main", "summary"]

UNSEEN = ("draws", "every", *further.OPTIONS)
"""Options that the parts of the logit, tuned and cosine lens do not depend on."""


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """At which layers and at how many pictures is looked.

    Attributes:
        step: of a saved projector, by default the last
        every: layers from one that is looked at to the next; the last is always looked at
        leaves: leaf concepts that are drawn, one picture and one name each; 0 for all. Translators are fitted on all
        folds: the translator of a leaf is fitted on the leaves of all other folds
        modalities: pictures, names in their place, or both
        lenses: further lenses, which take longer: words in sentences, the rest of the model linearised, a state put
            into another prompt
        bank: text file with a sentence in each line for the contextual lens, or "latentlens" for the corpus of that
            package; sentences of our own about each name if not given
        jacobian_rows: leaves of all other folds on which the rest of the model is linearised
        template: prompt in which a state takes the place of the last "?" (patchscope), by default the token identity
            prompt of its authors
    """

    step: int | None = option(None)
    every: int = option(2, role=EXTENT)
    leaves: int = option(150, role=EXTENT)
    folds: int = option(2, role=EXTENT)
    modalities: tuple[str, ...] = option(MODALITIES, flag="--modality", choices=MODALITIES, role=EXTENT)
    lenses: tuple[str, ...] = option((), flag="--lens", choices=further.LENSES, role=EXTENT)
    bank: str = option("")
    jacobian_rows: int = option(4, role=EXTENT)
    template: str = option("")


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses what cannot be asked of a run, before anything is loaded.

    Raises:
        ValueError: `every` is not a positive number, a run has no word to be read, or a lens cannot do what is asked.
        FileNotFoundError: a projector was not saved at that step, or there is no such bank.
    """
    if options.every < 1:
        raise ValueError(f"every {options.every}th layer was asked for; give 1 or more")
    further.check(options)
    for run in runs:
        check_run(run, options.step)


@one_or_several
def compute(runs: Sequence[Run], options: Options) -> Result:
    """Long table of the evidence for words at each layer of a run (see `analyses.lens.rows`), beside it table nearest.

    Raises:
        ValueError: words that cannot be read by their first token.
    """
    (run,) = runs
    subject = Subject.of(run, options.step)
    sites = sites_of(subject, options.every)
    settings = {name: value for name, value in asdict(options).items() if name not in UNSEEN}
    settings |= {"step": subject.step, **subject.wording, "makers": subject.makers}
    parts = Parts.of(run.folder("analyses", "lens"), settings)
    inputs = cache(lambda: lens_inputs(subject, sites, options))
    with threadpool_limits(1):
        evidence = parts.collect(sites, lambda site: look(inputs(), site), f"lens, {run.name}")
        more = further.further_parts(subject, inputs, options, sites, settings)
    near = parts.collect(["nearest"], lambda _: nearest_words_of(subject, options), f"nearest, {run.name}")
    weights = draw_weights(evidence["leaf"].nunique(), options.draws, options.seed)
    words = more.pop("contextual", None)
    told = [] if words is None else rows_of(words, EVIDENCE)
    whole = pd.concat([evidence, *told, *more.values()], ignore_index=True)
    shares = [] if words is None else neighbour_rows(next(rows_of(words, NEAREST)), weights)
    table = lens_table(whole, weights, options.seed, shares).assign(run=run.name, step=subject.step)
    said = {} if words is None else {"sentences": next(rows_of(words, SENTENCE), pd.DataFrame())}
    files = with_effects(lens_effects(whole, run.taxonomy), "lens").files
    return Result(table, Extras(tables={"nearest": near, **said}, files=files))


def summary(table: pd.DataFrame) -> str:
    """When layers find the words, and what picture tokens are nearest to, in a few lines."""
    return "\n".join([evidence_lines(table), *summary_lines(table)])


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


ALONG_LAYERS = (
    Evidence(
        kind="logit lens",
        about=SHARED,
        rows={"lens": "logit", "target": "hypernym", "modality": "image", "measure": "log_prob"},
    ),
)

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
    quick={"every": 6, "leaves": 40},
)
main = ANALYSIS.main
