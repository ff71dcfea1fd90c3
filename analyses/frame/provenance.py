"""What results of an analysis are made from, and whether stored ones fit the runs as they are now."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyses.frame import registry, wording
from analyses.frame.command_line import partners_of
from probing.store import INDEX_FILE, MismatchError, records
from probing.store.shard_files import HEADER_FILE
from taxogen.runs.agreement import differences
from taxogen.runs.run import Run

if TYPE_CHECKING:
    from analyses.frame.analysis import Analysis

log = logging.getLogger(__name__)

CAPTURES = "captures"
"""Stands, among what an analysis reads of a run, for every whole capture."""


def made_from(analysis: Analysis, runs: Sequence[Run], options: Any) -> dict[str, Any]:
    """What the results of these options about these runs are made from, as plain data.

    `reads` has hashes of what is read of each run beside the model, by path in the run; `beside` those of partner runs,
    and of files that options name, by path.
    """
    values = wording.plain(options)
    return {
        "analysis": analysis.name,
        "options": values,
        "runs": {run.name: run.makers(_step(values)) for run in runs},
        "reads": {run.name: _reads(analysis, run, options) for run in runs},
        "beside": {str(path): _beside(path) for path in [*partners_of(options), *_paths(options)]},
    }


def set_aside_unreadable(folder: Path) -> None:
    """Renames the records of a folder where they cannot be read, so that the files beside them can be made again."""
    try:
        records.recorded(folder)
    except records.DamagedError as damage:
        path = folder / records.FILE
        path.replace(path.with_name(f"{path.name}.damaged"))
        log.warning("%s; until then it is set aside, and files beside it count as without a record", damage)


@dataclass(frozen=True)
class Stored:
    """A file that an analysis stored, and the runs that it should be about."""

    analysis: Analysis
    path: Path
    runs: Sequence[Run]

    def require(self) -> dict[str, Any] | None:
        """What the file was made from; None where a version that kept no record wrote it.

        Raises:
            DamagedError: its bytes are not those that were written.
            MismatchError: it was made from other runs, worlds, projectors, scores, captures or tables than there are.
        """
        record = records.made_from(self.path, self.remedy({}))
        if record is None:
            return None
        remedy = self.remedy(record["options"])
        for name, run in self._paired(record, remedy).items():
            reads = record["reads"][name]
            stale = [
                differences(record["runs"][name], run.makers(_step(record["options"]))),
                differences(reads, {path: _digest(run.path / path) for path in reads}),
            ]
            if any(stale):
                raise MismatchError(
                    f"{self.path} is stale: it was made from another {'; '.join(filter(None, stale))}; {remedy}"
                )
        partners = {path: _beside(Path(path)) for path in record["beside"] if Path(path).exists()}
        if other := [path for path, digest in partners.items() if digest != record["beside"][path]]:
            raise MismatchError(f"{self.path} is stale: {other[0]} has changed since; {remedy}")
        return record

    def remedy(self, values: Mapping[str, Any]) -> str:
        """The command that makes the file again, with the options that have these plain values."""
        words = [f"python -m analyses.{self.analysis.name}"]
        words += [f"--run {shlex.quote(str(run.path))}" for run in self.runs]
        words.append(wording.spelled(self.analysis.options, values))
        return f"`{' '.join(filter(None, words))}` makes it again"

    def _paired(self, record: Mapping[str, Any], remedy: str) -> dict[str, Run]:
        """The run of each name in the record: the only one, or that with the same config."""
        if len(record["runs"]) == len(self.runs) == 1:
            return dict(zip(record["runs"], self.runs))
        recorded = sorted(record["runs"], key=lambda name: (record["runs"][name]["run"], name))
        now = sorted(self.runs, key=lambda run: (run.config.hash, run.name))
        if [record["runs"][name]["run"] for name in recorded] != [run.config.hash for run in now]:
            raise MismatchError(
                f"{self.path} is about {', '.join(sorted(record['runs']))}, not about "
                f"{', '.join(sorted(run.name for run in self.runs))}; {remedy}"
            )
        return dict(zip(recorded, now))


def _reads(analysis: Analysis, run: Run, options: Any) -> dict[str, str]:
    """The hashes of what is there of that which an analysis reads."""
    folder = run.with_captures(getattr(options, "captures", "")).captures
    paths: list[Path] = []
    for name in analysis.reads(options):
        whole = run.path.glob(f"{folder}/*/{INDEX_FILE}")
        paths += [index.parent for index in whole] if name == CAPTURES else [run.path / name]
    paths += [registry.load(name).table_path(run) for name in analysis.needs]
    return {path.relative_to(run.path).as_posix(): _digest(path) for path in sorted(paths) if path.exists()}


def _digest(path: Path) -> str:
    """The SHA-256 of a file; of a store, a digest of its header and index; of a folder, of all its files."""
    if path.is_file():
        return records.sha256(path)
    names = (HEADER_FILE, INDEX_FILE) if (path / INDEX_FILE).is_file() else ("**/*",)
    files = sorted(file for name in names for file in path.glob(name) if file.is_file())
    return records.digest_of({file.relative_to(path).as_posix(): records.sha256(file) for file in files})


def _beside(path: Path) -> dict[str, str]:
    """The makers of a run, or the digest of a file or folder."""
    if (path / "config.json").is_file():
        return {name: maker for name, maker in Run.open(path).makers().items() if name != "code"}
    return {"digest": _digest(path)}


def _paths(options: Any) -> list[Path]:
    """The files and folders that options name, partner runs apart."""
    partners = partners_of(options)
    named = [value for value in vars(options).values() if isinstance(value, Path)]
    return [path for path in named if path not in partners]


def _step(values: Mapping[str, Any]) -> int | None:
    """The step of the only projector that is asked, where the options name one."""
    step = values.get("step")
    return step if isinstance(step, int) else None
