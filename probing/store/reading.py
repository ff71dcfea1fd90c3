"""ActivationStore: a folder of HDF5 shards read as one, one data set per site × span, rows keyed by item_id.

The layout on disk is described in docs/store_format.md. A store opens lazily, holds no file handle between
calls (so it may be used after a fork and from many processes), and checks each data set it reads against
the checksum written beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from probing.sites import SPAN_OF_SLOT, Sites
from probing.store import notebook
from probing.store.headers import MismatchError, read_header, read_index, require_shard_of
from probing.store.labelled import to_xarray
from probing.store.shard_files import (
    HEADER_FILE,
    INDEX_FILE,
    STORED_AS,
    CorruptShardError,
    Extent,
    damaged,
    decode,
    read_array,
    read_columns,
    read_text,
    shard_files,
)

if TYPE_CHECKING:
    import xarray  # pyright: ignore[reportMissingImports]

__all__ = ["HEADER_FILE", "INDEX_FILE", "ActivationStore", "CorruptShardError", "MismatchError"]


class ActivationStore:
    """Activations of one model at named sites and spans, a row (or a run of rows) for each item.

    >>> import tempfile, torch
    >>> from probing.capture import CaptureBatch, capture
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> batch = CaptureBatch({"input_ids": torch.arange(5)[None]}, ["crow-1"], {"last": [(4,)]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = capture(model, [batch], folder, sites="hook_embed")
    ...     store = ActivationStore.open(folder)
    ...     store.sites, store.spans, len(store), store.read("hook_embed", "last").shape
    (('hook_embed',), ('last',), 1, (1, 8))

    Attributes:
        path: the folder.
        sites: names of the sites, in forward order.
        pooling: span → `mean`, `last` or `all`.
        dtype: `float32`, `float16` or `bfloat16`, as stored.
        attributes: where the activations come from: model, weights, manifest, prompt, library versions.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self._header = header
        self.sites: tuple[str, ...] = tuple(header["sites"])
        self.pooling: dict[str, str] = dict(header["spans"])
        self.dtype: str = header["dtype"]
        self.attributes: dict[str, Any] = dict(header["attributes"])
        self._verified: set[tuple[str, str]] = set()

    @classmethod
    def open(cls, path: str | Path, *, unfinished: bool = False) -> ActivationStore:
        """The store in a folder.

        Args:
            path: the folder that `probing.capture.capture` wrote.
            unfinished: read the finished shards of a capture that was cut short.

        Raises:
            FileNotFoundError: there is no store, or its capture did not end and `unfinished` is false.
            CorruptShardError: store.json or index.json is not as it was written.
            MismatchError: the store is of another format.
        """
        folder = Path(path)
        header = read_header(folder)
        if (folder / INDEX_FILE).is_file():
            read_index(folder)
        elif not unfinished:
            finished = len(shard_files(folder))
            raise FileNotFoundError(
                f"the capture into {folder} did not end: {finished} shards are finished; run the same "
                "capture again to complete it, or open it with unfinished=True"
            )
        return cls(folder, header)

    @property
    def spans(self) -> tuple[str, ...]:
        """Names of the spans."""
        return tuple(self.pooling)

    def span_named(self, span: str) -> str:
        """The name that a span has here: `slot` is what fills the slot of the prompt, a picture or a noun.

        Raises:
            KeyError: the store has no such span.
        """
        fills = [name for name in SPAN_OF_SLOT.values() if name in self.pooling]
        if span == "slot" and span not in self.pooling and len(fills) == 1:
            return fills[0]
        if span not in self.pooling:
            raise KeyError(f"{self.path} has no span {span!r}; it has {', '.join(self.spans)}")
        return span

    def __len__(self) -> int:
        return len(self.item_ids)

    def __repr__(self) -> str:
        return f"ActivationStore({str(self.path)!r}, {len(self.sites)} sites, spans {list(self.spans)})"

    _repr_html_ = notebook.store_html

    @cached_property
    def shards(self) -> tuple[Path, ...]:
        """The files, in the order of the rows; those of the index once the capture has ended.

        Raises:
            CorruptShardError: one is missing, or was captured for another store.
        """
        files = shard_files(self.path)
        if (self.path / INDEX_FILE).is_file():
            files = [self.path / entry["file"] for entry in read_index(self.path)]
        for file in files:
            if not file.is_file():
                raise damaged(file, "it is in the index but not in the folder")
            require_shard_of(self._header, file)
        return tuple(files)

    @cached_property
    def item_ids(self) -> np.ndarray:
        """The item of each row, as strings, in stored order.

        Raises:
            CorruptShardError: a shard is damaged, or repeats items of another.
        """
        seen: set[str] = set()
        parts = [np.array([], dtype=object)]
        for file in self.shards:
            parts.append(read_text(file, "item_id"))
            items = set(parts[-1].tolist())
            if repeated := sorted(items & seen):
                raise damaged(
                    file, f"{repeated[0]} and {len(repeated) - 1} other items occur twice in the store"
                )
            seen |= items
        return np.concatenate(parts)

    @cached_property
    def columns(self) -> pd.DataFrame:
        """The manifest's columns, one row an item, indexed by item_id."""
        parts = [pd.DataFrame(read_columns(file)) for file in self.shards]
        table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        table.index = pd.Index(self.item_ids, name="item_id")
        return table

    @property
    def rows_per_shard(self) -> list[int]:
        """How many items each shard holds."""
        return [len(read_text(file, "item_id")) for file in self.shards]

    def read(self, site: str, span: str, rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """The activations [rows, width] of one site at one span; [rows, heads, head width] at `attn.hook_z`.

        A span stored per token (`all`) gives all its tokens, item after item; `tokens` says whose they are.

        Args:
            site: one of `sites`.
            span: one of `spans`, or `slot`; see `span_named`.
            rows: which items, as places in `item_ids` in any order or as a mask; all of them by default.

        Raises:
            KeyError: the store has no such site or span.
            CorruptShardError: a shard is damaged.
        """
        span = self._known(site, span)
        values = self._values(site, span)
        if rows is None:
            return values
        chosen = np.asarray(rows)
        chosen = chosen if chosen.size else chosen.astype(np.int64)
        if self.pooling[span] != "all":
            return values[chosen]
        counts = self._counts(span)
        tokens = np.split(np.arange(len(values)), np.cumsum(counts)[:-1])
        places = np.arange(len(counts))[chosen].tolist()
        return values[np.concatenate([np.array([], dtype=np.int64), *(tokens[place] for place in places)])]

    def batches(self, span: str, sites: Sequence[str] | None = None) -> Iterator[dict[str, np.ndarray]]:
        """Site → activations, one shard's items after another: never more than a shard of all sites in memory.

        Raises:
            KeyError: the store has no such site or span.
            CorruptShardError: a shard is damaged.
        """
        wanted = self.sites if sites is None else sites
        for site in wanted:
            self._known(site, span)
        span = self.span_named(span)
        for file in self.shards:
            arrays = {}
            for site in wanted:
                extent = Extent.of(file, f"activations/{site}/{span}")
                arrays[site] = np.zeros(extent.shape, _read_as(self.dtype))
                self._fill(arrays[site], extent)
            yield arrays

    def tokens(self, span: str) -> pd.DataFrame:
        """One row for each token of a span: its item_id, and its place in the unpadded sequence.

        For a span stored per token these are the rows of `read`; for a pooled one, the tokens that went in.
        """
        span = self.span_named(span)
        positions = [read_array(file, f"spans/{span}/position") for file in self.shards]
        return pd.DataFrame(
            {
                "item_id": np.repeat(self.item_ids, self._counts(span)),
                "position": np.concatenate([np.array([], dtype=np.int64), *positions]),
            }
        )

    def to_xarray(
        self, sites: Sites | None = None, spans: str | Sequence[str] | None = None
    ) -> xarray.DataArray:
        """The activations as one labelled array: site × item × span × width; needs the extra `xarray`.

        Nothing is read before numbers are asked for, then only the sites and spans of these, and each time anew:
        `.load()` keeps them. Of one point of the blocks (`blocks.*.hook_resid_post`) the first axis is `layer`. A span
        with a row for each token has the axis `token` in the place of `item` and `span`, labelled with `item_id`, the
        `position` in the sequence and the `place` within the span, from 0. Columns of the manifest are labels along
        `item` or `token` (with `column_` before a name that an axis has), attributes of the store those of the array.

        Args:
            sites: patterns of `probing.sites.select`; all but attention patterns by default.
            spans: names of spans; all that are pooled by default, or one with a row for each token.

        Raises:
            ModuleNotFoundError: xarray is not installed.
            KeyError: the store has no such site or span.
            ValueError: sites of different widths, or spans of different rows, in one array.
        """
        return to_xarray(self, sites, spans)

    def require(self, **expected: Any) -> None:
        """Refuse to go on when an attribute (`manifest_hash`, `weight_hash`, ...) is not the expected one.

        Raises:
            MismatchError: an attribute differs or is not there.
        """
        for name, value in expected.items():
            stored = self.attributes.get(name)
            if stored != value:
                raise MismatchError(
                    f"{self.path} does not belong to this {name}: expected {value!r}, the store has "
                    f"{stored!r}; capture again, or open the store that was captured from it"
                )

    def _counts(self, span: str) -> Int[np.ndarray, "items"]:
        parts = [read_array(file, f"spans/{span}/count") for file in self.shards]
        return np.concatenate([np.array([], dtype=np.int64), *parts])

    def _known(self, site: str, span: str) -> str:
        """The name that the span has here, after a look whether the site is there."""
        if site not in self.sites:
            raise KeyError(f"{self.path} has no site {site!r}; it has {', '.join(self.sites)}")
        return self.span_named(span)

    def _values(self, site: str, span: str) -> np.ndarray:
        """All stored rows of one data set; attention patterns over fewer keys are filled up with zeros."""
        if not self.shards:
            raise ValueError(f"{self.path} has no finished shard yet, so there is nothing to read")
        extents = [Extent.of(file, f"activations/{site}/{span}") for file in self.shards]
        for extent in extents:
            if len(extent.shape) != len(extents[0].shape):
                raise damaged(extent.file, f"{extent.name} has other axes than in {extents[0].file.name}")
        widest = np.max([extent.shape[1:] for extent in extents], axis=0).tolist()
        whole = np.zeros((sum(extent.shape[0] for extent in extents), *widest), _read_as(self.dtype))
        start = 0
        for extent in extents:
            part = whole[start : start + extent.shape[0]]
            start += extent.shape[0]
            self._fill(part, extent)
        return whole

    def _fill(self, part: np.ndarray, extent: Extent) -> None:
        """Read one shard's rows into their place; its checksum is compared the first time."""
        key = (extent.file.name, extent.name)
        if extent.dtype != STORED_AS[self.dtype]:
            raise damaged(extent.file, f"{extent.name} is {extent.dtype} in a store of {self.dtype}")
        direct = part.shape == extent.shape and part.dtype == extent.dtype
        values = part if direct else np.zeros(extent.shape, extent.dtype)
        extent.read(values, verify=key not in self._verified)
        self._verified.add(key)
        if not direct:
            part[(slice(None), *map(slice, extent.shape[1:]))] = decode(values, self.dtype)


def _read_as(dtype: str) -> type[np.floating]:
    return np.float16 if dtype == "float16" else np.float32
