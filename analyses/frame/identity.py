"""Runs by identity, not by the names of their folders: each once, each with a name of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from probing.store import MismatchError
from taxogen.runs.run import Run


def distinguished(runs: Sequence[Run]) -> list[Run]:
    """The runs, each with a name that no other has: where folders share a name, the shortest end of the path.

    Raises:
        MismatchError: one run was given twice: a folder, perhaps by a link to it, or a folder and a copy of it.
    """
    for first, second in combinations(runs, 2):
        _refuse_one_run(first, second)
    paths = [Path(os.path.abspath(run.path)).parts for run in runs]
    names = [path[-1] for path in paths]
    return [
        run if names.count(names[at]) == 1 else replace(run, label=_end(at, paths))
        for at, run in enumerate(runs)
    ]


def _refuse_one_run(first: Run, second: Run) -> None:
    given = f"one run was given twice, as {first.path} and as {second.path}"
    if _resolved(first) == _resolved(second):
        raise MismatchError(f"{given}; give each run once")
    if first.config.hash == second.config.hash and (makers := _makers(first)) and makers == _makers(second):
        raise MismatchError(f"{given}, a copy with the same config, world and projector; give each run once")


def _makers(run: Run) -> dict[str, str]:
    """What a finished run is made of; empty where that cannot be read, which whoever uses it refuses."""
    try:
        return run.makers() if run.complete else {}
    except OSError:
        return {}


def _resolved(run: Run) -> Path:
    return run.path.resolve()


def _end(at: int, paths: Sequence[tuple[str, ...]]) -> str:
    """The shortest end of a path that none of the others has."""
    others = [path for place, path in enumerate(paths) if place != at]
    lengths = range(1, len(paths[at]) + 1)
    own = next(n for n in lengths if all(path[-n:] != paths[at][-n:] for path in others))
    return "/".join(paths[at][-own:])
