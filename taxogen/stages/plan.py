"""Plan: what a run will cost, from the shapes in its config and its questions, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from taxogen.models import shapes
from taxogen.models.features import bins
from taxogen.models.projectors import Projector
from taxogen.models.shapes import EncoderShape, LmShape
from taxogen.questions import prompts
from taxogen.runs import prepare
from taxogen.runs.config import Config
from taxogen.runs.run import Run
from taxogen.stages.cards import DTYPES, Card
from taxogen.stages.counting import TOKENS_PER_WORD, Reader, Work, scoring, steps_of_training
from taxogen.stages.train import total_steps


@dataclass(frozen=True)
class Plan:
    """The cost of a run.

    Attributes:
        config: of the run.
        card: planned for.
        lm: sizes of the language model.
        encoder: sizes of the image encoder.
        estimated: whether tokens of words are estimated, for want of the tokenizer.
        pictures: how many, of all splits.
        items: training questions.
        steps: of training.
        step: the mean of the steps that were looked at.
        largest: the step among them with most tokens.
        scoring: the work of scoring, and for how many pictures and hypernyms.
        projector: matrices of the projector as (rows of a picture, inputs, outputs).
    """

    config: Config
    card: Card
    lm: LmShape
    encoder: EncoderShape
    estimated: bool
    pictures: int
    items: int
    steps: int
    step: Work
    largest: Work
    scoring: tuple[Work, int, int]
    projector: tuple[tuple[int, int, int], ...]

    @property
    def dtype(self) -> str:
        """The number type of the language model."""
        return self.card.native if self.config.model.dtype == "auto" else self.config.model.dtype

    @property
    def projector_flops(self) -> float:
        """FLOPs of the projector in a step: forward, to its weights, and to all inputs but the features."""
        products = [2.0 * rows * inputs * outputs for rows, inputs, outputs in self.projector]
        return self.step.pictures * (3 * sum(products) - products[0])

    @property
    def step_flops(self) -> float:
        """FLOPs of a step."""
        return self.step.training(self.lm) + self.projector_flops

    @property
    def step_seconds(self) -> float:
        """Seconds of a step; the projector computes in float32."""
        lm = self.step.training(self.lm) / self.card.rate(self.dtype)
        return lm + self.projector_flops / self.card.rate("float32")

    @property
    def encoder_flops(self) -> float:
        """FLOPs of encoding all pictures, once."""
        return self.pictures * self.encoder.flops

    @property
    def scoring_flops(self) -> float:
        """FLOPs of scoring."""
        return self.scoring[0].forward(self.lm)

    @property
    def bytes(self) -> dict[str, float]:
        """Peak memory of training by its parts."""
        size = DTYPES[self.dtype].itemsize
        work, lm = self.largest, self.lm
        learned = sum(inputs * outputs + outputs for _, inputs, outputs in self.projector)
        mapped = work.pictures * sum(
            rows * (inputs + 2 * outputs) for rows, inputs, outputs in self.projector
        )
        blocks = lm.kept_bytes(work.tokens, work.pairs, size)
        logits = work.outputs * lm.vocabulary * (size + 8)
        return {
            "weights": size * lm.weights,
            "projector": 16 * learned,
            "activations": blocks + logits + 4 * mapped,
        }


def plan(config: Config, card: Card) -> Plan:
    """The cost of a run of a config on a card: pictures and questions are counted, no model is loaded.

    Raises:
        FileNotFoundError: the sizes of the language model or of the encoder are neither known nor on this disk.
        ValueError, KeyError: the config names something that does not exist or cannot be.
    """
    model, run = config.model, Run(Path(config.name), config)
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
    world = prepare.world(run)
    reader = Reader(shapes.tokenizer(model.lm), model.image_tokens, config.data.chat)
    index = {picture: row for row, picture in enumerate(world.table["picture"])}
    rows = [reader.row(prompts.of_item(item), index[item.picture]) for item in world.manifests["train"].items]
    steps = total_steps(config.train, world.asked if config.train.match_steps else len(rows))
    works = steps_of_training(config, rows, steps)
    return Plan(
        config=config,
        card=card,
        lm=lm,
        encoder=encoder,
        estimated=reader.tokenizer is None,
        pictures=len(world.table),
        items=len(rows),
        steps=steps,
        step=1 / len(works) * sum(works, Work()),
        largest=max(works, key=lambda work: work.tokens),
        scoring=scoring(run, world, reader),
        projector=_matrices(config, lm, encoder),
    )


def _matrices(config: Config, lm: LmShape, encoder: EncoderShape) -> tuple[tuple[int, int, int], ...]:
    """The matrices of the projector as (rows of a picture, inputs, outputs)."""
    model = config.model
    with torch.device("meta"):
        size = (model.encoder_tokens, encoder.width)
        projector = Projector(model.projector, size, (model.image_tokens, lm.width), model.hidden, None)
    layers = [layer for layer in projector.modules() if isinstance(layer, nn.Linear)]
    rows = 1 if projector.flat else model.image_tokens
    return tuple((rows, layer.in_features, layer.out_features) for layer in layers)


def text(plan: Plan) -> str:
    """The plan as lines to read."""
    config, card, step, bytes = plan.config, plan.card, plan.step, plan.bytes
    _, pictures, hypernyms = plan.scoring
    guess = (
        f", estimated at {TOKENS_PER_WORD} a word: its tokenizer is not on this disk"
        if plan.estimated
        else ""
    )
    peaks = ", ".join(f"{dtype} {peak / 1e12:.3g}" for dtype, peak in sorted(card.peaks.items()))
    padding = step.tokens - step.image - step.text
    total, memory = sum(bytes.values()), card.memory / 1e9
    features = plan.pictures * config.model.encoder_tokens * plan.encoder.width
    lines = {
        "run": f"{config.name}: {config.model.encoder}, {config.model.projector}, {config.model.lm} in {plan.dtype}",
        "card": f"{card.name}: TFLOP/s {peaks} ({card.about}); {card.share:.2f} of them assumed",
        "items": f"{plan.items:,} training questions about {plan.pictures:,} pictures of all splits",
        "steps": f"{plan.steps:,} of {config.train.batch} items, order {config.train.order}",
        "tokens": f"{step.tokens:,.0f} a step: {step.image:,.0f} of pictures, {step.text:,.0f} of words, "
        f"{padding:,.0f} of padding{guess}",
        "FLOPs": f"{plan.step_flops:.3g} a step, {plan.steps * plan.step_flops:.3g} in training; "
        f"{plan.encoder_flops:.3g} of the encoder; {plan.scoring_flops:.3g} in scoring",
        "encoding": f"{_time(plan.encoder_flops / card.rate('float32'))}, once",
        "training": f"{_time(plan.steps * plan.step_seconds)}, {plan.step_seconds:.3g} s a step",
        "scoring": f"{_time(plan.scoring_flops / card.rate(plan.dtype))} for {pictures:,} pictures × {hypernyms} "
        "hypernyms (without names, thresholds and baselines)",
        "memory": f"{total / 1e9:.2f} GB at the peak of training: "
        + ", ".join(f"{name} {part / 1e9:.2f}" for name, part in bytes.items())
        + (
            f"; {card.name} has {memory:.0f}"
            if total <= card.memory
            else f"; {total / 1e9 - memory:.1f} GB too few"
        ),
        "disk": f"{features * DTYPES[config.model.feature_dtype].itemsize / 1e9:.2f} GB of features",
    }
    return "".join(f"{name:<10}{line}\n" for name, line in lines.items())


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h" if seconds >= 360 else f"{seconds:.0f} s"
