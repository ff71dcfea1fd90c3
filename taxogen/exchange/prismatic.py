"""Import: the projector of a prismatic-vlms checkpoint as the projector of a run.

Source: Karamcheti et al. 2024, arXiv:2402.07865; layout of https://github.com/TRI-ML/prismatic-vlms (docs/models.md).
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probing.store import MismatchError, records
from taxogen.models.projectors import Projector
from taxogen.runs.bench import open_vlm
from taxogen.runs.run import Run
from taxogen.stages.train import save_projector

log = logging.getLogger("taxogen")

CHECKPOINT = "checkpoints/latest-checkpoint.pt"
KINDS = ("fused-gelu-mlp", "gelu-mlp", "linear")
"""What an `arch_specifier` may end with, which is also how `model.projector` calls it; the first that fits."""


def import_prismatic(folder: Path, run: Run) -> Path:
    """Writes the projector of a prismatic-vlms checkpoint as that of a run which is then complete, after 0 steps.

    Evaluation, captures and analyses read it as they read a trained one.

    Args:
        folder: holds `config.json` and `checkpoints/latest-checkpoint.pt`.
        run: prepared, with the checkpoint's kind of projector, widths, and neither norm; nothing is trained in it.

    Returns:
        The snapshot.

    Raises:
        FileNotFoundError: the folder lacks a file, or the run is not prepared.
        ValueError: a file holds something else, or settings of the run do not fit it; all are named.
        MismatchError: the shapes are not those of the run's projector; or the run has a projector already.
    """
    kind = _kind(folder)
    model = run.config.model
    needed = {"projector": kind, "standardise": False, "normalise": False}
    if wrong := {key: value for key, value in needed.items() if getattr(model, key) != value}:
        settings = " ".join(
            f"--set model.{key}={json.dumps(value).strip(chr(34))}" for key, value in wrong.items()
        )
        raise ValueError(
            f"{folder} holds a {kind} projector of features and tokens as they are; {run.path} has other settings: "
            f"prepare another run with `{settings}`"
        )
    if run.complete or run.snapshots:
        raise MismatchError(
            f"{run.path} has a projector already (of steps {list(run.snapshots)}); prepare another run with --out"
        )
    parts = _checkpoint(folder)
    vlm = open_vlm(run, run.world["encoder"])
    _fill(vlm.projector, parts["projector"], folder, run)
    if "llm_backbone" in parts:
        log.warning(
            "%s: the language model was trained too, and is not read; model.lm=%s must be that one",
            folder,
            model.lm,
        )
    source = {"prismatic": records.sha256(folder / CHECKPOINT)}
    snapshot = run.snapshot(0)
    with run.alone():
        run.folder("projector")
        save_projector(vlm.projector, snapshot, {"world": run.world["digest"], "step": 0, **source})
        run.finish(_record(run, source))
    return snapshot


def _kind(folder: Path) -> str:
    """The kind of projector that a checkpoint's config names."""
    config = _file(folder, "config.json")
    try:
        named = str(json.loads(config.read_text(encoding="utf-8"))["model"]["arch_specifier"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{config} is no config of prismatic-vlms: it has no model.arch_specifier"
        ) from error
    kind = next((kind for kind in KINDS if named.endswith(kind)), None)
    if kind is None:
        raise ValueError(
            f"{config}: arch_specifier={named!r} is not known; known: those that end in {', '.join(KINDS)}"
        )
    return kind


def _checkpoint(folder: Path) -> dict[str, dict[str, Tensor]]:
    """The parts of a checkpoint's model, `projector` among them; weights are mapped, not read."""
    path = _file(folder, CHECKPOINT)
    try:
        parts: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["model"]
        own = parts["projector"]
        whole = bool(own) and all(isinstance(value, Tensor) for value in own.values())
    except Exception as error:  # torch raises errors of any kind over bytes that it did not expect
        raise ValueError(
            f"{path} is no checkpoint of prismatic-vlms: torch.load(…)['model']['projector'] gives "
            f"{type(error).__name__}"
        ) from error
    if not whole:
        raise ValueError(
            f"{path} is no checkpoint of prismatic-vlms: its projector is no state dict of tensors"
        )
    return parts


def _file(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no {name}; give the folder of a prismatic-vlms run, which holds it"
        )
    return path


def _fill(projector: Projector, weights: dict[str, Tensor], folder: Path, run: Run) -> None:
    """Puts a checkpoint's weights into a projector of the run, where names and shapes are its own."""
    state = {"net" + name.removeprefix("projector"): value.float() for name, value in weights.items()}
    theirs, ours = (
        {name: tuple(value.shape) for name, value in one.items()} for one in (state, projector.state_dict())
    )
    if theirs != ours:
        name = min(name for name in theirs | ours if theirs.get(name) != ours.get(name))
        raise MismatchError(
            f"the projector of {folder} has {name} of shape {theirs.get(name)}, that of {run.path} {ours.get(name)}: "
            f"model.encoder={run.config.model.encoder}, model.lm={run.config.model.lm} and model.hidden (0) must have "
            "the widths of the checkpoint"
        )
    projector.load_state_dict(state)


def _record(run: Run, source: dict[str, str]) -> dict[str, object]:
    libraries = ("torch", "transformers", "numpy", "h5py", "taxoprobe")
    lm = run.world["lm"]
    return {
        "steps": 0,
        "training_items": 0,
        "config_hash": run.config.hash,
        "manifest_hash": run.world["manifests"],
        "lm": {key: lm[key] for key in ("name", "revision", "weight_hash")},
        "dtype": lm["dtype"],
        "provenance": [dict(step) for step in run.manifest("train").provenance],
        "versions": {name: importlib.metadata.version(name) for name in libraries}
        | {"python": platform.python_version()},
        "threads": run.world["threads"],
        "seconds": 0.0,
        **source,
    }
