"""Copies of finished runs in an object store, or wherever a URL leads: whole, or not there."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probing.store import files, records
from taxogen.runs.run import PASSING, Run
from taxogen.stages.sweeping.plan_file import REPORT
from taxogen.world.remote import filesystem, told

COPY = "copy"
"""The stage that copies a run."""
RECORD = "copied.json"
"""Written last, so that a folder with it is a whole copy: name → size, time of change and SHA-256 of each file."""


def require_writable(url: str) -> None:
    """Refuses a URL to which nothing can be written, before anything is made that should be copied there.

    Raises:
        ValueError, ModuleNotFoundError, OSError: the reason, with the URL.
    """
    system, path = filesystem(url)
    mark = f"{path.rstrip('/')}/.seen-{uuid.uuid4().hex}"
    with told(f"--copy-to {url} cannot be written to"):
        system.makedirs(path, exist_ok=True)
        system.pipe_file(mark, b"")
        system.rm_file(mark)


def copy_run(run: Run, url: str) -> None:
    """Copies a run to a folder below a URL, once nothing works on it; files that are there as they are now stay."""
    with run.alone():
        copy_folder(run.path, f"{url.rstrip('/')}/{run.path.name}")


def is_copied(run: Run, url: str) -> bool:
    """Whether the copy of a run is whole, and of its files as they are now."""
    there = _record(f"{url.rstrip('/')}/{run.path.name}")
    return {name: _state(about) for name, about in there.items()} == _files(run.path)


def copy_results(out: Path, url: str) -> None:
    """Copies what a sweep made of all runs: its table, its seconds, and the report."""
    system, path = filesystem(url)
    with told(f"{url} cannot be written"):
        for one in sorted(out.iterdir()):
            if one.is_file() and one.suffix not in PASSING and not one.name.startswith("."):
                system.put_file(str(one), f"{path.rstrip('/')}/{one.name}")
    if (out / REPORT).is_dir():
        copy_folder(out / REPORT, f"{url.rstrip('/')}/{REPORT}")


def copy_folder(folder: Path, url: str) -> None:
    """Copies a folder; `copied.json` is taken away before the first file changes, and written behind the last.

    Object stores have no renaming of folders: a reader trusts a folder that has this file, and the files in it. A copy
    that was cut off is begun again.

    Raises:
        OSError: it cannot be written.
    """
    system, path = filesystem(url)
    there, now = _record(url), _files(folder)
    if {name: _state(about) for name, about in there.items()} == now:
        return
    made: dict[str, dict[str, Any]] = {}
    with told(f"{url} cannot be written"):
        if there:
            system.rm_file(f"{path}/{RECORD}")
        for name in sorted(there.keys() - now.keys()):
            system.rm_file(f"{path}/{name}")
        for name, state in now.items():
            if name in there and _state(there[name]) == state:
                made[name] = there[name]
                continue
            system.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
            system.put_file(str(folder / name), f"{path}/{name}")
            digest = records.sha256(folder / name)
            made[name] = {"size": state[0], "mtime_ns": state[1], "sha256": digest}
        system.pipe_file(f"{path}/{RECORD}", files.json_text({"files": made}).encode())


def _record(url: str) -> Mapping[str, dict[str, Any]]:
    """The files of a whole copy; none where there is no whole one."""
    system, path = filesystem(url)
    try:
        return json.loads(system.cat_file(f"{path}/{RECORD}"))["files"]
    except (FileNotFoundError, ValueError, KeyError):
        return {}


def _state(about: Mapping[str, Any]) -> tuple[int, int]:
    return about["size"], about["mtime_ns"]


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file of a folder that something hangs on → its size and time of change."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in PASSING)
    stats = {path.relative_to(folder).as_posix(): path.stat() for path in paths}
    return {name: (at.st_size, at.st_mtime_ns) for name, at in stats.items()}
