"""CaptureBatch: rows that go through a model together, with their keys, spans and columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from probing.store.shards import as_column

Pooling = Literal["mean", "last", "all"]
Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class CaptureBatch:
    """Rows that go through the model together.

    >>> import torch
    >>> batch = CaptureBatch({"input_ids": torch.arange(5)[None]}, ["crow-1"], {"last": [(4,)]}, {"leaf": ["crow"]})
    >>> batch.item_ids, batch.spans["last"]
    (['crow-1'], [(4,)])

    Attributes:
        inputs: the model's arguments, `model(**inputs)`; or a function that makes it, called only when the
            batch is not in the store yet.
        item_ids: the key of each row, unique in the store.
        spans: name → for each row the positions of its tokens in the whole sequence as the model sees it,
            counted from 0 with the padding and, before it, the shared prefix.
        columns: manifest column → value of each row.
        prefix: the model's arguments for the part that rows share (the picture, say), without padding; or a
            function that makes it. `inputs` then holds the rest, with an attention mask over both parts.
        prefix_rows: for each row, which row of the prefix it continues; the first by default.
    """

    inputs: Inputs | Callable[[], Inputs]
    item_ids: Sequence[str]
    spans: Mapping[str, Sequence[Sequence[int]]]
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    prefix: Inputs | Callable[[], Inputs] | None = None
    prefix_rows: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.item_ids, str) or not all(map(_is_key, self.item_ids)):
            wrong = next((i for i in self.item_ids if not _is_key(i)), self.item_ids)
            raise ValueError(
                f"item_ids are texts, one a row, not empty and without null characters; found {wrong!r} "
                f"({type(wrong).__name__}): give str(...) of a number"
            )
        rows = len(self.item_ids)
        for kind, named in (("span", self.spans), ("column", self.columns)):
            for name, values in named.items():
                if not _is_key(name) or "/" in name:
                    raise ValueError(f"{kind}s are named by text without '/', found {name!r}")
                if len(values) != rows:
                    raise ValueError(f"{kind} {name!r} has {len(values)} rows, the batch has {rows} item_ids")
        for name, of_rows in self.spans.items():
            for row, places in enumerate(of_rows):
                numbers = np.asarray(places)
                if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
                    raise ValueError(
                        f"span {name!r} has {places!r} in row {row}; spans are lists of whole numbers"
                    )
        for name, values in self.columns.items():
            as_column(name, values)
        if self.prefix_rows is not None and len(self.prefix_rows) != rows:
            raise ValueError(f"prefix_rows has {len(self.prefix_rows)} rows, the batch has {rows} item_ids")
        if self.prefix_rows is not None and self.prefix is None:
            raise ValueError("prefix_rows were given without a prefix")
        if not self.spans or not rows:
            raise ValueError("a batch needs at least one item and one span")

    @property
    def kinds(self) -> dict[str, str]:
        """Column → the kind of its values: text, truth values or numbers."""
        return {
            name: _KINDS[as_column(name, values[:1]).dtype.kind]
            for name, values in sorted(self.columns.items())
        }


_KINDS = {"S": "text", "b": "truth values", "i": "numbers", "f": "numbers"}


def _is_key(value: object) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value
