"""Quick looks by every question to which runs have no answer, so that their report has a section for most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analyses.frame.analysis import REFUSALS, Analysis, Takes, in_one_line
from analyses.frame.identity import distinguished
from analyses.inputs.conditions import grouped_by_condition
from analyses.report.design import designs
from analyses.report.sections import Section, questions_about_runs
from probing.store import MismatchError
from taxogen.runs.flags import note
from taxogen.runs.run import Run


def look(runs: Sequence[Run]) -> None:
    """Asks what is not answered: of the first run where a question is about each run apart, else of all together.

    A question that is refused, or whose command has a word to be filled in, is left out with a line that says so; so is
    one that fails in the libraries, as for want of memory.

    Raises:
        FileNotFoundError: a run was not trained to its end.
        MismatchError: one run was given twice, or two of a condition have the same seed.
    """
    runs = distinguished(runs)
    designs(runs)
    grouped_by_condition(runs)
    for analysis in questions_about_runs():
        groups = [[run] for run in runs] if analysis.takes is Takes.EACH_RUN else [runs]
        hurried, section = replace(analysis, hurried=True), Section(analysis)
        if any(_answered(one, group) for group in groups for one in (analysis, hurried)):
            continue
        try:
            if analysis.light:  # the report answers it, unless it lacks what it reads
                if analysis.check is not None:
                    analysis.check(runs, analysis.options())
                continue
            if section.blanks:
                command = f"`{section.command(groups[0])}`"
                raise ValueError(f"its command needs {' '.join(section.blanks)}: {command}")
            hurried.ask(groups[0], section.options(analysis.quick_options))
        except (*REFUSALS, RuntimeError) as refusal:
            note(f"{analysis.name}: no quick look: {in_one_line(refusal)}")


def _answered(analysis: Analysis, runs: Sequence[Run]) -> bool:
    """Whether a table of the default question fits the runs as they are."""
    for stored in analysis.stored(runs).values():
        try:
            stored.require()
        except (OSError, MismatchError):
            continue
        return True
    return False
