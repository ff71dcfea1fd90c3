"""ActivationStore: a folder of HDF5 shards read as one, one data set per site × span, rows keyed by item_id.

The layout on disk is described in docs/store_format.md. A store opens lazily, holds no file handle between
calls (so it may be used after a fork and from many processes), and checks each data set it reads against
the checksum written beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

FORMAT = "taxoprobe activations 1"
HEADER_FILE = "store.json"
INDEX_FILE = "index.json"
DTYPES = ("float32", "float16", "bfloat16")


class MismatchError(ValueError):
    """Artifacts that do not belong together, with the difference named."""


class CorruptShardError(OSError):
    """A shard that cannot be read, or whose bytes are not those that were written."""


def checksum(array: Shaped[np.ndarray, "..."]) -> int:
    """The sum modulo 2^64 of an array's bytes read as little-endian 64-bit words, each row padded with zeros.

    It adds up over slices of rows, is not moved by zero padding in whole words, and changes with every
    single flipped bit.
    """
    rows = np.ascontiguousarray(array).reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
    if rows.size == 0:
        return 0
    raw = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
    if raw.shape[1] % 8:
        raw = np.pad(raw, ((0, 0), (0, -raw.shape[1] % 8)))
    return int(np.add.reduce(raw.reshape(-1).view("<u8"), dtype=np.uint64))


def decode(stored: Shaped[np.ndarray, "..."], dtype: str) -> Float[np.ndarray, "..."]:
    """The floating-point values of stored ones: bfloat16 bits become float32, the others stay as they are."""
    if dtype != "bfloat16":
        return stored
    return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def shard_files(folder: Path) -> list[Path]:
    """The finished shards of a store, in the order of their numbers."""
    return sorted(folder.glob("shard-*.h5"))


class ActivationStore:
    """Activations of one model at named sites and spans, a row (or a run of rows) for each item.

    Attributes:
        path: the folder.
        sites: names of the sites, in forward order.
        pooling: span → `mean`, `last` or `all`.
        dtype: `float32`, `float16` or `bfloat16`, as stored.
        attributes: where the activations come from: model, weights, manifest, prompt, library versions.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
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
        """
        folder = Path(path)
        if not (folder / HEADER_FILE).is_file():
            raise FileNotFoundError(
                f"no activation store in {folder} ({HEADER_FILE} is missing); write one with "
                "probing.capture.capture"
            )
        header = read_json(folder / HEADER_FILE)
        if header["format"] != FORMAT:
            raise MismatchError(f"{folder} is written as {header['format']!r}; this version reads {FORMAT!r}")
        if not unfinished and not (folder / INDEX_FILE).is_file():
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

    def __len__(self) -> int:
        return len(self.item_ids)

    def __repr__(self) -> str:
        return f"ActivationStore({str(self.path)!r}, {len(self.sites)} sites, spans {list(self.spans)})"

    @cached_property
    def shards(self) -> tuple[Path, ...]:
        """The files, in the order of the rows; those of the index once the capture has ended."""
        index = self.path / INDEX_FILE
        if not index.is_file():
            return tuple(shard_files(self.path))
        files = tuple(self.path / entry["file"] for entry in read_json(index)["shards"])
        for file in files:
            if not file.is_file():
                raise CorruptShardError(_mend(file, "it is in the index but not in the folder"))
        return files

    @cached_property
    def item_ids(self) -> np.ndarray:
        """The item of each row, as strings, in stored order."""
        parts = [read_text(file, "item_id") for file in self.shards]
        return np.concatenate(parts) if parts else np.array([], dtype=object)

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
            span: one of `spans`.
            rows: which items, as places in `item_ids` in any order or as a mask; all of them by default.

        Raises:
            KeyError: the store has no such site or span.
            CorruptShardError: a shard is damaged.
        """
        self._known(site, span)
        parts = [decode(self._stored(file, site, span), self.dtype) for file in self.shards]
        values = _stack(parts)
        if rows is None:
            return values
        if self.pooling[span] != "all":
            return values[np.asarray(rows)]
        counts = self._counts(span)
        tokens = np.split(np.arange(len(values)), np.cumsum(counts)[:-1])
        places = np.arange(len(counts))[np.asarray(rows)].tolist()
        return values[np.concatenate([np.array([], dtype=np.int64), *(tokens[place] for place in places)])]

    def tokens(self, span: str) -> pd.DataFrame:
        """One row for each token of a span: its item_id, and its place in the unpadded sequence.

        For a span stored per token these are the rows of `read`; for a pooled one, the tokens that went in.
        """
        self._known(self.sites[0], span)
        positions = [read_array(file, f"spans/{span}/position") for file in self.shards]
        return pd.DataFrame(
            {
                "item_id": np.repeat(self.item_ids, self._counts(span)),
                "position": np.concatenate([np.array([], dtype=np.int64), *positions]),
            }
        )

    def require(self, **expected: Any) -> None:
        """Refuse to go on when an attribute (`manifest_hash`, `weight_hash`, ...) is not the expected one.

        Raises:
            MismatchError: an attribute differs or is not there.
        """
        for name, value in expected.items():
            found = self.attributes.get(name)
            if found != value:
                raise MismatchError(
                    f"{self.path} does not belong to this {name}: expected {value!r}, the store has "
                    f"{found!r}; capture again, or open the store that was captured from it"
                )

    def _counts(self, span: str) -> Int[np.ndarray, "items"]:
        parts = [read_array(file, f"spans/{span}/count") for file in self.shards]
        return np.concatenate([np.array([], dtype=np.int64), *parts])

    def _known(self, site: str, span: str) -> None:
        if site not in self.sites:
            raise KeyError(f"{self.path} has no site {site!r}; it has {', '.join(self.sites)}")
        if span not in self.pooling:
            raise KeyError(f"{self.path} has no span {span!r}; it has {', '.join(self.spans)}")

    def _stored(self, file: Path, site: str, span: str) -> np.ndarray:
        name = f"activations/{site}/{span}"
        known = (file.name, name) in self._verified
        values = read_array(file, name, verify=not known)
        self._verified.add((file.name, name))
        return values


def _stack(parts: list[np.ndarray]) -> np.ndarray:
    """The parts one after another; attention patterns over fewer keys are filled up with zeros."""
    if not parts:
        raise ValueError("the store has no finished shard yet, so there is nothing to read")
    widest = np.max([part.shape[1:] for part in parts], axis=0)
    shape = (sum(map(len, parts)), *widest)
    if all(part.shape[1:] == shape[1:] for part in parts):
        return np.concatenate(parts)
    whole = np.zeros(shape, parts[0].dtype)
    start = 0
    for part in parts:
        whole[(slice(start, start + len(part)), *map(slice, part.shape[1:]))] = part
        start += len(part)
    return whole


def _mend(file: Path, what: str) -> str:
    return (
        f"shard {file.name} of {file.parent} is damaged: {what}; the other shards are kept; "
        f"see `python -m probing.doctor --store {file.parent}`"
    )


@contextmanager
def reading(file: Path) -> Iterator[h5py.File]:
    """An open shard; whatever HDF5 says about a damaged one becomes one clear error."""
    try:
        with h5py.File(file, "r", locking=False) as shard:
            yield shard
    except CorruptShardError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise CorruptShardError(_mend(file, f"HDF5 says {error}")) from error


def read_array(file: Path, name: str, *, verify: bool = True) -> np.ndarray:
    """One data set of one shard, compared with its checksum.

    Raises:
        CorruptShardError: the shard cannot be read or the checksum differs.
    """
    with reading(file) as shard:
        dataset = cast(h5py.Dataset, shard[name])
        values = np.empty(dataset.shape, dataset.dtype)
        if values.size:
            dataset.read_direct(values)
        if verify and checksum(values) != int(cast(int, dataset.attrs["checksum"])):
            raise CorruptShardError(_mend(file, f"the checksum of {name} differs"))
    return values


def read_text(file: Path, name: str) -> np.ndarray:
    """One data set of UTF-8 text of one shard, as an array of str."""
    return np.array([value.decode("utf-8") for value in read_array(file, name).tolist()], dtype=object)


def read_columns(file: Path) -> dict[str, np.ndarray]:
    """The manifest's columns in one shard, in stored order."""
    with reading(file) as shard:
        names = json.loads(str(shard.attrs["columns"]))
        text = {name: cast(h5py.Dataset, shard[f"columns/{name}"]).dtype.kind == "S" for name in names}
    return {
        name: read_text(file, f"columns/{name}") if text[name] else read_array(file, f"columns/{name}")
        for name in names
    }
