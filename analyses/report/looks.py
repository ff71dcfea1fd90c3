"""Quick looks by every question to which runs have no answer, so that their report has a section for each."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace

from analyses.frame import command_line
from analyses.frame.analysis import REFUSALS, Analysis, Takes, in_one_line
from analyses.report.sections import Section, questions_about_runs
from probing.store import MismatchError
from taxogen.runs.run import Run


def look(runs: Sequence[Run]) -> None:
    """Asks what is not answered: of the first run where a question is about each run apart, else of all together.

    A question that would be refused, or whose command has a word to be filled in, is left out with a line that says so.
    """
    for analysis in questions_about_runs():
        group = runs[:1] if analysis.takes is Takes.EACH_RUN else runs
        hurried = replace(analysis, hurried=True)
        if analysis.light or _answered(analysis, group) or _answered(hurried, group):
            continue
        try:
            hurried.ask(group, _options(analysis, group))
        except REFUSALS as refusal:
            print(f"{analysis.name}: no quick look: {in_one_line(refusal)}", file=sys.stderr, flush=True)


def _answered(analysis: Analysis, runs: Sequence[Run]) -> bool:
    """Whether a table of the default question fits the runs as they are."""
    for stored in analysis.stored(runs).values():
        try:
            stored.require()
        except (OSError, MismatchError):
            continue
        return True
    return False


def _options(analysis: Analysis, runs: Sequence[Run]) -> object:
    """The options of the command that a report prints, with those of a quick look."""
    words = shlex.split(Section(analysis).command(runs))[3:]
    if blanks := [word for word in words if word.isupper()]:
        raise ValueError(f"its command needs {' '.join(blanks)}: `{Section(analysis).command(runs)}`")
    given = analysis.parser().parse_args(words)
    return command_line.options_from(analysis.options, given, analysis.quick_options)
