"""Parts: the pieces of a long computation, each kept on disk as soon as it is done, so that a second start goes on.

Its size is said before it begins, and how long it will take as soon as that is measured.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import pandas as pd
from tqdm import tqdm

from analyses.frame import provenance
from analyses.frame.stores import RunOrStores
from probing.store import cache, records
from taxogen.runs.flags import note
from taxogen.stages.sweeping.clock import words

if TYPE_CHECKING:
    from analyses.frame.analysis import Analysis

log = logging.getLogger(__name__)
Value = TypeVar("Value")
_FIRST, _BETWEEN = 5, 30  # seconds, until and between lines about the time left


@dataclass(frozen=True)
class Codec(Generic[Value]):
    """How values of a kind lie on disk: the suffix of their files, and what writes and reads them."""

    suffix: str
    write: Callable[[Value, Path], object]
    read: Callable[[Path], Value]


def _write_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    with path.open("wb") as out:  # a path without the suffix .npz would get it appended
        np.savez_compressed(out, **arrays)  # pyright: ignore[reportArgumentType]


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored_arrays:
        return {name: stored_arrays[name] for name in stored_arrays.files}


TABLE: Codec[pd.DataFrame] = Codec(
    ".parquet", lambda table, path: table.to_parquet(path, index=False), pd.read_parquet
)
"""A table."""
ARRAYS: Codec[dict[str, np.ndarray]] = Codec(".npz", _write_arrays, _read_arrays)
"""Arrays by name."""


def stored(
    folder: Path,
    name: str,
    make: Callable[[], Value],
    codec: Codec[Value],
    made_from: Mapping[str, Any] | None = None,
) -> Value:
    """The value kept under a name in a folder; one that is not there, or damaged, is made first, by one process."""
    path = folder / f"{name}{codec.suffix}"
    with cache.locked(folder.absolute()):
        if not _whole(path):
            value = make()
            records.write(path, lambda part: codec.write(value, part), made_from or {})
    return codec.read(path)


def _whole(path: Path) -> bool:
    """Whether a part is there and as it was written."""
    provenance.set_aside_unreadable(path.parent)
    try:
        records.made_from(path, "it is made again")
    except FileNotFoundError:
        return False
    except records.DamagedError as damage:
        log.warning("%s", damage)
        return False
    return path.is_file()


class Progress:
    """Work whose size is said before it begins, and the time left as soon as some of it is measured.

    In a terminal a bar, elsewhere a line at the beginning and then one every half minute.
    """

    def __init__(self, what: str, unit: str, **counts: int) -> None:
        """Says the size of the work, unless it has no name.

        Args:
            what: is done.
            unit: of the work, in the plural.
            counts: what is counted → how often; the work is their product.
        """
        self.what, self.unit, self.total = what, unit, math.prod(counts.values())
        self.begun, self.ended, self.there = time.monotonic(), 0, 0
        self._next = self.begun + _FIRST
        product = " × ".join(f"{count:,} {name}" for name, count in counts.items())
        whole = f" = {self.total:,} {unit}" if len(counts) > 1 else ""
        size = f": {product}{whole}" if self.total != 1 else ""
        self._say(f"{what}{size}")
        shown = bool(what) and sys.stderr.isatty()
        look: dict[str, Any] = {"leave": False, "mininterval": 1, "disable": not shown}
        self._bar = tqdm(total=self.total, desc=what, unit=unit, **look)

    def done(self, count: int = 1) -> None:
        """Some of the work has ended."""
        self.ended += count
        self._bar.update(count)
        if self._bar.disable and (now := time.monotonic()) >= self._next:
            self._next = now + _BETWEEN
            self._say(f"{self.what}: {self}")

    def known(self, count: int) -> None:
        """Some of it need not be done, as it is there: it says nothing about how long the rest takes."""
        self.there += count
        if not self._bar.disable:
            self._bar.initial += count
            self._bar.update(count)

    def piece(self, make: Make, name: str, size: int) -> pd.DataFrame:
        """A piece of the work that says itself how much of its size is done; the rest is at its end."""
        before = self.ended
        table = make(name, self.done)
        if rest := size - (self.ended - before):
            self.done(rest)
        return table

    def __str__(self) -> str:
        at = self.there + self.ended
        if not self.ended:
            return f"{at:,} of {self.total:,} {self.unit}"
        left = (time.monotonic() - self.begun) / self.ended * (self.total - at)
        return f"{at:,} of {self.total:,} {self.unit}, about {words(left)} left"

    def _say(self, text: str) -> None:
        if self.what:
            note(text)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def tracked(items: Iterable[Value], what: str, unit: str, **counts: int) -> Iterator[Value]:
    """The items, with the time left while they are worked on; without a count there are as many as they are."""
    if not counts:
        items = list(items)
        counts = {unit: len(items)}
    with Progress(what, unit, **counts) as progress:
        for item in items:
            yield item
            progress.done()


Done = Callable[[int], None]
"""Is told how much of a piece has been done meanwhile."""
Make = Callable[[str, Done], pd.DataFrame]
"""Makes the piece of a name."""
Collect = Callable[[Mapping[str, int], Make, str, str], pd.DataFrame]
"""What makes all pieces one table, in order: (name → size of a piece, what makes it, what is done, unit of sizes)."""


@dataclass(frozen=True)
class Pieces:
    """Pieces of a long table, in order: by name, what makes the rows of each, and the size of each."""

    makes: dict[str, Callable[[Done], list[dict]]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def add(self, labels: Iterable[object], size: int, make: Callable[[Done], list[dict]]) -> None:
        """One more, which its labels name."""
        name = "-".join(map(str, labels)).replace(" ", "_")
        self.makes[name], self.sizes[name] = make, size

    def rows(self, collect: Collect, what: str, unit: str) -> pd.DataFrame:
        """The rows of all."""
        return collect(self.sizes, lambda name, done: pd.DataFrame(self.makes[name](done)), what, unit)


def unheard(_: int) -> None:
    """Lets no one know."""


def at_once(sizes: Mapping[str, int], make: Make, *_: str) -> pd.DataFrame:
    """All pieces as one table, none of them kept on disk, and without a word."""
    return pd.concat([make(name, unheard) for name in sizes], ignore_index=True)


@dataclass(frozen=True)
class Parts:
    """A folder of tables, one for each piece; pieces of other settings lie in other folders."""

    folder: Path
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path, settings: Mapping[str, Any]) -> Parts:
        """The parts made with these settings."""
        text = json.dumps(settings, sort_keys=True, default=str)
        path = folder / "parts" / hashlib.sha256(text.encode()).hexdigest()[:12]
        path.mkdir(parents=True, exist_ok=True)
        return cls(path, json.loads(text))

    @classmethod
    def of_question(
        cls, analysis: Analysis, source: RunOrStores, options: Any, idle: Collection[str], **also: Any
    ) -> Parts:
        """The parts of a question to a run, or to stores in place of one.

        Args:
            analysis: the question.
            source: that is asked.
            options: of the question.
            idle: options that do not matter to parts.
            also: what else does.
        """
        made_from = provenance.made_from(analysis, [source], options)
        chosen = {name: value for name, value in made_from["options"].items() if name not in idle}
        (makers,), (reads,) = made_from["runs"].values(), made_from["reads"].values()
        return cls.of(
            provenance.home_of(source) / analysis.name,
            {"options": chosen, "makers": makers, "reads": reads, **also},
        )

    def missing(self, names: Iterable[str]) -> list[str]:
        """The pieces that are not there yet."""
        return [name for name in names if not (self.folder / f"{name}{TABLE.suffix}").is_file()]

    def collect(self, names: Iterable[str], make: Callable[[str], pd.DataFrame], what: str) -> pd.DataFrame:
        """All pieces as one table, in order; those that are missing are made, with the time left on a bar."""
        return self.collect_sized(dict.fromkeys(names, 1), lambda name, _: make(name), what, "parts")

    def collect_sized(self, sizes: Mapping[str, int], make: Make, what: str, unit: str) -> pd.DataFrame:
        """The same of pieces that take long: `make` says how much of one is done.

        Args:
            sizes: name of a piece → what it counts.
            make: a piece, given its name and what is to be told how much has been done.
            what: is done.
            unit: of sizes, in the plural.
        """
        if missing := self.missing(sizes):
            with Progress(what, unit, **{unit: sum(sizes.values())}) as progress:
                progress.known(sum(size for name, size in sizes.items() if name not in missing))
                for name in missing:
                    progress.piece(partial(self._piece, make), name, sizes[name])
        return pd.concat([self._piece(make, name, unheard) for name in sizes], ignore_index=True)

    def _piece(self, make: Make, name: str, done: Done) -> pd.DataFrame:
        return stored(self.folder, name, partial(make, name, done), TABLE, self.settings)
