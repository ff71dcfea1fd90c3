"""Restart: patched runs that start at the patched layer and recompute only the tokens from the patched span on.

Blocks are called one by one, with the arguments that the model itself gave them for the same tokens, so that
masks, rotations and kinds of layers are the model's own. Rows of many patches run together: each joins at its layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from probing.hooks import Edit, edit
from probing.hooks.layouts import layout_of
from probing.hooks.structure import tolerance
from probing.patching.alignment import EACH, Alignment, write
from probing.patching.calls import Call, observed
from probing.patching.cells import Cell, Patch
from probing.patching.runs import Kept, Read
from probing.sites import FINAL, Site

TOKENS = (
    1024  # that go through a block at once: enough for fast products, few enough for the processor's caches
)

EditsOf = Callable[[int, int], Mapping[str | Site, Edit]]
"""From a block and the number of runs in it to the edits of their stacked rows."""
Between = Callable[[Tensor, int, int], Tensor]
"""From the stacked state before a block, the block and the number of runs to the state that goes into it."""

#: Points outside a block: their state is replaced between two blocks.
_BETWEEN = {"hook_resid_pre": 0, "hook_resid_post": 1}


@dataclass(frozen=True)
class _Live:
    """A patch whose rows are running: which rows of the stacked state are its own."""

    patch: Patch
    rows: slice


class Restart:
    """Patched runs over one kept forward pass.

    >>> from probing.patching import Answers, Rows, keep
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> rows = Rows(lambda: {"input_ids": torch.arange(6)[None]}, spans={"noun": (2,)})
    >>> patch = Patch(Cell((Site("hook_resid_post", 0),), "noun"), {"blocks.0.hook_resid_post": torch.zeros(1, 1, 8)})
    >>> answers = Restart(model, keep(model, rows)).run([patch, patch], Answers.of(model, [3, 7]))
    >>> tuple(answers.shape)  # patches, rows, candidates
    (2, 1, 2)

    Raises:
        ValueError: the model's blocks, called one by one, do not give what the model gives.
    """

    def __init__(self, model: nn.Module, kept: Kept, alignments: dict[str, Alignment] | None = None):
        """`alignments`: span → how states are put into it, token by token unless given."""
        self.model, self.kept, self.layout = model, kept, layout_of(model)
        self.alignments = alignments or {}
        self._calls: dict[int, list[Call]] = {}

    def run(
        self,
        patches: Sequence[Patch],
        read: Read,
        *,
        tokens: int = TOKENS,
        done: Callable[[int], object] | None = None,
    ) -> Float[Tensor, "patches rows candidates"]:
        """The answers of every patched run at its last token; arguments as of `run_each`."""
        (answers,) = self.run_each([patches], read, tokens=tokens, done=done)
        return answers

    def run_each(
        self,
        lists: Sequence[Sequence[Patch]],
        read: Read,
        *,
        tokens: int = TOKENS,
        workers: int = 1,
        done: Callable[[int], object] | None = None,
    ) -> list[Float[Tensor, "patches rows candidates"]]:
        """The answers of several lists of patches, of each the bits that `run` gives, however many workers there are.

        Args:
            lists: of patches, each with states for all rows of the kept pass.
            read: from last hidden states to answers.
            tokens: how many at most go through a block at once.
            workers: threads in which batches run side by side, each with as many threads of torch as this one has.
                Where a cell is inside a block there is one: all would see each other's hooks.
            done: called with the number of patches finished, after each batch of them.
        """
        every = [patch for patches in lists for patch in patches]
        for start in sorted({self._start(patch.cell) for patch in every}):
            self._calls_from(start)  # watches the model, which no other thread may run meanwhile
        batches = [self._batches(patches, tokens) for patches in lists]
        tasks = [[patches[i] for i in batch] for patches, own in zip(lists, batches) for batch in own]
        if any(patch.cell.point not in _BETWEEN for patch in every):
            workers = 1
        settled = partial(torch.set_num_threads, torch.get_num_threads())
        with ThreadPoolExecutor(workers, initializer=settled) as pool:
            answered = (map if workers == 1 else pool.map)(partial(self._answers, read=read), tasks)
            results: list[list[Tensor]] = [[torch.empty(0)] * len(patches) for patches in lists]
            for own, result in zip(batches, results):
                for batch, answers in zip(own, answered):
                    for i, answer in zip(batch, answers.split(len(self.kept)), strict=True):
                        result[i] = answer
                    if done is not None:
                        done(len(batch))
        return [torch.stack(result) for result in results]

    def _batches(self, patches: Sequence[Patch], tokens: int) -> list[list[int]]:
        """Which patches run together: those that start at one token, in the order in which they enter."""
        start_of = [self._start(patch.cell) for patch in patches]
        order = sorted(range(len(patches)), key=lambda i: (start_of[i], self._enter(patches[i])))
        batches: list[list[int]] = []
        for start, group in groupby(order, key=lambda i: start_of[i]):
            chosen = list(group)
            most = max(1, tokens // (len(self.kept) * (self._length - start)))
            batches += [chosen[first : first + most] for first in range(0, len(chosen), most)]
        return batches

    @torch.no_grad()
    def _answers(self, patches: Sequence[Patch], read: Read) -> Float[Tensor, "rows candidates"]:
        """The answers of patches that run together."""
        return read(self._sweep(patches, self._start(patches[0].cell)))

    def through(self, patch: Patch, read: Read) -> Float[Tensor, "rows candidates"]:
        """The answers of one patched run at its last token, with their gradient in the states that are put there."""
        return read(self._sweep([patch], self._start(patch.cell)))

    @property
    def _length(self) -> int:
        return self.kept.hidden.shape[1]

    def _places(self, cell: Cell) -> tuple[int, ...]:
        """Positions, after the prefix, that the cell replaces."""
        return self.alignments.get(cell.span, EACH).target(self.kept.rows.positions(cell.span))

    def _start(self, cell: Cell) -> int:
        return min(self._places(cell))

    def _enter(self, patch: Patch) -> int:
        """The first block that has to run again."""
        first = patch.cell.sites[0]
        assert first.layer is not None
        return first.layer + _BETWEEN.get(first.point, 0)

    def _sweep(self, patches: Sequence[Patch], start: int) -> Float[Tensor, "rows width"]:
        """Last hidden states of the last token of patches that are sorted by where they enter."""
        rows = len(self.kept)
        live = [_Live(patch, slice(at * rows, (at + 1) * rows)) for at, patch in enumerate(patches)]
        return self._stacked(
            [self._enter(patch) for patch in patches],
            start,
            lambda layer, runs: self._edits(live[:runs], layer, start),
            lambda hidden, layer, runs: self._replaced(hidden, live[:runs], layer, start),
        )

    @torch.no_grad()
    def stacked(
        self, enters: Sequence[int], start: int, edits: EditsOf, between: Between | None = None
    ) -> Float[Tensor, "rows width"]:
        """Last hidden states of runs in one batch: the rows of the first run, then those of the second, and on.

        Args:
            enters: the first block of each run that has to run again, none before that of the run in front of it.
            start: the first token after the prefix that has to run again.
            edits: what is replaced inside a block.
            between: what the state before a block, or behind the last, is replaced by.
        """
        return self._stacked(enters, start, edits, between)

    def _stacked(
        self, enters: Sequence[int], start: int, edits: EditsOf, between: Between | None = None
    ) -> Float[Tensor, "rows width"]:
        calls = self._calls_from(start)
        layers, runs = len(self.layout.blocks), 0
        hidden = self.kept.states[0][:0, start:]
        for layer in range(enters[0], layers + 1):
            joining = enters.count(layer)
            if joining:
                hidden = torch.cat([hidden, *[self.kept.states[layer][:, start:]] * joining])
            runs += joining
            hidden = between(hidden, layer, runs) if between is not None else hidden
            if layer < layers:
                changes = edits(layer, runs)
                with edit(self.model, changes) if changes else nullcontext():
                    hidden = calls[layer](self.layout.blocks[layer], hidden, self._past(layer, start, runs))
                hidden = self.kept.entering(hidden, layer + 1, start)
        return self.layout.point(Site(FINAL)).module(hidden[:, -1])

    def _replaced(self, hidden: Tensor, live: Sequence[_Live], layer: int, start: int) -> Tensor:
        """The state between two blocks, with what patches put there."""
        before, after = Site("hook_resid_pre", layer), Site("hook_resid_post", layer - 1) if layer else None
        for site in (after, before):
            for one in live:
                if site in one.patch.cell.sites:
                    new = self._put(hidden[one.rows], one.patch, str(site), start)
                    if site is after and layer in self.kept.added:
                        at = [place - start for place in self._places(one.patch.cell)]
                        new[:, at] = self.kept.entering(new, layer, start)[:, at]
                    hidden[one.rows] = new
        return hidden

    def _edits(self, live: Sequence[_Live], layer: int, start: int) -> dict[str | Site, Edit]:
        """The edits inside a block."""
        sites = {
            site: [one for one in live if site in one.patch.cell.sites]
            for one in live
            for site in one.patch.cell.sites
            if site.layer == layer and site.point not in _BETWEEN
        }

        def change(site: Site, ones: Sequence[_Live]) -> Edit:
            def put(value: Tensor) -> Tensor:
                new = value.clone(memory_format=torch.contiguous_format)
                for one in ones:
                    new[one.rows] = self._put(value[one.rows], one.patch, str(site), start)
                return new

            return put

        return {site: change(site, ones) for site, ones in sites.items()}

    def _put(self, value: Tensor, patch: Patch, site: str, start: int) -> Tensor:
        places = [place - start for place in self._places(patch.cell)]
        return write(value, places, patch.states[site], patch.cell.head)

    def _past(self, layer: int, start: int, copies: int, rows: int | None = None) -> DynamicCache:
        """A cache in which one layer holds the tokens before the start, for a number of copies of the rows."""
        keys, values = (stored[:rows, :, : self.kept.rows.skip + start] for stored in self.kept.past[layer])
        if copies != 1:
            keys, values = keys.repeat(copies, 1, 1, 1), values.repeat(copies, 1, 1, 1)
        cache = DynamicCache([(keys, values)])
        cache.layers[:0] = [DynamicLayer()] * layer
        return cache

    @torch.no_grad()
    def _calls_from(self, start: int) -> list[Call]:
        """How the model calls its blocks for the tokens from `start` on, behind the cached ones before them.

        Raises:
            ValueError: calling them so does not give the state that the model gave.
        """
        if start not in self._calls:
            calls: list[Call] = []
            skip = self.kept.rows.skip
            past = [(k[:1, :, : skip + start], v[:1, :, : skip + start]) for k, v in self.kept.past]
            given = self.kept.states[0][:1, start:]
            with observed(self.layout.blocks, calls):
                stack: Any = self.layout.stack
                stack(
                    inputs_embeds=given,
                    position_ids=self.kept.position_ids(start),
                    attention_mask=self.kept.attention_mask(start),
                    past_key_values=DynamicCache(past),
                    use_cache=True,
                )
            self._calls[start] = calls
            self._check(start)
        return self._calls[start]

    def _check(self, start: int) -> None:
        """Refuses a model whose blocks, called by us on the kept states, do not add what the model's own added.

        Each block is compared token by token, relative to what it adds, so that no earlier block and no channel of
        large values hides a difference; one rounding step of every number is allowed besides.
        """
        calls, worst = self._calls[start], (float("inf"), 0)
        if len(calls) == len(self.layout.blocks):
            errors = [self._error(layer, start) for layer in range(len(calls))]
            worst = max(
                (error if error == error else float("inf"), layer) for layer, error in enumerate(errors)
            )
        limit = tolerance(self.kept.states[0].dtype)
        if not worst[0] <= limit:
            del self._calls[start]
            raise ValueError(
                f"{self.layout.model_type}: a restart at token {start} gives a state that differs by {worst[0]:.1e} "
                f"(relative to what block {worst[1]} adds) from the model's own, more than {limit:.0e}; its blocks "
                "cannot be run one by one: patch with patched_by_hooks"
            )

    def _error(self, layer: int, start: int) -> float:
        """The largest difference of a token behind one block from the kept state, relative to what the block adds."""
        before, after = (self.kept.states[at][:1, start:].float() for at in (layer, layer + 1))
        hidden = self.kept.states[layer][:1, start:]
        out = self._calls[start][layer](
            self.layout.blocks[layer], hidden, self._past(layer, start, 1, rows=1)
        )
        out = self.kept.entering(out, layer + 1, start)
        eps = torch.finfo(hidden.dtype).eps
        beyond = ((out.float() - after).abs() - eps * (before.abs() + after.abs())).clamp_min(0)
        added = (after - before).norm(dim=-1).clamp_min(eps)
        return float((beyond.norm(dim=-1) / added).max())
