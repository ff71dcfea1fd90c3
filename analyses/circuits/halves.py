"""Halves: the hypernym question about one half of the leaves, in pictures or words, and what parts are replaced by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from analyses.inputs.span_states import fold_of_leaves
from analyses.inputs.subject import Question, Subject, draw_leaves, shown_pictures
from probing.patching import Answers, Restart, keep
from probing.patching.circuits import Ablation, attribute_parts, outputs, resampled
from probing.stats.seeding import stream
from taxogen.models.rows import Row

WORDS = {"text": "words", "image": "pictures"}
"""Modality → what a reader is told that the question is asked with."""
MODALITIES = tuple(WORDS)
TASK = "hypernym"
Role = tuple[str, int]


@dataclass(frozen=True)
class Half:
    """The question about some leaves, in groups of prompts of one length.

    Attributes:
        groups: one question for each length.
        pooled: whether the tokens of slots of several lengths share one mean.
    """

    groups: tuple[Question, ...]
    pooled: bool

    @property
    def leaves(self) -> np.ndarray:
        """The leaves of all groups, in their order."""
        return np.concatenate([group.leaves for group in self.groups])

    @property
    def model(self) -> nn.Module:
        """The language model."""
        return self.groups[0].restart.model

    @cached_property
    def means(self) -> dict[tuple[str, Role], Tensor]:
        """(site, role of a token) → the mean output over these leaves."""
        sums: dict[tuple[str, Role], tuple[Tensor, int]] = {}
        for group in self.groups:
            roles = _roles(group, self.pooled)
            for site, value in outputs(self.model, group.clean.rows).items():
                for at, role in enumerate(roles):
                    total, count = sums.get((site, role), (torch.zeros_like(value[0, 0]), 0))
                    sums[site, role] = (total + value[:, at].sum(0), count + len(value))
        return {key: total / count for key, (total, count) in sums.items()}

    def ablations(self, source: Half, how: str, seed: int) -> list[Ablation]:
        """For each group its ablation: by the means over the leaves of a source, or by other leaves of the group."""
        return [Ablation(group.restart, self._reference(group, source, how, seed)) for group in self.groups]

    def _reference(self, group: Question, source: Half, how: str, seed: int) -> dict[str, Tensor]:
        if how == "resample":
            return resampled(outputs(self.model, group.clean.rows), donors(group, seed))
        sites = dict.fromkeys(site for site, _ in source.means)
        roles = _roles(group, self.pooled)
        return {site: torch.stack([source.means[site, role] for role in roles])[None] for site in sites}

    def contributions(
        self, ablations: Sequence[Ablation], steps: int, intact: Bool[np.ndarray, " parts"] | None = None
    ) -> Float[np.ndarray, "parts leaves"]:
        """How much each part adds to the log-odds of each leaf's right names, in nats."""
        return np.concatenate(
            [
                attribute_parts(
                    self.model,
                    group.clean.rows,
                    ablation.reference,
                    _log_odds(group),
                    steps=steps,
                    intact=intact,
                )
                for group, ablation in zip(self.groups, ablations)
            ],
            axis=1,
        )

    def margins(self, answers: Callable[[int, Question], Tensor]) -> Float[np.ndarray, "sets leaves"]:
        """Log-odds of the right names of each leaf, from the logits of each group's runs."""
        levels = [
            group.margin(answers(at, group).double().cpu().numpy()) for at, group in enumerate(self.groups)
        ]
        return np.concatenate(levels, axis=-1)


def halves_of(subject: Subject, count: int, how: str, seed: int) -> dict[tuple[str, int], Half]:
    """(modality, half) → the question about that half of the leaves, hypernyms spread over both halves.

    A leaf takes part where a right hypernym can be read; for resampling also where another noun of its half has as many
    tokens.

    Raises:
        ValueError: fewer than two leaves in a half.
    """
    shown = shown_pictures(subject.run, draw_leaves(subject.run, count, seed))
    shown = shown[subject.own(TASK, shown["leaf"].to_numpy().astype(str)).any(1)].reset_index(drop=True)
    leaves = shown["leaf"].to_numpy().astype(str)
    half = (
        fold_of_leaves(subject.run.taxonomy, leaves, 2, seed)
        if len(leaves) > 1
        else np.zeros(len(leaves), int)
    )
    words = [subject.row(TASK, leaf) for leaf in leaves]
    if how == "resample":
        size = pd.Series(list(zip(half.tolist(), (len(row.ids) for row in words))))
        stays = size.map(size.value_counts()).to_numpy() > 1
        shown, half = shown[stays].reset_index(drop=True), half[stays]
        words, leaves = [row for row, one in zip(words, stays) if one], leaves[stays]
    if (sizes := np.bincount(half, minlength=2)).min() < 2:
        raise ValueError(
            f"a half of the leaves has {sizes.min()} that can be asked about; at least 2 are needed: raise --leaves"
        )
    pictures = [subject.row(TASK, leaf, picture) for picture, leaf in zip(shown["picture"], leaves)]
    subject.share_prefix([*words, *pictures])  # once for all: rows keep the prefix that they were made with
    return {
        (modality, side): _half(subject, rows, leaves, np.flatnonzero(half == side), modality)
        for modality, rows in zip(MODALITIES, (words, pictures))
        for side in (0, 1)
    }


def donors(group: Question, seed: int) -> list[int]:
    """For each row another one whose output takes the place of its own: of no common hypernym, where there is one."""
    chosen = []
    for row, leaf in enumerate(group.leaves):
        order = stream(seed, "donor", str(leaf)).permutation(len(group))
        others = [int(one) for one in order if one != row]
        apart = [one for one in others if not (group.own[one] & group.own[row]).any()]
        chosen.append((apart or others)[0])
    return chosen


def _half(subject: Subject, rows: Sequence[Row], leaves: np.ndarray, at: np.ndarray, modality: str) -> Half:
    lengths = np.array([len(row.ids) for row in rows])[at]
    places = [at[lengths == length] for length in sorted(set(lengths.tolist()))]
    groups = tuple(_question(subject, [rows[one] for one in place], leaves[place]) for place in places)
    return Half(groups, pooled=modality == "text")


def _question(subject: Subject, rows: Sequence[Row], leaves: np.ndarray) -> Question:
    """The question about leaves whose prompts have one length; "cue" is the cue without the token that answers."""
    model, candidates = subject.bench.vlm.model, subject.candidates(TASK)
    group = subject.group(rows)
    spans = {**group.spans, "cue": tuple(one for one in group.spans["cue"] if one not in group.spans["last"])}
    clean = keep(model, replace(group, spans=spans))
    read = Answers.of(model, candidates.tokens.tolist())
    return Question(TASK, candidates, leaves, subject.own(TASK, leaves), clean, Restart(model, clean), read)


def _log_odds(group: Question) -> Callable[[Tensor], Tensor]:
    """From last hidden states to the margin of each row, as `Question.margin` takes it."""
    right, wrong = group.own, ~group.own & ~group.alike
    weights = right / right.sum(1, keepdims=True) - wrong / np.maximum(wrong.sum(1, keepdims=True), 1)
    return lambda hidden: (group.read(hidden) * torch.from_numpy(weights).to(hidden).float()).sum(-1)


def _roles(group: Question, pooled: bool) -> list[Role]:
    """What each token after the prefix is: so far before the slot, in it, or so far behind it."""
    slot = group.positions("slot")
    first, last = slot[0], slot[-1]
    return [
        ("before", at)
        if at < first
        else ("behind", at - last)
        if at > last
        else ("slot", 0 if pooled else at - first)
        for at in range(group.clean.hidden.shape[1])
    ]
