"""Adoption: a run that an older version trained is compared with the world as it is now, so that it can be closed."""

from __future__ import annotations

import logging
from typing import Any

from probing.store import MismatchError, records
from taxogen.models.lms import LM
from taxogen.questions.manifest import Manifest
from taxogen.runs.prepare import World
from taxogen.runs.run import Run

log = logging.getLogger("taxogen")


def adopted(run: Run, world: World, lm: LM) -> World:
    """The world of a run that an older version trained: its own manifests, compared with what is there now.

    Raises:
        MismatchError: the pictures, the taxonomy, the questions or the language model changed since it was prepared.
    """
    record = run.record if run.complete else {"manifest_hash": {}, "lm": {}}
    own = {name: Manifest.read(run.path, name) for name in world.manifests}
    changed = [
        name
        for name, manifest in own.items()
        if record["manifest_hash"].get(name, manifest.hash) != manifest.hash
    ]
    rows_of = dict(
        zip(world.table["picture"], zip(world.table["leaf"], world.table["split"], strict=True), strict=True)
    )
    for name, manifest in own.items():
        frame = manifest.where(modality="image").frame.astype(str)
        rows = zip(frame["picture"], zip(frame["leaf"], frame["split"], strict=True), strict=True)
        if any(rows_of.get(picture) != row for picture, row in rows):
            changed.append(name)
    if own["train"].hash != world.manifests["train"].hash:
        changed.append("train")
    if run.taxonomy.edges != world.taxonomy.edges:
        changed.append("taxonomy")
    now = lm.identity
    changed += [
        f"lm.{name}" for name in ("revision", "weight_hash") if record["lm"].get(name, now[name]) != now[name]
    ]
    if changed:
        raise MismatchError(
            f"{run.path} was trained by an older version, and its pictures, taxonomy or language model are not as "
            f"they were then ({', '.join(dict.fromkeys(changed))} differ): it cannot be closed; restore them, or make "
            "another run with --out"
        )
    log.warning(
        "%s: the version that trained it did not record what its picture files held: they are taken as they are",
        run.path,
    )
    return World(world.pictures, world.table, world.taxonomy, own, world.leaf_map, world.asked)


def record_artifacts(run: Run, world: str) -> None:
    """Records what an older version made of a run, as it is now."""
    for step in run.snapshots:
        records.add(run.snapshot(step), {"world": world, "step": step})
    names = ("config.json", "run.json", "training.csv", "checkpoint.pt", "scores.h5", "baselines.h5")
    there = [name for name in names if run.file(name).is_file()]
    makers: dict[str, Any] = {"world": world}
    if run.complete:
        makers |= {
            "run": run.config.hash,
            "projector": records.sha256(run.require_snapshot(run.record["steps"])),
        }
    if "scores.h5" in there:
        makers["scores"] = records.sha256(run.file("scores.h5"))
    for name in there:
        records.add(run.file(name), makers if name.endswith(".h5") else {"world": world})
