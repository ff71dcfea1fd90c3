"""Run: one directory, everything about one trained model; the only builder of paths."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd

from probing.store import INDEX_FILE, ActivationStore, MismatchError, cache, records
from taxogen.questions.manifest import Manifest
from taxogen.runs import agreement, notebook
from taxogen.runs.config import Config
from taxogen.world.taxonomy import Taxonomy

FREE_BYTES = 200_000_000  # insisted on before a run starts: snapshots, manifests, tables
WORLD = "world.json"
PASSING = (".lock", ".holder", ".part")  # suffixes of files that no run hangs on
EARLIER = "earlier"  # folder, beside results, of results about other questions that lay there before


@dataclass(frozen=True)
class Run:
    """One trained model on disk: config, world, snapshots, activations, scores, analyses.

    Once `world.json` is there the run is closed (`taxogen.runs.closed`): its world is read from the directory and
    never made again. `run.json` is written last; until then the run is not complete.

    Attributes:
        captures: the folder in the run where `store`, `steps` and `captured` look; see `with_captures`.
        label: its name in tables, where that of the directory does not distinguish it.
    """

    path: Path
    config: Config
    captures: str = "captures"
    label: str = ""
    _repr_html_ = notebook.run_html

    @classmethod
    def create(cls, path: str | Path, wanted: Config) -> Run:
        """The run of a config in a directory: new, or begun by an earlier start. Writes nothing.

        Raises:
            MismatchError: the directory holds a run of another config; the differing keys are named.
            OSError: the disk is nearly full.
        """
        run = cls(Path(path), wanted)
        run._check()
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run, complete or not.

        Raises:
            FileNotFoundError: there is no run; the command that makes one is named.
            MismatchError, DamagedError: its config is not that of its world, or not as it was written.
        """
        path = Path(path)
        written = path / "config.json"
        if not written.is_file():
            raise FileNotFoundError(
                f"{path} is not a run directory (it has no config.json); {agreement.remedy_for_no_run(path)}"
            )
        records.made_from(written, "restore it from a copy; settings are changed with --set KEY=VALUE")
        run = cls(path, agreement.read_config(written))
        if run.closed and run.world["config_hash"] != run.config.hash:
            raise MismatchError(
                f"{written} is not the config that {path} was prepared with; restore it from a copy"
            )
        return run

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "one run was given where several are taken: write [run], as in compute([run], Options())"
        )

    @property
    def name(self) -> str:
        """The name of the run: its label, or that of its directory."""
        return self.label or Path(os.path.abspath(self.path)).name

    @property
    def closed(self) -> bool:
        """Whether the world of the run is written."""
        return (self.path / WORLD).is_file()

    @property
    def older(self) -> bool:
        """Whether it was trained by a version that did not close runs."""
        return not self.closed and any(
            (self.path / name).exists() for name in ("run.json", "projector", "checkpoint.pt")
        )

    @cached_property
    def world(self) -> dict[str, Any]:
        """The content of `world.json`: hashes of the files of the world, identity of encoder and language model.

        Raises:
            FileNotFoundError: the run is not closed; the command that closes it is named.
        """
        if not self.closed:
            raise FileNotFoundError(
                f"the run {self.path} has no {WORLD}: it was not prepared, or by an older version; "
                f"`python -m taxogen prepare --run {self.path}` writes it"
            )
        return agreement.read_world(self.path / WORLD)

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
        path = self.path / "run.json"
        records.made_from(path, "restore it from a copy")
        return json.loads(path.read_text(encoding="utf-8"))

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
        records.write_json(self.path / "run.json", record, {"world": self.world["digest"]})

    def save_config(self) -> None:
        """Writes `config.json`, where it is not there yet or holds other settings; not those of captures by name."""
        if self.captures == "captures" and not self.config_saved:
            records.write_json(self.path / "config.json", self.config.to_dict(), {})

    @property
    def config_saved(self) -> bool:
        """Whether `config.json` holds the settings of this run."""
        written = self.path / "config.json"
        return written.is_file() and agreement.read_config(written) == self.config

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Context in which no other process works on this run; refuses where one has made it another before."""
        with cache.locked(self.path / "run"):
            self._check()
            yield

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The taxonomy of the leaves that this run shows."""
        return Taxonomy.read(self.part_of_world("taxonomy.csv"))

    def manifest(self, name: str) -> Manifest:
        """A manifest of this run: `train`, `test` or `capture`."""
        for suffix in (".csv", ".json"):
            self.part_of_world(name + suffix)
        return Manifest.read(self.path, name)

    def part_of_world(self, name: str) -> Path:
        """The path of a file that was written when the run was closed, compared with its hash.

        Raises FileNotFoundError where it is not there, DamagedError where it is not as it was written.
        """
        recorded = self.world["files"].get(name) if self.closed else None
        if recorded is None:
            return self._existing(name)
        return agreement.refuse_other_file(self.path / name, recorded)

    def snapshot(self, step: int) -> Path:
        """The file of the projector after `step` optimiser steps."""
        return self.path / "projector" / f"step-{step:06d}.safetensors"

    @property
    def snapshots(self) -> tuple[int, ...]:
        """The steps at which the projector was saved."""
        return agreement.steps_of(self.path.glob("projector/step-*.safetensors"))

    def require_snapshot(self, step: int) -> Path:
        """The file of the projector after `step` steps, as this run saved it.

        Raises:
            FileNotFoundError: it is not there.
            DamagedError: it is not as it was written.
            MismatchError: it is of another run, or without a record of which.
        """
        path = self.snapshot(step)
        if not path.is_file():
            raise FileNotFoundError(
                f"the run {self.path} has no projector of step {step} (saved: {list(self.snapshots)}); restore {path} "
                "from a copy, or train the run again with another --out"
            )
        record = records.made_from(path, "restore it from a copy")
        if self.closed and (
            record is None or record.get("world", self.world["digest"]) != self.world["digest"]
        ):
            raise MismatchError(
                f"{path} is of another run than {self.path}, or has no record; restore it from a copy"
            )
        return path

    def makers(self, step: int | None = None) -> dict[str, str]:
        """What is made with the projector after `step` steps (default: the last) is made from: hashes by name.

        Raises as `require_snapshot`, and FileNotFoundError where training has not finished and no step is given.
        """
        snapshot = self.require_snapshot(self.record["steps"] if step is None else step)
        return {
            "run": self.config.hash,
            "world": self.world["digest"] if self.closed else "",
            "projector": records.sha256(snapshot),
            "code": importlib.metadata.version("taxoprobe"),
        }

    def require_made_here(self, path: Path, remedy: str, step: int | None = None) -> dict[str, Any] | None:
        """What a file was made from; None where an older version made it of a run that is not closed.

        Raises:
            MismatchError: it was made from another run, world or projector than this run has now, or has no record.
            DamagedError: it is not as it was written.
        """
        made_from = records.made_from(path, remedy)
        if made_from is None and self.closed:
            raise MismatchError(f"{path} has no record of what it was made from; {remedy}")
        if made_from and (different := agreement.differences(made_from, self.makers(step))):
            raise MismatchError(f"{path} was made from another {different}; {remedy}")
        return made_from

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
            MismatchError: they were captured from other prompts, or with another projector.
        """
        if not self.captured(step):
            what = "of its text twins" if step is None else f"at step {step}"
            raise FileNotFoundError(
                f"the run {self.path} has no whole capture {what} (whole: steps {list(self.steps)}); "
                f"`python -m analyses.capture --run {self.path} --step {'last' if step is None else step}` makes it"
            )
        store = ActivationStore.open(self.store_path(step, modality))
        expected = {"run_hash": self.config.hash}
        expected["manifest_hash"] = self.manifest("capture").where(modality=modality).hash
        if step is not None and self.snapshot(step).is_file():
            expected["projector"] = self.makers(step)["projector"]
        store.require(**expected)
        return store

    def captured(self, step: int | None) -> bool:
        """Whether the capture of a step (None: of the text twins) is whole."""
        return (self.store_path(step, "text" if step is None else "image") / INDEX_FILE).is_file()

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps whose picture rows were captured to the end."""
        return tuple(
            step
            for step in agreement.steps_of(self.path.glob(f"{self.captures}/step-*"))
            if self.captured(step)
        )

    def table(self, name: str) -> pd.DataFrame:
        """A result table of this run, such as `training`."""
        path = self._existing(f"{name}.csv")
        records.made_from(path)
        return pd.read_csv(path, keep_default_na=True)

    def _existing(self, name: str) -> Path:
        if not (self.path / name).is_file():
            raise FileNotFoundError(
                f"the run {self.path} has no {name} yet; "
                f"`python -m taxogen train --run {self.path}` and `… evaluate --run {self.path}` make it"
            )
        return self.path / name

    def _check(self) -> None:
        """Raise what `create` raises."""
        agreement.refuse_strangers(self.path)
        if (self.path / "config.json").is_file() and (self.closed or self.older):
            agreement.refuse_other_config(
                self.path, self.config, Run.open(self.path).config, self.captures == "captures"
            )
        there = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        cache.require_free(there, FREE_BYTES, what=f"the run {self.path}")
