"""Closed runs: the world that a run was prepared with: written once, read by every later command, compared.

`world.json` is written last: until then nothing hangs on the files beside it, and the next start writes them anew.
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import torch

from probing.store import MismatchError, files, records
from taxogen.models.vlm import Vlm
from taxogen.questions import prompts
from taxogen.questions.prompts import Modality
from taxogen.runs import adoption
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
    wordings, lm = rendered(vlm, world, sorted(templates)), vlm.lm.identity
    run.save_config()  # first: a folder with other files and without it is a stranger's
    files.write_whole(run.file(TABLES["pictures"]), lambda part: world.table.to_csv(part, index=False))
    files.write_whole(run.file(TABLES["taxonomy"]), world.taxonomy.write)
    files.write_json(run.file(TABLES["names"]), world.leaf_map)
    files.write_json(run.file(TABLES["prompts"]), wordings)
    for name, manifest in world.manifests.items():
        if not run.older:
            manifest.write(run.path, name)
    written = [*TABLES.values(), *(name + end for name in world.manifests for end in (".csv", ".json"))]
    sealed = {
        "config_hash": run.config.hash,
        "asked": world.asked,
        "left_out": list(world.left_out),
        "files": {name: records.sha256(run.file(name)) for name in sorted(written)},
        "manifests": {name: manifest.hash for name, manifest in world.manifests.items()},
        "encoder": encoder,
        "lm": lm,
        "threads": run.record["threads"] if run.complete else torch.get_num_threads(),
        "scored_at_most": run.config.evaluate.pictures_per_leaf if run.older else 0,
    }
    if run.older:
        adoption.record_artifacts(run, records.digest_of(sealed))
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
    left_out = tuple(sealed.get("left_out", ()))  # what older versions wrote has none
    return World(collection, table, run.taxonomy, manifests, names, sealed["asked"], left_out)


def require_same_models(run: Run, world: World, vlm: Vlm) -> None:
    """Refuses to go on with another language model, tokenizer or wording than the run was prepared with.

    Raises:
        MismatchError: something differs; what was recorded and what was loaded are named.
    """
    recorded, loaded = run.world["lm"], vlm.lm.identity
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
