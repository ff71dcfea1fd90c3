"""Sections of a report: a question of the registry, the tables that answer it, and their figures with captions."""

from __future__ import annotations

import re
import shlex
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from analyses.frame import command_line, drawing, provenance, registry, wording
from analyses.frame.analysis import REFUSALS, Analysis, Takes, in_one_line
from analyses.frame.section import Block, Shown
from analyses.inputs.conditions import grouped_by_condition
from probing.store import MismatchError, records
from taxogen.runs.run import Run


@dataclass(frozen=True)
class Drawn:
    """A figure on disk.

    Attributes:
        path: of its PNG.
        caption: n, interval, null and correction, as its analysis writes them under it.
        width, height: pixels that are shown; a caption that the file holds itself is cut off.
        command: draws it again from its table; empty where that needs more.
    """

    path: Path
    caption: str
    width: int
    height: int
    command: str = ""


@dataclass(frozen=True)
class Answer:
    """One table of an analysis as a report shows it.

    Attributes:
        of: its title: the run, and the name of a further table; empty for all runs together.
        run: the name of the run; empty for all together.
        table: itself.
        blocks: of its section.
        figures: by name.
        asked: the flags with which it was asked, those that are the default left out.
        rank: the place of its run among those of its condition: 0 for the first, and for all together.
        quick: whether it is a quick look, shown where there is no whole answer.
    """

    of: str
    run: str
    table: pd.DataFrame
    blocks: Sequence[Block]
    figures: dict[str, Drawn]
    asked: str = ""
    rank: int = 0
    quick: bool = False

    @property
    def beside(self) -> list[str]:
        """The figures that no block shows."""
        shown = {block.figure for block in self.blocks if isinstance(block, Shown)}
        return [name for name in self.figures if name not in shown]


@dataclass(frozen=True)
class Section:
    """A question with its answers, why there are no others, and the runs that were not asked."""

    analysis: Analysis
    answers: Sequence[Answer] = ()
    reasons: Sequence[str] = ()
    unasked: Sequence[Run] = field(default_factory=tuple)

    @property
    def quick(self) -> bool:
        """Whether one of its answers is a quick look."""
        return any(answer.quick for answer in self.answers)

    @property
    def flags(self) -> list[str]:
        """What the first usage of the analysis has outside brackets, beside runs."""
        usage = re.search(rf"python -m analyses\.{self.analysis.name} (.*)", self.analysis.about or "")
        return re.sub(r"\[[^\]]*\]|--run \S+|…", "", usage[1]).split() if usage else []

    @property
    def blanks(self) -> list[str]:
        """The words among these flags that are to be filled in."""
        return [word for word in self.flags if word.isupper()]

    def command(self, runs: Sequence[Run]) -> str:
        """What asks some runs."""
        given = [word for run in runs for word in ("--run", shlex.quote(str(run.path)))]
        return " ".join([f"python -m analyses.{self.analysis.name}", *given, *self.flags])

    def options(self, instead: Mapping[str, Any] = types.MappingProxyType({})) -> Any:
        """The options of that command; `instead` has defaults that are others this time."""
        given = self.analysis.parser().parse_args(self.flags)
        return command_line.options_from(self.analysis.options, given, instead)

    def refusal(self, runs: Sequence[Run]) -> str:
        """Why the analysis refuses that command before it computes; empty where it does not, or a word is missing."""
        if self.analysis.check is None or self.blanks:
            return ""
        try:
            self.analysis.check(runs, self.options())
        except REFUSALS as refusal:
            return in_one_line(refusal)
        return ""

    def offer(self, runs: Sequence[Run]) -> tuple[str, str]:
        """The command for those of some runs for which it is not refused, and why it is for the first of the others."""
        groups = [[run] for run in runs] if self.analysis.takes is Takes.EACH_RUN else [runs]
        refusals = [self.refusal(group) for group in groups]
        asked = [run for group, refusal in zip(groups, refusals, strict=True) if not refusal for run in group]
        why = [refusal for refusal in refusals if refusal]
        more = f" (and {len(why) - 1} more)" if len(why) > 1 else ""
        return self.command(asked) if asked else "", f"{why[0]}{more}" if why else ""


def sections_of(runs: Sequence[Run], out: Path, tables: dict[str, pd.DataFrame]) -> list[Section]:
    """The section of every question that can be asked of runs; `tables` is given those that are computed here."""
    return [_section(one, runs, out, tables) for one in questions_about_runs()]


def questions_about_runs() -> list[Analysis]:
    """The analyses of the registry that are asked of runs, in the order of a report."""
    known = [registry.load(name) for name in registry.questions()]
    known = [one for one in known if one.takes is not Takes.NO_RUN]
    return sorted(known, key=lambda one: (one.order, one.name))


def _section(analysis: Analysis, runs: Sequence[Run], out: Path, tables: dict[str, pd.DataFrame]) -> Section:
    if not analysis.light:
        return stored(analysis, runs)
    options = analysis.options()
    try:
        made_from = provenance.made_from(analysis, runs, options)
        result = analysis.compute(runs, options)
    except REFUSALS as refusal:
        return Section(analysis, reasons=[in_one_line(refusal)])
    analysis.save(result, out, options, made_from)
    tables[analysis.name] = result.table
    names = [
        analysis.table_name_of(options),
        *(name for name in analysis.also if name in result.extras.tables),
    ]
    of_name = {name: provenance.Stored(analysis, out / f"{name}.parquet", runs) for name in names}
    answers, reasons = _answers(analysis, of_name, "", 0)
    return Section(analysis, answers, reasons)


def stored(analysis: Analysis, runs: Sequence[Run]) -> Section:
    """The tables that lie in the runs' folders, with their figures; those that do not fit the runs are left out."""
    alone = analysis.takes is Takes.EACH_RUN
    ranks = {
        run.path: at for members in grouped_by_condition(runs).values() for at, run in enumerate(members)
    }
    answers, reasons, unasked = [], [], []
    for group in [[run] for run in runs] if alone else [runs]:
        title, rank = (group[0].name, ranks[group[0].path]) if alone else ("", 0)
        own, unfit = _answers(analysis, analysis.stored(group), title, rank)
        unasked += [] if own or unfit else group
        if not own:
            hurried = replace(analysis, hurried=True)
            own, stale = _answers(hurried, hurried.stored(group), title, rank)
            unfit += stale
        answers += own
        reasons += unfit
    return Section(analysis, answers, reasons, unasked if answers else ())


def _answers(
    analysis: Analysis, of_name: Mapping[str, provenance.Stored], title: str, rank: int
) -> tuple[list[Answer], list[str]]:
    """What the tables of one folder show, and why some of it is left out."""
    answers, reasons, known, last = [], [], set(), None
    for name, table in of_name.items():
        try:
            record = table.require()
        except (OSError, MismatchError) as refusal:
            reasons.append(in_one_line(refusal))
            continue
        frame, before = pd.read_parquet(table.path), "" if name == analysis.name else f"{name}-"
        figures: dict[str, Drawn] = {}
        for figure_name, figure in analysis.draw(frame).items():
            path = table.path.with_name(f"{before}{figure_name}.png")
            known.add(path)
            if path.is_file() and (reason := _unfit(path, record, table)):
                reasons.append(reason)
            elif path.is_file():
                figures[figure_name] = _drawn(path, *drawing.captioned(figure), table.path)
        more = (
            "" if name == analysis.name else name.replace("_", " "),
            "a quick look" if analysis.hurried else "",
        )
        of = ", ".join(filter(None, (title, *more)))
        asked = wording.spelled(analysis.options, record["options"]) if record else ""
        answers.append(
            Answer(
                of if title else "",
                title,
                frame,
                analysis.blocks(frame),
                figures,
                asked,
                rank,
                analysis.hurried,
            )
        )
        last = table.path, record
    if answers and last:
        answers[-1].figures.update(_others(analysis, *last, known))
    return answers, reasons


def _others(
    analysis: Analysis, table: Path, record: Mapping[str, Any] | None, known: set[Path]
) -> dict[str, Drawn]:
    """The figures beside a table that its rows do not draw and that were made with it; some have their own tables."""
    figures = {}
    for path in sorted(table.parent.glob("*.png")):
        if path in known or not record or _made_from(path) != record:
            continue
        figures[path.stem], own = _drawn(path, "", 0.0, (0, 0)), path.with_suffix(".parquet")
        if own.is_file() and _made_from(own) == record:
            again = analysis.draw(pd.read_parquet(own))
            if path.stem in again:
                figures[path.stem] = _drawn(path, *drawing.captioned(again[path.stem]), own)
    return figures


def _made_from(figure: Path) -> dict[str, Any] | None:
    try:
        return records.made_from(figure)
    except records.DamagedError:
        return None


def _unfit(figure: Path, record: Mapping[str, Any] | None, table: provenance.Stored) -> str:
    """Why a figure is not to be shown beside its table; empty where nothing speaks against it."""
    remedy = table.remedy(record["options"] if record else {})
    try:
        if records.made_from(figure, remedy) == record:
            return ""
        return f"{figure} is not of {table.path}; {remedy}"
    except records.DamagedError as damage:
        return in_one_line(damage)


def _drawn(path: Path, caption: str, share: float, size: tuple[int, int], table: Path | None = None) -> Drawn:
    """A figure whose caption takes a share of its height, if the file is as large as it would be drawn now."""
    width, height = _size(path)
    if max(abs(width - size[0]), abs(height - size[1])) <= 1:
        height = round(height * (1 - share))
    command = f"python -m analyses.figures {shlex.quote(str(table))}" if table else ""
    return Drawn(path, caption, width, height, command)


def _size(png: Path) -> tuple[int, int]:
    """The width and height of a PNG in pixels."""
    head = png.read_bytes()[16:24]
    return int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")


def within(sections: Sequence[Section], most: int) -> set[Path]:
    """The figures that a page of so many bytes holds: of the first run of each condition before other seeds."""

    def figures() -> Iterator[tuple[int, int, Path]]:
        for section in sections:
            for answer in section.answers:
                for drawn in answer.figures.values():
                    yield answer.rank, drawn.path.stat().st_size, drawn.path

    chosen, total = set(), 0
    for _, size, path in sorted(figures(), key=lambda one: one[0]):
        total += size
        if total <= most:
            chosen.add(path)
    return chosen
