"""Run: one directory, everything about one trained model; the only builder of paths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from probing.store import INDEX_FILE, ActivationStore, MismatchError, cache, files
from taxogen.questions.manifest import Manifest
from taxogen.runs import config
from taxogen.runs.config import Config
from taxogen.world.taxonomy import Taxonomy

FREE_BYTES = 200_000_000  # insisted on before a run starts: snapshots, manifests, tables


@dataclass(frozen=True)
class Run:
    """One trained model on disk: config, manifests, taxonomy, snapshots, activations, scores, analyses.

    `run.json` is written last; until then the run is not complete.

    Attributes:
        captures: the folder in the run where `store`, `steps` and `captured` look; see `with_captures`.
    """

    path: Path
    config: Config
    captures: str = "captures"

    @classmethod
    def create(cls, path: str | Path, wanted: Config) -> Run:
        """The run directory for a config: new, or the one that an earlier start left there.

        Raises:
            MismatchError: the directory holds a run of another config; the differing keys are named.
            OSError: the disk is nearly full.
        """
        path = Path(path)
        written, existing = path / "config.json", None
        if written.exists():
            existing = _read_config(written)
            # Before its manifests are there, a start was refused and nothing hangs on the config yet.
            if existing.hash != wanted.hash and (path / "train.csv").exists():
                raise MismatchError(
                    f"{path} holds a run of another config ({_differences(wanted, existing)}); "
                    "give this one another name with --out, or remove the directory"
                )
        elif path.exists() and any(entry for entry in path.iterdir() if entry.suffix != ".lock"):
            raise MismatchError(
                f"{path} is not empty and holds no run (there is no config.json); choose another --out"
            )
        if existing is not None:
            _refuse_other_captures(path, wanted, existing)
        path.mkdir(parents=True, exist_ok=True)
        cache.require_free(path, FREE_BYTES, what=f"the run {path}")
        if existing != wanted:
            files.write_json(written, wanted.to_dict())
        return cls(path, wanted)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run, complete or not.

        Raises:
            FileNotFoundError: there is no run; the command that makes one is named.
        """
        path = Path(path)
        written = path / "config.json"
        if not written.is_file():
            raise FileNotFoundError(
                f"{path} is not a run directory (it has no config.json); "
                f"`python -m taxogen train --out {path}` makes one"
            )
        return cls(path, _read_config(written))

    @property
    def name(self) -> str:
        """The name of the run: that of its directory."""
        return self.path.name

    @property
    def record(self) -> dict[str, Any]:
        """The content of `run.json`: the record of the finished training.

        Raises:
            FileNotFoundError: training has not finished; the command that finishes it is named.
        """
        if not self.complete:
            raise FileNotFoundError(
                f"the run {self.path} is not complete (no run.json); "
                f"`python -m taxogen train --run {self.path}` goes on with it"
            )
        return json.loads((self.path / "run.json").read_text(encoding="utf-8"))

    @property
    def complete(self) -> bool:
        """Whether training came to its end."""
        return (self.path / "run.json").is_file()

    def file(self, name: str) -> Path:
        """The path of a file in the run directory."""
        return self.path / name

    def folder(self, *names: str) -> Path:
        """A folder in the run directory, made if it is not there."""
        path = self.path.joinpath(*names)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def finish(self, record: dict[str, Any]) -> None:
        """Writes `run.json`: from now on the run is complete."""
        files.write_json(self.path / "run.json", record)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Context in which no other process works on this run."""
        with cache.locked(self.path / "run"):
            yield

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The taxonomy of the leaves that this run shows."""
        return Taxonomy.read(self._existing("taxonomy.csv"))

    def manifest(self, name: str) -> Manifest:
        """A manifest of this run: `train`, `test` or `capture`."""
        return Manifest.read(self.path, name)

    def snapshot(self, step: int) -> Path:
        """The file of the projector after `step` optimiser steps."""
        return self.path / "projector" / f"step-{step:06d}.safetensors"

    @property
    def snapshots(self) -> tuple[int, ...]:
        """The steps at which the projector was saved."""
        paths = self.path.glob("projector/step-*.safetensors")
        return tuple(sorted(int(path.stem.removeprefix("step-")) for path in paths))

    def store_path(self, step: int | None, modality: str) -> Path:
        """The folder of the activations of a step (None for text rows, which no projector touches)."""
        if (step is None) != (modality == "text"):
            raise ValueError(
                f"step={step!r}, modality={modality!r}: picture rows belong to a step, text rows to none"
            )
        return self.path / self.captures / ("text" if step is None else f"step-{step:06d}")

    def with_captures(self, name: str) -> Run:
        """The same run, seen with the captures that were made later under a name (empty: those of training)."""
        return replace(self, captures=f"captures-{name}" if name else "captures")

    def store(self, step: int | None, modality: str = "image") -> ActivationStore:
        """The activations captured at a step of training; for `text`, those of the text twins.

        Raises:
            FileNotFoundError: there is no whole capture; the command that makes one is named.
        """
        if not self.captured(step):
            what = "of its text twins" if step is None else f"at step {step}"
            raise FileNotFoundError(
                f"the run {self.path} has no whole capture {what} (whole: steps {list(self.steps)}); "
                f"`python -m analyses.capture --run {self.path} --step {'last' if step is None else step}` makes it"
            )
        return ActivationStore.open(self.store_path(step, modality))

    def captured(self, step: int | None) -> bool:
        """Whether the capture of a step (None: of the text twins) is whole."""
        return (self.store_path(step, "text" if step is None else "image") / INDEX_FILE).is_file()

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps whose picture rows were captured to the end."""
        folders = self.path.glob(f"{self.captures}/step-*")
        steps = sorted(int(path.name.removeprefix("step-")) for path in folders)
        return tuple(step for step in steps if self.captured(step))

    def table(self, name: str) -> pd.DataFrame:
        """A result table of this run, such as `behaviour`."""
        return pd.read_csv(self._existing(f"{name}.csv"), keep_default_na=True)

    def write_table(self, name: str, table: pd.DataFrame) -> Path:
        """Writes a result table as CSV, whole or not at all."""
        path = self.path / f"{name}.csv"
        files.write_whole(path, lambda part: table.to_csv(part, index=False))
        return path

    def _existing(self, name: str) -> Path:
        if not (self.path / name).is_file():
            raise FileNotFoundError(
                f"the run {self.path} has no {name} yet; "
                f"`python -m taxogen train --run {self.path}` and `… evaluate --run {self.path}` make it"
            )
        return self.path / name


def _read_config(path: Path) -> Config:
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


def _refuse_other_captures(path: Path, wanted: Config, existing: Config) -> None:
    """Raise a MismatchError where there are captures of other sites, spans, numbers or pictures."""
    differing = [
        f"capture.{key}: asked {getattr(wanted.capture, key)!r}, found {getattr(existing.capture, key)!r}"
        for key in ("sites", "spans", "dtype", "pictures_per_leaf")
        if getattr(wanted.capture, key) != getattr(existing.capture, key)
    ]
    if differing and any(path.glob("captures/*/store.json")):
        raise MismatchError(
            f"{path} holds captures of another kind ({'; '.join(differing)}); to capture more beside them run "
            f"`python -m analyses.capture --run {path} --name NAME`, or remove {path / 'captures'}"
        )


def _differences(wanted: Config, existing: Config) -> str:
    """The deciding keys in which two configs differ, with both values."""
    first, second = dict(config.flatten(wanted.to_dict())), dict(config.flatten(existing.to_dict()))
    differing = [
        key for key in first if first[key] != second[key] and not key.startswith(("capture.", "evaluate."))
    ]
    return "; ".join(
        f"{key}: asked {first[key]!r}, found {second[key]!r}" for key in differing if key != "name"
    )
