"""Flags: those that choose settings, and help that says of each flag its default and whether it may be repeated."""

from __future__ import annotations

import argparse
from pathlib import Path

from taxogen.runs.presets import PRESETS

RUNS = Path("artifacts/runs")
"""Where runs lie, where a command line does not say."""
REFUSALS = (ValueError, KeyError, OSError, FloatingPointError, ModuleNotFoundError)
"""Exceptions whose message says what was asked, what is there and what to do: one line and exit code 2."""


class Help(argparse.RawDescriptionHelpFormatter):
    """Help with a note behind each flag: required, or its default; several values; may be given again."""

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
