"""The decoder stack of a model that no list knows, found by watching one forward pass.

The blocks are the one list of modules that run one after another, each on the state that the block before it gave.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from probing.hooks.structure import sample_tokens
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
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False) and _decoder(model) is not model:
        raise ValueError(
            "it is an encoder-decoder, whose text goes through two stacks; hand over the one that is meant, such as "
            "model.get_decoder(), and run the whole model"
        )
    stacks: list[Stack] = []
    reasons: list[str] = []
    for prefix, root in list(_outermost(model)) or [("", model)]:
        for path, part in ((prefix, root), (_path(model, _decoder(root)), _decoder(root))):
            try:
                seen = _stacks_in(part, path, sample_tokens(model))
            except Exception as error:  # whatever a model raises that needs more than tokens
                reasons.append(f"{type(part).__name__}: {_first_line(error)}")
                continue
            stacks += seen
            break
    if len(stacks) != 1:
        raise ValueError(_which(model, stacks, reasons))
    return stacks[0]


def _which(model: nn.Module, stacks: Sequence[Stack], reasons: Sequence[str]) -> str:
    if not stacks:
        because = f" ({'; '.join(dict.fromkeys(reasons))})" if reasons else ""
        return (
            f"looked for blocks that run one after another on one state [rows, tokens, width], found none{because}; "
            "read its modules with forward hooks of your own"
        )
    names = ", ".join(f"{type(model.get_submodule(s.path)).__name__} at {s.path!r}" for s in stacks)
    return f"several decoders run: {names}; hand over one of them, such as model.get_submodule({stacks[0].path!r})"


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


def _stacks_in(root: nn.Module, path: str, tokens: Int[Tensor, "rows length"]) -> list[Stack]:
    calls = watched(root, tokens)
    return [_placed(root, path, blocks, calls) for blocks in _chains(root, calls)]


def _chains(root: nn.Module, calls: Calls) -> list[str]:
    """Paths of the lists of blocks of which each gets what the one before gave."""
    chains: list[str] = []
    for path, module in root.named_modules():
        inside = any(path.startswith(f"{chain}.") for chain in chains)
        if isinstance(module, nn.ModuleList) and len(module) and not inside:
            states = [calls.get(joined(path, str(i)), ()) for i in range(len(module))]
            if all(len(made) == 1 and made[0].out.ndim == 3 for made in states) and all(
                torch.equal(after[0].given, before[0].out) for before, after in pairwise(states)
            ):
                chains.append(path)
    return chains


def _placed(root: nn.Module, path: str, blocks: str, calls: Calls) -> Stack:
    """The stack around a list of blocks: the nearest module that takes embeddings, with its own parts."""
    owner = blocks
    while owner and "inputs_embeds" not in _parameters(root.get_submodule(owner)):
        owner = owner.rpartition(".")[0]
    stack = root.get_submodule(owner)
    inner = blocks[len(owner) + 1 :] if owner else blocks
    own = {name[len(owner) + 1 :] if owner else name: made for name, made in calls.items()}
    last = calls[joined(blocks, str(len(list(root.get_submodule(blocks).children())) - 1))][0].out
    return Stack(joined(path, owner), _embedding(stack), inner, _final_norm(stack, inner, own, last), own)


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
    """The path of the norm that gets what the last block gave, empty if there is none."""
    for path, module in stack.named_modules():
        made = calls.get(path, ())
        outside = not path.startswith(f"{blocks}.") and "norm" in f"{type(module).__name__} {path}".lower()
        if outside and len(made) == 1 and torch.equal(made[0].given, last) and not list(module.children()):
            return path
    return ""
