"""Settings and plans in TOML files; every refusal names the file and the line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
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
    text = text_of(path, "config", "`python -m taxogen config` prints the defaults")
    settings: dict[str, Any] = {}
    for key, value in flatten(tables(path, text, "config")):
        try:
            if key in settings:
                raise ValueError(f"config key {key!r} is given twice")
            settings[key] = convert(key, value)
        except (ValueError, KeyError) as refusal:
            raise type(refusal)(f"config {path}, line {_line_of(text, key)}: {refusal.args[0]}") from None
    return settings


def text_of(path: str | Path, what: str, hint: str) -> str:
    """The text of a TOML file.

    Args:
        path: of the file.
        what: it is, in messages, such as `config`.
        hint: where one may be had, for the message that there is none.

    Raises:
        FileNotFoundError: the file does not exist.
        OSError: it cannot be read.
        ValueError: it is not UTF-8.
    """
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{what} {path} was asked for, but there is no such file; {hint}") from None
    except OSError as error:
        raise OSError(f"{what} {path} cannot be read: {error.strerror}; give a TOML file") from None
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(f"{what} {path}, line {line}: the file is not UTF-8; save it as UTF-8") from None


def tables(path: str | Path, text: str, what: str) -> dict[str, Any]:
    """The nested tables of a TOML text; `path` and `what` as for `text_of`.

    Raises:
        ValueError: it is no TOML.
    """
    try:
        tree = tomllib.loads(text)
        list(flatten(tree))  # what cannot be walked through is refused here
        return tree
    except RecursionError:
        raise ValueError(f"{what} {path}: its tables or lists are nested too deeply") from None
    except ValueError as error:
        where = re.search(r" \(at (?:line (\d+), (column \d+)|end of document)\)$", str(error))
        line = int(where[1]) if where and where[1] else max(end for end, _ in _beginnings(text)) + 1
        words = str(error)[: where.start()] if where else str(error)
        at = f" (at {where[2]})" if where and where[2] else ""
        raise ValueError(f"{what} {path}, line {line}: {words}{at}") from None


def line_of(text: str, keys: Sequence[str]) -> int:
    """The line on which a nested key of a TOML text begins."""
    return _first_line(text, lambda tree: _has(tree, keys))


def _has(tree: Any, keys: Sequence[str]) -> bool:
    if not keys:
        return True
    return isinstance(tree, dict) and keys[0] in tree and _has(tree[keys[0]], keys[1:])


def _line_of(text: str, key: str) -> int:
    """The line on which the value of a dotted key begins."""
    return _first_line(text, lambda tree: key in dict(flatten(tree)))


def _first_line(text: str, holds: Callable[[dict[str, Any]], bool]) -> int:
    """The line that follows the longest beginning before something holds."""
    before = 0
    for end, tree in _beginnings(text):
        if holds(tree):
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
