"""The stages of one run: train (and capture), evaluate, and the questions that it is asked, one after another."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, Protocol, cast

from taxogen.answers import baselines
from taxogen.answers import evaluate as scoring
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.stages import pipeline
from taxogen.stages.side_by_side import Tell

ASKING = "analyses.study.asking"
"""The module that asks questions, looked up by name: nothing in this package stands on the analyses."""
Stages = Mapping[str, Callable[[], object]]
Questions = Mapping[str, Mapping[str, Any]]
"""Question → its options, as a plan file gives them."""


class Asking(Protocol):
    """What asks questions of runs."""

    def check(self, question: str, options: Mapping[str, Any]) -> None:
        """Refuses an unknown question or option."""

    def asked(self, run: Run, question: str, options: Mapping[str, Any]) -> bool:
        """Whether the answer is there, of these options and of the run as it is now."""
        ...

    def ask(self, run: Run, question: str, options: Mapping[str, Any]) -> None:
        """Answers the question in the run's folder."""


@functools.cache
def asking() -> Asking:
    """What asks questions of runs."""
    return cast(Asking, import_module(ASKING))


def own_stages(run: Run) -> Stages:
    """What trains (and captures) and evaluates a run, with one model; what is done already takes no time."""
    bench = functools.cache(partial(open_bench, run))
    trained = pipeline.trained_and_captured(run)
    return {
        "train": lambda: None if trained else pipeline.train_run(run, bench()),
        "evaluate": lambda: pipeline.evaluate_run(run, None if trained else bench()),
    }


def stages_of(run: Run, questions: Questions) -> Stages:
    """What is left to be done of a run, by stage."""
    left = remaining(run, questions)
    every = {name: partial(asking().ask, run, name, options) for name, options in questions.items()}
    return {name: do for name, do in {**own_stages(run), **every}.items() if name in left}


def remaining(run: Run, questions: Questions) -> tuple[str, ...]:
    """The stages of a run that are not done."""
    trained = _holds(lambda: pipeline.trained_and_captured(run))
    done = {"train": trained, "evaluate": trained and evaluated(run)}
    for name, options in questions.items():
        done[name] = trained and _holds(partial(asking().asked, run, name, options))
    return tuple(name for name, is_done in done.items() if not is_done)


def evaluated(run: Run) -> bool:
    """Whether a run is scored, beside its baselines, as its config asks now."""
    return run.complete and _holds(lambda: scoring.fits(run) and baselines.fits(run))


def _holds(is_done: Callable[[], bool]) -> bool:
    """Whether a stage is done; not where a file that it needs cannot be read: doing it mends that, or says why not."""
    try:
        return is_done()
    except (ValueError, KeyError, OSError):
        return False


def work(name: str, stages: Stages, tell: Tell) -> None:
    """Does the stages of one run; tells when one begins, and how many seconds it took (`Clock.hear`)."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    for stage, do in stages.items():
        tell((f"{stage} {name}", None))
        start = time.monotonic()
        do()
        tell((f"{stage} {name}", time.monotonic() - start))
