"""Census: what a run asks and reads, counted over its own questions; runs that share some share their counting."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from probing.sites import BLOCK_POINTS, EMBED, FINAL, PATTERN, Site, select
from taxogen.models import shapes
from taxogen.models.shapes import LmShape
from taxogen.questions import prompts
from taxogen.questions.items import prompts_of
from taxogen.questions.manifest import Manifest
from taxogen.questions.prompts import FORMATS
from taxogen.runs import prepare
from taxogen.runs.config import Config
from taxogen.runs.config.groups import DataConfig
from taxogen.runs.prepare import Shown
from taxogen.runs.run import Run
from taxogen.stages.counting import Reader, Work, pictures_of, scoring, steps_of_training
from taxogen.stages.planning.counts import Counts
from taxogen.stages.train import total_steps
from taxogen.world import pictures
from taxogen.world.taxonomy import Taxonomy

WORLDS = 8
"""How many worlds are remembered: the runs of a plan come with few at a time."""


@dataclass(frozen=True)
class Captured:
    """What one capture of one modality reads.

    Attributes:
        rows: questions that are captured.
        read: of one.
        vectors: numbers are stored at so many token positions of one, over all spans.
    """

    rows: int
    read: Work
    vectors: int

    def bytes(self, config: Config, lm: LmShape) -> int:
        """What it takes on disk."""
        sites = [Site(EMBED), Site(FINAL)]
        sites += [Site(point, layer) for layer in range(lm.blocks) for point in BLOCK_POINTS]
        widths = {
            "attn.hook_z": lm.heads * lm.head_width,
            "mlp.hook_post": lm.inner,
            PATTERN: lm.heads * int(self.read.tokens),
        }
        numbers = sum(widths.get(site.point, lm.width) for site in select(config.capture.sites, sites))
        return self.rows * self.vectors * numbers * (4 if config.capture.dtype == "float32" else 2)


@dataclass(frozen=True)
class Counted:
    """What a run asks and reads.

    Attributes:
        estimated: whether tokens of words are estimated, for want of the tokenizer or of names.
        pictures: how many, of all splits.
        items: training questions.
        asked: rows of all manifests: training, test, validation.
        steps: of training.
        step: the mean of the steps that were looked at.
        largest: the step among them with most tokens.
        scoring: the work of scoring, and for how many pictures and hypernyms.
        image: the capture of pictures at one step.
        text: the capture of names.
    """

    estimated: bool
    pictures: int
    items: int
    asked: int
    steps: int
    step: Work
    largest: Work
    scoring: tuple[Work, int, int]
    image: Captured
    text: Captured


class Census:
    """Counts runs.

    Args:
        counts: of the world, where its pictures are not to be looked at; names are invented then, and their tokens
            estimated.
    """

    def __init__(self, counts: Counts | None = None) -> None:
        self.counts = counts
        self._collection = lru_cache(WORLDS)(self._read)
        self._asked = lru_cache(WORLDS)(self._drawn)
        self._known: dict[tuple[Any, ...], Counted] = {}

    def count(self, config: Config) -> Counted:
        """The counts of a run; of one that asks and reads the same, those of before.

        Raises:
            ValueError, KeyError, FileNotFoundError: pictures, taxonomy or questions cannot be.
        """
        model = config.model
        tokenizer = None if self.counts else shapes.tokenizer(model.lm)
        read_by = "" if tokenizer is None else model.lm
        decides = (config.data, config.train, config.capture, config.evaluate, config.seed)
        key = (*decides, model.image_tokens, read_by)
        if key not in self._known:
            self._known[key] = self._count(config, Reader(tokenizer, model.image_tokens, config.data.chat))
        return self._known[key]

    def _count(self, config: Config, reader: Reader) -> Counted:
        data = config.data
        evidence = replace(data, ablation="full", fraction=1.0, rule="", held_out=())
        chosen, everything = self._asked(evidence, config.seed)
        train = prepare.without_ablated(config, chosen, everything)
        steps = total_steps(config.train, len(everything) if config.train.match_steps else len(train))
        works = steps_of_training(config, train.frame, reader, steps)
        run = Run(Path(config.name), config)
        tested = (
            pictures_of(chosen, "test", 0)
            + pictures_of(chosen, "validation", 0)
            + len(chosen.taxonomy.leaves)
        )
        closed = bool(FORMATS[data.task].answers)
        return Counted(
            estimated=reader.tokenizer is None,
            pictures=len(chosen.table),
            items=len(train),
            asked=len(train) + tested * (len(chosen.taxonomy.hypernyms) if closed else 1),
            steps=steps,
            step=1 / len(works) * sum(works, Work()),
            largest=max(works, key=lambda work: work.tokens),
            scoring=scoring(run, chosen, reader),
            image=_captured(config, chosen, reader, ""),
            text=_captured(config, chosen, reader, chosen.taxonomy.leaves[0]),
        )

    def _drawn(self, data: DataConfig, seed: int) -> tuple[Shown, Manifest]:
        config = Config(data=data, seed=seed)
        table, taxonomy = self._collection(data.pictures, data.taxonomy)
        chosen = prepare.shown(config, table, taxonomy)
        return chosen, prepare.training_questions(config, chosen)

    def _read(self, collection: str, taxonomy: str) -> tuple[pd.DataFrame, Taxonomy]:
        if self.counts is not None:
            return self.counts.table(), self.counts.taxonomy()
        data = DataConfig(pictures=collection, taxonomy=taxonomy)
        return pictures.load(collection).table, prepare.taxonomy_of(data)


def _captured(config: Config, chosen: Shown, reader: Reader, name: str) -> Captured:
    """The capture of pictures, or of leaves' names where one is given: of closed questions two of each."""
    data, hypernym = config.data, chosen.taxonomy.hypernyms[0]
    prompt = prompts_of(data.task, data.templates)["hypernym"][0]
    modality: prompts.Modality = "text" if name else "image"
    leaf = chosen.taxonomy.leaves[0]
    row = reader.row(prompts.segments(prompt, leaf=leaf, hypernym=hypernym, modality=modality)).prompt
    subjects = (
        len(chosen.taxonomy.leaves) if name else pictures_of(chosen, "test", config.capture.pictures_per_leaf)
    )
    named = (span.partition(":") for span in config.capture.spans)
    vectors = [
        len(row.spans[prompts.span_name(span, modality)]) if pooling == "all" else 1
        for span, _, pooling in named
    ]
    tokens, image = len(row.ids), 0 if name else reader.image_tokens
    read = Work(tokens, image, tokens - image, tokens**2, 0, 0 if name else 1)
    return Captured(subjects * (2 if FORMATS[data.task].answers else 1), read, sum(vectors))
