"""Registration: hypotheses kept in the folder of a run or plan, with hash and time, and what was trained by then."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
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
        trained: config hashes of all of these, by which one is known under another name.
    """

    name: str
    text: str
    sha256: str
    registered: str
    began: tuple[str, ...] = ()
    ended: dict[str, str] = field(default_factory=dict)
    trained: tuple[str, ...] = ()

    def standing(self, run: Run) -> str:
        """When it was registered, in relation to the training of a run, in words.

        A finished run says itself when it was trained (`run.json`), whatever its folder is called, where it lies and
        when it was copied. One that does not say so, or is not finished, counts as trained before where it was in the
        folder then, by its name or by its settings, or where what it was trained to is older than the registration.
        """
        said, record = f"registered {self.registered}", run.record if run.complete else {}
        if "ended" in record:
            if record["ended"] < self.registered:
                return f"{said}, after the run ended at {record['ended']}"
            begun = record["began"] < self.registered
            return f"{said}, after training had begun" if begun else f"{said}, before training"
        known = not self.trained or run.config.hash in self.trained  # another run may have its name since
        name = name_of(run) if known else ""
        times = [_time(path) for path in _traces(run)]
        ended = self.ended.get(name) or (_time(run.path / "run.json") if run.complete else self.registered)
        if ended < self.registered or name in self.ended:
            return f"{said}, after the run ended at {ended}"
        if name in self.began or min(times, default=self.registered) < self.registered:
            return f"{said}, after training had begun"
        if run.config.hash in self.trained:
            return f"{said}, after training of a run with the same settings had begun"
        return f"{said}, before training"


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
    ended = {name_of(run): _ended(run) for run in runs if run.complete}
    began = tuple(name_of(run) for run in runs if not run.complete and _traces(run))
    trained = tuple(sorted({run.config.hash for run in runs if run.complete or _traces(run)}))
    entry = Registered(path.name, text, digest(text), records.utc(time.time()), began, ended, trained)
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
    return [
        Registered(**{**one, "began": tuple(one["began"]), "trained": tuple(one.get("trained", ()))})
        for one in entries
    ]


def registered_for(run: Run, elsewhere: Sequence[Path] = ()) -> list[Registered]:
    """What was registered for a run: in its own folder, in the one that holds it or a link to it, or in others.

    Args:
        run: that is judged.
        elsewhere: folders of plans in which it lay when it was registered.
    """
    holding = dict.fromkeys((run.path.resolve().parent, run.path.absolute().parent.resolve()))
    return [entry for folder in (run.path, *holding, *elsewhere) for entry in registered(folder)]


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


def _traces(run: Run) -> list[Path]:
    """The files that training has left."""
    checkpoint = run.file("checkpoint.pt")
    snapshots = sorted(run.path.glob("projector/step-*.safetensors"))
    return [path for path in (checkpoint, *snapshots) if path.is_file() and "step-000000." not in path.name]


def _plain(entries: Sequence[Registered]) -> list[dict[str, Any]]:
    return [{**asdict(one), "began": list(one.began), "trained": list(one.trained)} for one in entries]


def _ended(run: Run) -> str:
    """When a finished run ended: as it says itself or, of an older one, when `run.json` was written."""
    return run.record.get("ended") or _time(run.path / "run.json")


def _time(path: Path) -> str:
    return records.utc(path.stat().st_mtime)


def _first_difference(before: str, now: str) -> int:
    old, new = before.splitlines(), now.splitlines()
    same = (k for k, pair in enumerate(zip(old, new), start=1) if pair[0] != pair[1])
    return next(same, min(len(old), len(new)) + 1)
