"""The start of a command: one that only prints its help waits for no library, and Ctrl-C is one line.

Each question's module imports what it computes with (torch, pandas, matplotlib …: 6 s of CPU). Its flags need none of
that, so that empty modules stand in for all libraries while help is printed.
"""

from __future__ import annotations

import sys
from abc import ABCMeta
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from io import TextIOWrapper
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

OWN = ("analyses", "taxogen", "probing")
"""Packages that are loaded as they are, beside those of Python itself."""
PROGRAM = "taxoprobe"
HELP = ("-h", "--help")
INTERRUPTED = "stopped by Ctrl-C; no file is half written, and the same command goes on from what is stored"


def start(argv: Sequence[str], original: Sequence[str]) -> None:
    """Prepares this process where it is a command of ours; any other is left as it is.

    Args:
        argv: `sys.argv`; its first word is -m while Python looks for a module to run.
        original: `sys.orig_argv`, which has the module.
    """
    if not is_command(argv, original):
        return
    sys.excepthook = _in_one_line
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a code page of Windows has no arrow
    if any(flag in argv for flag in HELP) and "--" not in argv:
        sys.meta_path.insert(0, _EmptyModules())


def is_command(argv: Sequence[str], original: Sequence[str]) -> bool:
    """Whether a process is a command of ours, by the words that it was started with.

    >>> is_command(["-m", "--help"], ["python", "-m", "analyses.lens", "--help"])
    True
    >>> is_command(["train.py", "--help"], ["python", "train.py", "--help"])
    False
    """
    module = original[original.index("-m") + 1] if argv[:1] == ["-m"] and "-m" in original[:-1] else ""
    return module.partition(".")[0] in OWN or Path(*argv[:1]).stem == PROGRAM


def _in_one_line(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Prints what an interrupted command needs, and any other exception as Python does."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"{PROGRAM}: {INTERRUPTED}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


class _Everything(ABCMeta):
    """A class of which each attribute, call, entry and sum is such a class again, and which others may inherit."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _empty_class(name)

    def __call__(cls, *given: Any, **named: Any) -> Any:
        return _Nothing

    def __getitem__(cls, key: Any) -> Any:
        return _Nothing

    def __iter__(cls) -> Iterator[Any]:
        return iter(())

    def __or__(cls, other: Any) -> Any:
        return _Nothing

    __ror__ = __add__ = __radd__ = __mul__ = __rmul__ = __sub__ = __truediv__ = __pow__ = __rpow__ = __or__


class _Nothing(metaclass=_Everything):
    def __init_subclass__(cls, **named: Any) -> None:
        """Takes what the class that it stands for may take."""


@cache
def _empty_class(name: str) -> type:
    return _Everything(name, (_Nothing,), {})


class _EmptyModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _empty_class(name)


class _EmptyModules(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        top = fullname.partition(".")[0]
        if top in sys.stdlib_module_names or top in (*OWN, "shtab"):
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _EmptyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leaves the module empty."""
