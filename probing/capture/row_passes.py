"""Passes: the forward passes over a batch, and the activations of the asked tokens that come out of them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from probing import hooks
from probing.capture.batches import CaptureBatch, Inputs
from probing.capture.gathering import AskedTokens
from probing.capture.padding import parts_of
from probing.capture.rehearsal import require_same_as_whole
from probing.capture.writer import Captured
from probing.hooks.layouts import layout_of
from probing.hooks.sequences import (
    Prefix,
    aligned,
    has_own_positions,
    length_of,
    per_token,
    token_mask,
    without_counting,
)
from probing.sites import Site, Sites

Key = tuple[str, str]
#: The values of a pass, with the indices of their tokens among those to be stored.
Taken = tuple[np.ndarray, dict[str, Tensor]]
#: Models that gave the same states behind a shared prefix as in one go, in this process.
_SHARED: weakref.WeakSet[nn.Module] = weakref.WeakSet()


class Recorder(Protocol):
    """A way to run forward passes: the hooks of this package, or another library."""

    def select(self, patterns: Sites) -> tuple[Site, ...]:
        """The sites that the patterns name."""
        ...

    def verify(self) -> None:
        """Checks a model once; refuses it where a site would not have the value that its name promises."""
        ...

    def run(self, inputs: Inputs, sites: Sequence[Site], take: hooks.Take) -> dict[str, Tensor]:
        """The taken values at the sites of one forward pass."""
        ...

    @property
    def model(self) -> nn.Module:
        """The Hugging Face model that runs."""
        ...


@dataclass(frozen=True)
class Passes:
    """How the batches of one capture go through the model.

    Attributes:
        recorder: runs the model.
        sites: the sites to be stored.
        pooling: span → how its tokens are pooled.
        dtype: of the stored values.
    """

    recorder: Recorder
    sites: Sequence[Site]
    pooling: Mapping[str, str]
    dtype: str

    @cached_property
    def _own_positions(self) -> bool:
        return has_own_positions(self.recorder.model)

    def over(self, batch: CaptureBatch) -> Captured:
        """One batch's values at every site and span, on their way to the host.

        Raises:
            ValueError: the inputs do not fit the items or the spans, or the model cannot run them as asked.
        """
        device = next(self.recorder.model.parameters()).device
        inputs = _on(device, batch.inputs)
        prefix = None if batch.prefix is None else _on(device, batch.prefix)
        offset = _cached(inputs) if prefix is None else length_of(prefix)
        _require_rows(batch, inputs, prefix)
        tokens_of = AskedTokens.of(
            batch.spans,
            self.pooling,
            length=offset + length_of(inputs),
            offset=offset,
            prefix_rows=batch.prefix_rows,
            real=_mask(inputs, offset),
        )
        if prefix is None and tokens_of.in_prefix.size:
            raise ValueError(
                f"a span reaches into the {offset} tokens of the cached prefix, whose activations are gone; give "
                "the batch the prefix itself (CaptureBatch.prefix) instead of past_key_values"
            )
        inputs, moved = aligned(inputs, offset)
        if moved is not None:
            tokens_of = tokens_of.moved(moved.cpu().numpy())
        inputs = without_counting(inputs, offset)
        if self._own_positions:
            inputs = _with_own_positions(inputs, offset, prefix)
        taken = self._taken(inputs, prefix, tokens_of)
        values: dict[Key, Tensor] = {}
        with torch.inference_mode():
            for site in map(str, self.sites):
                pooled = tokens_of.pool([(tokens, by_site[site]) for tokens, by_site in taken])
                for span, value in pooled.items():
                    values[site, span] = value.to(getattr(torch, self.dtype))
        host, ready = _to_host(values)
        return Captured(list(batch.item_ids), batch.columns, tokens_of.token_positions(), host, ready)

    def _taken(self, inputs: Inputs, prefix: Inputs | None, tokens_of: AskedTokens) -> list[Taken]:
        """The values of each forward pass, the prefix first, whose keys are repeated for the rows that continue it."""
        model = self.recorder.model
        device = next(model.parameters()).device
        taken: list[Taken] = []
        before: Prefix | None = None
        if prefix is not None:
            before, by_site = self._first(without_counting(prefix), tokens_of.take_prefix(device))
            if tokens_of.in_prefix.size:
                taken.append((tokens_of.in_prefix, by_site))
            rows = torch.from_numpy(tokens_of.prefix_rows)
            inputs = before.positions(inputs, rows)
            if model not in _SHARED:
                require_same_as_whole(model, prefix, inputs, tokens_of.prefix_rows)
                _SHARED.add(model)
        for part in parts_of(inputs, tokens_of.offset) or [None]:
            tokens = tokens_of.in_part(part)
            if not tokens.size:
                continue
            given = {"use_cache": False, **(inputs if part is None else part.inputs(inputs))}
            if before is not None:
                rows = tokens_of.prefix_rows if part is None else tokens_of.prefix_rows[part.rows]
                given |= before.continued(torch.from_numpy(rows).to(device))
            taken.append((tokens, self.recorder.run(given, self.sites, tokens_of.take_rest(device, part))))
        return taken

    def _first(self, prefix: Inputs, take: hooks.Take) -> tuple[Prefix, dict[str, Tensor]]:
        """The prefix after its pass, and the values of its asked tokens."""
        model, values = self.recorder.model, {}

        def run(given: dict[str, Any]) -> None:
            values.update(self.recorder.run(given, self.sites, take))

        return Prefix.of(model, layout_of(model).stack, prefix, run), values


def _on(device: torch.device, inputs: Inputs | Callable[[], Inputs]) -> dict[str, Any]:
    values = inputs() if callable(inputs) else inputs
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in values.items()}


def _require_rows(batch: CaptureBatch, inputs: Inputs, prefix: Inputs | None) -> None:
    """Refuses inputs that have other rows than the batch has items, and rows of the prefix that are not there."""
    items, length = len(batch.item_ids), length_of(inputs)
    rows = {name: len(value) for name, value in per_token(inputs).items() if name.startswith("input")}
    if (mask := token_mask(inputs)) is not None:
        rows["attention_mask"] = len(mask)
    if wrong := {name: count for name, count in rows.items() if count != items}:
        said = ", ".join(f"{name} has {count}" for name, count in wrong.items())
        raise ValueError(
            f"the batch has {items} item_ids, and {said} rows; give one row of {length} tokens an item"
        )
    if prefix is None:
        return
    rows_there = len(next(iter(per_token(prefix).values())))
    chosen = batch.prefix_rows if batch.prefix_rows is not None else [0]
    if outside := [row for row in chosen if not 0 <= row < rows_there]:
        raise ValueError(
            f"prefix_rows names row {outside[0]}, the prefix has {rows_there} rows, counted from 0"
        )


def _mask(inputs: Inputs, offset: int) -> np.ndarray | None:
    """Which positions of the whole sequence are real, where the inputs say so."""
    given = token_mask(inputs)
    if given is None:
        return None
    length = offset + length_of(inputs)
    if given.ndim != 2:
        raise ValueError(
            f"attention_mask has the shape {tuple(given.shape)}; a capture needs [rows, tokens], 1 for each token"
        )
    if given.shape[-1] != length:
        raise ValueError(
            f"attention_mask has to cover all {length} positions, the {offset} of the prefix too; found "
            f"{given.shape[-1]}"
        )
    return given.bool().cpu().numpy()


def _with_own_positions(inputs: Inputs, offset: int, prefix: Inputs | None) -> dict[str, Any]:
    """The inputs for a model that makes positions from the pictures it sees, and remembers them of its last pass.

    Raises:
        ValueError: the positions behind a cache, or of pictures behind a prefix, cannot be known.
    """
    given = dict(inputs)
    if given.get("position_ids") is not None:
        return given
    others = (
        set(given)
        - set(per_token(given))
        - {"attention_mask", "use_cache", "past_key_values", "position_ids"}
    )
    if prefix is not None and others:
        raise ValueError(
            f"{', '.join(sorted(others))} came behind a shared prefix, and this model makes positions from pictures; "
            "put pictures into the prefix, or capture whole rows"
        )
    if prefix is None and offset:
        raise ValueError(
            "past_key_values came without the positions that go on behind it, and this model makes positions from "
            "pictures; give the batch the prefix itself (CaptureBatch.prefix)"
        )
    if given.get("input_ids") is None and prefix is None:
        first = given["inputs_embeds"]
        given["position_ids"] = torch.arange(first.shape[1], device=first.device).expand(len(first), -1)
    return given


def _cached(inputs: Inputs) -> int:
    cache = inputs.get("past_key_values")
    return 0 if cache is None else int(cache.get_seq_length())


def _to_host(values: dict[Key, Tensor]) -> tuple[dict[Key, Tensor], torch.cuda.Event | None]:
    """The values on the host; from a GPU they are still on their way until the event."""
    if not any(value.is_cuda for value in values.values()):
        return {key: value.cpu().contiguous() for key, value in values.items()}, None
    host = {
        key: torch.empty(value.shape, dtype=value.dtype, pin_memory=True) for key, value in values.items()
    }
    for key, value in values.items():
        host[key].copy_(value, non_blocking=True)
    ready = torch.cuda.Event()
    ready.record()
    return host, ready
