"""Bench: a run with everything loaded that is needed to train, score or capture it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch

from probing.hooks.layouts import layout_of
from probing.store import MismatchError, cache
from taxogen.models import devices, encoders, lms, weights
from taxogen.models.features import FeatureRows, PictureStandardizer, bins, features
from taxogen.models.projectors import PROJECTORS, Projector
from taxogen.models.rows import Row
from taxogen.models.vlm import Vlm, answer_tokens
from taxogen.questions import items, prompts
from taxogen.questions.manifest import Manifest
from taxogen.released import loading
from taxogen.released.vlm import ReleasedVlm
from taxogen.runs import adoption, closed, coherence, prepare
from taxogen.runs.config import ModelConfig
from taxogen.runs.run import Run
from taxogen.runs.setting import check_known


@dataclass
class Bench:
    """A run with everything loaded that its stages work on.

    Attributes:
        run: where things are written.
        world: pictures, names and manifests.
        features: encoder features of all pictures of the world's table as the projector sees them.
        vlm: the frozen language model and the projector.
    """

    run: Run
    world: prepare.World
    features: FeatureRows
    vlm: Vlm

    @property
    def picture_index(self) -> dict[str, int]:
        """For each picture its row in `features`."""
        return {picture: row for row, picture in enumerate(self.world.table["picture"])}

    def rows(self, manifest: Manifest) -> list[Row]:
        """The tokenised items of a manifest."""
        index = self.picture_index
        return [
            self.vlm.row(item.item_id, prompts.of_item(item), index[item.picture] if item.picture else -1)
            for item in manifest.items
        ]


def open_bench(run: Run, adopt: bool = False) -> Bench:
    """The run with its world read, its language model loaded and a freshly drawn projector.

    A run that is not closed yet is closed: everything that its config names is resolved before the first byte is
    written or the first feature computed. The projector's init follows the run's seed; nothing else draws from it.

    Args:
        run: closed, or new; hold its lock (`Run.alone`) where it may be new.
        adopt: close a run that an older version trained, where its world is as it was; record what it did not.

    Raises:
        ValueError, KeyError: the config names something that does not exist or cannot be.
        MismatchError: the language model, its tokenizer or the wording is not that of the closed run.
        DamagedError: a file of the closed world is not as it was written.
        OSError: the disk cannot hold what is to be written.
    """
    if run.older and not adopt:
        raise MismatchError(
            f"{run.path} was trained by a version that did not record its world; "
            f"`python -m taxogen prepare --run {run.path}` records it, if it is as it was"
        )
    if not run.closed:
        require_named(run.config.model)
    world = closed.read(run) if run.closed else prepare.world(run)
    vlm, encoder = open_models(run, world)
    _resolve(run, vlm)
    if run.closed:
        closed.require_same_models(run, world, vlm)
    else:
        world = adoption.adopted(run, world, vlm.lm) if run.older else world
        cache.require_free(run.folder(), _bytes_needed(run, world, vlm), what=f"the run {run.path}")
        closed.write(run, world, vlm, encoder)
    inputs = projector_inputs(run, world, raw_features(run, world, vlm))
    if adopt or not run.complete:
        coherence.record(run, world, inputs)
    return Bench(run, world, inputs, vlm)


def require_named(model: ModelConfig, declared: bool = False) -> None:
    """Refuses models, a projector or a device that are not there, before pictures are read or weights loaded.

    Args:
        model: what is named.
        declared: as `lms.require`.

    Raises:
        KeyError: the projector is not known.
        ValueError: this machine has no such device, or the language model's configuration cannot be read.
        FileNotFoundError: packages of weights are missing (one line gets them all), or the language model.
    """
    devices.resolve(model.device)
    if not model.vlm:
        check_known("model.projector", model.projector, PROJECTORS)
        weights.require_packages((*encoders.requirements(model.encoder), *lms.requirements(model.lm)))
        lms.require(model.lm, declared)


def open_models(run: Run, world: prepare.World) -> tuple[Vlm, dict[str, Any]]:
    """The model of a run, and the identity of its encoder, which is the recorded one where the run is closed.

    Raises:
        MismatchError: a released model is not the one that the run was made with.
    """
    if run.config.model.vlm:
        vlm = open_released(run, world)
        now = vlm.encoder.identity
        if run.closed and now != run.world["encoder"]:
            raise MismatchError(
                f"{run.path} was made with another {run.config.model.vlm} than is there now (its encoder, projector or "
                "processing of pictures differs): restore it, or make another run with --out"
            )
        return vlm, now
    encoder = run.world["encoder"] if run.closed else _identity(run)
    return open_vlm(run, encoder), encoder


def open_released(run: Run, world: prepare.World) -> ReleasedVlm:
    """The released model of a run, which reads the pictures of its world."""
    model, names = run.config.model, world.table["picture"].tolist()
    dtype = run.world["lm"]["dtype"] if run.closed else model.dtype
    released = loading.load(model.vlm, dtype, model.device)
    return ReleasedVlm(
        released, lambda row: world.pictures.open(names[row]), run.config.data.chat, model.picture_side
    )


def raw_features(run: Run, world: prepare.World, vlm: Vlm | None = None) -> FeatureRows:
    """Encoder features of all pictures of a closed run's world, in the order of its table.

    Of a released model: the mean of the tokens that its decoder reads; it is loaded unless it is given.
    """
    model, names = run.config.model, world.table["picture"].tolist()
    if model.vlm:
        released = vlm if isinstance(vlm, ReleasedVlm) else open_released(run, world)
        return features(world.pictures, released.encoder, names, dtype=model.feature_dtype)
    return features(
        world.pictures,
        model.encoder,
        names,
        model.encoder_tokens,
        _encoder_device(run),
        expected=run.world["encoder"],
        dtype=model.feature_dtype,
    )


def projector_inputs(run: Run, world: prepare.World, values: FeatureRows) -> FeatureRows:
    """These features as the projector sees them, by default standardised on training pictures."""
    if not run.config.model.standardise:
        return values
    training = np.flatnonzero(world.table["split"] == "train")
    return replace(values, standardiser=PictureStandardizer.fit(values.take(training)))


def open_lm(run: Run) -> lms.LM:
    """The frozen language model of a run, in the number type that the run was closed with."""
    model = run.config.model
    kind = run.world["lm"]["dtype"] if run.closed else model.dtype
    if run.older and run.complete:
        kind = run.record["dtype"]
    dtype = "native" if kind == "auto" else getattr(torch, kind)
    device = str(devices.resolve(model.device))
    return lms.load(model.lm, cast(lms.Init, model.init), run.config.seed, dtype, device=device)


def own_lm(run: Run) -> lms.LM:
    """The language model of a run (of a released one its decoder), in the number type that suits the machine."""
    model = run.config.model
    if model.vlm:
        return loading.load(model.vlm).lm()
    return lms.load(model.lm, cast(lms.Init, model.init), run.config.seed)


def open_vlm(run: Run, encoder: Mapping[str, Any]) -> Vlm:
    """The language model of a run behind a freshly drawn projector for the features of this encoder."""
    model, lm = run.config.model, open_lm(run)
    size = (model.encoder_tokens, encoder["width"])
    scale = None
    if model.normalise:
        scale = model.token_scale or lm.token_scale
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.config.seed)
        projector = Projector(model.projector, size, (model.image_tokens, lm.width), model.hidden, scale)
    return Vlm(lm, projector.to(lm.model.device), run.config.data.chat)


def _identity(run: Run) -> dict[str, Any]:
    """The identity of the encoder that the config names, whose grid gives the tokens that are asked for."""
    encoder = encoders.load(run.config.model.encoder, _encoder_device(run))
    bins(encoder.grid, run.config.model.encoder_tokens)
    return encoder.identity


def _encoder_device(run: Run) -> str:
    """That of the config; where it leaves the choice, the CPU for encoders that run nowhere else."""
    model = run.config.model
    return (
        "cpu"
        if model.device == "auto" and model.encoder in encoders.ON_CPU
        else str(devices.resolve(model.device))
    )


def _resolve(run: Run, vlm: Vlm) -> None:
    """Raise where templates, answers or sites that the config names do not exist."""
    data, wanted = run.config.data, run.config.capture
    items.prompts_of(data.task, run.config.evaluate.templates)
    if prompts.FORMATS[data.task].answers:
        answer_tokens(vlm, data.task)
    layout_of(vlm.model).select(wanted.sites)


def _bytes_needed(run: Run, world: prepare.World, vlm: Vlm) -> int:
    """An upper estimate of what training writes: snapshots, a checkpoint, and captures at every step that is named."""
    wanted, train = run.config.capture, run.config.train
    projector = sum(value.nbytes for value in vlm.projector.state_dict().values())
    sites = len(layout_of(vlm.model).select(wanted.sites))
    row = sites * len(wanted.spans) * vlm.lm.width * (4 if wanted.dtype == "float32" else 2)
    captured = len(world.manifests["capture"]) * row * (len(wanted.at) + 1)
    return projector * (len(train.snapshots) + len(wanted.at) + 4) + captured
