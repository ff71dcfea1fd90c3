"""Before anything is patched: what cannot be is refused, pictures and pairs are drawn, and the grid is laid out."""

from __future__ import annotations

from collections.abc import Sequence

from analyses.inputs import subject
from analyses.inputs.stimuli import Stimuli, pictures_of, placebo_runs
from analyses.inputs.stimuli.pairs import PAIRS, Pair, pairs_of
from analyses.inputs.subject import Subject
from analyses.patching.grid import PatchGrid
from analyses.patching.options import Options
from probing.patching import EACH, Alignment, grid
from probing.patching.cells import HEADS
from probing.sites import BLOCK_POINTS, PATTERN, Site, select
from probing.store import MismatchError
from taxogen.runs.flags import note
from taxogen.runs.names import plain_name
from taxogen.runs.run import Run

_DEEPEST = 1_000
"""More layers than any model has: which ones a model has is known once it is loaded."""


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses what cannot be patched, before anything is loaded.

    Raises:
        ValueError: a name that is a path, a run of yes/no questions, fewer leaves than pairs, no window, heads of sites
            that have none.
        KeyError: a site that no model has.
        FileNotFoundError: a run that is not there, or not trained.
        MismatchError: a placebo run that is none, or puts its questions in other words.
    """
    _check_sites(options)
    if options.name:
        plain_name(options.name, "--name")
    for flag, value in (("--window", options.window), ("--pairs", options.pairs)):
        if value is not None and value < 1:
            raise ValueError(f"{flag} {value} was asked for; give 1 or more")
    if options.natural and options.slot == "each" and "slot" in options.spans:
        raise ValueError(
            "--natural was asked for with --slot each: slots of several lengths have no common natural states; leave "
            "one of them out, or give --span cue last"
        )
    placebo = Run.open(options.placebo_run) if options.placebo_run else None
    for run in runs:
        subject.check(run)
        if (leaves := len(pictures_of(run, options.seed))) < (options.pairs or 0):
            raise ValueError(
                f"{options.pairs} pairs of leaves were asked for; {run.path} has test pictures of {leaves} leaves, "
                "and none is in two pairs: ask for fewer with --pairs"
            )
        if placebo is not None:
            placebo_runs.check(run, placebo)


def prepare(subject: Subject, options: Options, pairs: Sequence[Pair] | None = None) -> PatchGrid:
    """The grid of a subject; pairs are drawn unless given.

    Raises:
        ValueError: alignments, windows, heads or pairs that cannot be.
        KeyError: a site that the model does not have.
        MismatchError: the given pairs have a leaf without a picture, or a hypernym that cannot be read.
    """
    run, pictures = subject.run, pictures_of(subject.run, options.seed)
    alignments = {span: Alignment(options.slot) if span == "slot" else EACH for span in options.spans}
    cells = grid(
        subject.bench.vlm.model, options.sites, options.spans,
        heads=options.heads, window=options.window, cumulative=options.cumulative,
    )  # fmt: skip
    hypernyms, token_of = subject.candidates("hypernym").names, subject.candidates("leaf").token_of
    if pairs is None:
        first_tokens = {leaf: token_of[leaf] for leaf in sorted(pictures)}
        noising = options.mode == "noising"
        pairs = pairs_of(run.taxonomy, first_tokens, hypernyms, options.pairs, options.seed, noising=noising)
        if options.pairs is None and len(pairs) < PAIRS:
            text = f"{len(pairs)} pairs in place of {PAIRS}: leaves of {run.name} make no more"
            note(f"patching: {text}")
    _check_pairs(run, pairs, pictures, hypernyms)
    stimuli = Stimuli(subject, pictures, alignments)
    if "slot" in options.spans and options.slot == "each":
        _check_slot(stimuli, options, pairs)
    return PatchGrid(stimuli, cells, options, pairs, run.folder("analyses", "patching", "parts"))


def _check_sites(options: Options) -> None:
    points = [point for point in BLOCK_POINTS if point != PATTERN]
    known = [Site(point, layer) for layer in range(_DEEPEST) for point in points]
    try:
        chosen = select(options.sites, known)
    except KeyError:
        raise KeyError(
            f"no site that can be patched matches {' '.join(options.sites)}; sites are blocks.LAYERS.POINT, LAYERS "
            f"such as * or 0,4,8-11 and POINT one of {', '.join(points)}"
        ) from None
    if options.heads and all(site.point != HEADS for site in chosen):
        raise ValueError(
            f"--heads splits {HEADS} into its heads; the sites are {' '.join(options.sites)}: give --sites "
            f"blocks.*.{HEADS}"
        )


def _check_pairs(run: Run, pairs: Sequence[Pair], pictures: dict[str, str], hypernyms: Sequence[str]) -> None:
    leaves = {leaf for pair in pairs for leaf in (pair.clean, pair.corrupted, pair.sibling, pair.stranger)}
    if missing := sorted(leaves - set(pictures)):
        raise MismatchError(
            f"{run.path} has no test picture of {missing[:5]}: it is of another world than the pairs"
        )
    if unread := sorted({name for pair in pairs for name in (pair.up, pair.down)} - set(hypernyms)):
        raise MismatchError(
            f"the language model of {run.path} cannot read {unread[:5]}, in which pairs of leaves differ: its "
            "tokenizer or taxonomy is another one"
        )


def _check_slot(stimuli: Stimuli, options: Options, pairs: Sequence[Pair]) -> None:
    """Refuses to put slots token by token into slots of other lengths, before anything is run."""
    source, target = options.modalities
    for pair in pairs:
        ends = [(pair.clean, source), (pair.corrupted, target)]
        rows = stimuli.rows("hypernym", ends)
        EACH.check("slot", *(len(stimuli.group([rows[end]]).spans["slot"]) for end in ends))
