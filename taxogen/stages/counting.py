"""Counting: the tokens, pairs and outputs of training steps and of scoring, from a run's own questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import cast
from zlib import crc32

import numpy as np
from transformers import PreTrainedTokenizerBase

from taxogen.answers.evaluate import templates_of
from taxogen.answers.readout import common_start
from taxogen.models import lms
from taxogen.models.packing import Layout, smallest
from taxogen.models.rows import IMAGE, Row, Speller, common_prefix
from taxogen.models.shapes import LmShape
from taxogen.questions import prompts
from taxogen.questions.prompts import Segments
from taxogen.runs import prepare
from taxogen.runs.config import Config
from taxogen.runs.run import Run
from taxogen.stages.train import batch_indices, subjects

STEPS_LOOKED_AT = 32
TOKENS_PER_WORD = 1.3


@dataclass(frozen=True)
class Work:
    """What the language model reads in some steps of training, or in scoring.

    Attributes:
        tokens: all that it computes, padding included.
        image: image tokens among them.
        text: tokens of words among them.
        pairs: of tokens that attention multiplies.
        outputs: tokens after which the output matrix is applied.
        pictures: that the projector maps.
    """

    tokens: float = 0
    image: float = 0
    text: float = 0
    pairs: float = 0
    outputs: float = 0
    pictures: float = 0

    def forward(self, lm: LmShape) -> float:
        """FLOPs of reading it once."""
        products = 2.0 * lm.in_blocks * self.tokens + 2.0 * lm.vocabulary * lm.width * self.outputs
        return products + lm.attention(self.pairs)

    def training(self, lm: LmShape) -> float:
        """FLOPs of reading it and of the way back to the inputs: weights are frozen, attention has none."""
        products = 2.0 * lm.in_blocks * self.tokens + 2.0 * lm.vocabulary * lm.width * self.outputs
        return 2 * products + 3 * lm.attention(self.pairs)

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __rmul__(self, factor: float) -> Work:
        return Work(*(factor * getattr(self, field.name) for field in fields(self)))


@dataclass(frozen=True)
class Reader:
    """Prompts as rows of tokens: with the tokenizer as in training, or estimated without one.

    Attributes:
        tokenizer: of the language model; None: every word stands for `TOKENS_PER_WORD` tokens.
        image_tokens: of a picture.
        chat: whether prompts stand in the chat template; one that is not known adds no tokens.
    """

    tokenizer: PreTrainedTokenizerBase | None
    image_tokens: int
    chat: bool

    @cached_property
    def _speller(self) -> Speller:
        known, start, end = self.tokenizer, None, 0
        if known is not None:
            start = None if self.chat else lms.start_token_id(known)
            end = cast(int | None, known.eos_token_id)
        return Speller(self._tokens, () if start is None else (start,), end, self.image_tokens)

    def row(self, segments: Segments, picture: int = -1) -> Row:
        """A prompt and its answer."""
        if self.chat:
            known = self.tokenizer
            segments = replace(segments, end="") if known is None else prompts.in_chat(segments, known)
        return self._speller.row("", segments, picture)

    def _tokens(self, text: str) -> tuple[int, ...]:
        if self.tokenizer is None:
            return guessed(text)
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids) if text else ()


def guessed(text: str) -> tuple[int, ...]:
    """Ids that stand for the tokens of a text: 1.3 a word, the same words at the same place the same ids."""
    words = text.split()
    ends = [math.ceil(TOKENS_PER_WORD * (at + 1) - 1e-9) for at in range(len(words))]
    counts = np.diff([0, *ends])
    return tuple(
        crc32(word.encode()) + part
        for word, count in zip(words, counts, strict=True)
        for part in range(count)
    )


def steps_of_training(config: Config, rows: Sequence[Row], steps: int) -> list[Work]:
    """The work of steps over the whole of training: of all, or of some at even distances."""
    together, prefix = subjects(rows, config.train.order), len(common_prefix(rows))
    chosen = sorted({round(at) for at in np.linspace(0, steps - 1, min(steps, STEPS_LOOKED_AT))})
    works = []
    for step in chosen:
        batch = [rows[at] for at in batch_indices(together, config.train.batch, step, config.seed)]
        read = [row.without_last for row in batch]
        layout = smallest(read, prefix, lambda: True)
        works.append(_work(layout, batch, prefix))
    return works


def _work(layout: Layout, batch: Sequence[Row], prefix: int) -> Work:
    lines, width = layout.ids.shape
    image = int((layout.ids == IMAGE).sum())
    real = sum(
        len({column for at, own in layout.places if at == line for column in own}) for line in range(lines)
    )
    return Work(
        tokens=lines * width,
        image=image,
        text=real - image,
        pairs=lines * width * (width + prefix),
        outputs=sum(len(row.ids) - row.answer for row in batch),
        pictures=len(layout.pictures),
    )


def scoring(run: Run, world: prepare.World, reader: Reader) -> tuple[Work, int, int]:
    """The work of scoring test pictures × hypernyms with all templates, and their numbers.

    A picture's questions share what they begin with. Names, validation pictures and baselines are not counted.
    """
    config, hypernyms = run.config, world.taxonomy.hypernyms
    frame = world.manifests["test"].where(modality="image").frame.astype(str).drop_duplicates("picture")
    shown = len(prepare.few_per_leaf(frame, config.evaluate.pictures_per_leaf, config.seed))
    total, templates = Work(), templates_of(run)["hypernym"]
    for prompt in templates:
        asked = [reader.row(prompts.segments(prompt, leaf=name, hypernym=name)) for name in hypernyms]
        if prompts.template(prompt).answers:
            questions = [row.prompt.ids for row in asked]
            shared = len(common_start(questions))
            rests, outputs = [len(ids) - shared for ids in questions], len(hypernyms)
        else:
            shared, rests = asked[0].answer, [len(row.ids) - row.answer - 1 for row in asked]
            outputs = 1 + sum(rests)
        pairs = shared**2 + sum(rest * (shared + rest) for rest in rests)
        tokens = shared + sum(rests)
        total += Work(tokens, reader.image_tokens, tokens - reader.image_tokens, pairs, outputs, 1)
    return shown * total, shown, len(hypernyms)
