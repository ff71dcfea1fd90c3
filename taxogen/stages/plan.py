"""Plan: what a run will cost, from the shapes in its config and its questions, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from taxogen.models import shapes
from taxogen.models.features import bins
from taxogen.models.projectors import Projector
from taxogen.models.shapes import EncoderShape, LmShape
from taxogen.runs.config import Config
from taxogen.stages.cards import DTYPES, Card
from taxogen.stages.counting import TOKENS_PER_WORD
from taxogen.stages.planning.census import Census, Counted
from taxogen.stages.train import resolve_steps

A_QUESTION = 94
"""Bytes of a row of a manifest on disk: the mean over those of the preset `study` on the bundled pictures."""


@dataclass(frozen=True)
class Plan:
    """The cost of a run.

    Attributes:
        config: of the run.
        card: planned for.
        lm: sizes of the language model.
        encoder: sizes of the image encoder.
        counted: what the run asks and reads.
        projector: matrices of the projector as (rows of a picture, inputs, outputs).
    """

    config: Config
    card: Card
    lm: LmShape
    encoder: EncoderShape
    counted: Counted
    projector: tuple[tuple[int, int, int], ...]

    @property
    def dtype(self) -> str:
        """The number type of the language model."""
        return self.card.native if self.config.model.dtype == "auto" else self.config.model.dtype

    @property
    def projector_flops(self) -> float:
        """FLOPs of the projector in a step: forward, to its weights, and to all inputs but the features."""
        products = [2.0 * rows * inputs * outputs for rows, inputs, outputs in self.projector]
        return self.counted.step.pictures * (3 * sum(products) - products[0])

    @property
    def step_flops(self) -> float:
        """FLOPs of a step."""
        return self.counted.step.training(self.lm) + self.projector_flops

    @property
    def step_seconds(self) -> float:
        """Seconds of a step; the projector computes in float32."""
        lm = self.counted.step.training(self.lm) / self.card.rate(self.dtype)
        return lm + self.projector_flops / self.card.rate("float32")

    @property
    def encoder_flops(self) -> float:
        """FLOPs of encoding all pictures, once."""
        return self.counted.pictures * self.encoder.flops

    @property
    def scoring_flops(self) -> float:
        """FLOPs of scoring."""
        return self.counted.scoring[0].forward(self.lm)

    @property
    def captures(self) -> int:
        """How many times pictures are captured."""
        return len(resolve_steps(self.config.capture.at, self.counted.steps))

    @property
    def capture_flops(self) -> float:
        """FLOPs of all captures, of pictures and of names."""
        image, text = self.counted.image, self.counted.text
        pictures = self.captures * image.rows * image.read.forward(self.lm)
        return pictures + text.rows * text.read.forward(self.lm)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each stage: `features` (encoding all pictures, once), `train` with captures, `evaluate`."""
        rate = self.card.rate(self.dtype)
        return {
            "features": self.encoder_flops / self.card.rate("float32"),
            "train": self.counted.steps * self.step_seconds + self.capture_flops / rate,
            "evaluate": self.scoring_flops / rate,
        }

    @property
    def learned(self) -> int:
        """Weights of the projector."""
        return sum(inputs * outputs + outputs for _, inputs, outputs in self.projector)

    @cached_property
    def disk(self) -> dict[str, float]:
        """Bytes on disk by their parts; features are shared by runs that read the same."""
        counted, model = self.counted, self.config.model
        steps = counted.steps
        saved = {
            *resolve_steps(self.config.train.snapshots, steps),
            *resolve_steps(self.config.capture.at, steps),
        }
        stored = self.captures * counted.image.bytes(self.config, self.lm)
        width = model.encoder_tokens * self.encoder.width * DTYPES[model.feature_dtype].itemsize
        return {
            "features": counted.pictures * width,
            "projectors": 4 * self.learned * len(saved | {steps}),
            "captures": stored + counted.text.bytes(self.config, self.lm),
            "questions": A_QUESTION * counted.asked,
        }

    @property
    def bytes(self) -> dict[str, float]:
        """Peak memory of training by its parts."""
        size = DTYPES[self.dtype].itemsize
        work, lm = self.counted.largest, self.lm
        mapped = work.pictures * sum(
            rows * (inputs + 2 * outputs) for rows, inputs, outputs in self.projector
        )
        blocks = lm.kept_bytes(work.tokens, work.pairs, size)
        logits = work.outputs * lm.vocabulary * (size + 8)
        return {
            "weights": size * lm.weights,
            "projector": 16 * self.learned,
            "activations": blocks + logits + 4 * mapped,
        }


def plan(config: Config, card: Card, census: Census | None = None) -> Plan:
    """The cost of a run of a config on a card: pictures and questions are counted, no model is loaded.

    Args:
        config: of the run.
        card: on which it is made.
        census: counts the run; one that counted others before is quicker.

    Raises:
        FileNotFoundError: the sizes of the language model or of the encoder are neither known nor on this disk.
        ValueError, KeyError: the config names something that does not exist or cannot be.
    """
    model = config.model
    if model.vlm:
        raise ValueError(
            f"model.vlm={model.vlm} is not trained, and its cost is not planned; `taxoprobe adopt` captures it"
        )
    lm, encoder = shapes.lm_shape(model.lm), shapes.encoder_shape(model.encoder)
    bins(encoder.grid, model.encoder_tokens)
    if model.dtype == "float64":
        raise ValueError(
            "model.dtype=float64 was asked for; no card's peak in it is known: plan with another number type"
        )
    counted = (census or Census()).count(config)
    return Plan(config, card, lm, encoder, counted, _matrices(config, lm, encoder))


def _matrices(config: Config, lm: LmShape, encoder: EncoderShape) -> tuple[tuple[int, int, int], ...]:
    """The matrices of the projector as (rows of a picture, inputs, outputs)."""
    model = config.model
    with torch.device("meta"):
        size = (model.encoder_tokens, encoder.width)
        projector = Projector(model.projector, size, (model.image_tokens, lm.width), model.hidden, None)
    layers = [layer for layer in projector.modules() if isinstance(layer, nn.Linear)]
    rows = 1 if projector.flat else model.image_tokens
    return tuple((rows, layer.in_features, layer.out_features) for layer in layers)


def text(plan: Plan, world: str = "") -> str:
    """The plan as lines to read; `world` says where the numbers of pictures and leaves are from, if not counted."""
    config, card, counted, bytes = plan.config, plan.card, plan.counted, plan.bytes
    step, (_, pictures, hypernyms) = counted.step, counted.scoring
    why = "names are not known" if world else "its tokenizer is not on this disk"
    guess = f", estimated at {TOKENS_PER_WORD} a word: {why}" if counted.estimated else ""
    peaks = ", ".join(f"{dtype} {peak / 1e12:.3g}" for dtype, peak in sorted(card.peaks.items()))
    padding = step.tokens - step.image - step.text
    total, memory, seconds = sum(bytes.values()), card.memory / 1e9, plan.seconds
    room = (
        f"{card.name} has {memory:.0f}" if total <= card.memory else f"{total / 1e9 - memory:.1f} GB too few"
    )
    lines = {
        "run": f"{config.name}: {config.model.encoder}, {config.model.projector}, {config.model.lm} in {plan.dtype}",
        "card": f"{card.name}: TFLOP/s {peaks} ({card.about}); {card.share:.2f} of them assumed",
        "world": f"{world}, as stated" if world else "",
        "items": f"{counted.items:,} training questions about {counted.pictures:,} pictures of all splits",
        "steps": f"{counted.steps:,} of {config.train.batch} items, order {config.train.order}",
        "tokens": f"{step.tokens:,.0f} a step: {step.image:,.0f} of pictures, {step.text:,.0f} of words, "
        f"{padding:,.0f} of padding{guess}",
        "FLOPs": f"{plan.step_flops:.3g} a step, {counted.steps * plan.step_flops:.3g} in training; "
        f"{plan.encoder_flops:.3g} of the encoder; {plan.scoring_flops:.3g} in scoring; "
        f"{plan.capture_flops:.3g} in captures",
        "encoding": f"{duration(seconds['features'])}, once",
        "training": f"{duration(seconds['train'])} with captures, {plan.step_seconds:.3g} s a step",
        "scoring": f"{duration(seconds['evaluate'])} for {pictures:,} pictures × {hypernyms} hypernyms, and names "
        "(without probes as baselines)",
        "memory": f"{total / 1e9:.2f} GB at the peak of training: "
        + ", ".join(f"{name} {part / 1e9:.2f}" for name, part in bytes.items())
        + f"; {room}",
        "disk": ", ".join(f"{part / 1e9:.2f} GB of {name}" for name, part in plan.disk.items()),
    }
    return "".join(f"{name:<10}{line}\n" for name, line in lines.items() if line)


def duration(seconds: float) -> str:
    """A time in seconds, or from six minutes on in hours."""
    return f"{seconds / 3600:,.2f} h" if seconds >= 360 else f"{seconds:.0f} s"
