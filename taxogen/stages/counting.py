"""Counting: the tokens, pairs and outputs of training steps and of scoring, from a run's own questions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import cast
from zlib import crc32

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from taxogen.answers.completion import BASELINE_PICTURES, BEAM
from taxogen.answers.evaluate import templates_of
from taxogen.answers.readout import common_start
from taxogen.models import lms
from taxogen.models.packing import Layout, smallest
from taxogen.models.rows import IMAGE, Row, Speller, common_prefix
from taxogen.models.shapes import LmShape
from taxogen.questions import prompts
from taxogen.questions.manifest import FIELDS, Item
from taxogen.questions.prompts import Modality, Segments
from taxogen.runs.config import Config
from taxogen.runs.prepare import Shown
from taxogen.runs.run import Run
from taxogen.stages.train import batch_indices

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

    def rows(self, frame: pd.DataFrame, pictures: Mapping[str, int]) -> list[Row]:
        """The items of a manifest's frame; `pictures` has the number of each."""
        items = [
            Item(*values) for values in frame[list(FIELDS)].astype(str).itertuples(index=False, name=None)
        ]
        return [self.row(prompts.of_item(item), pictures.get(item.picture, -1)) for item in items]

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


def steps_of_training(config: Config, frame: pd.DataFrame, reader: Reader, steps: int) -> list[Work]:
    """The work of steps over the whole of training: of all, or of some at even distances, whose rows alone are read.

    Args:
        config: of the run.
        frame: of its training manifest.
        reader: makes rows of items.
        steps: of training.
    """
    numbers, names = pd.factorize(frame["picture"].astype(str))
    pictures = {name: number for number, name in enumerate(names)}
    together = np.arange(len(frame)) if config.train.order == "items" else numbers
    firsts = reader.rows(
        frame.drop_duplicates(["task", "prompt"]), pictures
    )  # no noun stands before a picture
    prefix = len(common_prefix(firsts))
    chosen = sorted({round(at) for at in np.linspace(0, steps - 1, min(steps, STEPS_LOOKED_AT))})
    works = []
    for step in chosen:
        at = batch_indices(together, config.train.batch, step, config.seed)
        batch = reader.rows(frame.iloc[at], pictures)
        layout = smallest([row.without_last for row in batch], prefix, lambda: True)
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


def scoring(run: Run, chosen: Shown, reader: Reader) -> tuple[Work, int, int]:
    """The work of scoring, and the numbers of test pictures and hypernyms.

    Each test picture and each leaf's name is asked about every hypernym, with all templates, and each picture for its
    name among a few; completions are compared with those of some training pictures, and named among the nearest leaves
    too; closed questions are put to validation pictures. What a subject's questions begin with is read once.
    """
    config, templates = run.config, templates_of(run)
    hypernyms, leaves = chosen.taxonomy.hypernyms, chosen.taxonomy.leaves
    shown = pictures_of(chosen, "test", config.evaluate.pictures_per_leaf)
    closed = bool(prompts.FORMATS[config.data.task].answers)
    most = config.evaluate.pictures_per_leaf
    beside, of_names = (min(BASELINE_PICTURES[kind], len(leaves)) for kind in ("hypernym", "leaf"))
    more = pictures_of(chosen, "validation", most) if closed else beside
    total = Work()
    for prompt in templates["hypernym"]:
        total += (shown + more) * _asked(reader, prompt, hypernyms)
        total += len(leaves) * _asked(reader, prompt, hypernyms, leaves[0])
    for prompt in templates["leaf"]:
        total += shown * _asked(reader, prompt, leaves[: config.evaluate.leaf_choices])
        if not closed:
            total += shown * _asked(reader, prompt, leaves[:BEAM])
            total += of_names * (_asked(reader, prompt, leaves) + _asked(reader, prompt, leaves[:1]))
    return total, shown, len(hypernyms)


def pictures_of(chosen: Shown, split: str, most: int) -> int:
    """How many pictures of a split are asked about, at most so many of each leaf (0: all)."""
    counts = chosen.table.loc[chosen.table["split"] == split, "leaf"].value_counts()
    return int((counts.clip(upper=most) if most else counts).sum())


def _asked(reader: Reader, prompt: str, nouns: Sequence[str], name: str = "") -> Work:
    """The work of asking about some nouns: a picture, or the name that stands in its place."""
    modality: Modality = "text" if name else "image"
    closed = bool(prompts.template(prompt).answers)
    asked = [
        reader.row(
            prompts.segments(
                prompt,
                leaf=name or noun,
                hypernym=noun,
                asked=noun if closed else "",
                modality=modality,
            )
        )
        for noun in nouns
    ]
    if closed:
        questions = [row.prompt.ids for row in asked]
        shared = len(common_start(questions))
        rests, outputs = [len(ids) - shared for ids in questions], len(nouns)
    else:
        shared, rests = asked[0].answer, [len(row.ids) - row.answer - 1 for row in asked]
        outputs = 1 + sum(rests)
    prefix = min(asked[0].spans[prompts.span_name("slot", modality)])  # is read once for all
    pairs = (shared - prefix) * shared + sum(rest * (shared + rest) for rest in rests)
    tokens, image = shared - prefix + sum(rests), 0 if name else reader.image_tokens
    return Work(tokens, image, tokens - image, pairs, outputs, 0 if name else 1)
