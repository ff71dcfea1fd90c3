"""Agreement: whether a directory, a config and an artifact belong together, and the differences by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probing.store import MismatchError
from taxogen.runs import config
from taxogen.runs.config import Config


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


def refuse_other_captures(path: Path, wanted: Config, existing: Config) -> None:
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


def different_keys(wanted: Config, existing: Config) -> str:
    """The deciding keys in which two configs differ, with both values."""
    first, second = dict(config.flatten(wanted.to_dict())), dict(config.flatten(existing.to_dict()))
    differing = [
        key for key in first if first[key] != second[key] and not key.startswith(("capture.", "evaluate."))
    ]
    return "; ".join(
        f"{key}: asked {first[key]!r}, found {second[key]!r}" for key in differing if key != "name"
    )
