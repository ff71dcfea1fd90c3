"""capture(): model + batches + sites + spans → an ActivationStore; resumable, written while the model runs.

Forward passes end after the last asked site, only the asked positions leave the device, and a bounded queue
hands them to a writing thread, so nothing accumulates. Batches fall into shards in order; a finished shard
is never touched again, so a capture that was killed goes on at its first missing shard and ends with the
same bytes. Under torch.distributed batches are dealt out to the ranks; rank 0 collects their values and writes.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from probing import hooks
from probing.capture.batches import CaptureBatch, Inputs, Pooling
from probing.capture.gathering import AskedTokens
from probing.capture.padding import parts_of
from probing.capture.plan import Plan
from probing.capture.writer import Captured, Writer
from probing.hooks.evaluating import evaluating
from probing.hooks.layouts import layout_of
from probing.hooks.provenance import library_versions, model_attributes
from probing.hooks.sequences import select_rows
from probing.hooks.verify import verify
from probing.sites import SPELLING_VERSION, Site, Sites
from probing.store import ActivationStore
from probing.store.shard_files import DTYPES, FORMAT
from probing.store.shards import compression_options

Key = tuple[str, str]


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


#: Models that `verify` found in order in this process.
_VERIFIED: weakref.WeakSet[nn.Module] = weakref.WeakSet()


@dataclass(frozen=True)
class HookRecorder:
    """Forward passes with the hooks of this package.

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> [str(site) for site in HookRecorder(model).select("blocks.*.hook_resid_post")]
    ['blocks.0.hook_resid_post', 'blocks.1.hook_resid_post']
    """

    model: nn.Module

    def select(self, patterns: Sites) -> tuple[Site, ...]:
        """The sites that the patterns name."""
        return layout_of(self.model).select(patterns)

    def verify(self) -> None:
        """Checks a model once; refuses it where a site would not have the value that its name promises."""
        if self.model not in _VERIFIED:
            layers = len(layout_of(self.model).blocks)
            verify(self.model, layers=[0, layers // 2, layers - 1]).require()
            _VERIFIED.add(self.model)

    def run(self, inputs: Inputs, sites: Sequence[Site], take: hooks.Take) -> dict[str, Tensor]:
        """The taken values at the sites of one forward pass, which ends after the last of them."""
        return hooks.run(self.model, inputs, sites, take)


def capture(
    model: nn.Module | Recorder,
    batches: Iterable[CaptureBatch],
    path: str | Path,
    *,
    sites: Sites,
    pooling: Mapping[str, Pooling] | None = None,
    dtype: str = "float32",
    attributes: Mapping[str, Any] | None = None,
    shard_rows: int = 4096,
    compression: str | None = None,
) -> ActivationStore:
    """The store at `path`, filled with the activations of every item in the batches.

    >>> import tempfile, torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size))
    >>> batch = CaptureBatch({"input_ids": torch.arange(5)[None]}, ["crow-1"], {"last": [(4,)]}, {"leaf": ["crow"]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = capture(model, [batch], folder, sites="blocks.*.hook_resid_post")
    ...     store.read("blocks.1.hook_resid_post", "last").shape, store.columns["leaf"].tolist()
    ((1, 8), ['crow'])

    Args:
        model: a Hugging Face decoder, a model around one, or a `Recorder`.
        batches: the rows in the order in which they are stored. Items that are stored already are skipped
            without calling a batch's `inputs`. For a sequence (not a generator) free disk is checked first.
        path: a folder, new or of the same capture.
        sites: names, globs and ranges, see `probing.sites.select`.
        pooling: span → `mean` over its tokens, its `last` token, or `all` tokens one by one; `mean` for
            spans not named. Means are taken in float32.
        dtype: how values are stored, `float32`, `float16` or `bfloat16`.
        attributes: where the batches come from (manifest_hash, prompt_format, encoder, ...). The identity
            of the model and its weights is added; a `weight_hash` given here saves computing it and has to be
            that of `probing.hooks.provenance.weight_hash`.
        shard_rows: a shard ends with the batch that fills it up to this many items.
        compression: None or `blosc2` (lossless).

    Raises:
        MismatchError: the folder holds another capture; the difference is named.
        ValueError: the model fails `verify`, a span is empty or touches padding, or a value does not fit the
            dtype.
        CorruptShardError: a shard that is there already cannot be read.
        OSError: the folder cannot be written or the disk is full. Finished shards are kept.
    """
    recorder = HookRecorder(model) if isinstance(model, nn.Module) else model
    chosen_sites = recorder.select(sites)
    if dtype not in DTYPES:
        raise ValueError(f"dtype is one of {', '.join(DTYPES)}, found {dtype!r}")
    compression_options(compression)
    rows = sum(len(batch.item_ids) for batch in batches) if isinstance(batches, Sequence) else 0
    stream = iter(batches)
    first = next(stream, None)
    if first is None:
        raise ValueError("there is no batch to capture")
    header = {
        "format": FORMAT,
        "site_spelling": SPELLING_VERSION,
        "sites": [str(site) for site in chosen_sites],
        "spans": _pooling(first.spans, pooling or {}),
        "dtype": dtype,
        "compression": compression,
        "shard_rows": shard_rows,
        "attributes": model_attributes(recorder.model, attributes or {}),
    }
    plan = Plan.make(Path(path), header)
    recorder.verify()
    with evaluating(recorder.model), Writer(plan, header, library_versions()) as writer:

        def compute(batch: CaptureBatch) -> Captured:
            captured = _activations(recorder, chosen_sites, batch, header["spans"], dtype)
            return captured if plan.ranks == 1 else captured.arrived()

        for shard, captured in plan.dealt(itertools.chain([first], stream), compute):
            if rows:
                plan.require_space(captured.row_bytes * (rows - len(plan.stored)))
                rows = 0
            writer.put(shard, captured)
    plan.finish()
    return ActivationStore.open(path)


def _pooling(spans: Iterable[str], pooling: Mapping[str, Pooling]) -> dict[str, str]:
    chosen = {span: pooling.get(span, "mean") for span in spans}
    for span, kind in pooling.items():
        if span not in chosen:
            raise KeyError(f"pooling names the span {span!r}; the batches have {', '.join(chosen)}")
        if kind not in ("mean", "last", "all"):
            raise ValueError(f"the pooling of span {span!r} is mean, last or all, found {kind!r}")
    return chosen


def _activations(
    recorder: Recorder, sites: Sequence[Site], batch: CaptureBatch, pooling: Mapping[str, str], dtype: str
) -> Captured:
    """One batch's values at every site and span, on their way to the host."""
    device = next(recorder.model.parameters()).device
    inputs = _on(device, batch.inputs)
    prefix = None if batch.prefix is None else _on(device, batch.prefix)
    offset = _length(prefix) if prefix is not None else _cached(inputs)
    mask = _mask(inputs, offset)
    tokens_of = AskedTokens.of(
        batch.spans,
        pooling,
        length=offset + _length(inputs),
        offset=offset,
        prefix_rows=batch.prefix_rows,
        real=mask,
    )
    if prefix is None and tokens_of.in_prefix.size:
        raise ValueError(
            f"a span reaches into the {offset} tokens of the cached prefix, whose activations are gone; give "
            "the batch the prefix itself (CaptureBatch.prefix) instead of past_key_values"
        )
    taken = _passes(recorder, sites, inputs, prefix, tokens_of)
    values: dict[Key, Tensor] = {}
    with torch.inference_mode():
        for site in map(str, sites):
            for span, pooled in tokens_of.pool(
                [(tokens, by_site[site]) for tokens, by_site in taken]
            ).items():
                values[site, span] = pooled.to(getattr(torch, dtype))
    host, ready = _to_host(values)
    return Captured(list(batch.item_ids), batch.columns, tokens_of.token_positions(), host, ready)


def _passes(
    recorder: Recorder, sites: Sequence[Site], inputs: Inputs, prefix: Inputs | None, tokens_of: AskedTokens
) -> list[tuple[np.ndarray, dict[str, Tensor]]]:
    """The values of each forward pass, the prefix first, with the indices of its tokens among those to be stored.

    The prefix's keys and values are repeated for the rows that continue it.
    """
    device = next(recorder.model.parameters()).device
    taken: list[tuple[np.ndarray, dict[str, Tensor]]] = []
    cache: DynamicCache | None = None
    if prefix is not None:
        cache = DynamicCache(config=cast(Any, recorder.model.config).get_text_config(decoder=True))
        given = {**prefix, "past_key_values": cache, "use_cache": True}
        by_site = recorder.run(given, sites, tokens_of.take_prefix(device))
        if tokens_of.in_prefix.size:
            taken.append((tokens_of.in_prefix, by_site))
    for part in parts_of(inputs, tokens_of.offset) or [None]:
        tokens = tokens_of.in_part(part)
        if not tokens.size:
            continue
        given = {"use_cache": False, **(inputs if part is None else part.inputs(inputs))}
        if cache is not None:
            rows = tokens_of.prefix_rows if part is None else tokens_of.prefix_rows[part.rows]
            given |= {
                "past_key_values": select_rows(cache, torch.from_numpy(rows).to(device)),
                "use_cache": True,
            }
        taken.append((tokens, recorder.run(given, sites, tokens_of.take_rest(device, part))))
    return taken


def _on(device: torch.device, inputs: Inputs | Callable[[], Inputs]) -> dict[str, Any]:
    values = inputs() if callable(inputs) else inputs
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in values.items()}


def _length(inputs: Inputs) -> int:
    """How many positions the model is given."""
    for name in ("inputs_embeds", "input_ids"):
        if inputs.get(name) is not None:
            return int(inputs[name].shape[1])
    raise ValueError(f"the inputs of a batch need input_ids or inputs_embeds, found {', '.join(inputs)}")


def _mask(inputs: Inputs, offset: int) -> np.ndarray | None:
    """Which positions of the whole sequence are real, where the inputs say so, one number a position."""
    given = inputs.get("attention_mask")
    if not isinstance(given, Tensor) or given.ndim != 2:
        return None
    mask, length = given.bool().cpu().numpy(), offset + _length(inputs)
    if mask.shape[-1] != length:
        raise ValueError(
            f"attention_mask has to cover all {length} positions, the {offset} of the prefix too; found "
            f"{mask.shape[-1]}"
        )
    if inputs.get("position_ids") is None and not mask[:, offset].all():
        raise ValueError(
            "the batch is padded on the left and has no position_ids, so that positions would count the padding; "
            "give them, as probing.spans.collate does"
        )
    return mask


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
