"""Options in words: the flags of those that differ from the default, and the folder in which their results lie."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from analyses.frame.command_line import ASKS, NAME, flags_of, role_of

LONGEST = 120
"""Characters of a folder's name, above which its end is a digest."""
_WORD = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.]*[A-Za-z0-9_])?")


def folder_name(name: str, options: Any) -> str:
    """The name of the folder of an analysis's results: another question, another folder.

    The options that are the question and differ from the default stand behind the name of the analysis: a word of a
    list, and a text that no free value stands before, by themselves; a switch by its flag; all else by flag and value.
    A value that could be mistaken for another ends with a digest. How many, how finely and of which rows
    (`command_line.EXTENT`) is no other question; results that were given a name are found by it.
    """
    fields, default = flags_of(type(options)), type(options)()
    if any(role_of(field) == NAME and getattr(options, field.name) for field in fields.values()):
        return name
    words, free = [], 0
    for flag, field in fields.items():
        value = getattr(options, field.name)
        asks = role_of(field) == ASKS
        free += asks and not _choices(field) and not isinstance(value, bool)
        if not asks or value == getattr(default, field.name):
            continue
        slug = partial(_slug, taken=_taken(fields) if not _choices(field) else ())
        itself = isinstance(value, str) and (bool(_choices(field)) or free == 1)
        words += [] if itself else [flag.lstrip("-")]
        words += [] if value is True else [slug(one) for one in _several(value)] or ["none"]
    whole = "-".join([name, *words])
    return whole if len(whole) <= LONGEST else f"{whole[: LONGEST - 9]}-{_digest(whole, 8)}"


def plain(options: Any) -> dict[str, Any]:
    """All fields of options as plain data, as they are read back from JSON."""
    return json.loads(json.dumps(dataclasses.asdict(options), default=str))


def spelled(options: type, values: Mapping[str, Any]) -> str:
    """The flags of a command line that asks with these plain values, those that are the default left out."""
    default = plain(options())
    words: list[str] = []
    for flag, field in flags_of(options).items():
        value = values.get(field.name, default[field.name])
        if value != default[field.name]:
            given = (
                [] if value is True else [one for one in _several(value) if one in (_choices(field) or [one])]
            )
            words += [flag, *map(str, given)]
    return shlex.join(words)


def _several(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (tuple, list)) else (value,)


def _choices(field: dataclasses.Field) -> tuple[str, ...]:
    return field.metadata["flag"]["choices"] or ()


def _taken(fields: Mapping[str, dataclasses.Field]) -> set[str]:
    """The words that stand for something else in the name of a folder."""
    choices = {choice for field in fields.values() for choice in _choices(field)}
    return choices | {flag.lstrip("-") for flag in fields} | {"none"}


def _slug(value: Any, taken: Iterable[str]) -> str:
    text = str(value)
    if _WORD.fullmatch(text) and text not in taken and not isinstance(value, Path):
        return text
    words = re.sub(r"[^A-Za-z0-9_.]+", "_", text)[-24:].strip("_.")
    return f"{words}-{_digest(text, 6)}" if words else _digest(text, 6)


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
