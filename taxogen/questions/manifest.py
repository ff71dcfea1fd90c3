"""Items and manifests: every stimulus of a run as a row, with the record of the steps that led there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probing.store import MismatchError
from probing.store.files import write_json, write_whole


@dataclass(frozen=True)
class Item:
    """One stimulus.

    Attributes:
        task: "leaf" or "hypernym".
        picture: the picture's path in its collection; empty in a text row.
        shown_leaf: the leaf that the picture really shows.
        leaf: its name in this world.
        hypernym: the hypernym that is asked about, else empty.
        answer: the right answer ("Yes" and "No" included), empty where the row only opens a prompt.
        prompt: the name of the template (`taxogen.questions.prompts`).
        modality: "image" or "text".
        split: "train", "validation" or "test".
        asked: the leaf that a yes/no question names, else empty.
    """

    task: str
    picture: str
    shown_leaf: str
    leaf: str
    hypernym: str
    answer: str
    prompt: str
    modality: str
    split: str
    asked: str = ""

    @property
    def item_id(self) -> str:
        """The only key used across the project: 16 hexadecimal digits, a hash of the fields."""
        return _digest("\0".join(asdict(self).values()))


FIELDS = tuple(spec.name for spec in fields(Item))
COLUMNS = ("item_id", *FIELDS)
_ORDER = (
    "split",
    "task",
    "modality",
    "prompt",
    "leaf",
    "picture",
    "hypernym",
    "asked",
    "shown_leaf",
    "answer",
)
_TASKS, _MODALITIES, _SPLITS = ("leaf", "hypernym"), ("image", "text"), ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Manifest:
    """Items in canonical order, and their provenance: one dictionary per operation, oldest first.

    The frame's columns are `COLUMNS`; item_id is computed from the others, never taken from the input. Two manifests
    with the same items are equal in every byte, whichever way and in whichever order they were made.

    Raises:
        ValueError: a column is missing or unknown, a value not in its vocabulary, or an item occurs twice.
    """

    frame: pd.DataFrame
    provenance: tuple[dict[str, Any], ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame", _canonical(self.frame))
        object.__setattr__(self, "provenance", tuple(dict(step) for step in self.provenance))

    @classmethod
    def from_items(cls, items: Iterable[Item], **what: Any) -> Manifest:
        """The manifest of some items; `what` is its first provenance step."""
        rows = [asdict(item) for item in items]
        return cls(pd.DataFrame(rows, columns=list(FIELDS)), (what,) if what else ())

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def hash(self) -> str:
        """A digest of the items (not of the provenance): 16 hexadecimal digits."""
        return _digest("".join(self.frame["item_id"]))

    @property
    def items(self) -> Iterable[Item]:
        """The rows as items, in order."""
        columns = [self.frame[name].astype(str) for name in FIELDS]
        return (Item(*values) for values in zip(*columns, strict=True))

    def where(self, **equals: str | Iterable[str]) -> Manifest:
        """The items whose columns have the given value, or one of the given values.

        Raises:
            KeyError: there is no such column.
        """
        keep = np.ones(len(self), dtype=bool)
        for name, wanted in equals.items():
            if name not in COLUMNS:
                raise KeyError(f"manifest column {name!r} was asked for; known: {', '.join(COLUMNS)}")
            values = [wanted] if isinstance(wanted, str) else sorted(wanted)
            keep &= self.frame[name].isin(values).to_numpy()
        what = {name: v if isinstance(v, str) else sorted(v) for name, v in equals.items()}
        return self.with_step(self.frame.loc[keep], operation="where", **what)

    def with_step(self, frame: pd.DataFrame, **what: Any) -> Manifest:
        """The manifest of another frame that came from this one; `what` is added to the provenance."""
        return Manifest(frame, (*self.provenance, what))

    def write(self, folder: Path | str, name: str = "manifest") -> Path:
        """The path of the CSV file written, whole or not at all; hash and provenance go into name.json."""
        path = Path(folder) / f"{name}.csv"
        write_whole(path, lambda part: self.frame.to_csv(part, index=False, lineterminator="\n"))
        record = {"hash": self.hash, "items": len(self), "provenance": list(self.provenance)}
        write_json(path.with_suffix(".json"), record)
        return path

    @classmethod
    def read(cls, folder: Path | str, name: str = "manifest") -> Manifest:
        """The manifest that `write` wrote.

        Raises:
            FileNotFoundError: a file is missing.
            MismatchError: the CSV's items are not those whose hash the JSON file records.
        """
        path = Path(folder) / f"{name}.csv"
        for needed in (path, path.with_suffix(".json")):
            if not needed.is_file():
                raise FileNotFoundError(
                    f"manifest file {needed} is missing; make it with `python -m taxogen prepare --config …`"
                )
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        table = pd.read_csv(path, dtype=str, keep_default_na=False, na_filter=False)
        manifest = cls(table, tuple(record["provenance"]))
        same_ids = manifest.frame["item_id"].tolist() == table["item_id"].tolist()
        if manifest.hash != record["hash"] or not same_ids:
            raise MismatchError(
                f"{path} holds items with hash {manifest.hash}, but its JSON file records {record['hash']}: "
                "one of the two was changed; prepare the manifest again"
            )
        return manifest


def _canonical(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with sorted categories, sorted rows and fresh ids; refuses wrong columns and values."""
    given = [name for name in frame.columns if name != "item_id"]
    missing, strange = sorted(set(FIELDS) - {*given, "asked"}), sorted(set(given) - set(FIELDS))
    if missing or strange:
        raise ValueError(
            f"a manifest has the columns {', '.join(FIELDS)}; missing: {missing or 'none'}, "
            f"unknown: {strange or 'none'}"
        )
    columns = {name: _category(frame.get(name), name, len(frame)) for name in FIELDS}
    for name, known in (("task", _TASKS), ("modality", _MODALITIES), ("split", _SPLITS)):
        if wrong := sorted(set(columns[name].categories) - set(known)):
            raise ValueError(f"manifest column {name!r} holds {wrong}; it may hold {', '.join(known)}")
    order = np.lexsort([columns[name].codes for name in reversed(_ORDER)])
    table = pd.DataFrame({name: column[order] for name, column in columns.items()})
    ids = _item_ids(table)
    repeated = np.flatnonzero(ids.duplicated())
    if len(repeated):
        row = table.iloc[repeated[0]].to_dict()
        raise ValueError(f"{len(repeated)} manifest items occur more than once, for example {row}")
    table.insert(0, "item_id", ids)
    return table


def _category(values: pd.Series | None, name: str, length: int) -> pd.Categorical:
    """The values as a categorical of the sorted strings that occur: small, and the same in any order."""
    if values is None:
        values = pd.Series([""] * length, dtype="category")
    codes, distinct = pd.factorize(values)
    if (codes < 0).any():
        raise ValueError(f"manifest column {name!r} has undefined values; use an empty text instead")
    texts = [str(text) for text in distinct]
    order = sorted(range(len(texts)), key=texts.__getitem__)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    kind = pd.CategoricalDtype([texts[place] for place in order])
    return pd.Categorical.from_codes(rank[codes] if length else codes, dtype=kind)


def _item_ids(table: pd.DataFrame) -> pd.Series:
    """The id of each row."""
    columns = []
    for name in FIELDS:
        column = pd.Categorical(table[name])
        columns.append(np.array(column.categories, dtype=object)[column.codes] if len(table) else [])
    ids = [_digest("\0".join(row)) for row in zip(*columns, strict=True)]
    return pd.Series(ids, index=table.index, dtype=str)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
