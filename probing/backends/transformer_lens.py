"""Capture and patches through TransformerLens: `capture(TransformerLensRecorder.of(model), batches, ...)`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from probing.backends import require, require_agreement
from probing.capture import Inputs
from probing.hooks import Edit, Take
from probing.hooks.layouts import layout_of
from probing.sites import EMBED, FINAL, Site, Sites


@dataclass(frozen=True)
class TransformerLensRecorder:
    """Forward passes through a TransformerBridge.

    Attributes:
        bridge: the model that runs; its modules are its own.
        model: the Hugging Face model that it was made from, for its identity and its layout.
    """

    bridge: Any
    model: nn.Module

    @classmethod
    def of(cls, model: nn.Module) -> TransformerLensRecorder:
        """The recorder of a copy of a model; a bridge replaces the modules of its model.

        Raises:
            ModuleNotFoundError: TransformerLens is missing or too old.
        """
        require("transformer-lens", (4, 3))
        builder = import_module("transformer_lens.model_bridge.sources._bridge_builder")
        inner = copy.deepcopy(model)
        bridge = builder.build_bridge_from_module(inner, type(inner).__name__, hf_config=inner.config)
        bridge.eval()
        return cls(bridge, model)

    def select(self, patterns: Sites) -> tuple[Site, ...]:
        """The sites that the patterns name."""
        return layout_of(self.model).select(patterns)

    def verify(self) -> None:
        """Refuse a bridge that records something else than our hooks."""
        require_agreement(self)

    @torch.inference_mode()
    def run(self, inputs: Inputs, sites: Sequence[Site], take: Take) -> dict[str, Tensor]:
        """The taken values at the sites of one forward pass."""
        given = dict(inputs)
        first = given.pop("inputs_embeds", None)
        tokens = given.pop("input_ids", None)
        seen: dict[str, Tensor] = {}
        if first is not None and Site(EMBED) in sites:
            # The bridge hooks the lookup of tokens, which embeddings skip.
            seen[EMBED] = take(Site(EMBED), first)
        hooks = [(_name(site), _keep(seen, site, take)) for site in sites if str(site) not in seen]
        last = max(sites, key=lambda site: site.order).layer
        if last is not None and given.get("past_key_values") is None:
            # A cache would be emptied by stopping early, so that rows after a prefix run to the end.
            given["stop_at_layer"] = last + 1
        self.bridge.run_with_hooks(
            tokens if first is None else first, fwd_hooks=hooks, return_type=None, **given
        )
        return {str(site): seen[str(site)] for site in sites}

    @torch.no_grad()
    def patched(self, inputs: Inputs, edits: Mapping[str | Site, Edit]) -> Tensor:
        """Logits [batch, token, vocabulary] of one pass with values replaced as by `probing.hooks.edit`.

        Raises:
            KeyError: a name is not a site of this model.
            ValueError: the input of the stack was to be replaced, which the bridge hooks for tokens alone.
        """
        given = dict(inputs)
        first = given.pop("inputs_embeds", None)
        tokens = given.pop("input_ids", None)
        work = {site: change for name, change in edits.items() for site in self.select(name)}
        if Site(EMBED) in work and first is not None:
            raise ValueError(
                f"{EMBED} of given embeddings cannot be edited here; edit the embeddings instead"
            )
        hooks = [(_name(site), _replace(change)) for site, change in work.items()]
        return self.bridge.run_with_hooks(
            tokens if first is None else first, fwd_hooks=hooks, return_type="logits", **given
        )


def _replace(change: Edit) -> Callable[..., Tensor | None]:
    def hook(value: Tensor, **_: Any) -> Tensor | None:
        return change(value)

    return hook


def _name(site: Site) -> str:
    """TransformerLens puts `hook_normalized` before the norm's weight in some families; its output is after it."""
    return "ln_final.hook_out" if site.point == FINAL else str(site)


def _keep(seen: dict[str, Tensor], site: Site, take: Take) -> Callable[..., None]:
    def hook(value: Tensor, **_: Any) -> None:
        seen[str(site)] = take(site, value)

    return hook
