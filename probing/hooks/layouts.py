"""Layout: where a model keeps the hook points that a `Site` names.

Known families are listed by their `model_type`. A family that is not listed is resolved by running it once
(`probing.hooks.stacks`, `probing.hooks.contributions`), or refused. Where what attention and MLP add cannot be told
apart, or does not add up, the layout has the residual stream alone.
"""

from __future__ import annotations

import warnings
import weakref
from dataclasses import dataclass
from typing import Literal, cast

from torch import nn

from probing.hooks.contributions import family_of
from probing.hooks.families import Family, listed
from probing.hooks.stacks import running_stack
from probing.hooks.structure import part
from probing.sites import BLOCK_POINTS, EMBED, FINAL, PATTERN, Site, Sites, describe, select


@dataclass(frozen=True)
class Point:
    """Where a hook goes: a module, and whether its input or its output is the value.

    `heads` is the number of attention heads into which the last axis is split, 0 for none; `item` is the
    place of the value in a module output that is a tuple.
    """

    module: nn.Module
    side: Literal["input", "output"]
    heads: int = 0
    item: int = 0


@dataclass(frozen=True)
class Layout:
    """The hook points of one model: its decoder stack, its blocks and the family they follow."""

    stack: nn.Module
    blocks: tuple[nn.Module, ...]
    family: Family
    model_type: str
    heads: int

    @property
    def streams_only(self) -> bool:
        """Whether the layout has the residual stream between blocks, and nothing inside them."""
        return not self.family.attention

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every site that this model has, in forward order."""
        inside = [
            Site(point, layer)
            for layer in range(len(self.blocks))
            for point in BLOCK_POINTS
            if self._has(point, layer)
        ]
        embed = (Site(EMBED),) if self.family.embed else ()
        return (*embed, *inside, *((Site(FINAL),) if self.family.final_norm else ()))

    def _has(self, point: str, layer: int) -> bool:
        names, block = self.family, self.blocks[layer]
        if self.streams_only:
            return point in ("hook_resid_pre", "hook_resid_post")
        match point:
            case "hook_resid_mid":
                return bool(names.mid)
            case "attn.hook_pattern":  # linear attention makes none, and has nothing of the kind
                signs = ("scaling", "is_causal", "attn_dropout")
                return any(hasattr(getattr(block, names.attention), name) for name in signs)
            case "attn.hook_z":
                return _holds(getattr(block, names.attention), names.attention_projection)
            case "mlp.hook_post":
                return _holds(getattr(block, names.mlp), names.mlp_projection)
        return True

    def select(self, patterns: Sites) -> tuple[Site, ...]:
        """The sites of this model that the patterns name.

        Raises:
            KeyError: a pattern names no site of this model.
            ValueError: attention patterns were asked of a model whose attention does not return them.
        """
        chosen = select(patterns, self.sites)
        if any(site.point == PATTERN for site in chosen):
            implementation = getattr(getattr(self.stack, "config", None), "_attn_implementation", None)
            if implementation != "eager":
                raise ValueError(
                    f"attn.hook_pattern was asked for, but the model runs {implementation!r} attention, "
                    "which never makes the pattern; call model.set_attn_implementation('eager') first, or load the "
                    "model with attn_implementation='eager'"
                )
        return chosen

    @property
    def embedding(self) -> nn.Module:
        """The token embedding."""
        return self.stack.get_submodule(self.family.embed)

    def point(self, site: Site) -> Point:
        """Where the hook of a site inside the blocks, or of the final norm, goes.

        Raises:
            KeyError: the model has no such site.
        """
        names = self.family
        if site.layer is None or not self._has(site.point, site.layer):
            if site.layer is not None or not names.final_norm:
                raise KeyError(f"{self.model_type} has no {site}; available: {describe(self.sites)}")
            return Point(self.stack.get_submodule(names.final_norm), "output")
        block = self.blocks[site.layer]
        match site.point:
            case "hook_resid_pre":
                return Point(block, "input")
            case "hook_resid_post":
                return Point(block, "output")
            case "hook_resid_mid":
                return Point(getattr(block, names.mid), "input")
            case "hook_attn_out":
                return Point(getattr(block, names.attention_norm or names.attention), "output")
            case "hook_mlp_out":
                return Point(getattr(block, names.mlp_norm or names.mlp), "output")
            case "attn.hook_z":
                attention = getattr(block, names.attention)
                return Point(getattr(attention, names.attention_projection), "input", heads=self.heads)
            case "attn.hook_pattern":
                return Point(getattr(block, names.attention), "output", item=1)
        return Point(getattr(getattr(block, names.mlp), names.mlp_projection), "input")


def _holds(module: nn.Module, name: str) -> bool:
    return bool(name) and isinstance(getattr(module, name, None), nn.Module)


#: Model → where its stack is, and its family. No module is kept: that would keep the model alive.
_FOUND: weakref.WeakKeyDictionary[nn.Module, tuple[str, Family]] = weakref.WeakKeyDictionary()


def layout_of(model: nn.Module) -> Layout:
    """The layout of a model: of its decoder when it is multimodal or wrapped.

    A family that is not in `FAMILIES` is run once to see where its blocks are and what they add to the residual stream;
    a warning says what was found.

    Raises:
        ValueError: no decoder runs on tokens alone, several do, or the blocks do not hand one state on.
    """
    if model not in _FOUND:
        _FOUND[model] = _find(model)
    path, family = _FOUND[model]
    stack = model.get_submodule(path)
    config = getattr(stack, "config", None)
    model_type = getattr(config, "model_type", type(stack).__name__)
    heads = getattr(config, "num_attention_heads", None) if family.attention else 0
    if not isinstance(heads, int):
        raise ValueError(f"the config of {model_type!r} says no num_attention_heads (one integer): {heads!r}")
    blocks = tuple(cast(nn.ModuleList, stack.get_submodule(family.blocks)))
    return Layout(stack, blocks, family, model_type, heads)


def _find(model: nn.Module) -> tuple[str, Family]:
    """The path of the module that embeddings enter, and its family.

    Raises:
        ValueError: see `layout_of`.
    """
    roles = ("embed", "blocks", "final_norm")
    stacks = [(path, module) for path, module in model.named_modules() if all(part(module, r) for r in roles)]
    if len(stacks) == 1 and (family := _listed(stacks[0][1])):
        return stacks[0][0], family
    try:
        running = running_stack(model)
    except ValueError as error:
        raise ValueError(f"{type(model).__name__} cannot be captured: {error}") from error
    stack = model.get_submodule(running.path)
    config = getattr(stack, "config", None)
    if family := _listed(stack):
        return running.path, family
    blocks = cast(nn.ModuleList, stack.get_submodule(running.blocks))
    family, reason = family_of(running, blocks, getattr(config, "num_attention_heads", None))
    model_type = getattr(config, "model_type", type(stack).__name__)
    alone = f"; only the residual stream is captured: {reason}" if reason else ""
    warnings.warn(
        f"the model family {model_type!r} is not in probing.hooks.families.FAMILIES; running it once showed "
        f"{family}{alone}",
        stacklevel=3,
    )
    return running.path, family


def _listed(stack: nn.Module) -> Family | None:
    """The listed family of a stack that has its parts under those names."""
    config = getattr(stack, "config", None)
    family = listed(getattr(config, "model_type", type(stack).__name__), config)
    if family is None or not all(_holds(stack, n) for n in (family.embed, family.blocks, family.final_norm)):
        return None
    return family
