"""Layout: where a model keeps the hook points that a `Site` names.

Known families are listed by their `model_type`. A family that is not listed is resolved by the names of its
parts and by running it once, or refused; see `probing.hooks.structure`.
"""

from __future__ import annotations

import warnings
import weakref
from dataclasses import dataclass, replace
from typing import Literal, cast

from torch import nn

from probing.hooks.structure import NAMES, contributions, part
from probing.sites import BLOCK_POINTS, EMBED, FINAL, PATTERN, Site, Sites, select


@dataclass(frozen=True)
class Family:
    """The names under which one model family keeps its parts.

    `attention_norm` and `mlp_norm` name the norm after a module when its output is what reaches the residual
    stream; empty when the module itself adds (its output then is the contribution). `mid` is the child of a
    block whose input is the stream between attention and MLP; empty when both read the same stream.
    """

    embed: str = "embed_tokens"
    blocks: str = "layers"
    final_norm: str = "norm"
    attention: str = "self_attn"
    attention_projection: str = "o_proj"
    mlp: str = "mlp"
    mlp_projection: str = "down_proj"
    mid: str = "post_attention_layernorm"
    attention_norm: str = ""
    mlp_norm: str = ""


_LLAMA = Family()
_SANDWICH = Family(
    mid="pre_feedforward_layernorm",
    attention_norm="post_attention_layernorm",
    mlp_norm="post_feedforward_layernorm",
)
_POST_NORM = replace(_SANDWICH, mid="mlp")
_GPT2 = Family(
    embed="wte",
    blocks="h",
    final_norm="ln_f",
    attention="attn",
    attention_projection="c_proj",
    mlp_projection="c_proj",
    mid="ln_2",
)
_NEOX = Family(
    embed="embed_in",
    final_norm="final_layer_norm",
    attention="attention",
    attention_projection="dense",
    mlp_projection="dense_4h_to_h",
)
_PHI = Family(final_norm="final_layernorm", attention_projection="dense", mlp_projection="fc2", mid="")

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
    heads: int

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every site that this model has, in forward order."""
        optional = {
            "hook_resid_mid": self.family.mid,
            "attn.hook_z": self.family.attention_projection,
            "mlp.hook_post": self.family.mlp_projection,
        }
        points = [point for point in BLOCK_POINTS if optional.get(point, "present")]
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


#: Model → where its stack is, and its family. No module is kept: that would keep the model alive.
_FOUND: weakref.WeakKeyDictionary[nn.Module, tuple[str, Family]] = weakref.WeakKeyDictionary()


def layout_of(model: nn.Module) -> Layout:
    """The layout of a model: of its decoder when it is multimodal or wrapped.

    A family that is not in `FAMILIES` is run once to see which values its blocks add to the residual stream; a
    warning says what was found.

    Raises:
        ValueError: no decoder was found, its parts have names that no known family uses, or the residual
            identity holds for none of them.
    """
    if model not in _FOUND:
        _FOUND[model] = _find(model)
    path, family = _FOUND[model]
    stack = model.get_submodule(path)
    config = getattr(stack, "config", None)
    model_type = getattr(config, "model_type", type(stack).__name__)
    heads = getattr(config, "num_attention_heads", None)
    if not isinstance(heads, int):
        raise ValueError(f"the config of {model_type!r} says no num_attention_heads (one integer): {heads!r}")
    blocks = tuple(cast(nn.ModuleList, getattr(stack, family.blocks)))
    return Layout(stack, blocks, family, model_type, heads)


def _find(model: nn.Module) -> tuple[str, Family]:
    """The path of the one module that holds an embedding, the blocks and the final norm; and its family."""
    roles = ("embed", "blocks", "final_norm")
    stacks = [(path, module) for path, module in model.named_modules() if all(part(module, r) for r in roles)]
    if len(stacks) != 1:
        stacks_in_words = (
            ", ".join(f"{type(module).__name__} at {path!r}" for path, module in stacks) or "none"
        )
        raise ValueError(
            f"{type(model).__name__}: looked for one decoder, a module with {_looked_for(*roles)}; found "
            f"{stacks_in_words}; "
            "give the family an entry in probing.hooks.layouts.FAMILIES"
        )
    path, stack = stacks[0]
    config = getattr(stack, "config", None)
    model_type = getattr(config, "model_type", type(stack).__name__)
    if model_type == "gpt_neox" and getattr(config, "use_parallel_residual", False):
        return path, replace(_NEOX, mid="")
    return path, FAMILIES.get(model_type) or _run_once(model, stack, model_type)


def _looked_for(*roles: str) -> str:
    return "; ".join(f"{role.replace('_', ' ')} named {', '.join(NAMES[role])}" for role in roles)


def _run_once(model: nn.Module, stack: nn.Module, model_type: str) -> Family:
    """The family of a model that no list knows, by the names of its parts and by running it.

    Raises:
        ValueError: a part is missing, or what the block adds cannot be found.
    """
    names = {role: part(stack, role) for role in ("embed", "blocks", "final_norm")}
    blocks = list(cast(nn.ModuleList, getattr(stack, str(names["blocks"]))))
    names |= {role: part(blocks[0], role) for role in ("attention", "mlp")}
    missing = [role for role, name in names.items() if name is None]
    try:
        if missing:
            raise ValueError(f"looked in a block for {_looked_for(*missing)}")
        parts = contributions(model, blocks, str(names["attention"]), str(names["mlp"]))
    except ValueError as error:
        raise ValueError(
            f"the model family {model_type!r} is not known and cannot be resolved: {error}; give it an "
            "entry in "
            "probing.hooks.layouts.FAMILIES"
        ) from error
    for role, inside in (("attention_projection", "attention"), ("mlp_projection", "mlp")):
        names[role] = part(getattr(blocks[0], str(names[inside])), role)
    family = Family(**{role: name or "" for role, name in names.items()}, **parts)
    warnings.warn(
        f"the model family {model_type!r} is not in probing.hooks.layouts.FAMILIES; running it once "
        f"showed {family}",
        stacklevel=4,
    )
    return family
