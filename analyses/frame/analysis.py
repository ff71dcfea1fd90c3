"""Analysis: a question declared once; the frame makes of it a command line, tables, figures and a report section."""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analyses.frame import command_line, console, drawing, notebook, provenance, tables, wording
from analyses.frame.identity import distinguished
from analyses.frame.results import QUICK, Extras, Result, marked, replacing
from analyses.frame.section import Block, Lines
from analyses.frame.stores import RunOrStores, Stores
from probing.store import cache, records
from taxogen.models import ranks
from taxogen.runs.flags import REFUSALS, Parser, fit_log, note
from taxogen.runs.run import Run

QUICK_DRAWS = 200
"""Bootstrap draws of a quick look."""
TRACEBACK = "TAXOPROBE_TRACEBACK"
"""The environment variable that lets refusals through, for those who look for a fault in the code."""


class Takes(Enum):
    """Which runs a table is made of."""

    EACH_RUN = "each run apart: a table in every run's folder"
    RUNS_TOGETHER = "all runs together: one table, in --out or the first run's folder"
    RUNS_OR_NONE = "all runs together, or none: then what the options name"
    NO_RUN = "no run: what the options name"


_Compute = Callable[[Sequence[Any], Any], Result]


@dataclass(frozen=True)
class Analysis:
    """A question to trained models, in one place.

    Attributes:
        name: of its folder in `analyses`, of its results' folder and of its table.
        about: the docstring of its module: the question in the first line, then Reads and Writes.
        options: a dataclass whose `option` fields are the command line.
        compute: (runs, options) → Result; with `Takes.EACH_RUN` it is given one run at a time.
        draw: table → figures by name; a pure function of the table, also of one read from disk.
        summary: table → a few lines for a person.
        example: a command line that works on the runs of `make demo`.
        takes: which runs a table is made of.
        of_stores: (stores, options) → Result, where activations and a taxonomy are all that it needs; else why not.
        reads: options → what it reads of a run beside the model: paths in the run, or `provenance.CAPTURES`.
        needs: analyses whose tables it reads.
        check: (runs, options) → None; raises a refusal before anything is computed.
        conclude: (runs, results, options) → Extras across runs, saved in the first run's folder.
        table_name: options → name of the table; where it is not that of the analysis, figures begin with it.
        also: names of further tables in that folder which a report shows.
        section: table → blocks of its report section; by default its summary and figures.
        order: of its section in a report.
        light: whether a report computes it itself, where what it reads is there.
        quick: options of a quick look, beside fewer draws: fewer layers, pairs or controls.
        hurried: whether it is a quick look: in a folder of its own, and marked as one.
    """

    name: str
    about: str | None
    options: type
    compute: Callable[[Sequence[Run], Any], Result]
    draw: Callable[[pd.DataFrame], dict[str, Figure]]
    summary: Callable[[pd.DataFrame], str]
    example: str
    takes: Takes = Takes.EACH_RUN
    of_stores: Callable[[Stores, Any], Result] | str = "it asks a model, not its activations alone"
    reads: Callable[[Any], Sequence[str]] = lambda _: ()
    needs: tuple[str, ...] = ()
    check: Callable[[Sequence[Run], Any], None] | None = None
    conclude: Callable[[Sequence[Run], Sequence[Result], Any], Extras] | None = None
    table_name: Callable[[Any], str] | None = None
    also: tuple[str, ...] = ()
    section: Callable[[pd.DataFrame], list[Block]] | None = None
    order: int = 100
    light: bool = False
    quick: Mapping[str, Any] = field(default_factory=dict, hash=False)
    hurried: bool = False
    _repr_html_ = notebook.analysis_html

    @property
    def quick_options(self) -> dict[str, Any]:
        """The values of options in a quick look, as plain data."""
        drawn = {"draws": QUICK_DRAWS} if "draws" in self.options.__dataclass_fields__ else {}
        return {**drawn, **self.quick}

    @property
    def question(self) -> str:
        """The question in one line."""
        return inspect.cleandoc(self.about or "").splitlines()[0]

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Asks the runs that a command line names; prints summaries, saves tables and figures.

        Raises:
            SystemExit: with code 2 and one line, where something cannot be done.
        """
        parser = self.parser()
        given = parser.parse_args(argv)
        with refusing(parser.prog), drawing.style(given.style, given.columns):
            self._answer(given)

    def parser(self) -> argparse.ArgumentParser:
        """The parser of the command line."""
        told = inspect.cleandoc(self.about or "").partition("\n\n")[2]
        told = "\n".join(line for line in told.splitlines() if not line.startswith("    "))
        parser = Parser(
            prog=f"python -m analyses.{self.name}",
            description=self.question,
            epilog=f"{told.strip()}\n\nExample:\n    {self.example}",
        )
        if self.takes is not Takes.NO_RUN:
            command_line.add_run_flags(parser)
        takes_stores = not isinstance(self.of_stores, str)
        command_line.add_store_flags(parser, shown=takes_stores)
        first = "" if self.takes is Takes.EACH_RUN else "first "
        where = "artifacts/" if self.takes is Takes.NO_RUN else f"the {first}run's folder, analyses/"
        where += self.name + (", or analyses/STORES beside stores" if takes_stores else "")
        text = f"of the results (default: {where}; another question has another folder; one asked again with fewer or "
        text += "more rows has the same, and what was there moves to earlier/ in it)"
        parser.add_argument("--out", type=Path, metavar="DIR", help=text)
        if values := self.quick_options:
            text = f"a first look, marked as one, in a folder of its own: {wording.spelled(self.options, values)}"
            parser.add_argument("--quick", action="store_true", help=text)
        command_line.add_flags(parser, self.options)
        drawing.add_style_flags(parser)
        return parser

    def ask(self, runs: Sequence[Run], options: Any, out: Path | None = None) -> list[Result]:
        """The results for some runs, saved and printed as the command line does.

        No other process asks the same question meanwhile; one that does waits.
        """
        command_line.refuse_repeated(options)
        partners = [Run.open(path) for path in command_line.partners_of(options)]
        runs = distinguished([*runs, *partners])[: len(runs)]
        if self.check is not None:
            self.check(runs, options)
        groups = [[run] for run in runs] if self.takes is Takes.EACH_RUN else [list(runs)]
        results = []
        for number, group in enumerate(groups, start=1):
            if group and (len(groups) > 1 or sys.stderr.isatty()):  # one refusal is one line in a log
                more = f" and {len(group) - 1} more" if len(group) > 1 else ""
                at = f"[{number}/{len(groups)}] {self.name} of {group[0].name}{more}"
                note(at)
            folder = self.place(group, options, out)
            with _threads_of(group):
                results.append(self._answered(folder, group, options, self.compute))
        if self.conclude is not None:
            folder = self.place(list(runs[:1]), options, out)
            with cache.locked(folder.resolve()):  # one at a time: who holds two locks may wait for ever
                made_from = provenance.made_from(self, runs, options)
                extras = self.conclude(runs, results, options)
                with replacing(folder, extras.tables, self.options, made_from):
                    extras.save(folder, made_from, self.hurried)
            console.say(*extras.notes)
        return results

    def ask_stores(self, stores: Stores, options: Any, out: Path | None = None) -> Result:
        """The result for stores that no run made, saved and printed as the command line does.

        Raises:
            ValueError: it needs more than activations and a taxonomy, or an option names runs.
        """
        of_stores = self._of_stores()
        command_line.refuse_repeated(options)
        if partners := command_line.partners_of(options):
            raise ValueError(f"{partners[0]} is to be compared with a run, and stores were given; give --run")
        if self.check is not None:
            self.check((), options)
        for said in stores.notes:
            note(f"{self.name}: {said}")
        folder = out or stores.results / self._folder_name(options)
        return self._answered(folder, [stores], options, lambda _, options: of_stores(stores, options))

    def place(self, runs: Sequence[Run], options: Any, out: Path | None = None) -> Path:
        """The folder of the results: that which was asked for, or another one for another question."""
        if out is not None:
            return out
        if runs and getattr(options, "step", None) == runs[0].record["steps"]:
            options = replace(options, step=None)
        folder = self._folder_name(options)
        return runs[0].file("analyses") / folder if runs else Path("artifacts") / folder

    def table_name_of(self, options: Any) -> str:
        """The name of the table of these options."""
        return self.table_name(options) if self.table_name else self.name

    def save(self, result: Result, folder: Path, options: Any, made_from: Mapping[str, Any]) -> None:
        """Writes figures, what is beside them, and last the table, which is so the sign of a whole answer."""
        name = self.table_name_of(options)
        table = result.table.assign(**{QUICK: True}) if self.hurried else result.table
        figures = self.figures(table)  # may fail: before an older table is taken away
        with replacing(folder, [name], self.options, made_from):
            records.remove(folder / f"{name}.parquet")
            for shown, figure in figures.items():
                drawing.save(figure, folder, shown if name == self.name else f"{name}-{shown}", made_from)
            result.extras.save(folder, made_from, self.hurried)
            tables.save(table, folder, name, made_from)

    def figures(self, table: pd.DataFrame) -> dict[str, Figure]:
        """The figures of a table by name; of a quick look, marked as such."""
        figures = self.draw(table)
        return {name: marked(one) for name, one in figures.items()} if QUICK in table else figures

    def table_path(self, run: RunOrStores, name: str = "") -> Path:
        """Where the table of the default question about a run lies, or another table in its folder."""
        name, folder = name or self.table_name_of(self.options()), self._folder_name(self.options())
        return provenance.home_of(run) / folder / f"{name}.parquet"

    def table(self, run: RunOrStores) -> pd.DataFrame:
        """The stored table of the default question about a run, or about stores in place of one.

        Raises:
            FileNotFoundError: there is none; the command that makes it is named.
            DamagedError: it is not as it was written.
            MismatchError: it was made from another run, world, projector, store or another input than there is now.
        """
        stored = provenance.Stored(self, self.table_path(run), [run])
        if not stored.path.is_file():
            raise FileNotFoundError(f"{run.name} has no table of {self.name}; {stored.remedy({})}")
        stored.require()
        return pd.read_parquet(stored.path)

    def stored(self, runs: Sequence[Run]) -> dict[str, provenance.Stored]:
        """The tables of the default question, and those in `also`, in the first run's folder; by name."""
        names = dict.fromkeys((self.table_name_of(self.options()), *self.also))
        of_name = {name: provenance.Stored(self, self.table_path(runs[0], name), runs) for name in names}
        return {name: stored for name, stored in of_name.items() if stored.path.is_file()}

    def blocks(self, table: pd.DataFrame) -> list[Block]:
        """The section of a report about a table; where no block is a figure, all figures follow."""
        return self.section(table) if self.section is not None else [Lines(self.summary(table))]

    def _answer(self, given: argparse.Namespace) -> None:
        if getattr(given, "quick", False) and not self.hurried:
            replace(self, hurried=True)._answer(given)
            return
        options = command_line.options_from(self.options, given, self.quick_options if self.hurried else {})
        out = getattr(given, "out", None)
        if command_line.store_flags_in(given):
            self._of_stores()
            self.ask_stores(command_line.stores_from(given), options, out)
            return
        runs = [Run.open(path) for path in command_line.runs_in(given)]
        if not runs and self.takes in (Takes.EACH_RUN, Takes.RUNS_TOGETHER):
            also = "" if isinstance(self.of_stores, str) else ", or stores (--images, --text, --taxonomy)"
            raise ValueError(f"nothing was given to ask; give --run DIR, or --sweep DIR{also}")
        if out is not None and len(runs) > 1 and self.takes is Takes.EACH_RUN:
            raise ValueError(f"--out was given for {len(runs)} runs, whose results lie apart; leave it out")
        self.ask(runs, options, out)

    def _of_stores(self) -> Callable[[Stores, Any], Result]:
        """What answers from stores, unless this question needs more."""
        if isinstance(self.of_stores, str):
            adopt = "; `taxoprobe adopt` makes a run of a model that is already trained"
            adopt = "" if self.takes is Takes.NO_RUN else adopt
            raise ValueError(f"{self.name} cannot be asked of stores: {self.of_stores}{adopt}")
        return self.of_stores

    def _answered(
        self, folder: Path, sources: Sequence[RunOrStores], options: Any, compute: _Compute
    ) -> Result:
        """What is computed, saved and printed while no other process works in the folder."""
        with cache.locked(folder.resolve()):
            made_from = provenance.made_from(self, sources, options)
            result = compute(sources, options)
            self.save(result, folder, options, made_from)
        said = f"A quick look, not the answer ({wording.spelled(self.options, wording.plain(options))}):"
        ends = *result.extras.notes, f"Table and figures: {folder}"
        console.say(*[said] * self.hurried, self.summary(result.table), *ends)
        return result

    def _folder_name(self, options: Any) -> str:
        name = wording.folder_name(self.name, options)
        return f"{name}-{QUICK}" if self.hurried else name


def _threads_of(runs: Sequence[Run]) -> AbstractContextManager[None]:
    """A block with the number of threads that the runs were closed with, where it is one number."""
    from taxogen.models.threads import threads  # help and refusals do not wait for torch

    counts = {run.world["threads"] for run in runs if run.closed}
    return threads(*counts) if len(counts) == 1 else nullcontext()


@contextmanager
def refusing(program: str) -> Iterator[None]:
    """A block whose refusals end the program with code 2 and one line that begins with its name."""
    fit_log()
    try:
        ranks.require_one(f"`{program}`")
        yield
    except REFUSALS as refusal:
        if os.environ.get(TRACEBACK):
            raise
        note(f"{program}: {in_one_line(refusal)}")
        raise SystemExit(2) from None


def in_one_line(refusal: BaseException) -> str:
    """The message of a refusal without line breaks; KeyError would put quotes around it."""
    text = str(refusal.args[0]) if isinstance(refusal, KeyError) and refusal.args else str(refusal)
    return " ".join(text.split()) or type(refusal).__name__
