"""Base and source sides of exchanges: states of a span in words or pictures, and the runs that get them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analyses.inputs.span_states import SpanAtLayer, post
from analyses.inputs.stimuli import Stimuli, of_one_length
from probing.patching import Patch, Restart, keep
from probing.sites import Site

Change = Callable[[Float[np.ndarray, "pairs n d"]], Float[np.ndarray, "pairs n d"]]
"""From by how much the source's state differs from the base's to the change of the base's."""
_AT_ONCE = 64  # changed states that are in memory


@dataclass(frozen=True)
class Bases:
    """Runs of base leaves, kept so that each goes on from any layer; those of one length together.

    Attributes:
        stimuli: the model and its prompts.
        task: the question.
        groups: which of the bases have one length, and where they go on from.
        size: how many bases there are.
    """

    stimuli: Stimuli
    task: str
    groups: Sequence[tuple[list[int], Restart]]
    size: int

    @classmethod
    def of(cls, stimuli: Stimuli, task: str, modality: str, leaves: Sequence[str]) -> Bases:
        """The runs of these leaves, one each."""
        rows = stimuli.rows(task, [(leaf, modality) for leaf in leaves])
        every = [rows[leaf, modality] for leaf in leaves]
        groups = [
            (places, Restart(stimuli.model, keep(stimuli.model, stimuli.group([every[i] for i in places]))))
            for places in of_one_length(every)
        ]
        return cls(stimuli, task, groups, len(leaves))

    def tokens(self, place: SpanAtLayer, restart: Restart) -> Float[Tensor, "pairs tokens d"]:
        """The state of every token of a span, of the bases of one group."""
        return restart.kept.behind(place.layer)[:, list(restart.kept.rows.positions(place.span))]

    def states(self, place: SpanAtLayer) -> Float[np.ndarray, "pairs n d"]:
        """The state of a span as its alignment reads it."""
        parts: list[tuple[list[int], np.ndarray]] = []
        for places, restart in self.groups:
            tokens = self.tokens(place, restart)
            read = self.stimuli.alignments[place.span].read(tokens, range(tokens.shape[1]))
            parts.append((places, read.double().cpu().numpy()))
        states = np.zeros((self.size, *parts[0][1].shape[1:]))
        for places, part in parts:
            states[places] = part
        return states

    def answers(
        self, place: SpanAtLayer, difference: Float[np.ndarray, "pairs n d"], changes: Sequence[Change]
    ) -> Float[np.ndarray, "changes pairs answers"]:
        """Logits of the answers under each change; what is read of a span as one token is changed in all of them."""
        read, site = self.stimuli.read(self.task), post(place.layer)
        logits = np.zeros((len(changes), self.size, len(self.stimuli.tokens(self.task))))
        for first in range(0, len(changes), _AT_ONCE):
            changed = [change(difference) for change in changes[first : first + _AT_ONCE]]
            for places, restart in self.groups:
                base = self.tokens(place, restart)
                patches = [Patch(place.cell, {site: base + _like(one[places], base)}) for one in changed]
                logits[first : first + len(changed), places] = restart.run(patches, read).cpu().numpy()
        return logits


def _like(values: np.ndarray, reference: Tensor) -> Tensor:
    return torch.as_tensor(values).to(reference)


def source_states(
    stimuli: Stimuli, task: str, modality: str, leaves: Sequence[str], places: Sequence[SpanAtLayer]
) -> dict[SpanAtLayer, Float[np.ndarray, "leaves n d"]]:
    """The states of some spans when the question is put about each leaf."""
    rows = stimuli.rows(task, [(leaf, modality) for leaf in leaves])
    sites = [Site("hook_resid_post", layer) for layer in sorted({place.layer for place in places})]
    states, _ = stimuli.states(task, [rows[leaf, modality] for leaf in leaves], sites)
    return {place: states[post(place.layer), place.span].double().cpu().numpy() for place in places}
