"""What patched runs are made of: prompts of leaves as rows of one length, and the states and answers they lead to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analyses.patching.pairs import first_tokens
from probing.patching import Alignment, Answers, Rows, span_states
from probing.sites import Site
from taxogen.models.vlm import Row, common_prefix
from taxogen.questions.items import prompts_of
from taxogen.questions.manifest import Item, Manifest
from taxogen.runs.bench import Bench

Subject = tuple[str, str]
"""A leaf and the modality in which it is asked about."""

States = dict[tuple[str, str], Tensor]
"""(site, span) → states [subjects, n, ...]."""

_SLOT = {"image": "image", "text": "noun"}


@dataclass(frozen=True)
class Subjects:
    """The prompts about leaves, in pictures and in words, that a model is run on.

    Attributes:
        bench: the run with everything loaded.
        pictures: leaf → the picture that stands for it.
        alignments: span → how its state is read and put elsewhere.
    """

    bench: Bench
    pictures: Mapping[str, str]
    alignments: Mapping[str, Alignment]

    @cached_property
    def tokens(self) -> dict[str, int]:
        """The token by which each leaf, and each hypernym that can be asked about, is read."""
        taxonomy = self.bench.run.taxonomy
        return first_tokens(self.bench.vlm, taxonomy.leaves, taxonomy.hypernyms)

    def candidates(self, question: str) -> list[str]:
        """The names that an answer is read among."""
        known = self.bench.run.taxonomy
        names = known.hypernyms if question == "hypernym" else known.leaves
        return [name for name in names if name in self.tokens]

    def read(self, question: str) -> Answers:
        """Reads the candidates of a question."""
        if question not in self._answers:
            chosen = [self.tokens[name] for name in self.candidates(question)]
            self._answers[question] = Answers.of(self.bench.vlm.model, chosen)
        return self._answers[question]

    @cached_property
    def _answers(self) -> dict[str, Answers]:
        return {}

    def rows(self, question: str, wanted: Sequence[Subject]) -> dict[Subject, Row]:
        """The tokenised prompt of each subject; what all start with is computed once from now on."""
        data = self.bench.run.config.data
        prompt = prompts_of(data.task, data.templates)[question][0]
        items = {}
        for leaf, modality in wanted:
            picture, shown = (self.pictures[leaf], leaf) if modality == "image" else ("", "")
            items[leaf, modality] = Item(question, picture, shown, leaf, "", "", prompt, modality, "test")
        rows = {row.item_id: row.prompt for row in self.bench.rows(Manifest.from_items(items.values()))}
        found = {subject: rows[item.item_id] for subject, item in items.items()}
        self.bench.vlm.use_prefix(common_prefix(list(found.values())))
        return found

    def group(self, rows: Sequence[Row]) -> Rows:
        """Rows of one length as the engine takes them."""
        vlm, spans = self.bench.vlm, dict(rows[0].spans)
        spans["slot"] = spans.pop("image" if rows[0].picture >= 0 else "noun")
        return Rows(
            lambda: _detached(vlm.inputs(rows, self.bench.features)),
            {span: spans[span] for span in self.alignments},
            len(vlm.prefix_ids),
        )

    def states(
        self, question: str, rows: Sequence[Row], sites: Sequence[Site]
    ) -> tuple[States, Float[np.ndarray, "subjects candidates"]]:
        """The states of all rows, of whatever lengths, and what they answer."""
        states: States = {}
        answers = np.zeros((len(rows), len(self.candidates(question))), np.float32)
        for places in of_one_length(rows):
            group = self.group([rows[i] for i in places])
            found, hidden = span_states(self.bench.vlm.model, group, sites, self.alignments)
            for key, value in found.items():
                if key not in states:
                    states[key] = value.new_zeros(len(rows), *value.shape[1:])
                if states[key].shape[1:] != value.shape[1:]:
                    self.alignments[key[1]].check(key[1], value.shape[1], states[key].shape[1])
                states[key][places] = value
            answers[places] = self.read(question)(hidden).numpy()
        return states, answers


def of_one_length(rows: Sequence[Row]) -> list[list[int]]:
    """Places of rows that have the same length and the same spans."""
    groups: dict[object, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault((len(row.ids), tuple(sorted(row.spans.items()))), []).append(place)
    return list(groups.values())


def first_rows(inputs: Mapping[str, object], rows: int) -> dict[str, object]:
    """The inputs of the first few rows, their cache included."""
    few = {name: value[:rows] if isinstance(value, Tensor) else value for name, value in inputs.items()}
    few["past_key_values"].batch_select_indices(torch.arange(min(rows, len(few["inputs_embeds"]))))  # pyright: ignore
    return few


def _detached(inputs: Mapping[str, object]) -> dict[str, object]:
    """Inputs on which no gradient of the projector hangs."""
    return {name: value.detach() if isinstance(value, Tensor) else value for name, value in inputs.items()}
