"""Files that are either whole or not there: written beside their name, made durable, then renamed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

_POSITION = Lock()


def write_whole(
    path: Path, write: Callable[[Path], object], before: Callable[[Path], object] | None = None
) -> None:
    """Lets `write` fill `path` + ".part", then renames it to `path`; after an error nothing is left behind.

    `before` is called with the finished part, just before it gets its name.
    """
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove(part)
    try:
        write(part)
        if before is not None:
            before(part)
        move_into_place(part, path)
    finally:
        remove(part)


def write_json(path: Path, value: Any, *, sort_keys: bool = True) -> None:
    """Writes a value as indented JSON, whole or not at all; stores keep the order of their keys."""
    text = json_text(value, sort_keys=sort_keys)
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def json_text(value: Any, *, sort_keys: bool = True) -> str:
    """A value as indented JSON with a line break at its end."""
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=sort_keys) + "\n"


def move_into_place(part: Path, path: Path) -> None:
    """Waits until a finished file is on the disk, gives it its name, and waits until the folder has it."""
    _sync(part)
    os.replace(part, path)
    _sync(path.parent)


def opened(path: Path) -> int:
    """A handle of a file for `read_at`, to be closed by `os.close`."""
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # Windows would change line breaks


def read_at(handle: int, into: memoryview, offset: int) -> int:
    """Fills a buffer from a place in a file; the number of bytes that were there.

    Where the system has no `preadv`, as on Windows, one thread after another sets the file's position and reads.
    """
    if hasattr(os, "preadv"):
        return os.preadv(handle, [into], offset)
    if not into.nbytes:
        return 0
    bytes_of, count = into.cast("B"), 0
    with _POSITION:
        os.lseek(handle, offset, os.SEEK_SET)
        while count < bytes_of.nbytes and (part := os.read(handle, bytes_of.nbytes - count)):
            bytes_of[count : count + len(part)] = part
            count += len(part)
    return count


def remove(path: Path) -> None:
    """Removes a file, a folder, or a link (not its target); nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk; Windows has no such call for folders."""
    folder = path.is_dir()
    if folder and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
