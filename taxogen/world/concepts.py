"""Concepts: names with the WordNet synsets they stand for, and corrections to WordNet's hypernyms."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Concept:
    """A named node and what WordNet is asked about it.

    Attributes:
        name: the everyday word.
        synsets: its WordNet ids (``crow.n.01``); a leaf has one, a hypernym may join several.
        also: hypernyms it is under although WordNet does not have it.
        unlike: hypernyms it is not under although WordNet has it.
        where: the row it was read from, for messages.
    """

    name: str
    synsets: tuple[str, ...]
    also: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    where: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.name} ({self.where})" if self.where else self.name


def read_concepts(path: str | os.PathLike[str], kind: str) -> list[Concept]:
    """The concepts in a CSV table: columns `kind` (``leaf`` or ``hypernym``), synset[, also, unlike, note].

    Several synsets are separated by spaces, several names by semicolons.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing or a row lacks a name or a synset.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"No list of {kind} concepts at {path}: give a CSV file with columns {kind}, synset."
        )
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file)
        missing = [name for name in (kind, "synset") if name not in (table.fieldnames or [])]
        if missing:
            raise ValueError(
                f"{path} lacks the columns {missing} (found: {', '.join(table.fieldnames or [])})."
            )
        rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in table]
    empty = [f"row {number}" for number, row in enumerate(rows, 2) if not row[kind] or not row["synset"]]
    if empty:
        raise ValueError(
            f"A name or a synset is empty in {path}, {', '.join(empty)}: fill in or remove these rows."
        )
    return [
        Concept(
            row[kind],
            tuple(row["synset"].split()),
            _names(row.get("also")),
            _names(row.get("unlike")),
            f"{kind} row {number}",
        )
        for number, row in enumerate(rows, 2)
    ]


def _names(cell: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (cell or "").split(";") if name.strip())
