"""The decoder stack of a model that no list knows, found by watching one forward pass.

The blocks are the one list of modules that run one after another, each on the state that the block before it gave.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from probing.hooks.structure import LENGTH, ROWS, sample_tokens
from probing.hooks.watching import Call, Calls, watched


@dataclass(frozen=True)
class Stack:
    """Where a decoder stack is in a model, and what was seen in it.

    `path` names the module that embeddings enter; `embed`, `blocks` and `final_norm` are paths inside it, empty where
    there is none.
    """

    path: str
    embed: str
    blocks: str
    final_norm: str
    calls: Calls

    def block(self, layer: int, child: str = "") -> Call | None:
        """The one call of a block, or of something inside it; None if there was not exactly one."""
        calls = self.calls.get(joined(self.blocks, str(layer), child), ())
        return calls[0] if len(calls) == 1 else None


def joined(*names: str) -> str:
    """A dotted path."""
    return ".".join(name for name in names if name)


def running_stack(model: nn.Module) -> Stack:
    """The stack of the only decoder that runs when a model is given a few random tokens.

    A part that cannot run on tokens alone is tried without its pictures: its own `get_decoder()` runs in its place.

    Raises:
        ValueError: no stack or several run, or its blocks do not hand one state on.
    """
    decoder = _decoder(model)
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False) and decoder is not model:
        advice = _advice({"model.get_decoder()": decoder})
        raise ValueError(f"it is an encoder-decoder, whose text goes through two stacks; {advice}")
    stacks: list[Stack] = []
    reasons: list[str] = []
    for path, root in list(_outermost(model)) or [("", model)]:
        for inner, part in {path: root, _path(model, _decoder(root)): _decoder(root)}.items():
            try:
                calls = watched(part, sample_tokens(model))
            except Exception as error:  # whatever a model raises that needs more than tokens
                reasons.append(f"{type(part).__name__} did not run on tokens alone: {_first_line(error)}")
                continue
            chains = _chains(part, calls, _width(root))
            if running := [blocks for blocks, reason in chains.items() if not reason]:
                stacks += [_placed(part, inner, blocks, calls) for blocks in running]
            elif chains:
                longest = max(chains, key=lambda blocks: len(_children(part, blocks)))
                reasons.append(f"{type(part).__name__}: {longest} {chains[longest]}")
            if chains:
                break
    if not stacks:
        because = f" ({'; '.join(dict.fromkeys(reasons))})" if reasons else ""
        raise ValueError(
            "looked for blocks that run one after another, each on the one state [rows, tokens, width] of the block "
            f"before it, found none{because}; read its modules with register_forward_hook"
        )
    if len(stacks) > 1:
        names = ", ".join(f"{type(model.get_submodule(s.path)).__name__} at {s.path!r}" for s in stacks)
        advice = _advice({f"model.get_submodule({s.path!r})": model.get_submodule(s.path) for s in stacks})
        raise ValueError(f"several decoders run: {names}; {advice}")
    return stacks[0]


def _advice(parts: Mapping[str, nn.Module]) -> str:
    """What to hand over in place of a model with several stacks: a part, spelled, that can be captured alone."""
    for spelling, part in parts.items():
        with suppress(ValueError):
            running_stack(part)
            return f"hand over one of them, such as {spelling}, and run the whole model"
    return "none can be captured alone; read their modules with register_forward_hook"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def _outermost(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Path and module of each Hugging Face model that is in no other one."""
    if isinstance(module, PreTrainedModel):
        yield path, module
        return
    for name, child in module.named_children():
        yield from _outermost(child, joined(path, name))


def _decoder(model: nn.Module) -> nn.Module:
    try:
        return model.get_decoder() if isinstance(model, PreTrainedModel) else model
    except (AttributeError, NotImplementedError):
        return model


def _path(model: nn.Module, part: nn.Module) -> str:
    return next(path for path, module in model.named_modules() if module is part)


def _width(model: nn.Module) -> int | None:
    config = getattr(model, "config", None)
    text = (
        config.get_text_config(decoder=True)
        if config is not None and hasattr(config, "get_text_config")
        else config
    )
    return getattr(text, "hidden_size", None)


def _chains(root: nn.Module, calls: Calls, width: int | None) -> dict[str, str]:
    """Path of each list of blocks that ran → why it is no stack, empty if it is one."""
    chains: dict[str, str] = {}
    for path, module in root.named_modules():
        inside = any(path.startswith(f"{chain}.") for chain in chains)
        if isinstance(module, nn.ModuleList) and len(module) and not inside:
            made = [calls.get(joined(path, str(i)), ()) for i in range(len(module))]
            if any(made):
                chains[path] = _why_not(made, width)
    return chains


def _why_not(made: Sequence[Sequence[Call]], width: int | None) -> str:
    """Why blocks with these calls do not hand one state on, empty if they do."""
    if any(len(calls) != 1 for calls in made):
        at = next(layer for layer, calls in enumerate(made) if len(calls) != 1)
        return f"ran its block {at} {len(made[at])} times"
    once = [calls[0] for calls in made]
    shape = tuple(once[0].out.shape)
    if shape[:-1] != (ROWS, LENGTH) or width not in (None, shape[-1]):
        return f"gives values of shape {list(shape)} for {ROWS} rows of {LENGTH} tokens and a hidden_size of {width}"
    for layer, (before, after) in enumerate(pairwise(once)):
        if not torch.equal(after.given, before.out):
            return f"does not hand on the output of block {layer} as it is"
        if any(
            value.shape == before.out.shape == given.shape and torch.equal(value, given)
            for value in before.more_out
            for given in after.more_given
        ):
            return f"hands on a second state beside the output of block {layer}"
    return ""


def _placed(root: nn.Module, path: str, blocks: str, calls: Calls) -> Stack:
    """The stack around a list of blocks: the nearest module that takes embeddings, with its own parts."""
    owner = blocks
    while owner and "inputs_embeds" not in _parameters(root.get_submodule(owner)):
        owner = owner.rpartition(".")[0]
    stack = root.get_submodule(owner)
    inner = blocks[len(owner) + 1 :] if owner else blocks
    own = {name[len(owner) + 1 :] if owner else name: made for name, made in calls.items()}
    last = calls[joined(blocks, str(len(_children(root, blocks)) - 1))][0].out
    return Stack(joined(path, owner), _embedding(stack), inner, _final_norm(stack, inner, own, last), own)


def _children(root: nn.Module, path: str) -> list[nn.Module]:
    return list(root.get_submodule(path).children())


def _parameters(module: nn.Module) -> set[str]:
    return set(inspect.signature(type(module).forward).parameters)


def _embedding(stack: nn.Module) -> str:
    """The path of the token embedding whose values enter the stack, empty where pictures join them inside."""
    if any(name.startswith("pixel_values") for name in _parameters(stack)):
        return ""
    try:
        embedding = stack.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return ""
    return next((path for path, module in stack.named_modules() if module is embedding), "")


def _final_norm(stack: nn.Module, blocks: str, calls: Calls, last: Tensor) -> str:
    """The path of the norm that gets what the last block gave, empty if something else gets it first."""
    for path, module in stack.named_modules():
        made = calls.get(path, ())
        if not path.startswith(f"{blocks}.") and len(made) == 1 and torch.equal(made[0].given, last):
            norm = "norm" in f"{type(module).__name__} {path}".lower() and not list(module.children())
            return path if norm or path.endswith("ln_f") else ""
    return ""
