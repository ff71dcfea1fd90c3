"""Settings in a TOML file; every refusal names the file and the line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from taxogen.runs.setting import flatten


def read_settings(path: str | Path, convert: Callable[[str, Any], Any]) -> dict[str, Any]:
    """The settings of a TOML file by dotted key; `convert` makes a setting's value of the one in the file.

    Raises:
        FileNotFoundError: the file does not exist.
        OSError: it cannot be read.
        KeyError: a key or name is not known.
        ValueError: the text is no TOML in UTF-8, or a value is refused.
    """
    text = _text(path)
    settings: dict[str, Any] = {}
    for key, value in _leaves(path, text):
        try:
            if key in settings:
                raise ValueError(f"config key {key!r} is given twice")
            settings[key] = convert(key, value)
        except (ValueError, KeyError) as refusal:
            raise type(refusal)(f"config {path}, line {_line_of(text, key)}: {refusal.args[0]}") from None
    return settings


def _text(path: str | Path) -> str:
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"config {path} was asked for, but there is no such file; `python -m taxogen config` prints the defaults"
        ) from None
    except OSError as error:
        raise OSError(f"config {path} cannot be read: {error.strerror}; give a TOML file") from None
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(f"config {path}, line {line}: the file is not UTF-8; save it as UTF-8") from None


def _leaves(path: str | Path, text: str) -> list[tuple[str, Any]]:
    try:
        return list(flatten(tomllib.loads(text)))
    except RecursionError:
        raise ValueError(f"config {path}: its tables or lists are nested too deeply") from None
    except ValueError as error:
        where = re.search(r" \(at (?:line (\d+), (column \d+)|end of document)\)$", str(error))
        line = int(where[1]) if where and where[1] else max(end for end, _ in _beginnings(text)) + 1
        words = str(error)[: where.start()] if where else str(error)
        at = f" (at {where[2]})" if where and where[2] else ""
        raise ValueError(f"config {path}, line {line}: {words}{at}") from None


def _line_of(text: str, key: str) -> int:
    """The line on which the value of a dotted key begins."""
    before = 0
    for end, tree in _beginnings(text):
        if key in dict(flatten(tree)):
            break
        before = end
    return before + 1


def _beginnings(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every beginning of the text that is TOML by itself: its number of lines, and its tables."""
    lines = text.split("\n")
    for end in range(len(lines) + 1):
        try:
            yield end, tomllib.loads("\n".join(lines[:end]))
        except ValueError:  # the line is in the midst of a value
            continue
