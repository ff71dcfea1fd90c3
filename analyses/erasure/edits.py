"""Edits of a span behind a layer: the questions they are tried on, the pass with edited states, and its read-outs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float

from analyses.inputs.span_states import SpanAtLayer, SpanStates, exchanged, post
from analyses.inputs.subject import Question, mean_logit
from probing.patching.cells import Patch
from probing.patching.outcomes import divergence
from probing.stats.seeding import stream
from taxogen.world.taxonomy import Taxonomy

States = Float[np.ndarray, "rows k d"]
CONTROLS = ("random", "shuffled")
"""A random direction, and one of labels that are exchanged among leaves."""
MATCHES = ("rank", "length", "kl")
"""In what controls equal an edit: its rank, how long its change is, how far it moves the answers (mean divergence)."""


@dataclass(frozen=True)
class EditInputs:
    """What edits are fitted on and tried on.

    Attributes:
        questions: of each task, about one picture of each drawn leaf.
        states: of each task, of all captured leaves: erasers and directions are fitted on them.
        taxonomy: of the run.
        hypernyms: which are erased, or steered towards.
        fold: of the pictures asked about; what is done to them is fitted on the other folds.
        shrinkage: of covariances.
        seed: of controls.
        controls: draws of each control.
        matches: in what controls equal the edit: "rank", "length" or "kl".
    """

    questions: Mapping[str, Question]
    states: Mapping[str, SpanStates]
    taxonomy: Taxonomy
    hypernyms: tuple[str, ...]
    fold: np.ndarray
    shrinkage: float
    seed: int
    controls: int
    matches: tuple[str, ...] = ("rank",)

    def members(self, leaves: np.ndarray, hypernym: str) -> Bool[np.ndarray, " leaves"]:
        """Which of these leaves are under the hypernym."""
        return np.isin(leaves, self.taxonomy.leaves_of(hypernym))

    def labels(self, hypernym: str, draw: int | None = None) -> dict[str, bool]:
        """Which captured leaf is under the hypernym; of a draw, with labels exchanged among the leaves of a fold."""
        states = next(iter(self.states.values()))
        fold_of = dict(zip(states.leaves.tolist(), states.fold.tolist()))
        leaves = np.array(sorted(fold_of))
        labels = dict(zip(leaves.tolist(), self.members(leaves, hypernym).tolist()))
        return labels if draw is None else exchanged(labels, fold_of, hypernym, str(draw), seed=self.seed)

    def overlapping(self, hypernym: str) -> tuple[str, ...]:
        """Hypernyms that share a leaf with this one, itself among them."""
        leaves = set(self.taxonomy.leaves_of(hypernym))
        return tuple(name for name in self.taxonomy.hypernyms if leaves & set(self.taxonomy.leaves_of(name)))


SMALL = 1 / 6
"""The share of all leaves that a hypernym has at most, where there are such."""


def choose_hypernyms(
    taxonomy: Taxonomy, names: Sequence[str], count: int, share: float = SMALL
) -> tuple[str, ...]:
    """The largest of these hypernyms with at most that share of all leaves, no two with a leaf in common."""
    limit = share * len(taxonomy.leaves)
    chosen: list[str] = []
    taken: set[str] = set()
    for name in sorted(names, key=lambda name: (-len(taxonomy.leaves_of(name)), name)):
        leaves = set(taxonomy.leaves_of(name))
        if len(leaves) <= limit and not leaves & taken and len(chosen) < count:
            chosen.append(name)
            taken |= leaves
    return tuple(chosen)


def choose_leaves(
    taxonomy: Taxonomy, known: Sequence[str], hypernyms: Sequence[str], each: int, others: int, seed: int
) -> list[str]:
    """`each` leaves under each hypernym, `others` under none of them; seeded, a larger draw contains a smaller one."""
    groups = {name: set(taxonomy.leaves_of(name)) & set(known) for name in hypernyms}
    groups[""] = set(known).difference(*groups.values())
    chosen: list[str] = []
    for name, leaves in groups.items():
        ordered = sorted(leaves)
        order = stream(seed, "leaves to intervene on", name).permutation(len(ordered))
        chosen += [ordered[at] for at in order[: each if name else others]]
    return sorted(set(chosen))


def clean_states(question: Question, place: SpanAtLayer) -> States:
    """The states at a place when nothing is changed."""
    states = question.clean.behind(place.layer)[:, list(question.positions(place.span))]
    return states.double().cpu().numpy()


def answers(
    question: Question, place: SpanAtLayer, states: Iterable[States]
) -> Float[np.ndarray, "edits rows names"]:
    """Logits of the names when each of these states is put into the place, one pass for all of them."""
    cell, device = place.cell, question.clean.hidden.device
    tensors = (torch.tensor(value, dtype=torch.float32, device=device) for value in states)
    patches = [Patch(cell, {post(place.layer): tensor}) for tensor in tensors]
    return question.restart.run(patches, question.read).double().cpu().numpy()


def read_outs(
    inputs: EditInputs, hypernym: str, logits: Mapping[str, Float[np.ndarray, "edits rows names"]]
) -> pd.DataFrame:
    """Under each edit, for each picture, how far the model means the hypernym, its other hypernyms, and its leaf; nats.

    Columns: leaf, member (is it under the hypernym), target (log-odds of the hypernym against all that share no leaf
    with it), other (log-odds of its other hypernyms against wrong ones), leaf_margin (log-odds of its name against
    other names), kl (divergence of the answers about hypernyms from those under the first edit). Rows of an edit follow
    each other.
    """
    question, values = inputs.questions["hypernym"], logits["hypernym"]
    apart = np.repeat(~np.isin(question.names, inputs.overlapping(hypernym))[None], len(question), 0)
    columns = {
        "leaf": np.tile(question.leaves, len(values)),
        "member": np.tile(inputs.members(question.leaves, hypernym), len(values)),
        "target": (values[..., question.names.index(hypernym)] - mean_logit(values, apart)).ravel(),
        "other": question.margin(values, without=(hypernym,)).ravel(),
        "kl": divergence(values[0], values).ravel(),
    }
    if "leaf" in logits:
        columns["leaf_margin"] = inputs.questions["leaf"].margin(logits["leaf"]).ravel()
    return pd.DataFrame(columns)
