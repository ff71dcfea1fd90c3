"""Bench: a run with everything loaded that is needed to train, score or capture it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from taxogen.models import lms
from taxogen.models.features import PictureStandardizer, features
from taxogen.models.projectors import Projector
from taxogen.models.vlm import Row, Vlm, answer_tokens
from taxogen.questions import prompts
from taxogen.questions.manifest import Manifest
from taxogen.runs import prepare
from taxogen.runs.run import Run


@dataclass
class Bench:
    """A run with everything loaded that its stages work on.

    Attributes:
        run: where things are written.
        world: pictures, names and manifests.
        features: standardised encoder features of all pictures of the world's table, [pictures, tokens, width].
        vlm: the frozen language model and the projector.
    """

    run: Run
    world: prepare.World
    features: Tensor
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


def prepare_run(run: Run) -> tuple[prepare.World, Tensor]:
    """The run's world and the standardised features of its pictures; writes manifests, and features not cached yet."""
    world, model = prepare.world(run), run.config.model
    prepare.write(run, world)
    values = features(
        world.pictures, model.encoder, tokens=model.encoder_tokens, names=world.table["picture"].tolist()
    )
    standardiser = PictureStandardizer.fit(values[(world.table["split"] == "train").to_numpy()])
    return world, torch.from_numpy(standardiser(values))


def open_bench(run: Run) -> Bench:
    """The run with its pictures prepared, its language model loaded and a freshly drawn projector.

    The projector's init follows the run's seed; nothing else draws from it.

    Raises:
        ValueError: the tokenizer does not distinguish the answers of the run's questions.
    """
    world, values = prepare_run(run)
    model, lm = run.config.model, open_lm(run)
    scale = cast(nn.Embedding, lm.model.get_input_embeddings()).weight.float().std().item()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.config.seed)
        size = (values.shape[1], values.shape[2])
        projector = Projector(model.projector, size, (model.image_tokens, lm.width), model.hidden, scale)
    vlm = Vlm(lm, projector, run.config.data.chat)
    if prompts.FORMATS[run.config.data.task].answers:
        answer_tokens(vlm, run.config.data.task)  # refuses before anything is trained
    return Bench(run, world, values, vlm)


def open_lm(run: Run) -> lms.LM:
    """The frozen language model of a run."""
    model = run.config.model
    dtype = "native" if model.dtype == "auto" else getattr(torch, model.dtype)
    return lms.load(model.lm, init=cast(lms.Init, model.init), seed=run.config.seed, dtype=dtype)
