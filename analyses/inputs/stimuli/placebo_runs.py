"""Placebo runs: runs of a random-init language model, which are asked the same as the run beside them."""

from __future__ import annotations

from analyses.inputs import subject
from probing.store import MismatchError
from taxogen.answers.evaluate import templates_of
from taxogen.runs.run import Run


def check(run: Run, placebo: Run) -> None:
    """Refuses a placebo run whose language model is not all random, or whose questions differ.

    Raises:
        FileNotFoundError: it is not trained.
        ValueError: it is a run of yes/no questions.
        MismatchError: a part of its language model is pretrained, or it puts its questions in other words.
    """
    subject.check(placebo)
    if (init := placebo.config.model.init) != "random":
        raise MismatchError(
            f"{placebo.path} was given as --placebo-run, and its language model is of model.init={init}; give a run of "
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
