"""Command lines from dataclasses: a field that is an `option` is a flag, its line under "Attributes" is the help."""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyses.frame.stores import LEAF, Stores
from probing.stats import DRAWS
from taxogen.runs.flags import Parser
from taxogen.runs.setting import help_of
from taxogen.stages.sweeping.sweep_table import runs_of_sweep


def described_parser(program: str, described: str) -> argparse.ArgumentParser:
    """A parser without flags whose help is a module's docstring: its first line, and behind the flags the rest."""
    about, _, rest = described.partition("\n\n")
    return Parser(prog=program, description=about, epilog=rest)


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that name runs: one by one, or all of a sweep."""
    for flag, text in {"--run": "a run directory", "--sweep": "folder of a sweep, for all its runs"}.items():
        parser.add_argument(flag, action="append", type=Path, metavar="DIR", help=text)


def runs_in(given: argparse.Namespace) -> list[Path]:
    """The directories of the runs that a command line names.

    Raises:
        FileNotFoundError: a folder holds no sweep, or not all its runs.
    """
    folders = list(getattr(given, "run", None) or ())
    folders += [path for sweep in getattr(given, "sweep", None) or () for path in runs_of_sweep(sweep)]
    return folders


_OF_STORES: dict[str, tuple[str, dict[str, Any]]] = {
    "--images": (
        "activation store of picture rows, in place of a run, one for each step",
        {"action": "append", "type": Path, "metavar": "STORE"},
    ),
    "--text": ("activation store of rows of words, in place of a run", {"type": Path, "metavar": "STORE"}),
    "--taxonomy": (
        "of the leaves in these stores: a CSV file with the columns leaf, hypernym (default: none)",
        {"type": Path, "metavar": "TABLE"},
    ),
    "--leaf-column": (
        f"of these stores, which names the leaf of a row (default: {LEAF})",
        {"metavar": "NAME"},
    ),
}


def add_store_flags(parser: argparse.ArgumentParser, shown: bool) -> None:
    """Adds the flags; hidden where a question takes no stores, and a reason is better than an unknown flag."""
    for flag, (text, settings) in _OF_STORES.items():
        parser.add_argument(flag, help=text if shown else argparse.SUPPRESS, **settings)


def store_flags_in(given: argparse.Namespace) -> list[str]:
    """The flags about stores that a command line gives."""
    return [
        flag for flag in _OF_STORES if getattr(given, flag.lstrip("-").replace("-", "_"), None) is not None
    ]


def stores_from(given: argparse.Namespace) -> Stores:
    """The stores that a command line names.

    Raises:
        ValueError: runs were named as well, or no store, or no taxonomy; and as `Stores.open`.
    """
    first = store_flags_in(given)[0]
    if named := [flag for flag in ("run", "sweep") if getattr(given, flag, None)]:
        raise ValueError(
            f"--{named[0]} and {first} were both given; a run has stores and a taxonomy of its own: drop one of the two"
        )
    if given.images is None and given.text is None:
        raise ValueError(f"{first} was given without a store; give --images STORE, --text STORE, or both")
    if given.taxonomy is None:
        raise ValueError(
            "stores were given without --taxonomy TABLE: a CSV file with the columns leaf, hypernym over their leaves"
        )
    return Stores.open(
        given.images or (), given.text, taxonomy=given.taxonomy, leaf=given.leaf_column or LEAF
    )


ASKS, EXTENT, TABLE, NAME, PARTNER = "asks", "extent", "table", "name", "partner"
"""What an option is for: it is part of the question; it says how many, how finely, of which rows or on which device; it
stands in the name of the table; it is a name for the results; it names runs that others are compared with."""
_FLAG = "flag"
_WIDE = 24  # choices that are longer than this, or several of them, stand in the help, not in the usage line


def option(
    default: Any,
    *,
    flag: str = "",
    choices: Sequence[str] = (),
    empty: bool = False,
    metavar: str | None = None,
    required: bool = False,
    const: Any = None,
    role: str = ASKS,
) -> Any:
    """A dataclass field that is also a flag of the command line; its type says what the flag takes.

    A bool is a switch, a tuple takes several values (`--span slot cue` or `--span slot --span cue`).

    Args:
        default: of the field, and so of the flag.
        flag: its spelling; by default that of the field, with dashes.
        choices: the only values it takes.
        empty: whether the flag of a tuple may be given without a value, for none at all.
        metavar: what stands for the value in the help.
        required: whether the command line must give it.
        const: the value of a flag that is given without one, where it may be.
        role: what it is for; other values of an option that `ASKS` are another question, whose results lie in another
            folder.
    """
    flag_of = {"flag": flag, "choices": tuple(choices) or None, "empty": empty, "metavar": metavar}
    flag_of |= {"required": required, "const": const, "role": role}
    return dataclasses.field(default=default, metadata={_FLAG: flag_of})


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How intervals are drawn.

    Attributes:
        draws: bootstrap draws
        seed: of every draw
    """

    draws: int = option(DRAWS, role=EXTENT)
    seed: int = option(0, role=EXTENT)


def flags_of(options: type) -> dict[str, dataclasses.Field]:
    """The fields of an options class that are flags, by flag; its own before those that it inherits."""
    fields = [one for one in dataclasses.fields(options) if _FLAG in one.metadata]
    fields.sort(key=lambda one: one.name not in vars(options).get("__annotations__", {}))
    return {one.metadata[_FLAG]["flag"] or "--" + one.name.replace("_", "-"): one for one in fields}


def role_of(field: dataclasses.Field) -> str:
    """What an option is for."""
    return field.metadata[_FLAG]["role"]


def partners_of(options: Any) -> list[Path]:
    """The folders of runs that options name."""
    paths: list[Path] = []
    for field in flags_of(type(options)).values():
        value = getattr(options, field.name)
        if role_of(field) == PARTNER and value:
            paths += value if isinstance(value, tuple) else [value]
    return paths


def add_flags(parser: argparse.ArgumentParser, options: type) -> None:
    """Adds the flags of an options class to a parser, each with its help and its default.

    Raises:
        TypeError: an option has no line of help, or a type that no flag can take.
    """
    hints, lines = typing.get_type_hints(options), help_of(options)
    for flag, field in flags_of(options).items():
        if field.name not in lines:
            raise TypeError(f"{options.__qualname__}.{field.name} has no line under Attributes")
        about = field.metadata[_FLAG]
        text = f"{lines[field.name]}{_default(field.default)}".replace("%", "%%")
        settings: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS, "help": text}
        settings |= {"required": True} if about["required"] else {}
        kind, several = _kind(hints[field.name])
        if kind is bool:
            parser.add_argument(flag, action="store_true", **settings)
            continue
        choices, name = about["choices"], flag.lstrip("-").upper()
        told = bool(choices) and (several or len(",".join(choices)) > _WIDE)
        metavar = about["metavar"] or (None if choices and not told else name)
        settings |= {"type": kind, "choices": choices, "metavar": metavar}
        if told:
            settings["help"] += f"; known: {', '.join(about['choices'])}"
        if about["const"] is not None:
            settings |= {"nargs": "?", "const": about["const"]}
        if several:
            settings |= {"action": "extend", "nargs": "*" if about["empty"] else "+"}
        parser.add_argument(flag, **settings)


def options_from(
    options: type, given: argparse.Namespace, instead: Mapping[str, Any] = types.MappingProxyType({})
) -> Any:
    """The options that a parsed command line asks for; `instead` has defaults that are others this time."""
    known = options.__dataclass_fields__
    values = {name: value for name, value in {**(instead or {}), **vars(given)}.items() if name in known}
    return options(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def refuse_repeated(options: Any) -> None:
    """Refuses options of which one has a value twice: its rows would be there twice, or count double.

    Raises:
        ValueError: one has; runs apart, which are compared by what they are.
    """
    for flag, field in flags_of(type(options)).items():
        values = getattr(options, field.name)
        if isinstance(values, tuple) and role_of(field) != PARTNER and len(set(values)) < len(values):
            twice = next(one for at, one in enumerate(values) if one in values[:at])
            raise ValueError(f"{flag} {twice} was asked for twice; name each once")


def _kind(hint: Any) -> tuple[type, bool]:
    """What one value of a flag is, and whether it takes several."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (hint,) = (one for one in typing.get_args(hint) if one is not type(None))
    several = typing.get_origin(hint) is tuple
    kind = typing.get_args(hint)[0] if several else hint
    if kind not in (bool, int, float, str, Path):
        raise TypeError(f"a flag cannot take {hint}")
    return kind, several


def _default(value: Any) -> str:
    if value is None or value is False or value in ("", ()):
        return ""
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f" (default: {text})"
