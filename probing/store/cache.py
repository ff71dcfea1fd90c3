"""The cache folder: expensive things made once, atomically, even when two processes want them at once."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from probing.store.files import remove

log = logging.getLogger(__name__)


def folder() -> Path:
    """Folder that holds all that is cached: `$TAXOPROBE_CACHE`, or `taxoprobe` in the user's cache folder."""
    chosen = os.environ.get("TAXOPROBE_CACHE")
    if chosen:
        return Path(chosen).expanduser().resolve()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "taxoprobe"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taxoprobe"


def build_once(key: str, make: Callable[[Path], None], bytes_needed: int = 0) -> Path:
    """Path of the file or folder `key` in the cache; `make(path)` is called only if it is not there yet.

    `make` writes to a `.part` path that is renamed when it returns, so nobody ever sees a half-made entry;
    other processes that want the same key wait for the first and then find it made. A `make` that fails
    leaves nothing.

    Args:
        key: Relative path with forward slashes, unique to the content (put versions and hashes into it).
        make: Writes the file or the folder at the path it is given.
        bytes_needed: Free disk space to insist on before `make` is called.

    Raises:
        ValueError: `key` leaves the cache folder.
        OSError: The disk has less than `bytes_needed` free.
    """
    path = PurePosixPath(key)
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise ValueError(f"Cache key {key!r} must be a relative path that stays inside the cache folder")
    target = folder() / path
    if target.exists():
        return target
    with locked(target):
        if not target.exists():
            require_free(target.parent, bytes_needed, what=str(target))
            _make_atomically(target, make)
    return target


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Context in which this process, and this thread, is the only one to hold the lock `path.lock`; waits until it is.

    A process that waits logs for whom. The operating system frees the lock when its holder dies, so a killed process
    never blocks the next one. Where the block is left by an exception, its own lock and the folders that are empty and
    were not there before go.
    """
    folders = (path, *path.parents)
    absent = [folder for folder in folders if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    lock, holder = (path.with_name(path.name + suffix) for suffix in (".lock", ".holder"))
    fresh, held = not lock.exists(), FileLock(lock)
    _acquire(held, lock, holder, path)
    try:
        remove(holder)
        holder.write_text(_self(), encoding="utf-8")
        yield
    except BaseException:
        holder.unlink(missing_ok=True)
        with suppress(OSError):  # Windows keeps a file that is open
            if fresh:
                lock.unlink()
        for folder in absent:
            with suppress(OSError):  # it is not empty, or was never made
                folder.rmdir()
        raise
    finally:
        holder.unlink(missing_ok=True)
        held.release()


def _acquire(held: FileLock, lock: Path, holder: Path, path: Path) -> None:
    """Waits for a lock that is still the file of its name: who fails takes it away from those who wait."""
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(timeout=0)
        except Timeout:
            log.warning("waiting for %s, which works on %s", _name_of(holder), path)
            held.acquire()
        if _is_at(held, lock):
            return
        held.release()


def _is_at(held: FileLock, lock: Path) -> bool:
    file = held._context.lock_file_fd
    try:
        return file is None or os.path.samestat(os.fstat(file), lock.stat())
    except FileNotFoundError:
        return False


def _self() -> str:
    program = " ".join(shlex.join(sys.orig_argv[:12]).split())[:200]
    return f"`{program}` (process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%F %T')})"


def _name_of(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"


def require_free(where: Path, bytes_needed: int, what: str) -> None:
    """Refusal to start writing what the disk cannot hold.

    Raises:
        OSError: The file system of `where` has less than `bytes_needed` bytes free.
    """
    free = shutil.disk_usage(where).free
    if free < bytes_needed:
        raise OSError(
            f"Writing {what} needs {bytes_needed / 1e6:,.0f} MB; {where} has {free / 1e6:,.0f} MB free. "
            "Free some space, or set TAXOPROBE_CACHE to a folder on another disk"
        )


def _make_atomically(target: Path, make: Callable[[Path], None]) -> None:
    part = target.with_name(target.name + ".part")
    remove(part)
    try:
        make(part)
        if not part.exists():
            raise RuntimeError(f"The maker of {target.name} returned without writing {part}")
        os.replace(part, target)
    finally:
        remove(part)
