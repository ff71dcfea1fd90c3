"""capture(): model + batches + sites + spans → an ActivationStore; resumable, written while the model runs.

Forward passes end after the last asked site, only the asked positions leave the device, and a bounded queue
hands them to a writing thread, so nothing accumulates. Batches fall into shards in order; a finished shard
is never touched again, so a capture that was killed goes on at its first missing shard and ends with the
same bytes. Under torch.distributed batches are dealt out to the ranks; rank 0 collects their values and writes.
"""

from __future__ import annotations

import itertools
import json
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from probing import hooks
from probing.capture.batches import CaptureBatch, Inputs, Pooling
from probing.capture.plan import Plan
from probing.capture.row_passes import Passes, Recorder
from probing.capture.writer import Captured, Writer
from probing.hooks.evaluating import evaluating
from probing.hooks.layouts import layout_of
from probing.hooks.provenance import library_versions, model_attributes, require_weights
from probing.hooks.verify import verify
from probing.sites import SPELLING_VERSION, Site, Sites
from probing.store import ActivationStore
from probing.store.shard_files import DTYPES, FORMAT
from probing.store.shards import compression_options

#: Attributes of a shard that are not those of its capture.
_SHARD_ATTRIBUTES = frozenset({"format", "dtype", "site_spelling", "sites", "spans", "versions", "columns"})
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
            verify(self.model, layers=[0, layers // 2, layers - 1], prefix=0).require()
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
        ValueError: the model fails `verify`, gives other states behind a shared prefix than in one go, or has weights
            that are not in memory; a batch has other rows than its items, a span is empty or touches padding; or a
            value does not fit the dtype.
        CorruptShardError: a shard that is there already cannot be read.
        OSError: the folder cannot be written or the disk is full. Finished shards are kept.
    """
    recorder = HookRecorder(model) if isinstance(model, nn.Module) else model
    require_weights(recorder.model)
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
    _require_header(header)
    recorder.verify()
    plan = Plan.make(Path(path), header)
    passes = Passes(recorder, chosen_sites, header["spans"], dtype)
    with evaluating(recorder.model), Writer(plan, header, library_versions()) as writer:

        def compute(batch: CaptureBatch) -> Captured:
            captured = passes.over(batch)
            return captured if plan.ranks == 1 else captured.arrived()

        for shard, captured in plan.dealt(_alike(itertools.chain([first], stream)), compute):
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


def _require_header(header: Mapping[str, Any]) -> None:
    """Refuses, before anything is written, what the files of a store could not hold.

    Raises:
        ValueError: an attribute is no JSON or has a name that shards use, or shards would have no row.
    """
    if taken := sorted(_SHARD_ATTRIBUTES & set(header["attributes"])):
        raise ValueError(
            f"attributes are named {', '.join(taken)}, as the store's own are; choose other names"
        )
    for name, value in header["attributes"].items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"attribute {name!r} is a {type(value).__name__} ({error}); attributes are text, numbers, lists, tables"
            ) from error
    if not isinstance(header["shard_rows"], int) or header["shard_rows"] < 1:
        raise ValueError(f"shard_rows is a number of items from 1 on, found {header['shard_rows']!r}")


def _alike(batches: Iterable[CaptureBatch]) -> Iterator[CaptureBatch]:
    """The batches, as long as their columns are those of the first.

    Raises:
        ValueError: one has other columns, or values of another kind in one.
    """
    first: dict[str, str] | None = None
    for batch in batches:
        first = batch.kinds if first is None else first
        if batch.kinds != first:
            raise ValueError(
                f"every batch needs the same columns: expected {first}, found {batch.kinds} at item "
                f"{batch.item_ids[0]!r}"
            )
        yield batch
