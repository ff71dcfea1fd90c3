"""store.json, which says what a store is, and index.json, which closes it: checked when read, whoever wrote them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from probing.store import files, records
from probing.store.shard_files import (
    DTYPES,
    FORMAT,
    HEADER_FILE,
    INDEX_FILE,
    SHARD_NAME,
    attribute,
    damaged,
    file_checksum,
    read_text,
    reading,
    shard_files,
)


class MismatchError(ValueError):
    """Artifacts that do not belong together, with the difference named."""


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value) and len(set(value)) > 0


POOLINGS = ("mean", "last", "all")
HEADER: dict[str, Callable[[Any], bool]] = {
    "format": lambda value: isinstance(value, str),
    "site_spelling": _is_count,
    "sites": lambda value: _are_names(value) and len(set(value)) == len(value),
    "spans": lambda value: isinstance(value, dict) and all(kind in POOLINGS for kind in value.values()),
    "dtype": lambda value: value in DTYPES,
    "compression": lambda value: value in (None, "blosc2"),
    "shard_rows": lambda value: _is_count(value) and value > 0,
    "attributes": lambda value: isinstance(value, dict),
}
"""Key of store.json → whether a value fits it."""
OLDER_INDEX, INDEX = {"shards", "rows"}, {"shards", "rows", "header", "digest"}


def read_header(folder: Path) -> dict[str, Any]:
    """The content of store.json.

    Raises:
        FileNotFoundError: there is no store.
        CorruptShardError: it is no JSON, or lacks a key, or a value is none that is written there.
        MismatchError: it is of another format.
    """
    path = folder / HEADER_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"no activation store in {folder} ({HEADER_FILE} is missing); write one with probing.capture.capture"
        )
    header = _read_json(path)
    if isinstance(header.get("format"), str) and header["format"] != FORMAT:
        raise MismatchError(f"{folder} is written as {header['format']!r}; this version reads {FORMAT!r}")
    if lacking := [name for name in HEADER if name not in header]:
        raise damaged(path, f"it lacks {', '.join(lacking)}")
    for name, fits in HEADER.items():
        if not fits(header[name]):
            raise damaged(path, f"{name} cannot be {str(header[name])[:60]!r}")
    return header


def read_index(folder: Path) -> list[dict[str, Any]]:
    """The entry of each shard in index.json: `file`, a plain name; `rows`; and `checksum`, unless it is an older one's.

    Raises:
        CorruptShardError: index.json, or the store.json that it was written beside, is not as it was written.
    """
    path = folder / INDEX_FILE
    index = _read_json(path)
    if set(index) not in (INDEX, OLDER_INDEX):
        raise damaged(path, f"it holds {', '.join(sorted(index))[:60]!r}")
    digest = index.pop("digest", None)
    if "header" in index and digest != records.digest_of(index):
        raise damaged(path, "it is not as it was written")
    if not isinstance(index["shards"], list):
        raise damaged(path, "shards are no list")
    for entry in index["shards"]:
        named = entry.get("file") if isinstance(entry, dict) else entry
        if not isinstance(named, str) or not SHARD_NAME.fullmatch(named):
            raise damaged(path, f"it names {str(named)[:60]!r}, which is no shard of this folder")
        if not _is_count(entry.get("rows")):
            raise damaged(path, f"the rows of {named} cannot be {str(entry.get('rows'))[:60]!r}")
    if len({entry["file"] for entry in index["shards"]}) < len(index["shards"]):
        raise damaged(path, "it names a shard twice")
    if "header" in index and index["header"] != records.sha256(folder / HEADER_FILE):
        raise damaged(folder / HEADER_FILE, f"its SHA-256 is not the one in {INDEX_FILE}")
    return index["shards"]


def require_shard_of(header: dict[str, Any], file: Path) -> None:
    """Refuses a shard that lies in this store and was captured for another.

    Raises:
        CorruptShardError: what it says of itself is not what the header of the store says.
    """
    described = {name: header[name] for name in ("format", "dtype", "site_spelling", "sites", "spans")}
    with reading(file) as shard:
        for name, value in {**header["attributes"], **described}.items():
            if not _is_same(attribute(shard, name), value):
                raise damaged(file, f"its {name} is not that of {HEADER_FILE}")


def _is_same(stored: Any, value: Any) -> bool:
    """Whether an attribute of a shard holds a value of store.json."""
    if isinstance(value, int | float):
        return bool(stored == value)
    text = stored.decode("utf-8") if isinstance(stored, bytes) else ""
    return text == value if isinstance(value, str) else json.loads(text) == value


def write_index(folder: Path) -> None:
    """Write index.json from the finished shards, each of which is read once."""
    shards = [
        {"file": file.name, "rows": len(read_text(file, "item_id")), "checksum": file_checksum(file)}
        for file in shard_files(folder)
    ]
    index = {
        "shards": shards,
        "rows": sum(shard["rows"] for shard in shards),
        "header": records.sha256(folder / HEADER_FILE),
    }
    files.write_json(folder / INDEX_FILE, {**index, "digest": records.digest_of(index)}, sort_keys=False)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"it is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise damaged(path, "it holds no table of keys and values")
    return value
