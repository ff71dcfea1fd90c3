"""Before anything is loaded: what cannot be exchanged is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analyses.inputs import subject
from analyses.inputs.span_states import fold_of_leaves
from analyses.inputs.stimuli import pictures_of, placebo_runs
from analyses.interchange.options import METHODS, PAIRS, SPANS, TRAINED, Options, largest_rank, with_ranks
from taxogen.runs.run import Run

_WIDEST = 1_000_000
"""More dimensions than the states of any model have."""


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses what cannot be asked of a run.

    Raises:
        KeyError: an unknown span, method, or modality to make subspaces from.
        ValueError: numbers below 1, one fold, a run of yes/no questions, fewer leaves than folds, ranks beyond those of
            subspaces.
        FileNotFoundError: a run that is not there, or not trained.
        MismatchError: a placebo run that is none, or puts its questions in other words.
    """
    for what, given, known in (
        ("span", options.spans, SPANS),
        ("method", options.methods, METHODS),
        ("--trained-on", options.trained, tuple(TRAINED)),
    ):
        if unknown := [one for one in given if one not in known]:
            raise KeyError(f"{what} {unknown[0]!r} was asked for; known: {', '.join(known)}")
    pairs = PAIRS if options.pairs is None else options.pairs
    least = {"--pairs": pairs, "--training-pairs": options.training_pairs, "--steps": options.steps}
    least |= {"--controls": options.controls, "--trained-controls": options.trained_controls}
    least |= {"--rank": min(options.ranks, default=1)}
    if short := [flag for flag, value in least.items() if value < 1]:
        raise ValueError(f"{short[0]} {least[short[0]]} was asked for; give 1 or more")
    if options.folds < 2 or not 0 <= options.tested <= options.folds:
        raise ValueError(
            f"{options.tested} of {options.folds} folds were asked for; give --folds 2 or more, and --tested-folds up "
            "to that (0 for all)"
        )
    if not 0 < options.rate <= 1 or not 0 <= options.shrinkage < 1:
        raise ValueError(
            f"--rate {options.rate} and --shrinkage {options.shrinkage} were asked for; give a rate in (0, 1], and a "
            "share in [0, 1)"
        )
    placebo = Run.open(options.placebo_run) if options.placebo_run else None
    for run in runs:
        subject.check(run)
        leaves = sorted(pictures_of(run, options.seed))
        if len(leaves) < options.folds:
            raise ValueError(
                f"{options.folds} folds of leaves were asked for; {run.path} has test pictures of {len(leaves)}: ask "
                "for fewer with --folds"
            )
        fold = fold_of_leaves(run.taxonomy, np.array(leaves), options.folds, options.seed)
        # How wide states are, and which hypernyms can be read, is known once the model is loaded: a first bound.
        with_ranks(options, largest_rank(run.taxonomy.labels(leaves), fold, options, _WIDEST))
        if placebo is not None:
            placebo_runs.check(run, placebo)
