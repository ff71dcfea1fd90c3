"""Questions that a plan asks of its runs: what `taxoprobe sweep` looks up, to check and to ask them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from analyses.frame import provenance, registry, wording
from analyses.frame.analysis import Analysis, Takes
from analyses.frame.command_line import flags_of, options_from
from analyses.frame.identity import distinguished
from probing.store import MismatchError, records
from probing.store.records import DamagedError
from taxogen.runs.run import Run
from taxogen.stages.sweeping.plan_file import REPORT, known


def check(question: str, options: Mapping[str, Any], together: bool = False) -> None:
    """Refuses an unknown question or option, naming the nearest, and one that is asked in the wrong place.

    Args:
        question: its name.
        options: as a plan gives them.
        together: whether it is asked of all runs together, not of each.
    """
    if together and question == REPORT:
        if options:
            raise ValueError(f"the report has no options, found {', '.join(options)}; leave them out")
        return
    analysis, _ = _asked_with(question, options)
    if together and analysis.takes not in (Takes.RUNS_TOGETHER, Takes.RUNS_OR_NONE):
        raise ValueError(f"{question} is not asked of all runs together; ask it under [questions]")
    if not together and analysis.takes is not Takes.EACH_RUN:
        raise ValueError(f"{question} is asked of all runs together; ask it under [together]")


def needs(question: str) -> tuple[str, ...]:
    """The questions whose tables a question reads."""
    return () if question == REPORT else tuple(one.replace("_", "-") for one in registry.load(question).needs)


def asked(runs: Sequence[Run], question: str, options: Mapping[str, Any], out: Path | None = None) -> bool:
    """Whether the answer is there, of these options and of the runs as they are now.

    Args:
        runs: one, or those that are asked together.
        question: its name.
        options: as a plan gives them.
        out: holds the folder of the report.
    """
    try:
        if question == REPORT:
            page = _page(out)
            return page.is_file() and records.made_from(page) == {"of": _tables_of(runs)}
        return answer(runs, question, options) is not None
    except (MismatchError, DamagedError, FileNotFoundError):
        return False


def answer(runs: Sequence[Run], question: str, options: Mapping[str, Any]) -> Path | None:
    """The table that answers a question with these options; None where it was not asked with them, or not to the end.

    The table is written last (`Analysis.save`).

    Raises:
        DamagedError, MismatchError: it is not as it was written, or not of the runs as they are now.
    """
    found = stored(runs, question, options)
    record = found.require() if found.path.is_file() else None
    same = record is not None and record["options"] == wording.plain(_asked_with(question, options)[1])
    return found.path if same else None


def stored(runs: Sequence[Run], question: str, options: Mapping[str, Any]) -> provenance.Stored:
    """Where the table that answers a question with these options lies, whether it is there or not."""
    analysis, wanted = _asked_with(question, options)
    folder = provenance.home_of(runs[0]) / wording.folder_name(analysis.name, wanted)
    path = folder / f"{analysis.table_name_of(wanted)}.parquet"
    return provenance.Stored(analysis, path, distinguished(runs))


def ask(runs: Sequence[Run], question: str, options: Mapping[str, Any], out: Path | None = None) -> None:
    """Answers the question in the first run's folder, or writes the report in `out`, without a word."""
    with contextlib.redirect_stdout(io.StringIO()):
        if question == REPORT:
            _report(runs, _page(out))
            return
        analysis, wanted = _asked_with(question, options)
        analysis.ask(runs, wanted)


def _report(runs: Sequence[Run], page: Path) -> None:
    from analyses import report  # which loads every question

    tables = _tables_of(runs)
    report.write(page.parent, runs, {})
    records.add(page, {"of": tables})


def _page(out: Path | None) -> Path:
    assert out is not None
    return out / REPORT / "report.html"


def _tables_of(runs: Sequence[Run]) -> dict[str, str]:
    """The digests of what the folders of runs record about scores and tables."""
    paths = [(run, path) for run in runs for path in run.path.glob(f"**/{records.FILE}")]
    return {f"{run.name}/{path.relative_to(run.path)}": records.sha256(path) for run, path in paths}


def _asked_with(question: str, options: Mapping[str, Any]) -> tuple[Analysis, Any]:
    """The analysis, and its options as the flags of these names give them; a switch is true, a list several values."""
    analysis = registry.load(question)
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
