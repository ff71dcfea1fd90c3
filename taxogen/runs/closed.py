"""Closed runs: the world that a run was prepared with: written once, read by every later command, compared.

`world.json` is written last: until then nothing hangs on the files beside it, and the next start writes them anew.
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import torch

from probing.store import MismatchError, files, records
from taxogen.models import weights
from taxogen.models.lms import LM
from taxogen.models.vlm import Vlm
from taxogen.questions import prompts
from taxogen.questions.manifest import Manifest
from taxogen.questions.prompts import Modality
from taxogen.runs.prepare import World
from taxogen.runs.run import WORLD, Run
from taxogen.world import pictures

TABLES = {
    "pictures": "pictures.csv",
    "taxonomy": "taxonomy.csv",
    "names": "leaf_map.json",
    "prompts": "prompts.json",
}
"""Part of a world → its file; each manifest has two more."""
MODALITIES: tuple[Modality, ...] = ("image", "text")


def write(run: Run, world: World, vlm: Vlm, encoder: dict[str, Any]) -> None:
    """Closes a run: writes its world and the identity of the frozen models, each file whole or not at all.

    Args:
        run: of which nothing was trained yet.
        world: its pictures, names and questions.
        vlm: its language model, with its projector.
        encoder: identity of its image encoder.
    """
    templates = {
        name for manifest in world.manifests.values() for name in manifest.frame["prompt"].astype(str)
    }
    wordings, lm = rendered(vlm, world, sorted(templates)), identity(vlm.lm)
    for part in run.path.glob("*.part"):
        files.remove(part)
    files.write_whole(run.file(TABLES["pictures"]), lambda part: world.table.to_csv(part, index=False))
    files.write_whole(run.file(TABLES["taxonomy"]), world.taxonomy.write)
    files.write_json(run.file(TABLES["names"]), world.leaf_map)
    files.write_json(run.file(TABLES["prompts"]), wordings)
    for name, manifest in world.manifests.items():
        if not run.older:
            manifest.write(run.path, name)
    run.save_config()
    written = [*TABLES.values(), *(name + end for name in world.manifests for end in (".csv", ".json"))]
    sealed = {
        "config_hash": run.config.hash,
        "asked": world.asked,
        "files": {name: records.sha256(run.file(name)) for name in sorted(written)},
        "manifests": {name: manifest.hash for name, manifest in world.manifests.items()},
        "encoder": encoder,
        "lm": lm,
        "threads": run.record["threads"] if run.complete else torch.get_num_threads(),
    }
    records.write_sealed(run.file(WORLD), sealed)


def read(run: Run) -> World:
    """The world that a run was closed with; its pictures are those that it was prepared with, wherever they are now.

    Raises:
        FileNotFoundError: the run is not closed; the command that closes it is named.
        DamagedError: a file of the world is not as it was written.
    """
    sealed = run.world
    for name in sealed["files"]:
        run.part_of_world(name)
    table = pd.read_csv(run.file(TABLES["pictures"]), dtype=str, keep_default_na=False, na_filter=False)
    names = json.loads(run.file(TABLES["names"]).read_text(encoding="utf-8"))
    manifests = {name: run.manifest(name) for name in sealed["manifests"]}
    collection = pictures.of_table(run.config.data.pictures, table)
    return World(collection, table, run.taxonomy, manifests, names, sealed["asked"])


def require_same_models(run: Run, world: World, vlm: Vlm) -> None:
    """Refuses to go on with another language model, tokenizer or wording than the run was prepared with.

    Raises:
        MismatchError: something differs; what was recorded and what was loaded are named.
    """
    recorded, loaded = run.world["lm"], identity(vlm.lm)
    if differing := [key for key in recorded if key != "name" and recorded[key] != loaded.get(key)]:
        said = "; ".join(
            f"{key}: recorded {recorded[key]!r}, loaded {loaded.get(key)!r}" for key in differing
        )
        raise MismatchError(
            f"{run.path} was prepared with another language model than {vlm.lm.name} is now ({said}); "
            "restore that model, or make another run with --out"
        )
    wordings = json.loads(run.part_of_world(TABLES["prompts"]).read_text(encoding="utf-8"))
    now = rendered(vlm, world, list(wordings))
    if differing := [name for name in wordings if wordings[name] != now[name]]:
        before, after = (texts[differing[0]]["image"] for texts in (wordings, now))
        raise MismatchError(
            f"{run.path} was prepared with another wording of {', '.join(differing)} (recorded {before}, now {after}); "
            "use the version of taxoprobe that prepared it, or make another run with --out"
        )


def identity(lm: LM) -> dict[str, Any]:
    """What makes a language model the one it is: weights, configuration, tokenizer, and the number type of its sums."""
    return {
        "name": lm.name,
        "revision": lm.revision,
        "init": lm.init,
        "seed": lm.seed,
        "dtype": str(lm.dtype).removeprefix("torch."),
        "weight_hash": lm.weight_hash(),
        "config": weights.config_hash(lm.model.config),
        "tokenizer": lm.tokenizer_hash,
    }


def rendered(vlm: Vlm, world: World, names: list[str]) -> dict[str, dict[str, Any]]:
    """Template → modality → the text and the token ids of its question about the first leaf and hypernym of a world."""
    leaf, hypernym = world.taxonomy.leaves[0], world.taxonomy.hypernyms[0]
    wordings: dict[str, dict[str, Any]] = {}
    for name in names:
        wordings[name] = {}
        for modality in MODALITIES:
            segments = prompts.segments(name, leaf=leaf, hypernym=hypernym, modality=modality)
            row = vlm.row("", segments)
            wordings[name][modality] = {"text": vlm.worded(segments).text, "ids": list(row.ids)}
    return wordings


def adopted(run: Run, world: World) -> World:
    """The world of a run that an older version trained: its own manifests, compared with what is there now.

    Raises:
        MismatchError: the pictures, the taxonomy or the questions changed since it was prepared.
    """
    recorded = run.record["manifest_hash"] if run.complete else {}
    own = {name: Manifest.read(run.path, name) for name in world.manifests}
    changed = [name for name, manifest in own.items() if recorded.get(name, manifest.hash) != manifest.hash]
    splits = dict(
        zip(world.table["picture"], zip(world.table["leaf"], world.table["split"], strict=True), strict=True)
    )
    for name, manifest in own.items():
        frame = manifest.where(modality="image").frame.astype(str)
        rows = zip(frame["picture"], zip(frame["leaf"], frame["split"], strict=True), strict=True)
        if any(splits.get(picture) != row for picture, row in rows):
            changed.append(name)
    if own["train"].hash != world.manifests["train"].hash:
        changed.append("train")
    if changed or run.taxonomy.edges != world.taxonomy.edges:
        what = ", ".join(dict.fromkeys(changed)) or "taxonomy"
        raise MismatchError(
            f"{run.path} was trained by an older version, and its pictures or taxonomy are not as they were then "
            f"({what} differ): it cannot be closed; restore them, or make another run with --out"
        )
    return World(world.pictures, world.table, world.taxonomy, own, world.leaf_map, world.asked)
