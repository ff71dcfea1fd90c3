"""Likeness: whether an exported checkpoint, loaded as anyone loads it, gives the logits of its run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from probing.store import MismatchError
from taxogen.exchange.wording import ids_with, spelling
from taxogen.models import weights
from taxogen.models.encoders import Encoder
from taxogen.models.rows import Row
from taxogen.questions import prompts
from taxogen.questions.prompts import Segments
from taxogen.runs.bench import Bench

PICTURES = 2
"""Test pictures that the questions are about."""
WORST = 1e-3
"""Of the largest logit; rounding in float32 stays far below it, a lost scale or another mask far above."""


@dataclass(frozen=True)
class Sample:
    """A few questions of a run about a few pictures, and what the run computes of them.

    Attributes:
        asked: template → the texts of its question.
        rows: template → its row.
        pictures: RGB.
        logits: template → for each picture, next-token logits behind it: at the text up to the answer.
        start: the id of the token that rows begin with, or None.
    """

    asked: dict[str, Segments]
    rows: dict[str, Row]
    pictures: Sequence[Image.Image]
    logits: dict[str, list[Tensor]]
    start: int | None


def sample(bench: Bench, encoder: Encoder) -> Sample:
    """The question of every template of a run about the first leaf or hypernym, about some test pictures.

    Args:
        bench: its model in float32, with the projector that is meant.
        encoder: that of the run.
    """
    vlm, table, taxonomy = bench.vlm, bench.world.table, bench.world.taxonomy
    manifests = bench.world.manifests.values()
    names = {name for manifest in manifests for name in manifest.frame["prompt"].astype(str)}
    names |= {*bench.run.config.evaluate.templates}
    leaf, hypernym = taxonomy.leaves[0], taxonomy.hypernyms[0]
    segments = {name: prompts.segments(name, leaf=leaf, hypernym=hypernym) for name in sorted(names)}
    asked = {name: vlm.worded(one) for name, one in segments.items()}
    rows = {name: vlm.row(name, one, 0).prompt for name, one in segments.items()}
    chosen = table["picture"][table["split"] == "test"].iloc[:PICTURES]
    pictures = [bench.world.pictures.open(picture) for picture in chosen]
    values = encoder.encode(pictures)
    standardiser = bench.features.standardiser
    features = torch.from_numpy(values if standardiser is None else standardiser(values))
    vlm.use_prefix(())
    with torch.no_grad():
        logits = {
            name: [vlm.logits(vlm.hidden([row], one[None])[0][0, list(row.spans["cue"])]) for one in features]
            for name, row in rows.items()
        }
    return Sample(asked, rows, pictures, logits, None if vlm.chat else vlm.lm.start_token_id)


def difference(sample: Sample, folder: Path, image: int) -> tuple[float, dict[str, str | None]]:
    """The largest difference from a checkpoint's logits, in units of the largest, and the text of each question.

    Args:
        sample: of the run.
        folder: of the checkpoint.
        image: the id of its image token.

    Raises:
        MismatchError: the difference is more than rounding.
    """
    model, processor = loaded(folder)
    pixels = processor.image_processor(images=list(sample.pictures), return_tensors="pt")["pixel_values"]
    worst = largest = 0.0
    for name, row in sample.rows.items():
        ids = torch.tensor([ids_with(row, image)])
        for at, expected in enumerate(sample.logits[name]):
            with torch.inference_mode():
                logits = model(input_ids=ids, pixel_values=pixels[at : at + 1]).logits[
                    0, list(row.spans["cue"])
                ]
            worst = max(worst, (logits[:, : expected.shape[1]] - expected).abs().max().item())
            largest = max(largest, expected.abs().max().item())
    if not worst <= WORST * largest:
        raise MismatchError(
            f"the LLaVA that was written gives other logits than the run (by {worst:.2g}, the largest is "
            f"{largest:.2g}): transformers' LLaVA does not compute what {type(model.model.language_model).__name__} "
            "has beside its blocks, such as a cap or a bias of the logits; train a run with another model.lm"
        )
    return worst / largest, {
        name: spelling(processor, row, sample.asked[name], sample.start, image)
        for name, row in sample.rows.items()
    }


def loaded(folder: Path) -> tuple[Any, Any]:
    """Model (float32) and processor of a checkpoint, by transformers' auto classes."""
    with weights.fetching("checkpoint", str(folder), "smollm2-135m"):
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        return model, AutoProcessor.from_pretrained(folder, backend="pil")
