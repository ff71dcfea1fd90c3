"""What results of an analysis are made from, and whether stored ones fit the runs as they are now."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyses.frame import registry, wording
from analyses.frame.command_line import partners_of
from analyses.frame.stores import RunOrStores, Stores, digest_of_store
from probing.store import INDEX_FILE, MismatchError, records
from taxogen.runs.agreement import differences
from taxogen.runs.run import Run

if TYPE_CHECKING:
    from analyses.frame.analysis import Analysis

log = logging.getLogger(__name__)

CAPTURES = "captures"
"""Stands, among what an analysis reads of a run, for every whole capture."""


def made_from(analysis: Analysis, runs: Sequence[RunOrStores], options: Any) -> dict[str, Any]:
    """What the results of these options about these runs, or stores in place of one, are made from, as plain data.

    `reads` has hashes of what is read of each run beside the model, by path in the run; `beside` those of partner runs,
    and of files that options name, by path.
    """
    values = wording.plain(options)
    return {
        "analysis": analysis.name,
        "options": values,
        "runs": {run.name: _makers(run, values) for run in runs},
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


def difference(options: type, before: Mapping[str, Any], made_from: Mapping[str, Any]) -> tuple[str, bool]:
    """How older results differ, in words, and whether they are of another question to what is as it was.

    No words where they were made with the same options of the same runs or stores, by whichever version of the code.
    """
    old, new = _without_code(before), _without_code(made_from)
    stale = any(old[name] != new[name] for name in {*old} & {*new})
    if before["options"] != made_from["options"]:
        how = f"with {wording.spelled(options, before['options']) or 'the default options'}"
    else:
        how = "" if old == new else "from another state of them" if stale else "from others"
    return how, bool(how) and not stale


@dataclass(frozen=True)
class Stored:
    """A file that an analysis stored, and the runs that it should be about."""

    analysis: Analysis
    path: Path
    runs: Sequence[RunOrStores]

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
                _other_makers(run, record["runs"][name], record["options"]),
                differences(reads, {path: _digest(home_of(run).parent / path) for path in reads}),
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
        words += [
            shlex.join(run.flags if isinstance(run, Stores) else ["--run", str(run.path)])
            for run in self.runs
        ]
        words.append(wording.spelled(self.analysis.options, values))
        return f"`{' '.join(filter(None, words))}` makes it again"

    def _paired(self, record: Mapping[str, Any], remedy: str) -> dict[str, RunOrStores]:
        """The run of each name in the record: the only one, or that with the same config."""
        if len(record["runs"]) == len(self.runs) == 1:
            return dict(zip(record["runs"], self.runs))
        recorded = sorted(record["runs"], key=lambda name: (record["runs"][name].get("run", ""), name))
        now = sorted(self.runs, key=lambda run: (_hash(run), run.name))
        if [record["runs"][name].get("run", "") for name in recorded] != [_hash(run) for run in now]:
            raise MismatchError(
                f"{self.path} is about {', '.join(sorted(record['runs']))}, not about "
                f"{', '.join(sorted(run.name for run in self.runs))}; {remedy}"
            )
        return dict(zip(recorded, now))


def home_of(run: RunOrStores) -> Path:
    """The folder that has a folder for the results of every analysis."""
    return run.results if isinstance(run, Stores) else run.path / "analyses"


def _makers(run: RunOrStores, options: Mapping[str, Any]) -> dict[str, str]:
    """What results about a run, or about stores in place of one, are made from: hashes by name."""
    return run.makers if isinstance(run, Stores) else run.makers(_step(options))


def _other_makers(run: RunOrStores, recorded: Mapping[str, str], options: Mapping[str, Any]) -> str:
    """The makers that are others now than were recorded, in words."""
    now = _makers(run, options)
    if isinstance(run, Stores):
        names = [name for name in sorted({*recorded, *now} - {"code"}) if recorded.get(name) != now.get(name)]
        return ", ".join(names)
    return differences(recorded, now)


def _without_code(record: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The makers of each run or of stores; another version of the code makes no other table."""
    every = record["runs"].items()
    return {name: {key: value for key, value in makers.items() if key != "code"} for name, makers in every}


def _hash(run: RunOrStores) -> str:
    return "" if isinstance(run, Stores) else run.config.hash


def _reads(analysis: Analysis, run: RunOrStores, options: Any) -> dict[str, str]:
    """The hashes of what is there of that which an analysis reads; of stores, which are makers, none."""
    if isinstance(run, Stores):
        return {}
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
    if (path / INDEX_FILE).is_file():
        return digest_of_store(path)
    files = sorted(file for file in path.glob("**/*") if file.is_file())
    return records.digest_of({file.relative_to(path).as_posix(): records.sha256(file) for file in files})


def _beside(path: Path) -> dict[str, str]:
    """The makers of a run, or the digest of a file or folder."""
    if (path / "config.json").is_file():
        return {name: maker for name, maker in Run.open(path).makers().items() if name != "code"}
    return {"digest": _digest(path)}


def _paths(options: Any) -> list[Path]:
    """The files and folders that options name, partner runs apart."""
    partners = partners_of(options)
    named = [value for value in vars(options).values() if isinstance(value, Path) or _names_file(value)]
    return [Path(path) for path in named if path not in partners]


def _names_file(value: Any) -> bool:
    """Whether a value is the name of a file that is there: some options take a file or a word."""
    return isinstance(value, str) and os.path.isfile(value)


def _step(values: Mapping[str, Any]) -> int | None:
    """The step of the only projector that is asked, where the options name one."""
    step = values.get("step")
    return step if isinstance(step, int) else None
