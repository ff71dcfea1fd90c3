"""Drawn run folders: a random fault somewhere below a finished run, and a random command after it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from probing.store import records
from taxogen.runs.run import WORLD
from tests.taxogen.drawn.scene import ASK, EXTRA, PASSING, command, contents, differing
from tests.taxogen.drawn.worlds import flip_bit, one

RUN, OTHER, REPORT = Path("run"), Path("other/run"), Path("report")
COMMANDS = {
    "evaluate": ("evaluate", "--run", "run"),
    "train": ("train", "--run", "run"),
    "prepare": ("prepare", "--run", "run"),
    "capture": ("capture", "--run", "run"),
    "capture extra": ("capture", "--run", "run", *EXTRA),
    "behaviour": ("analyse", "behaviour", "--run", "run", *ASK),
    "report": ("report", "--run", "run", "--out", "report"),
    "cohesion": ("analyse", "cohesion", "--run", "run", *ASK),
}
Contents = Mapping[str, dict[str, object]]
"""What `run` and `report` hold."""
COHESION = "analyses/cohesion/cohesion.parquet"
SUBJECTS = {records.FILE: ["record"], WORLD: ["not the config that run was prepared with"]}
GONE = ("green  removed", "green  without a record", "not whole yet")
READERS = {
    "captures-extra/": ("capture extra",),
    "captures/": ("capture", "cohesion"),
    "analyses/behaviour": ("behaviour", "report"),
    "analyses/cohesion": ("report", "cohesion"),
    "projector/": ("evaluate", "capture", "behaviour"),
    "": ("evaluate", "behaviour", "report", "prepare", "train"),
}
"""Beginning of a path in the run → the commands that read or write what lies there."""


@dataclass(frozen=True)
class Fault:
    """A fault in words, and the paths in the run that it disturbs."""

    words: str
    paths: tuple[str, ...]


def files(folder: Path = RUN) -> list[Path]:
    """The files below a folder that are no locks."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in PASSING)


def siblings(path: Path) -> list[Path]:
    """Files of the same kind as one of the run: its namesakes, those of another run, those beside it."""
    own = path.relative_to(RUN)
    namesakes = [file for file in files() if file.name == path.name or file.parent == path.parent]
    alike = [file for file in namesakes if file != path and file.suffix == path.suffix]
    return [*alike, *([OTHER / own] * 3 if (OTHER / own).is_file() else [])]


def draw(rng: Generator) -> Fault:
    """A fault below the run, which is made."""
    kinds = (_flip, _flip, _flip, _cut, _empty, _delete, _replace, _replace, _swap, _stray, _link, _folder)
    return one(rng, kinds)(rng)


def _drawn_file(rng: Generator, sibling: bool = False) -> Path:
    """A file, every folder as likely as another and the run's own thrice; where asked, one that has siblings."""
    fitting = [path for path in files() if not sibling or siblings(path)]
    folder = one(rng, [RUN, RUN, *sorted({path.parent for path in fitting})])
    return one(rng, [path for path in fitting if path.parent == folder])


def _fault(words: str, *paths: Path) -> Fault:
    return Fault(words, tuple(str(path.relative_to(RUN)) for path in paths))


def _flip(rng: Generator) -> Fault:
    path = _drawn_file(rng)
    return _fault(flip_bit(rng, path), path)


def _cut(rng: Generator) -> Fault:
    path = _drawn_file(rng)
    length = int(rng.integers(path.stat().st_size))
    path.write_bytes(path.read_bytes()[:length])
    return _fault(f"{path} cut to {length} bytes", path)


def _empty(rng: Generator) -> Fault:
    path = _drawn_file(rng)
    path.write_bytes(b"")
    return _fault(f"{path} emptied", path)


def _delete(rng: Generator) -> Fault:
    path = _drawn_file(rng)
    path.unlink()
    return _fault(f"{path} deleted", path)


def _replace(rng: Generator) -> Fault:
    path = _drawn_file(rng, sibling=True)
    source = one(rng, siblings(path))
    shutil.copy(source, path)
    return _fault(f"{path} replaced by {source}", path)


def _swap(rng: Generator) -> Fault:
    path = _drawn_file(rng, sibling=True)
    other = one(rng, siblings(path))
    a, b = path.read_bytes(), other.read_bytes()
    path.write_bytes(b)
    other.write_bytes(a)
    return _fault(f"{path} and {other} swapped", path, *([other] if RUN in other.parents else []))


def _stray(rng: Generator) -> Fault:
    """Something of a name that no run hangs on: a file, a folder, or a link."""
    beside = _drawn_file(rng)
    path = beside.with_name(beside.name + one(rng, PASSING))
    if rng.random() < 0.2:
        path = beside.with_name(f"run{one(rng, PASSING)}")
    kind = one(rng, ("file", "folder", "link"))
    if path.exists():
        path.unlink()
    if kind == "file":
        path.write_bytes(rng.bytes(20))
    elif kind == "folder":
        path.mkdir()
    else:
        Path("precious").write_text("precious")
        path.symlink_to(Path("precious").resolve())
    return Fault(f"{kind} {path} added", (str(path.relative_to(RUN)),))


def _link(rng: Generator) -> Fault:
    path = _drawn_file(rng, sibling=True)
    source = one(rng, siblings(path))
    path.unlink()
    path.symlink_to(source.resolve())
    return _fault(f"{path} is a link to {source}", path)


def _folder(rng: Generator) -> Fault:
    """A whole folder replaced by that of another run; a store also by another store."""
    folders = sorted({path.parent for path in files()} - {RUN})
    path = one(rng, folders)
    sources = [
        OTHER / path.relative_to(RUN),
        *(f for f in folders if "captures" in f.parts[1] and f.parent == path.parent),
    ]
    source = one(rng, [folder for folder in sources if folder.is_dir()] or [path])
    disturbed = files(path)
    kept = Path(shutil.copytree(source, "source"))
    shutil.rmtree(path)
    kept.rename(path)
    return _fault(f"{path} replaced by {source}", *disturbed, *files(path))


def judged(number: int, before: Contents) -> tuple[list[str], str]:
    """A drawn fault and command, and what came of it: `right`, `refused: …`, `doctor: …` or `WRONG: …`."""
    rng = np.random.default_rng([12, 2, number])
    fault = draw(rng)
    readers = next(READERS[start] for start in READERS if fault.paths[0].startswith(start))
    name = one(rng, readers if rng.random() < 0.7 else list(COMMANDS))
    words = [fault.words, name]
    answer = command(*COMMANDS[name])
    now = contents(RUN)
    changed = differing(before["run"], now)
    if fault.words.endswith("index.json deleted") and _fewer_rows(before["run"][COHESION], now[COHESION]):
        changed = [path for path in changed if not path.startswith("analyses/cohesion/")]
    others = [path for path in changed if path not in fault.paths and Path(path).name != records.FILE]
    others += [
        f"report/{path}" for path in differing(before["report"], contents(REPORT)) if not _told(path, fault)
    ]
    said = "; ".join(answer.refusal)
    if others or (Path("precious").exists() and Path("precious").read_text() != "precious"):
        return words, f"WRONG: exit code {answer.code}, but {', '.join(others) or 'precious'} changed. {said}"
    if answer.code == 2:
        named = any(part in said for path in fault.paths for part in (Path(path).name, *_place(path)))
        return words, f"refused: {said}" if answer.refused and named else f"WRONG: refusal {answer.said}"
    if answer.code:
        return words, f"WRONG: exit code {answer.code}: {answer.said}"
    if not changed:
        return words, "right"
    return words, _doctored([path for path in changed if path in fault.paths], before["run"])


def _fewer_rows(before: object, now: object) -> bool:
    """Whether a table has some rows of an earlier one and no others: a capture that is not whole is not asked."""
    # Without text rows the slot is called by the name of its span.
    rows, earlier = (
        set(str(text).replace(",image,image,", ",slot,image,").splitlines()) for text in (now, before)
    )
    return rows < earlier


def _told(path: str, fault: Fault) -> bool:
    """Whether a page of the report says that something does not fit."""
    page = (REPORT / path).read_text(encoding="utf-8") if path.endswith(".html") else ""
    return any(part in page for own in fault.paths for part in (own, *_place(own)))


def _place(path: str) -> list[str]:
    """By what else a refusal may name a file: its folder below the run, or what it is of."""
    return [Path(path).parent.name] if "/" in path else SUBJECTS.get(path, [])


def _doctored(paths: Sequence[str], before: Iterable[str]) -> str:
    """What the doctor says about files that are still not what they were.

    Red are those that hold something else: by path, or as the store that they belong to. What is gone, and what has
    lost its record, is named in another line.
    """
    answer = command("doctor", "--run", "run")
    lines = [*answer.refusal, *answer.said.splitlines()]
    red = {line for line in lines if line.startswith("RED") or line in answer.refusal}
    gone = {line for line in lines if any(word in line for word in GONE)} | red
    for path in paths:
        folder, record = Path(path).parent, Path(path).name == records.FILE
        lost = record or not (RUN / path).exists()
        subjects = {path, *([str(folder)] if path.startswith("captures") else [])}
        if record:
            subjects |= {f"{folder}/", *(name for name in before if Path(name).parent == folder)}
        elif lost and path.startswith("analyses/") and Path(path).name not in records.recorded(RUN / folder):
            continue  # its record went with it
        if not any(subject in line for subject in subjects for line in (gone if lost else red)):
            return f"WRONG: {path} differs, and the doctor says: {answer.said}"
    return f"doctor: {'; '.join(sorted(gone))}"
