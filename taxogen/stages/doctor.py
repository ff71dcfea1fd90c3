"""Doctor: whether each artifact of a run is as it was written, and belongs to the run as it is now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from probing.capture.health import damage
from probing.hooks.verify import Check, Report, verify
from probing.store import MismatchError, records
from probing.store.records import DamagedError
from probing.store.shard_files import HEADER_FILE, INDEX_FILE
from taxogen.answers import baselines
from taxogen.answers.scores import Scores
from taxogen.models import features
from taxogen.models.vlm import Vlm
from taxogen.runs import bench, closed, prepare
from taxogen.runs.agreement import differences
from taxogen.runs.prepare import World
from taxogen.runs.run import EARLIER, PASSING, WORLD, Run
from taxogen.world import pictures

FAULTS = (MismatchError, DamagedError, FileNotFoundError, ValueError, KeyError, OSError)
CHECKPOINT = "checkpoint.pt"
FEW = 3  # names that a line spells out


def examine(run: Run) -> Report:
    """A report on a run: its world, frozen models, features, snapshots, scores, captures and results.

    Everything that has a hash is read to the end and compared; nothing is written.

    Raises:
        FileNotFoundError: the run is not closed; the command that closes it is named.
    """
    checks = [
        _check(f"world: {name}", lambda name=name: _as_written(run, name)) for name in run.world["files"]
    ]
    broken = [check for check in checks if not check.holds]
    whole = Check("world", True, f"{len(checks)} files as they were when the run was prepared")
    checks = broken or [whole]
    if not broken:
        world = closed.read(run)
        checks += [
            _check("pictures", lambda: _pictures(run, world)),
            _check("taxonomy", lambda: _taxonomy(run, world)),
        ]
        checks += [_check("features", lambda: _features(run, world)), *_models(run, world)]
    checks += [*recorded(run), *_unrecorded(run), *_captures(run)]
    return Report(str(run.path), tuple(checks))


def _check(name: str, look: Callable[[], str]) -> Check:
    """The line of a check; `look` returns its detail, or raises what is wrong."""
    try:
        return Check(name, True, look())
    except FAULTS as fault:
        text = fault.args[0] if isinstance(fault, KeyError) and fault.args else fault
        return Check(name, False, " ".join(str(text).split()))


def _as_written(run: Run, name: str) -> str:
    run.part_of_world(name)
    return "as it was written"


def _pictures(run: Run, world: World) -> str:
    changes = pictures.compare(world.table, run.config.data.pictures)
    said = [
        f"{len(names)} {kind} ({', '.join(names[:FEW])}{', …' if len(names) > FEW else ''})"
        for kind, names in changes.items()
        if names and kind != "new"
    ]
    said += [f"{len(changes['new'])} more, which the run does not use"] if changes["new"] else []
    whole = f"{len(world.table)} pictures of the run"
    return (
        f"{whole}; in {run.config.data.pictures} now: {'; '.join(said)}" if said else f"{whole}, as they were"
    )


def _taxonomy(run: Run, world: World) -> str:
    try:
        now = prepare.taxonomy_of(run.config.data).restrict(world.taxonomy.leaves).edges
    except (FileNotFoundError, ValueError, KeyError):
        now = ()
    if now == world.taxonomy.edges:
        return f"{len(now)} edges as they were"
    return f"{run.config.data.taxonomy or 'the bundled table'} is gone or has other edges; the run goes on with its own"


def _features(run: Run, world: World) -> str:
    model = run.config.model
    hashes, faults = features.cached(run.world["encoder"], model.encoder_tokens, model.feature_dtype)
    if faults:
        raise DamagedError(f"{'; '.join(faults)}: the next command that needs features makes them again")
    missing = len(set(world.table["content_hash"]) - hashes)
    return f"in the cache, as they were written{f', but for {missing} that are made when needed' if missing else ''}"


def _models(run: Run, world: World) -> Iterator[Check]:
    models: list[Vlm] = []

    def load() -> str:
        models.append(bench.open_models(run, world)[0])
        closed.require_same_models(run, world, models[0])
        return f"{models[0].lm.name}, its tokenizer and the wording of questions as they were"

    yield _check("language model", load)
    for vlm in models:
        yield from verify(vlm.lm.model).checks


def recorded(run: Run) -> Iterator[Check]:
    """Files with a record: a line for each that is bad, one for all that are good.

    Results that were set aside need not fit the run as it is now: they only have to be as they were written.
    """
    good, aside, snapshots = 0, 0, {records.sha256(run.snapshot(step)) for step in run.snapshots}
    for folder in sorted({path.parent for path in run.path.rglob(records.FILE)}):
        try:
            paths = [folder / name for name in records.recorded(folder)]
        except DamagedError as fault:
            yield Check(str(folder.relative_to(run.path)), False, str(fault))
            continue
        is_aside = EARLIER in folder.relative_to(run.path).parts
        look = _whole if is_aside else partial(_fits, run, snapshots=snapshots)
        for path in filter(Path.is_file, paths):
            check = _check(str(path.relative_to(run.path)), partial(look, path))
            good, aside = good + (check.holds and not is_aside), aside + (check.holds and is_aside)
            if not check.holds:
                yield check
    also = f"; {aside} of other questions, set aside in {EARLIER}/, as they were written" if aside else ""
    yield Check("results", True, f"{good} files as they were written, made from this run as it is{also}")
    if run.file("scores.h5").is_file():
        yield _check("scores", lambda: f"{len(Scores.read(run).image)} pictures scored")
        yield _check("baselines", lambda: f"{len(baselines.baselines(run))} rules beside them")


def _unrecorded(run: Run) -> Iterator[Check]:
    """Lines for files that have a record and are gone, and for files that have none: a run may do without either."""
    known = {run.file(name) for name in (*run.world["files"], WORLD)}
    for path in run.path.rglob(records.FILE):
        with suppress(DamagedError):
            known |= {path.parent / name for name in records.recorded(path.parent)}
    stores = set(run.path.glob("captures*/**/*"))
    files = {path for path in run.path.rglob("*") if path.is_file() and path.suffix not in PASSING} - stores
    own = {path for path in files if path.name != records.FILE} | {run.file(CHECKPOINT)}
    known.add(run.file(CHECKPOINT))  # training removes it when it ends
    for name, paths in {"removed": known - own, "without a record": own - known}.items():
        if paths:
            shown = sorted(str(path.relative_to(run.path)) for path in paths)
            yield Check(
                name, True, ", ".join(shown[:FEW]) + (f" and {len(shown) - FEW} more" * (len(shown) > FEW))
            )


def _whole(path: Path) -> str:
    records.made_from(path)
    return "as it was written"


def _fits(run: Run, path: Path, snapshots: set[str]) -> str:
    """A word for a file that is as it was written and made from the run as it is now; of several, its own part."""
    record = records.made_from(path) or {}
    runs = record.get("runs", {})
    names = [name for name, makers in runs.items() if makers.get("run") == run.config.hash]
    if runs and not names:
        raise MismatchError(
            f"made from another run ({', '.join(runs)}); the command that made it makes it again"
        )
    makers = record["runs"][names[0]] if names else record
    now = {"run": run.config.hash, "world": run.world["digest"]}
    if makers.get("projector") not in {None, *snapshots}:
        now["projector"] = "no snapshot like it"
    reads = record.get("reads", {}).get(names[0], {}) if names else {}
    files = {name: run.file(name) for name in reads}
    now |= {name: records.sha256(file) for name, file in files.items() if file.is_file()}
    if different := differences({**makers, **reads}, now):
        raise MismatchError(f"made from another {different}; the command that made it makes it again")
    return "as it was written"


def _captures(run: Run) -> Iterator[Check]:
    written = (run.path.glob(f"captures*/*/{name}") for name in (HEADER_FILE, INDEX_FILE))
    for folder in sorted({path.parent for paths in written for path in paths}):
        yield _check(str(folder.relative_to(run.path)), lambda folder=folder: _capture(run, folder))


def _capture(run: Run, folder: Path) -> str:
    if bad := damage(folder):
        raise DamagedError(
            f"{'; '.join(f'{folder / name}: {reason}' for name, reason in bad.items())}; "
            f"`python -m analyses.capture --run {run.path}` mends it"
        )
    step = None if folder.name == "text" else int(folder.name.removeprefix("step-"))
    seen = run.with_captures(folder.parent.name.removeprefix("captures").removeprefix("-"))
    if not seen.captured(step):
        return "not whole yet"
    store = seen.store(step, "text" if step is None else "image")
    return f"{len(store)} rows at {len(store.sites)} sites, every byte as it was written"
