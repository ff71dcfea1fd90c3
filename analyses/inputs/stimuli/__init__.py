"""Stimuli: the prompts about leaves that patched runs are made of, and the states and answers they lead to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from analyses.inputs.subject import Subject
from probing.patching import Alignment, Answers, Rows, span_states
from probing.sites import Site
from probing.stats.seeding import stream
from taxogen.models.rows import Row
from taxogen.runs.run import Run

Stimulus = tuple[str, str]
"""A leaf and the modality in which it is asked about."""

States = dict[tuple[str, str], Tensor]
"""(site, span) → states [stimuli, n, ...]."""


@dataclass(frozen=True)
class Stimuli:
    """The prompts about leaves, in pictures and in words, that a model is run on.

    Attributes:
        subject: the model, with the questions that its run puts.
        pictures: leaf → the picture that stands for it.
        alignments: span → how its state is read and put elsewhere.
    """

    subject: Subject
    pictures: Mapping[str, str]
    alignments: Mapping[str, Alignment]

    @property
    def model(self) -> nn.Module:
        """The language model."""
        return self.subject.bench.vlm.model

    def tokens(self, question: str) -> Int[np.ndarray, " answers"]:
        """The tokens between which an answer is read, each once: names that begin alike are one answer."""
        tokens = self.subject.candidates(question).tokens.tolist()
        return np.array(list(dict.fromkeys(tokens)))

    def answers_of(self, question: str, names: Iterable[str]) -> Bool[np.ndarray, "names answers"]:
        """Which answer each name is read as."""
        token_of = self.subject.candidates(question).token_of
        return np.array([token_of[name] for name in names])[:, None] == self.tokens(question)

    def read(self, question: str) -> Answers:
        """Reads the answers to a question."""
        if question not in self._read:
            self._read[question] = Answers.of(self.model, self.tokens(question).tolist())
        return self._read[question]

    @cached_property
    def _read(self) -> dict[str, Answers]:
        return {}

    def reading(self, question: str) -> dict[str, Any]:
        """How the question is put and read, where that is not the usual way; parts on disk are named by it too.

        Empty where the wording is the usual one, hypernyms are one token each, and no two leaves begin alike.
        """
        subject, names = self.subject, self.subject.candidates(question).names
        if question == "hypernym":
            usual = all(len(subject.answer(question, name)) == 1 for name in names)
        else:
            usual = len(self.tokens(question)) == len(names)
        return {**subject.wording, **({} if usual else {"tokens": self.tokens(question).tolist()})}

    def rows(self, question: str, stimuli: Sequence[Stimulus]) -> dict[Stimulus, Row]:
        """The tokenised prompt of each stimulus; what all start with is computed once from now on."""
        rows = {
            (leaf, modality): self.subject.row(
                question, leaf, self.pictures[leaf] if modality == "image" else ""
            )
            for leaf, modality in stimuli
        }
        self.subject.share_prefix(list(rows.values()))
        return rows

    def group(self, rows: Sequence[Row]) -> Rows:
        """Rows of one length as the engine takes them."""
        return self.subject.group(rows)

    def states(
        self, question: str, rows: Sequence[Row], sites: Sequence[Site]
    ) -> tuple[States, Float[np.ndarray, "stimuli answers"]]:
        """The states of all rows, of whatever lengths, and the logits of their answers."""
        states: States = {}
        answers = np.zeros((len(rows), len(self.tokens(question))), np.float32)
        for places in of_one_length(rows):
            group = self.group([rows[i] for i in places])
            part, hidden = span_states(self.model, group, sites, self.alignments)
            for key, value in part.items():
                if key not in states:
                    states[key] = value.new_zeros(len(rows), *value.shape[1:])
                if states[key].shape[1:] != value.shape[1:]:
                    self.alignments[key[1]].check(key[1], value.shape[1], states[key].shape[1])
                states[key][places] = value
            answers[places] = self.read(question)(hidden).numpy()
        return states, answers


def pictures_of(run: Run, seed: int) -> dict[str, str]:
    """One test picture of each leaf, a seeded draw."""
    frame = run.manifest("test").where(modality="image").frame.astype(str)
    shown = frame.drop_duplicates("picture").sort_values("picture").groupby("leaf", sort=True)["picture"]
    return {
        str(leaf): str(stream(seed, "patched picture", str(leaf)).choice(names.to_numpy()))
        for leaf, names in shown
    }


def of_one_length(rows: Sequence[Row]) -> list[list[int]]:
    """Places of rows that have the same length and the same spans."""
    groups: dict[object, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault((len(row.ids), tuple(sorted(row.spans.items()))), []).append(place)
    return list(groups.values())


def first_rows(inputs: Mapping[str, object], rows: int) -> dict[str, object]:
    """The inputs of the first few rows, their cache included."""
    few = {name: _first(value, rows, name) for name, value in inputs.items()}
    few["past_key_values"].batch_select_indices(torch.arange(min(rows, len(few["inputs_embeds"]))))  # pyright: ignore
    return few


def _first(value: object, rows: int, name: str) -> object:
    if isinstance(value, Mapping):
        return {key: _first(part, rows, name) for key, part in value.items()}
    if not isinstance(value, Tensor):
        return value
    return value[:, :rows] if name == "position_ids" and value.ndim == 3 else value[:rows]
