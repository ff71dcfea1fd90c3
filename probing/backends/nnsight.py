"""Capture and patches through nnsight: `capture(NnsightRecorder.of(model), batches, ...)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from probing.backends import require, require_agreement
from probing.capture import Inputs
from probing.hooks import Edit, Take
from probing.hooks.layouts import Layout, layout_of
from probing.sites import EMBED, PATTERN, Site, Sites


@dataclass(frozen=True)
class NnsightRecorder:
    """Forward passes traced by nnsight.

    Attributes:
        traced: the model as nnsight wraps it.
        model: the Hugging Face model inside.
    """

    traced: Any
    model: nn.Module

    @classmethod
    def of(cls, model: nn.Module) -> NnsightRecorder:
        """The recorder of a model, which stays as it is.

        Raises:
            ModuleNotFoundError: nnsight is missing or too old.
        """
        require("nnsight", (0, 8))
        return cls(import_module("nnsight").NNsight(model), model)

    def select(self, patterns: Sites) -> tuple[Site, ...]:
        """The sites that the patterns name."""
        return layout_of(self.model).select(patterns)

    def verify(self) -> None:
        """Refuse nnsight when it records something else than our hooks."""
        require_agreement(self)

    def run(self, inputs: Inputs, sites: Sequence[Site], take: Take) -> dict[str, Tensor]:
        """The taken values at the sites of one forward pass, which ends after the last of them."""
        layout = layout_of(self.model)
        paths = {module: path for path, module in self.model.named_modules()}
        ordered = sorted(sites, key=_reached)
        points = [(site, *_place(self.traced, paths, layout, site)) for site in ordered]
        seen: dict[str, Tensor] = {}
        with torch.inference_mode(), self.traced.trace(**inputs) as tracer:
            for site, envoy, side in points:
                taken: Any = take(site, _value(layout, site, envoy, side))
                seen[str(site)] = taken.save()
            tracer.stop()
        return {str(site): seen[str(site)] for site in sites}

    @torch.no_grad()
    def patched(self, inputs: Inputs, edits: Mapping[str | Site, Edit]) -> Tensor:
        """Logits [batch, token, vocabulary] of one pass with values replaced as by `probing.hooks.edit`.

        Raises:
            KeyError: a name is not a site of this model.
            ValueError: the input of the stack, or a pattern of attention, was to be replaced.
        """
        layout = layout_of(self.model)
        work = {site: change for name, change in edits.items() for site in layout.select(name)}
        if wrong := [str(site) for site in work if site in (Site(EMBED),) or site.point == PATTERN]:
            raise ValueError(f"{wrong[0]} cannot be edited through nnsight; edit a site inside the blocks")
        paths = {module: path for path, module in self.model.named_modules()}
        points = [(site, *_place(self.traced, paths, layout, site)) for site in sorted(work, key=_reached)]
        with self.traced.trace(**inputs):
            for site, envoy, side in points:
                value = _value(layout, site, envoy, side)
                new: Any = work[site](value)
                if new is not None:
                    _assign(layout, site, envoy, side, new)
            logits: Any = self.traced.output.logits.save()
        return logits


def _assign(layout: Layout, site: Site, envoy: Any, side: str, new: Tensor) -> None:
    """Puts a value where `_value` found it."""
    point = layout.point(site)
    new = new.flatten(-2) if point.heads else new
    if side == "input":
        envoy.input = new
    elif isinstance(envoy.output, tuple):
        envoy.output = (*envoy.output[: point.item], new, *envoy.output[point.item + 1 :])
    else:
        envoy.output = new


def _reached(site: Site) -> tuple[int, float]:
    """The order in which modules run: a trace has to ask in it, and a pattern leaves attention with its output."""
    layer, place = site.order
    return (layer, Site("hook_attn_out", layer).order[1] - 0.5) if site.point == PATTERN else (layer, place)


def _place(traced: Any, paths: dict[nn.Module, str], layout: Layout, site: Site) -> tuple[Any, str]:
    """The envoys that hold the value of a site, and on which side it is."""
    if site.point == EMBED:
        return (_envoy(traced, paths[layout.stack]), _envoy(traced, paths[layout.embedding])), ""
    point = layout.point(site)
    return _envoy(traced, paths[point.module]), point.side


def _envoy(traced: Any, path: str) -> Any:
    for name in path.split(".") if path else []:
        traced = traced[int(name)] if name.isdecimal() else getattr(traced, name)
    return traced


def _value(layout: Layout, site: Site, envoy: Any, side: str) -> Tensor:
    if site.point == EMBED:
        stack, embedding = envoy
        given = stack.inputs[1].get("inputs_embeds")
        return embedding.output if given is None else given
    point = layout.point(site)
    value = envoy.input if side == "input" else envoy.output
    value = value[point.item] if isinstance(value, tuple) else value
    return value.unflatten(-1, (point.heads, -1)) if point.heads else value
