"""Before anything is loaded: what cannot be exchanged is refused."""

from __future__ import annotations

from collections.abc import Sequence

from analyses.inputs import subject
from analyses.inputs.stimuli import pictures_of
from analyses.interchange.options import METHODS, SPANS, TRAINED, Options
from probing.store import MismatchError
from taxogen.answers.evaluate import templates_of
from taxogen.runs.run import Run


def check(runs: Sequence[Run], options: Options) -> None:
    """Refuses what cannot be asked of a run.

    Raises:
        KeyError: an unknown span, method, or modality to make subspaces from.
        ValueError: numbers below 1, one fold, a run of yes/no questions, fewer leaves than folds.
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
    least = {"--pairs": options.pairs, "--training-pairs": options.training_pairs, "--steps": options.steps}
    least |= {"--controls": options.controls, "--trained-controls": options.trained_controls}
    least |= {"--rank": min(options.ranks)}
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
        if (leaves := len(pictures_of(run, options.seed))) < options.folds:
            raise ValueError(
                f"{options.folds} folds of leaves were asked for; {run.path} has test pictures of {leaves}: ask for "
                "fewer with --folds"
            )
        if placebo is not None:
            _check_placebo(run, placebo)


def _check_placebo(run: Run, placebo: Run) -> None:
    """Refuses a placebo run whose language model is pretrained, or whose questions differ."""
    subject.check(placebo)
    if placebo.config.model.init == "pretrained":
        raise MismatchError(
            f"{placebo.path} was given as --placebo-run, and its language model is pretrained; give a run of "
            "model.init=random"
        )
    first, second = (
        {task: names[0] for task, names in templates_of(one).items()} | {"chat": str(one.config.data.chat)}
        for one in (run, placebo)
    )
    if first != second:
        raise MismatchError(
            f"{placebo.path} puts its questions as {second}, {run.path} as {first}; a placebo run is asked the same"
        )
