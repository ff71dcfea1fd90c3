"""Flags and what command lines print: parsers that refuse in one line, help that says defaults, lines that fit."""

from __future__ import annotations

import argparse
import difflib
import logging
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from taxogen.runs.presets import PRESETS

RUNS = Path("artifacts/runs")
"""Where runs lie, where a command line does not say."""
REFUSALS = (ValueError, KeyError, OSError, FloatingPointError, ModuleNotFoundError)
"""Exceptions whose message says what was asked, what is there and what to do: one line and exit code 2."""


def columns() -> int:
    """How many characters a line of the terminal holds; 80 where there is none."""
    return shutil.get_terminal_size().columns


def wrapped(text: str, width: int, hang: int = 4) -> str:
    r"""A text without lines that are longer than a width; what is left of a line stands further in than its start.

    >>> wrapped("  cue   0.71 [0.66, 0.75] of 34 hypernyms", 30).split("\n")
    ['  cue   0.71 [0.66, 0.75] of', '      34 hypernyms']
    """
    lines = []
    for line in text.split("\n"):
        inside = " " * (len(line) - len(line.lstrip(" ")) + hang)
        lines += _wrap(line, width, inside) if len(line) > width else [line]
    return "\n".join(lines)


def _wrap(line: str, width: int, inside: str) -> list[str]:
    return textwrap.wrap(
        line, width, subsequent_indent=inside, break_long_words=False, break_on_hyphens=False
    )


_ITEM = re.compile(r"[A-Z][\w ]*:")


def described(text: str, width: int) -> str:
    r"""A docstring for a terminal: sentences fill its lines, and a command that is longer goes on after a backslash.

    >>> described("Reads: pictures and\nlabels.\nWrites: a table.", 26).split("\n")
    ['Reads: pictures and', '    labels.', 'Writes: a table.']
    """
    lines: list[str] = []
    for line in text.split("\n"):
        goes_on = bool(lines) and lines[-1] and not lines[-1].startswith(" ")
        if goes_on and line and not line.startswith(" ") and not _ITEM.match(line):
            lines[-1] += f" {line}"
        else:
            lines += _command(line, width) if line.startswith(" ") and len(line) > width else [line]
    return "\n".join(wrapped(line, width, 4 if _ITEM.match(line) else 0) for line in lines)


def _command(line: str, width: int) -> list[str]:
    """A command line in pieces, each with its flags and their values together; what is said beside it in one more."""
    command, *beside = re.split(r"(?<=\S) {5,}", line, maxsplit=1)
    inside = " " * (len(line) - len(line.lstrip(" ")) + 4)
    whole = re.sub(r"(?<= )(--\S+) (?=[^-\s])", "\\1\N{NO-BREAK SPACE}", command)
    pieces = [one.replace("\N{NO-BREAK SPACE}", " ") for one in _wrap(whole, width - 2, inside)]
    return [*(f"{one} \\" for one in pieces[:-1]), pieces[-1], *(inside + one for one in beside)]


def note(text: str) -> None:
    """Writes a line for a person to stderr; in a terminal none is wider than that."""
    sys.stderr.write(f"{wrapped(text, columns()) if sys.stderr.isatty() else text}\n")
    sys.stderr.flush()


class Notes(logging.Formatter):
    """Messages of a log as `note` writes them."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, in a terminal in lines that fit."""
        text = super().format(record)
        return wrapped(text, columns()) if sys.stderr.isatty() else text


def fit_log() -> None:
    """Lets also what is logged where no log was set up fit the terminal."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(Notes())


class Parser(argparse.ArgumentParser):
    """A parser with our help, which refuses in one line and names the nearest flag or value."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**{"formatter_class": Help, **named})

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Any = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """The values of the flags; a word that is none ends the program, before a flag is missed that it may mean."""
        args, flags = list(sys.argv[1:] if args is None else args), self._option_string_actions
        for word in args if self._subparsers is None else ():
            name = word.partition("=")[0]
            if name.startswith("--") and not any(flag.startswith(name) for flag in flags):
                self.error(f"{name} is not known{_nearest(name, flags)}")
        given, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"{unknown[0]} is not known")
        return given, unknown

    def error(self, message: str) -> NoReturn:
        """Ends the program with code 2 after one line."""
        note(f"{self.prog}: {message}{'' if message.endswith('?') else ';'} `{self.prog} --help` lists all")
        raise SystemExit(2)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(one) for one in action.choices]
            said = f"{value!r} is not known{_nearest(str(value), known) or ';'} known: {', '.join(known)}"
            raise argparse.ArgumentError(action, said)


def _nearest(name: str, known: Sequence[str] | Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


class Help(argparse.RawDescriptionHelpFormatter):
    """Help with a note behind each flag: required, or its default; several values; may be given again."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return described(text, width)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        told = text.lower()
        notes = []
        if action.required:
            notes.append("required")
        elif "default" not in told and not isinstance(action, argparse._HelpAction):
            notes.append(f"default: {_shown(action)}")
        if action.nargs in ("+", "*"):
            notes.append("several values")
        if isinstance(action, argparse._AppendAction) and "given again" not in told:
            notes.append("may be given again")
        return f"{text} ({'; '.join(notes)})" if notes else text


def _shown(action: argparse.Action) -> str:
    value = action.default
    if action.nargs == 0:
        return "off"
    if value in (None, argparse.SUPPRESS, "", ()) or value == []:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def add_settings(command: argparse.ArgumentParser) -> None:
    """Adds the flags that choose settings: a file, a preset, and single ones, each going over those before it."""
    command.add_argument(
        "--config", type=Path, metavar="FILE", help="settings in a TOML file (default: those of the preset)"
    )
    command.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        metavar="NAME",
        help=f"settings to start from: {', '.join(sorted(PRESETS))} (default: default)",
    )
    add_set(command)


def add_set(command: argparse.ArgumentParser) -> None:
    """Adds the flag that changes one setting."""
    command.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting, over those of file, preset and run, such as train.steps=100 or capture.at=0,last; "
        "`taxoprobe config` explains all",
    )
