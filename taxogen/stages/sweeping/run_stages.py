"""The stages of one run: train (and capture), evaluate, and the questions that it is asked; and questions of many."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from taxogen.answers import baselines
from taxogen.answers import evaluate as scoring
from taxogen.runs.bench import open_bench
from taxogen.runs.run import Run
from taxogen.stages import pipeline

ASKING = "analyses.study.asking"
"""The module that asks questions, looked up by name: nothing in this package stands on the analyses."""
Options = Mapping[str, Any]
"""Options of a question, as a plan file gives them."""
Questions = Mapping[str, Options]


class Asking(Protocol):
    """What asks questions: of one run, or of several together, where `out` holds the folder of a report."""

    def check(self, question: str, options: Options, together: bool = False) -> None:
        """Refuses an unknown question or option, and one that is asked in the wrong place."""

    def needs(self, question: str) -> tuple[str, ...]:
        """The questions whose answers it reads."""
        ...

    def asked(self, runs: Sequence[Run], question: str, options: Options, out: Path | None = None) -> bool:
        """Whether the answer is there, of these options and of the runs as they are now."""
        ...

    def ask(self, runs: Sequence[Run], question: str, options: Options, out: Path | None = None) -> None:
        """Answers the question in the first run's folder, or in `out`."""


@functools.cache
def asking() -> Asking:
    """What asks questions of runs."""
    return cast(Asking, import_module(ASKING))


def prepare(run: Run) -> None:
    """Closes a run, and puts the features of its pictures into the cache of this machine; what is there stays."""
    with run.alone():
        open_bench(run)
        run.save_config()


def do_stage(run: Run, stage: str, options: Options) -> None:
    """Trains (and captures) or evaluates a run, or asks it a question; what is done already takes no time."""
    _quiet()
    if stage in (own := {"train": pipeline.train_run, "evaluate": pipeline.evaluate_run}):
        with run.alone():
            own[stage](run)
    else:
        asking().ask([run], stage, options)


def ask_together(runs: Sequence[Run], question: str, options: Options, out: Path) -> None:
    """Asks some runs a question together."""
    _quiet()
    asking().ask(runs, question, options, out)


def asked_together(runs: Sequence[Run], question: str, options: Options, out: Path) -> bool:
    """Whether some runs were asked a question together, with these options and as they are now."""
    return _holds(partial(asking().asked, runs, question, options, out))


def remaining(run: Run, questions: Questions) -> tuple[str, ...]:
    """The stages of a run that are not done."""
    trained = _holds(lambda: pipeline.trained_and_captured(run))
    done = {"train": trained, "evaluate": trained and evaluated(run)}
    for name, options in questions.items():
        done[name] = trained and _holds(partial(asking().asked, [run], name, options))
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


def _quiet() -> None:
    logging.getLogger("transformers").setLevel(logging.ERROR)
