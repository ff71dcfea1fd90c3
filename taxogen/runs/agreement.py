"""Agreement: whether a directory, a config and an artifact belong together, and the differences by name."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from probing.store import MismatchError, records
from taxogen.runs import config
from taxogen.runs.config import Config
from taxogen.runs.flags import RUNS

_WORLD = ("config_hash", "files", "manifests", "asked", "encoder", "lm", "threads")
_STEP = re.compile(r"step-(\d{6,})")
_LOCK = ("run.lock", "run.holder")
_PART = re.compile(r"\w+\.(json|csv|h5|pt)\.part")


def differences(made_from: Mapping[str, Any], makers: Mapping[str, Any]) -> str:
    """The makers that differ, in words; nothing said about one is no difference, nor is another code."""
    return "; ".join(
        f"{name} (made from {str(made_from[name])[:12]}…, the run has {str(now)[:12]}…)"
        for name, now in makers.items()
        if name != "code" and made_from.get(name, "") not in ("", now)
    )


def read_config(path: Path) -> Config:
    """The config that a run was made with.

    Raises:
        ValueError: the file is not one.
    """
    try:
        return config.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, AttributeError) as error:
        reason = error.args[0] if isinstance(error, KeyError) else error
        raise ValueError(
            f"{path} is not the config of a run ({reason}); name the directory of a run, or remove it"
        ) from error


def read_world(path: Path) -> dict[str, Any]:
    """The content of a `world.json`.

    Raises:
        DamagedError: it is not as it was written, or lacks a part.
    """
    world = records.read_sealed(path)
    if lacking := [name for name in _WORLD if name not in world]:
        raise records.DamagedError(f"{path} lacks {', '.join(lacking)}; restore it from a copy")
    return world


def refuse_other_file(path: Path, recorded: str) -> Path:
    """The path of a file of a closed world; FileNotFoundError where it is missing, DamagedError where it is another."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} was written at prepare and is missing; restore it from a copy")
    if (digest := records.sha256(path)) != recorded:
        raise records.DamagedError(
            f"{path} is not as it was when the run was prepared (SHA-256 {digest[:12]}…, world.json records "
            f"{recorded[:12]}…); restore it from a copy"
        )
    return path


def steps_of(paths: Iterable[Path]) -> tuple[int, ...]:
    """The steps of training that files or folders are named by, sorted; other names aside."""
    names = (_STEP.fullmatch(path.name.partition(".")[0]) for path in paths)
    return tuple(sorted(int(name[1]) for name in names if name))


def remedy_for_no_run(path: Path) -> str:
    """What to do where a path is no run directory: take the run with the nearest name, or make one.

    Looked for in the folder of the path, or the nearest one that is there, and where runs lie by default, two deep.
    """
    above = next((folder for folder in path.parents if folder.is_dir()), Path())
    written = [
        one for folder in (above, RUNS) for deep in ("*", "*/*") for one in folder.glob(f"{deep}/config.json")
    ]
    of_name: dict[str, list[Path]] = {}
    for one in written:
        of_name.setdefault(one.parent.name, []).append(one.parent)
    if near := difflib.get_close_matches(path.name, of_name, n=1):
        alike = [difflib.SequenceMatcher(None, str(run), str(path)).ratio() for run in of_name[near[0]]]
        return f"did you mean {of_name[near[0]][alike.index(max(alike))]}?"
    return f"`python -m taxogen train --out {path}` makes one"


def refuse_strangers(path: Path) -> None:
    """Raise a MismatchError where a folder without a config holds more than an unfinished start leaves behind."""
    entries = path.iterdir() if path.exists() else ()
    strangers = [entry for entry in entries if entry.name not in _LOCK and not _PART.fullmatch(entry.name)]
    if strangers and not (path / "config.json").is_file():  # another start may have written it since
        raise MismatchError(
            f"{path} is not empty and holds no run (there is no config.json); choose another --out"
        )


def refuse_other_config(path: Path, wanted: Config, existing: Config, captures: bool) -> None:
    """Raise a MismatchError where a run has another config; `captures`: also other captures."""
    if existing.hash != wanted.hash:
        raise MismatchError(
            f"{path} holds a run of another config ({_different_keys(wanted, existing)}); "
            "give this one another name with --out, or remove the directory"
        )
    if captures:
        _refuse_other_captures(path, wanted, existing)


def _refuse_other_captures(path: Path, wanted: Config, existing: Config) -> None:
    """Raise a MismatchError where captures of other pictures, sites, spans or numbers are there or prepared."""
    captured = any(path.glob("captures/*/store.json"))
    differing = [
        f"capture.{key}: asked {getattr(wanted.capture, key)!r}, found {getattr(existing.capture, key)!r}"
        for key in (*(("sites", "spans", "dtype") if captured else ()), "pictures_per_leaf")
        if getattr(wanted.capture, key) != getattr(existing.capture, key)
    ]
    if differing:
        raise MismatchError(
            f"{path} holds captures of another kind ({'; '.join(differing)}); to capture more beside them run "
            f"`python -m analyses.capture --run {path} --name NAME`; other pictures are another run, with another --out"
        )


def _different_keys(wanted: Config, existing: Config) -> str:
    """The deciding keys in which two configs differ, with both values."""
    first, second = dict(config.flatten(wanted.to_dict())), dict(config.flatten(existing.to_dict()))
    differing = [
        key for key in first if first[key] != second[key] and not key.startswith(("capture.", "evaluate."))
    ]
    return "; ".join(
        f"{key}: asked {first[key]!r}, found {second[key]!r}" for key in differing if key != "name"
    )
