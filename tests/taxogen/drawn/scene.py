"""A toy experiment in one folder that is copied for each drawn input: its world, models, cache, two runs and a report.

Everything is named by relative paths, so that a copy is an experiment of its own.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch

from analyses.frame.console import main
from probing.store import records
from taxogen.stages import train
from tests.world import write_world

STEPS = 6
SETTINGS = (
    f"train.steps={STEPS}",
    "train.snapshots=0,last",
    "capture.at=0,last",
    "capture.sites=hook_embed,blocks.1.hook_resid_post",
    "capture.pictures_per_leaf=1",
)
PASSING = (".lock", ".holder", ".part")
ASK = ("--draws", "40")


@dataclass(frozen=True)
class Answer:
    """What a command line did: its exit code, the lines of its refusal, and everything that it printed."""

    code: int
    refusal: list[str]
    said: str

    @property
    def refused(self) -> bool:
        return self.code == 2 and len(self.refusal) == 1


def command(*words: str) -> Answer:
    """The answer of `taxoprobe` to some words, in this process."""
    out, error, records = io.StringIO(), io.StringIO(), _Records()
    root = logging.getLogger()
    root.addHandler(records)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            code = main(list(words))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        root.removeHandler(records)
    lines = error.getvalue().replace("\r", "\n").splitlines()
    first = next((at for at, line in enumerate(lines) if line.startswith("python -m analyses.")), len(lines))
    refusal = [line for text in records.errors for line in text.split("\n")]
    said = "\n".join([out.getvalue(), *records.warnings, *lines[first:], *refusal])
    return Answer(code, refusal + lines[first:], said)


class _Records(logging.Handler):
    """The messages of refusals, and those of warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        kind = self.errors if record.levelno >= logging.ERROR else self.warnings
        kind.append(record.getMessage())


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[Path]:
    """A block in which a scene is the working directory, with its own cache and one thread."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TAXOPROBE_CACHE", str(folder / "cache"))
        torch.set_num_threads(1)
        try:
            yield folder
        finally:
            torch.set_num_threads(threads)


def settings(given: Iterable[str]) -> list[str]:
    """The flags of a command line for some settings."""
    return [word for setting in given for word in ("--set", setting)]


def must(*words: str) -> Answer:
    """The answer of a command that is not refused."""
    answer = command(*words)
    assert answer.code == 0, answer.said
    return answer


def write_scene(folder: Path, lm: Path) -> Path:
    """A world with `run` (scored, captured twice, asked), `other/run` (another seed), `killed/run`, and a report."""
    folder.mkdir()
    shutil.copytree(lm, folder / "lm")
    with inside(folder):
        own = settings((*write_world(Path("."), Path("lm")), *SETTINGS))
        Path("settings.json").write_text(json.dumps(own))
        must("train", "--run", "run", *own)
        with killed_at(4), pytest.raises(KeyboardInterrupt):
            command("train", "--run", "killed/run", *own)
        must("train", "--run", "other/run", *own, "--set", "seed=1")
        for name in ("run", "other/run"):
            must("evaluate", "--run", name)
            for question in ("behaviour", "cohesion"):
                must("analyse", question, "--run", name, *ASK)
        must("capture", "--run", "run", *EXTRA)
        must("report", "--run", "run", "--out", "report")
    return folder


EXTRA = ("--name", "extra", "--sites", "hook_embed", "--spans", "cue")


@contextlib.contextmanager
def killed_at(steps: int) -> Iterator[None]:
    """A block in which training is interrupted after some steps."""
    step, calls = train._step, []

    def killed(*given):
        calls.append(1)
        if len(calls) > steps:
            raise KeyboardInterrupt
        return step(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "_step", killed)
        yield


def copied(scene: Path, to: Path) -> Path:
    """A copy of a scene."""
    return Path(shutil.copytree(scene, to, symlinks=True))


def contents(folder: Path) -> dict[str, object]:
    """Path → value of every file below a folder: of JSON and tables what they say, of all else the bytes."""
    paths = [Path(at) / name for at, _, names in os.walk(folder) for name in names]
    return {
        str(path.relative_to(folder)): value(path)
        for path in sorted(paths)
        if path.suffix not in PASSING and path.is_file()
    }


def value(path: Path) -> object:
    """What a file says, its bytes where it is not readable; of records what they say about the newest bytes."""
    try:
        if path.name == records.FILE:
            return {name: versions[0] for name, versions in records.read_sealed(path)["files"].items()}
        if path.suffix == ".json":
            return json.dumps(json.loads(path.read_text(encoding="utf-8")), sort_keys=True)
        if path.suffix == ".parquet":
            return pd.read_parquet(path).to_csv(index=False)
    except Exception:  # a flipped bit makes readers raise errors of any kind
        pass
    return path.read_bytes()


def differing(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """The files that are not what they were; those that came are none of them."""
    return [name for name, content in before.items() if after.get(name) != content]
