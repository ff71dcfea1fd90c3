"""Setting: a field of the config with the values that it takes, declared beside it; refusals in one line."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import pkgutil
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_TRUTH = {"true": True, "false": False}
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a list of texts",
}
_LARGEST = 2**63 - 1  # the largest whole number of TOML, and of the columns of a table
_LONGEST = 4096
_UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, surrogates, ends of lines and paragraphs


@dataclass(frozen=True)
class Takes:
    """The values that a setting takes, beside its type.

    Attributes:
        at_least, above, below, at_most: limits of a number.
        zero: 0 is taken too, below the limit; it stands for "all".
        known: names, or `module:NAME` of the registry that holds them (loaded when a config is made, so it must not
            import torch).
        spelled: refuses a wrong spelling, given the text and what it was given for.
        needed: a text or list must not be empty.
        numbers: entries of a list may be written as whole numbers.
    """

    at_least: float | None = None
    above: float | None = None
    below: float | None = None
    at_most: float | None = None
    zero: bool = False
    known: tuple[str, ...] | str = ()
    spelled: Callable[[str, str], object] | None = None
    needed: bool = False
    numbers: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number is within the limits."""
        return (self.zero and value == 0) or (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    def __str__(self) -> str:
        limits = {
            "of at least": self.at_least,
            "above": self.above,
            "below": self.below,
            "at most": self.at_most,
        }
        return " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if limit is not None)


def setting(default: Any, **takes: Any) -> Any:
    """A field of a config: its default, and the values that it takes (the fields of `Takes`)."""
    return dataclasses.field(default=default, metadata={"takes": Takes(**takes)})


@dataclass(frozen=True)
class Setting:
    """A setting by its dotted key, with its default, the values that it takes, and its meaning in one line."""

    key: str
    default: Any
    takes: Takes
    about: str = ""

    @property
    def accepts(self) -> str:
        """The values that it takes, in words."""
        if self.takes.known:
            names = ", ".join(self._known())
            return f"a list of: {names}" if isinstance(self.default, tuple) else names
        return self._kind

    @property
    def _kind(self) -> str:
        kind = _KINDS[type(self.default)]
        if self.takes.needed:
            kind += " that is not empty"
        return " ".join(filter(None, ("0 or" if self.takes.zero else "", kind, str(self.takes))))

    @property
    def explained(self) -> str:
        """Its meaning, and the values that it takes, where its name and meaning leave that open."""
        plain = isinstance(self.default, (bool, str)) and not self.takes.known
        return self.about if plain else f"{self.about}. Takes {self.accepts}"

    @property
    def label(self) -> str:
        """The setting in a message."""
        return f"config key {self.key!r}"

    def parse(self, text: str) -> Any:
        """The value that a text of the command line stands for; a list is written with commas.

        Raises:
            ValueError: the text is no value of that type.
        """
        try:
            if isinstance(self.default, bool):
                return _TRUTH[text.lower()]
            return self.convert(text if isinstance(self.default, (str, tuple)) else type(self.default)(text))
        except (KeyError, ValueError):
            raise self.refusal(text) from None

    def convert(self, value: Any) -> Any:
        """A value of TOML or JSON in the setting's own type: lists as tuples, whole numbers as floats.

        Raises:
            ValueError: the value is of another type.
        """
        if isinstance(self.default, tuple) and isinstance(value, str):
            value = value.split(",")
        if isinstance(self.default, tuple) and isinstance(value, (list, tuple)):
            value = [str(entry) if self.takes.numbers and type(entry) is int else entry for entry in value]
            self._check_entries(value)
            return tuple(entry.strip() for entry in value if entry.strip())
        if isinstance(self.default, float) and type(value) is int and abs(value) <= _LARGEST:
            value = float(value)
        self._check_type(value)
        return value + 0.0 if isinstance(value, float) else value  # no −0: it equals 0 and hashes otherwise

    def check(self, value: Any) -> None:
        """Refuses a value of the wrong type, out of range or unknown.

        Raises:
            ValueError: wrong type, range or spelling.
            KeyError: a name is not among the known ones; the nearest is named.
        """
        self._check_type(value)
        if isinstance(value, (str, tuple)):
            if self.takes.needed and not value:
                raise self.refusal(value)
            for text in (value,) if isinstance(value, str) else value:
                self._check_text(text)
        elif not self.takes.holds(value):
            raise self.refusal(value)
        if isinstance(value, tuple) and (twice := [one for one in value if value.count(one) > 1]):
            raise ValueError(f"{self.label} names {twice[0]!r} twice; once is enough")

    def refusal(self, value: Any) -> ValueError:
        """The message about a value that the setting does not take."""
        return ValueError(f"{self.label} takes {self._kind}, found {shown(value)}")

    def _check_type(self, value: Any) -> None:
        kind = type(self.default)
        if kind is float:
            right = type(value) is int or (isinstance(value, float) and math.isfinite(value))
        elif kind in (bool, int):
            right = type(value) is kind
        else:
            right = isinstance(value, kind)
        if not right or (type(value) is int and abs(value) > _LARGEST):
            raise self.refusal(value)
        if isinstance(value, tuple):
            self._check_entries(value)

    def _check_entries(self, entries: Iterable[Any]) -> None:
        for entry in entries:
            if not isinstance(entry, str):
                raise ValueError(f"{self.label} takes {_KINDS[tuple]}, found the entry {shown(entry)}")

    def _check_text(self, text: str) -> None:
        if len(text) > _LONGEST or any(unicodedata.category(letter) in _UNSEEN for letter in text):
            raise ValueError(
                f"{self.label} takes text of at most {_LONGEST} characters in one line, found {shown(text)}"
            )
        if isinstance(self.default, tuple) and (not text or text != text.strip()):
            raise ValueError(f"{self.label} takes entries without blanks around them, found {shown(text)}")
        if self.takes.spelled:
            self.takes.spelled(text, self.label)
        if self.takes.known:
            check_known(self.key, text, self._known())

    def _known(self) -> Iterable[str]:
        known = self.takes.known
        return pkgutil.resolve_name(known) if isinstance(known, str) else known


def help_of(described: type) -> dict[str, str]:
    """The line of each field under "Attributes" in the docstring of a dataclass or of one that it inherits."""
    lines: dict[str, str] = {}
    for parent in reversed(described.__mro__):
        if "__dataclass_fields__" not in vars(parent) and parent is not described:
            continue
        text = inspect.cleandoc(parent.__doc__ or "").partition("Attributes:\n")[2]
        text = re.split(r"^\w", text, maxsplit=1, flags=re.MULTILINE)[0]  # another section
        for name, said in re.findall(r"^    (\w+): (.*(?:\n {6,}.*)*)", text, flags=re.MULTILINE):
            lines[name] = " ".join(said.split()).rstrip(".")
    return lines


def check_known(key: str, name: str, known: Iterable[str], where: str = "") -> None:
    """Raises a KeyError unless the name is one of the known ones; the message has all of them and the nearest."""
    if name not in known:
        near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise KeyError(f"{key} {shown(name)} was asked for{where}; known: {', '.join(known)}{hint}")


def shown(value: Any) -> str:
    """A value in a message: one line, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        text = f"{type(value).__name__} with thousands of digits"
    return text if len(text) <= 90 else f"{text[:60]}…{text[-20:]}"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """The leaves of nested dictionaries with their dotted keys; an empty dictionary is a leaf."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
