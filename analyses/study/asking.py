"""Questions that a plan asks of its runs: what `taxoprobe sweep` looks up, to check and to ask them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from analyses.frame import provenance, registry, wording
from analyses.frame.analysis import Analysis, Takes
from analyses.frame.command_line import flags_of, options_from
from probing.store import MismatchError
from probing.store.records import DamagedError
from taxogen.runs.run import Run
from taxogen.stages.sweeping.plan_file import known


def check(question: str, options: Mapping[str, Any]) -> None:
    """Refuses an unknown question or option, naming the nearest, and one that is not asked of each run."""
    _asked_with(question, options)


def asked(run: Run, question: str, options: Mapping[str, Any]) -> bool:
    """Whether the answer is there, of these options and of the run as it is now."""
    try:
        return answer(run, question, options) is not None
    except (MismatchError, DamagedError):
        return False


def answer(run: Run, question: str, options: Mapping[str, Any]) -> Path | None:
    """The table that answers a question with these options; None where it was not asked with them.

    Raises:
        DamagedError, MismatchError: it is not as it was written, or not of the run as it is now.
    """
    found = stored(run, question, options)
    record = found.require() if found.path.is_file() else None
    same = record is not None and record["options"] == wording.plain(_asked_with(question, options)[1])
    return found.path if same else None


def stored(run: Run, question: str, options: Mapping[str, Any]) -> provenance.Stored:
    """Where the table that answers a question with these options lies, whether it is there or not."""
    analysis, wanted = _asked_with(question, options)
    folder = provenance.home_of(run) / wording.folder_name(analysis.name, wanted)
    return provenance.Stored(analysis, folder / f"{analysis.table_name_of(wanted)}.parquet", [run])


def ask(run: Run, question: str, options: Mapping[str, Any]) -> None:
    """Answers the question in the run's folder, without a word."""
    analysis, wanted = _asked_with(question, options)
    with contextlib.redirect_stdout(io.StringIO()):
        analysis.ask([run], wanted)


def _asked_with(question: str, options: Mapping[str, Any]) -> tuple[Analysis, Any]:
    """The analysis, and its options as the flags of these names give them; a switch is true, a list several values."""
    analysis = registry.load(question)
    if analysis.takes is not Takes.EACH_RUN:
        raise ValueError(f"{question} is asked of all runs together; ask it when they are there")
    flags, words = flags_of(analysis.options), []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        known(f"{question} has no option {name!r}", flag[2:], [one[2:] for one in flags])
        if value is not False:
            values = [] if value is True else value if isinstance(value, list) else [value]
            words += [flag, *map(str, values)]
    parser = analysis.parser()
    setattr(parser, "error", _refuse)  # noqa: B010 - a method, which a type checker would not see replaced
    return analysis, options_from(analysis.options, parser.parse_args(words))


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)
