"""Records: `made.json` in a folder holds, for each file beside it, its SHA-256 and what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from probing.store import files

FILE = "made.json"


class DamagedError(OSError):
    """A file whose bytes are not those that were written."""


def write(path: Path, fill: Callable[[Path], object], made_from: Mapping[str, Any]) -> None:
    """Writes a file whole or not at all, with its record; `made_from`: plain data, such as hashes of its inputs."""
    files.write_whole(path, fill, before=lambda part: _keep(path, sha256(part), made_from))


def write_json(path: Path, value: Any, made_from: Mapping[str, Any]) -> None:
    """Writes a value as indented JSON, with its record."""
    write(path, lambda part: part.write_text(files.json_text(value), encoding="utf-8"), made_from)


def add(path: Path, made_from: Mapping[str, Any]) -> None:
    """Records a file that is there already as it is now."""
    _keep(path, sha256(path), made_from)


def made_from(path: Path, remedy: str = "") -> dict[str, Any] | None:
    """What a file was made from; None where it has no record.

    Args:
        path: of the file.
        remedy: what to do about a damaged file, for the message.

    Raises:
        DamagedError: the file's bytes are none that were recorded, or the record cannot be read.
    """
    versions = _read(path.parent).get(path.name)
    if versions is None:
        return None
    digest = sha256(path)
    for version in versions:
        if version["sha256"] == digest:
            return version["made_from"]
    raise DamagedError(
        f"{path} is damaged: its SHA-256 is {digest[:12]}…, {FILE} beside it records "
        f"{versions[0]['sha256'][:12]}…; {remedy or 'restore it from a copy, or remove it and make it again'}"
    )


def recorded(folder: Path) -> list[str]:
    """The names of the files of a folder that have a record, sorted.

    Raises:
        DamagedError: the record cannot be read.
    """
    return sorted(_read(folder))


def last(path: Path) -> dict[str, Any] | None:
    """What a file was recorded to be made from, whole or not; None where it or its record is not there."""
    versions = _read(path.parent).get(path.name) if path.is_file() else None
    return versions[0]["made_from"] if versions else None


def made_alike(folder: Path, made_from: Mapping[str, Any]) -> list[Path]:
    """The files of a folder that were recorded to be made from the same."""
    return [path for name in recorded(folder) if last(path := folder / name) == made_from]


def remove(path: Path) -> None:
    """Removes a file and its record."""
    entries = _read(path.parent)
    path.unlink(missing_ok=True)
    if entries.pop(path.name, None):
        write_sealed(path.parent / FILE, {"files": entries})


def move(path: Path, folder: Path) -> None:
    """Moves a file with its record into another folder, in place of one of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = _read(folder) | {path.name: _read(path.parent)[path.name]}
    path.replace(folder / path.name)
    write_sealed(folder / FILE, {"files": entries})
    remove(path)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """The SHA-256 of plain data, in hexadecimal."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def utc(seconds: float) -> str:
    """A time since the epoch as records have it; texts of two times are in their order.

    >>> utc(1e9)
    '2001-09-09 01:46:40 UTC'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Writes plain data as JSON together with a digest of itself, which `read_sealed` compares."""
    files.write_json(path, {**value, "digest": digest_of(value)})


def read_sealed(path: Path) -> dict[str, Any]:
    """The data that `write_sealed` wrote, with its `digest`.

    Raises:
        DamagedError: it is another.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(f"{path} is damaged: {error}; restore it from a copy") from error
    digest = value.pop("digest", "") if isinstance(value, dict) else ""
    if digest != digest_of(value):
        raise DamagedError(f"{path} is damaged: it is not as it was written; restore it from a copy")
    return {**value, "digest": digest}


def _keep(path: Path, digest: str, made_from: Mapping[str, Any]) -> None:
    """Record the coming bytes of a file beside those that it has: a process may die before the file gets its name."""
    entries = _read(path.parent)
    old = sha256(path) if path.is_file() else ""
    stay = [version for version in entries.get(path.name, ()) if version["sha256"] == old != digest]
    entries[path.name] = [{"sha256": digest, "made_from": json.loads(json.dumps(made_from))}, *stay]
    write_sealed(path.parent / FILE, {"files": entries})


def _read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    path = folder / FILE
    return read_sealed(path)["files"] if path.is_file() else {}
