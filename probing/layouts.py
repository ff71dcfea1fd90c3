"""Layout: where a model keeps the hook points that a `Site` names.

Known families are listed by their `model_type`. A family that is not listed is resolved by the names of
its parts and then has to pass the residual identity in `probing.verify` before anything is captured.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from probing.sites import BLOCK_POINTS, EMBED, FINAL, PATTERN, Site, Sites, select

Arrangement = Literal["pre_norm", "sandwich", "post_norm", "parallel"]


@dataclass(frozen=True)
class Family:
    """The names under which one model family keeps its parts.

    `arrangement` says what reaches the residual stream: in `pre_norm` and `parallel` blocks the outputs of
    attention and MLP themselves; in `sandwich` and `post_norm` blocks the outputs of the norms after them.
    """

    embed: str
    blocks: str
    final_norm: str
    attention: str
    attention_projection: str
    mlp: str
    mlp_projection: str
    arrangement: Arrangement
    mid: str = ""
    attention_norm: str = ""
    mlp_norm: str = ""
    positions: str = ""


_LLAMA = Family(
    embed="embed_tokens",
    blocks="layers",
    final_norm="norm",
    attention="self_attn",
    attention_projection="o_proj",
    mlp="mlp",
    mlp_projection="down_proj",
    arrangement="pre_norm",
    mid="post_attention_layernorm",
)
_SANDWICH = Family(
    embed="embed_tokens",
    blocks="layers",
    final_norm="norm",
    attention="self_attn",
    attention_projection="o_proj",
    mlp="mlp",
    mlp_projection="down_proj",
    arrangement="sandwich",
    mid="pre_feedforward_layernorm",
    attention_norm="post_attention_layernorm",
    mlp_norm="post_feedforward_layernorm",
)
_POST_NORM = Family(
    embed="embed_tokens",
    blocks="layers",
    final_norm="norm",
    attention="self_attn",
    attention_projection="o_proj",
    mlp="mlp",
    mlp_projection="down_proj",
    arrangement="post_norm",
    mid="mlp",
    attention_norm="post_attention_layernorm",
    mlp_norm="post_feedforward_layernorm",
)
_GPT2 = Family(
    embed="wte",
    blocks="h",
    final_norm="ln_f",
    attention="attn",
    attention_projection="c_proj",
    mlp="mlp",
    mlp_projection="c_proj",
    arrangement="pre_norm",
    mid="ln_2",
    positions="wpe",
)
_NEOX = Family(
    embed="embed_in",
    blocks="layers",
    final_norm="final_layer_norm",
    attention="attention",
    attention_projection="dense",
    mlp="mlp",
    mlp_projection="dense_4h_to_h",
    arrangement="pre_norm",
    mid="post_attention_layernorm",
)
_NEOX_PARALLEL = Family(
    embed="embed_in",
    blocks="layers",
    final_norm="final_layer_norm",
    attention="attention",
    attention_projection="dense",
    mlp="mlp",
    mlp_projection="dense_4h_to_h",
    arrangement="parallel",
)
_PHI = Family(
    embed="embed_tokens",
    blocks="layers",
    final_norm="final_layernorm",
    attention="self_attn",
    attention_projection="dense",
    mlp="mlp",
    mlp_projection="fc2",
    arrangement="parallel",
)

FAMILIES: dict[str, Family] = {
    "gemma": _LLAMA,
    "gemma2": _SANDWICH,
    "gemma3_text": _SANDWICH,
    "gpt2": _GPT2,
    "gpt_neox": _NEOX,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "olmo2": _POST_NORM,
    "phi": _PHI,
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen2_5_vl_text": _LLAMA,
    "qwen2_vl_text": _LLAMA,
    "qwen3": _LLAMA,
    "qwen3_vl_text": _LLAMA,
    "smollm3": _LLAMA,
}


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
    known: bool
    heads: int

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every site that this model has, in forward order."""
        points = [p for p in BLOCK_POINTS if p != "hook_resid_mid" or self.family.arrangement != "parallel"]
        inside = [Site(point, layer) for layer in range(len(self.blocks)) for point in points]
        return (Site(EMBED), *inside, Site(FINAL))

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
                    "which never makes the pattern; call model.set_attn_implementation('eager') first"
                )
        return chosen

    @property
    def embedding(self) -> nn.Module:
        """The token embedding."""
        return getattr(self.stack, self.family.embed)

    def point(self, site: Site) -> Point:
        """Where the hook of a site inside the blocks, or of the final norm, goes."""
        names = self.family
        if site.layer is None:
            return Point(getattr(self.stack, names.final_norm), "output")
        block = self.blocks[site.layer]
        attention, mlp = getattr(block, names.attention), getattr(block, names.mlp)
        match site.point:
            case "hook_resid_pre":
                return Point(block, "input")
            case "hook_resid_post":
                return Point(block, "output")
            case "hook_resid_mid":
                return Point(getattr(block, names.mid), "input")
            case "hook_attn_out":
                return Point(
                    getattr(block, names.attention_norm) if names.attention_norm else attention, "output"
                )
            case "hook_mlp_out":
                return Point(getattr(block, names.mlp_norm) if names.mlp_norm else mlp, "output")
            case "attn.hook_z":
                return Point(getattr(attention, names.attention_projection), "input", heads=self.heads)
            case "attn.hook_pattern":
                return Point(attention, "output", item=1)
        return Point(getattr(mlp, names.mlp_projection), "input")


_LAYOUTS: weakref.WeakKeyDictionary[nn.Module, Layout] = weakref.WeakKeyDictionary()


def layout_of(model: nn.Module) -> Layout:
    """The layout of a model: of its decoder when it is multimodal or wrapped.

    Raises:
        ValueError: no decoder was found, or its parts have names that no known family uses.
    """
    if model not in _LAYOUTS:
        _LAYOUTS[model] = _resolve(model)
    return _LAYOUTS[model]


def _resolve(model: nn.Module) -> Layout:
    stack = _stack(model)
    config = getattr(stack, "config", None)
    model_type = getattr(config, "model_type", type(stack).__name__)
    family = FAMILIES.get(model_type)
    if model_type == "gpt_neox" and getattr(config, "use_parallel_residual", False):
        family = _NEOX_PARALLEL
    known = family is not None
    if family is None:
        family = _by_parts(stack, model_type)
    heads = getattr(config, "num_attention_heads", None)
    if not isinstance(heads, int):
        raise ValueError(
            f"the config of {model_type!r} says no num_attention_heads (one integer), found {heads!r}"
        )
    return Layout(stack, tuple(getattr(stack, family.blocks)), family, model_type, known, heads)


def _stack(model: nn.Module) -> nn.Module:
    """The innermost module that holds the token embedding, the blocks and the final norm."""
    found = [module for module in model.modules() if _first_family(module) is not None]
    if len(found) != 1:
        names = sorted({(family.embed, family.blocks, family.final_norm) for family in _variants()})
        raise ValueError(
            f"{type(model).__name__}: looked for one decoder stack, a module with a token embedding, a list "
            f"of blocks and a final norm named as in {names}, found "
            f"{[type(module).__name__ for module in found]}; give the family an entry in probing.layouts.FAMILIES"
        )
    return found[0]


def _variants() -> Sequence[Family]:
    return [_LLAMA, _SANDWICH, _POST_NORM, _GPT2, _NEOX, _NEOX_PARALLEL, _PHI]


def _first_family(stack: nn.Module) -> Family | None:
    for family in _variants():
        parts = (family.embed, family.blocks, family.final_norm)
        if all(isinstance(getattr(stack, name, None), nn.Module) for name in parts):
            return family
    return None


def _by_parts(stack: nn.Module, model_type: str) -> Family:
    """The one known arrangement whose part names all exist in every block of an unlisted family."""
    fitting = [family for family in _variants() if _fits(stack, family)]
    sandwich_like = [family for family in fitting if family.attention_norm]
    candidates = sandwich_like or fitting
    if len(candidates) == 1:
        return candidates[0]
    blocks = getattr(stack, "layers", getattr(stack, "h", None))
    parts = (
        sorted(name for name, _ in blocks[0].named_children()) if isinstance(blocks, nn.ModuleList) else []
    )
    raise ValueError(
        f"the model family {model_type!r} is not known and its parts fit {len(candidates)} known "
        f"arrangements, not one; a block has {parts}; give the family an entry in probing.layouts.FAMILIES"
    )


def _fits(stack: nn.Module, family: Family) -> bool:
    blocks = getattr(stack, family.blocks, None)
    if not isinstance(blocks, nn.ModuleList) or not hasattr(stack, family.embed):
        return False
    inside = [family.attention, family.mlp, family.mid, family.attention_norm, family.mlp_norm]
    for block in blocks:
        if not all(hasattr(block, name) for name in inside if name):
            return False
        if not hasattr(getattr(block, family.attention), family.attention_projection):
            return False
        if not hasattr(getattr(block, family.mlp), family.mlp_projection):
            return False
    return hasattr(stack, family.final_norm)
