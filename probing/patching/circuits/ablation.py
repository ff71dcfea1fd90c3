"""Ablation of sets of parts: many sets in one batch, each from its first part on, in place of a pass for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from probing.hooks import Edit, edit
from probing.patching.circuits.parts import States, by_layer, sites_of
from probing.patching.restart import TOKENS, Restart
from probing.patching.runs import Read, Rows, forward
from probing.sites import Site


@dataclass(frozen=True)
class Replaced:
    """Outputs of parts replaced by given states, in several runs at once.

    Attributes:
        masks: which parts, layer by layer.
        states: site → what is put there [runs or 1, rows or 1, places, ...].
        places: tokens that are replaced, in the recomputed tokens.
    """

    masks: Bool[Tensor, "layers runs each"]
    states: States
    places: list[int]

    def edits(self, layer: int, runs: int) -> Mapping[str | Site, Edit]:
        """The edits of the stacked rows of the first `runs` runs in a block."""
        mask = self.masks[layer, :runs]
        heads, mlp = sites_of(layer)
        of_site = {heads: mask[:, None, None, :-1, None], mlp: mask[:, None, None, -1:]}
        return {site: self._put(site, which) for site, which in of_site.items() if which.any()}

    def _put(self, site: Site, mask: Tensor) -> Edit:
        state = self.states[str(site)][: mask.shape[0]]

        def put(value: Tensor) -> Tensor:
            new = value.clone(memory_format=torch.contiguous_format)
            of_runs = new.unflatten(0, (mask.shape[0], -1))
            own = of_runs[:, :, self.places]
            of_runs[:, :, self.places] = torch.where(mask.to(own.device), state.to(own), own)
            return new

        return put


def in_batches(
    restart: Restart,
    masks: Bool[Tensor, "layers runs each"],
    states: States,
    places: list[int],
    read: Read,
    tokens: int = TOKENS,
) -> Float[Tensor, "runs rows candidates"]:
    """The answers of runs in which outputs of parts are replaced, each run from the layer of its first part on.

    Args:
        restart: of the pass in which nothing is replaced.
        masks: which parts are replaced in each run.
        states: site → what is put there [runs or 1, rows or 1, places, ...].
        places: tokens after the prefix that are replaced.
        read: from last hidden states to answers.
        tokens: how many at most go through a block at once.
    """
    layers, (rows, length) = len(masks), restart.kept.hidden.shape[:2]
    touched = masks.any(-1)
    enters = torch.where(touched.any(0), touched.int().argmax(0), layers).tolist()
    order = sorted(range(len(enters)), key=lambda run: enters[run])
    start = min(places)
    most = max(1, tokens // (rows * (length - start)))
    results: dict[int, Tensor] = {}
    for first in range(0, len(order), most):
        batch = order[first : first + most]
        of_runs = {site: state if len(state) == 1 else state[batch] for site, state in states.items()}
        replaced = Replaced(masks[:, batch], of_runs, [place - start for place in places])
        hidden = restart.stacked([enters[run] for run in batch], start, replaced.edits)
        results |= dict(zip(batch, read(hidden).split(rows), strict=True))
    return torch.stack([results[run] for run in range(len(enters))])


@dataclass(frozen=True)
class Ablation:
    """Sets of parts ablated: their outputs replaced by reference outputs, the rest of the model run as it is.

    >>> from probing.patching import Answers, keep
    >>> from probing.patching.circuits import means, outputs
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> rows = Rows(lambda: {"input_ids": torch.arange(12).reshape(2, 6)}, spans={"noun": (2,)})
    >>> ablation = Ablation(Restart(model, keep(model, rows)), means(outputs(model, rows)))
    >>> each = np.eye(6, dtype=bool)
    >>> read = Answers.of(model, [3, 7])
    >>> tuple(ablation.run(each, read).shape)  # each of six parts ablated, in two rows
    (6, 2, 2)
    >>> tuple(ablation.run(~each, read).shape)  # everything but one
    (6, 2, 2)

    Attributes:
        restart: of the pass in which nothing is ablated.
        reference: site → outputs that take the place [rows or 1, tokens after the prefix, ...]; see `means` and
            `resampled`.
        span: at whose tokens; empty for all tokens after the cached prefix.

    Source: Wang et al. 2023, arXiv:2211.00593 (mean ablation); Chan et al. 2022, Causal scrubbing (resampling).
    """

    restart: Restart
    reference: States
    span: str = ""

    @cached_property
    def places(self) -> list[int]:
        """Tokens after the prefix at which parts are ablated."""
        return places_of(self.restart.kept.rows, self.restart.kept.hidden.shape[1], self.span)

    def run(
        self, sets: Bool[np.ndarray, "sets parts"], read: Read, tokens: int = TOKENS
    ) -> Float[Tensor, "sets rows candidates"]:
        """The answers with each set ablated; `~sets` ablates everything but the set.

        Raises:
            ValueError: sets over other parts than the model's.
        """
        masks = by_layer(sets, self.restart.model)
        return in_batches(self.restart, masks, self._states, self.places, read, tokens)

    @cached_property
    def _states(self) -> dict[str, Tensor]:
        return {site: value[:, self.places][None] for site, value in self.reference.items()}


def places_of(rows: Rows, length: int, span: str) -> list[int]:
    """The tokens of a span after the prefix; all of them for an empty name."""
    return list(rows.positions(span)) if span else list(range(length))


@torch.no_grad()
def ablated_by_hooks(
    model: nn.Module,
    rows: Rows,
    one: Bool[np.ndarray, " parts"],
    reference: States,
    read: Read,
    span: str = "",
) -> Float[Tensor, "rows candidates"]:
    """The answers with one set ablated, by running the whole model with hooks: the plain way, for any model.

    >>> from probing.patching import Answers
    >>> from probing.patching.circuits import means, outputs
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> rows = Rows(lambda: {"input_ids": torch.arange(12).reshape(2, 6)}, spans={"noun": (2,)})
    >>> reference = means(outputs(model, rows))
    >>> tuple(ablated_by_hooks(model, rows, np.eye(6, dtype=bool)[0], reference, Answers.of(model, [3, 7])).shape)
    (2, 2)
    """
    places = places_of(rows, next(iter(reference.values())).shape[1], span)
    states = {site: value[:, places][None] for site, value in reference.items()}
    replaced = Replaced(by_layer(one[None], model), states, places)
    edits: dict[str | Site, Edit] = {}
    for layer in range(len(replaced.masks)):
        edits |= replaced.edits(layer, 1)
    with edit(model, edits):
        return read(forward(model, rows).last_hidden_state[:, -1])
