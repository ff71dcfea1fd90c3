"""Registration: hypotheses kept in the folder of a run or plan, with hash and time, and what was trained by then."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analyses.expected import hypotheses
from probing.store import cache, files, records
from taxogen.runs.run import Run

FILE = "expected.json"


@dataclass(frozen=True)
class Registered:
    """A file of hypotheses as it was when it was registered.

    Attributes:
        name: of the file.
        text: its content.
        sha256: of the content.
        registered: when, in UTC.
        began: runs whose training had begun by then.
        ended: runs whose training had ended by then → when.
    """

    name: str
    text: str
    sha256: str
    registered: str
    began: tuple[str, ...] = ()
    ended: dict[str, str] = field(default_factory=dict)

    def standing(self, run: str) -> str:
        """When it was registered, in relation to the training of a run, in words."""
        if run in self.ended:
            return f"registered {self.registered}, after the run ended at {self.ended[run]}"
        if run in self.began:
            return f"registered {self.registered}, after training had begun"
        return f"registered {self.registered}, before training"


def register(path: Path, folder: Path) -> Registered:
    """Keeps a file of hypotheses in the folder of a prepared run, or of a plan; a later version stands beside it.

    Raises:
        FileNotFoundError: no such file, or a folder that holds no run and is not that of a plan.
        ValueError, KeyError: as `hypotheses.read`.
    """
    text = hypotheses.text_of(path, "hypotheses", f"{hypotheses.EXAMPLE} is one")
    hypotheses.parse(text, path)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is no folder; `taxoprobe prepare --run {folder}` makes that of a run before it is trained, "
            "and a plan's is made with mkdir"
        )
    runs = _runs_in(folder)
    ended = {name_of(run): _time(run.path / "run.json") for run in runs if run.complete}
    began = tuple(name_of(run) for run in runs if not run.complete and _begun(run))
    entry = Registered(path.name, text, digest(text), _now(), began, ended)
    with cache.locked(folder.resolve() / FILE):
        entries = [*registered(folder), entry]
        files.write_whole(folder / FILE, lambda part: records.write_sealed(part, {"files": _plain(entries)}))
    return entry


def registered(folder: Path) -> list[Registered]:
    """What was registered in a folder, in the order of time.

    Raises:
        DamagedError: the file is not as it was written.
    """
    if not (folder / FILE).is_file():
        return []
    entries = records.read_sealed(folder / FILE)["files"]
    return [Registered(**{**one, "began": tuple(one["began"])}) for one in entries]


def registered_for(run: Run) -> list[Registered]:
    """What was registered for a run, in its own folder or in the one that holds it."""
    return [*registered(run.path), *registered(run.path.resolve().parent)]


def current(entries: Sequence[Registered], path: Path, text: str) -> Registered | None:
    """The first registration of a file as it is now; None where it was never registered.

    Raises:
        ValueError: it was registered with another content.
    """
    same = [one for one in entries if one.sha256 == digest(text)]
    if same:
        return same[0]
    if other := [one for one in entries if one.name == path.name]:
        line = _first_difference(other[-1].text, text)
        raise ValueError(
            f"{path} has changed at line {line} since it was registered {other[-1].registered} (SHA-256 "
            f"{other[-1].sha256[:12]}…, now {digest(text)[:12]}…); restore it, or register it again: verdicts will "
            "say when"
        )
    return None


def name_of(run: Run) -> str:
    """The name of a run's folder, wherever a command was started."""
    return run.path.resolve().name


def digest(text: str) -> str:
    """The SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def _runs_in(folder: Path) -> list[Run]:
    if (folder / "config.json").is_file():
        return [Run.open(folder)]
    return [Run.open(path.parent) for path in sorted(folder.glob("*/config.json"))]


def _begun(run: Run) -> bool:
    return run.file("checkpoint.pt").is_file() or any(step > 0 for step in run.snapshots)


def _plain(entries: Sequence[Registered]) -> list[dict[str, Any]]:
    return [{**asdict(one), "began": list(one.began)} for one in entries]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _time(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _first_difference(before: str, now: str) -> int:
    old, new = before.splitlines(), now.splitlines()
    same = (k for k, pair in enumerate(zip(old, new), start=1) if pair[0] != pair[1])
    return next(same, min(len(old), len(new)) + 1)
