"""checked(): whether the states recorded from a model are right, by hooks that know nothing of layouts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

from probing.hooks import record
from probing.hooks.layouts import layout_of
from probing.sites import PATTERN

#: What the sum of the parts may differ from what a block adds, relative to it, in one token.
_LIMIT = 1e-4


@dataclass(frozen=True)
class Outcome:
    """What became of one model: `right`, `wrong`, `refused` or `crash`; the points captured; and why."""

    status: str
    points: tuple[str, ...] = ()
    detail: str = ""


class Wrong(Exception):
    """A recorded state that is not what its site promises."""


Inputs = dict[str, Any]


def resolved(model: nn.Module) -> Outcome:
    """The outcome of finding the layout of a model, without a pass: `right`, `refused` or `crash`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sites = layout_of(model).sites
    except (ValueError, KeyError) as error:
        return Outcome("refused", detail=_line(error))
    except Exception as error:
        return Outcome("crash", detail=f"{type(error).__name__}: {_line(error)}")
    return Outcome("right", tuple(dict.fromkeys(site.point for site in sites if site.point != PATTERN)))


def checked(model: nn.Module, inputs: Mapping[str, Any]) -> Outcome:
    """The outcome of recording every site of a model during one pass with these inputs."""
    if (outcome := resolved(model)).status != "right":
        return outcome
    points, layout = outcome.points, layout_of(model)
    sites = [site for site in layout.sites if site.point != PATTERN]
    try:
        with (
            torch.inference_mode(),
            _plain_hooks(model) as plain,
            record(model, sites, take=lambda _, value: value.clone()) as seen,
        ):
            model(**inputs)
        if missing := [str(site) for site in sites if str(site) not in seen]:
            raise Wrong(f"{missing[0]} was not seen")
        with torch.inference_mode():
            _compare(model, layout, inputs, seen, plain)
    except Wrong as error:
        return Outcome("wrong", points, str(error))
    except Exception as error:
        return Outcome("crash", points, f"{type(error).__name__}: {_line(error)}")
    return Outcome("right", points)


def _line(error: Exception) -> str:
    return " ".join(str(error.args[0] if error.args else error).split())


Plain = dict[nn.Module, list[tuple[Tensor, Tensor]]]


@contextmanager
def _plain_hooks(model: nn.Module):
    """Module → what it got and what it gave, as copies, of every call of the passes inside the block."""
    seen: Plain = {}
    waiting: dict[nn.Module, list[Any]] = {}

    def first(value: Any) -> Any:
        value = getattr(value, "last_hidden_state", value)
        return value[0] if isinstance(value, tuple | list) and value else value

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.is_floating_point()]
        waiting.setdefault(module, []).append(tensors[0].clone() if tensors else None)

    def leave(module: nn.Module, _: Any, output: Any) -> None:
        given, out = waiting[module].pop(), first(output)
        if isinstance(out, Tensor):
            given = out.new_empty(0) if given is None else given
            seen.setdefault(module, []).append((given, out.clone()))

    handles = []
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _blocks(model: nn.Module, shape: tuple[int, ...], plain: Plain) -> list[nn.Module]:
    """The decoder's blocks: the longest list of modules of which each ran on states of this shape.

    Raises:
        Wrong: none ran, or one ran not once.
    """
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList)]
    run = [
        list(m) for m in lists if len(m) and all(b in plain and plain[b][-1][1].shape[:2] == shape for b in m)
    ]
    if not run:
        raise Wrong("no list of blocks ran on states of the tokens' shape")
    longest = max(run, key=len)
    if any(len(plain[block]) != 1 for block in longest):
        raise Wrong("a block ran more than once")
    return longest


def _compare(
    model: Any, layout: Any, inputs: Mapping[str, Any], seen: Mapping[str, Tensor], plain: Plain
) -> None:
    blocks = _blocks(model, tuple(seen["blocks.0.hook_resid_pre"].shape[:2]), plain)
    if len(blocks) != len(layout.blocks):
        raise Wrong(f"{len(layout.blocks)} blocks were recorded, {len(blocks)} ran")
    for layer, block in enumerate(blocks):
        before, after = plain[block][0]
        _same(seen[f"blocks.{layer}.hook_resid_pre"], before, f"input of block {layer}")
        _same(seen[f"blocks.{layer}.hook_resid_post"], after, f"output of block {layer}")
        if f"blocks.{layer}.hook_attn_out" in seen:
            _compare_parts(layout, layer, before, after, seen, plain)
    _compare_ends(model, inputs, seen, plain)


def _same(found: Tensor, expected: Tensor, name: str) -> None:
    if not torch.equal(found, expected):
        raise Wrong(f"{name} differs")


def _close(found: Tensor, expected: Tensor, scale: Tensor, name: str) -> None:
    """Raises when the values differ by more than rounding, token by token, relative to the scale."""
    error = (found.double() - expected.double()).norm(dim=-1)
    limit = _LIMIT * scale.double().norm(dim=-1) + 1e-6 * expected.double().norm(dim=-1)
    if not bool((error <= limit).all()):
        raise Wrong(f"{name}: off by {float((error / scale.double().norm(dim=-1)).max()):.1e} of it")


def _compare_parts(
    layout: Any, layer: int, before: Tensor, after: Tensor, seen: Mapping[str, Tensor], plain: Plain
) -> None:
    """What attention and MLP add; and that attention mixes tokens where the MLP does not."""
    names, block = layout.family, layout.blocks[layer]
    attention, mlp = (seen[f"blocks.{layer}.hook_{part}_out"] for part in ("attn", "mlp"))
    added = after.double() - before.double()
    _close(attention.double() + mlp.double(), added, added, f"what block {layer} adds")
    if (mid := seen.get(f"blocks.{layer}.hook_resid_mid")) is not None:
        _close(mid, before.double() + attention.double(), added, f"middle of block {layer}")
    for role, site in (("attention", "attn.hook_z"), ("mlp", "mlp.hook_post")):
        if (value := seen.get(f"blocks.{layer}.{site}")) is None:
            continue
        owner = getattr(block, getattr(names, role))
        made = getattr(owner, getattr(names, f"{role}_projection"))(value.flatten(2))
        _close(made, plain[owner][0][1], plain[owner][0][1], f"{site} of block {layer}")
        if role == "attention" and value.shape[2] != layout.heads:
            raise Wrong(f"block {layer} has {value.shape[2]} heads")
    _compare_roles(getattr(block, names.attention), getattr(block, names.mlp), layer, plain)


def _compare_roles(attention: nn.Module, mlp: nn.Module, layer: int, plain: Plain) -> None:
    given, out = plain[mlp][0]
    alone = mlp(given[:1, -1:])
    alone = alone[0] if isinstance(alone, tuple) else alone
    _close(alone[:, -1:], out[:1, -1:], out[:1, -1:], f"MLP of block {layer} on one token")
    if not any(word in type(attention).__name__.lower() for word in ("attention", "attn")):
        raise Wrong(f"{type(attention).__name__} of block {layer} is no attention")


def _compare_ends(model: Any, inputs: Mapping[str, Any], seen: Mapping[str, Tensor], plain: Plain) -> None:
    """The last norm is what the model gives or its head reads; the first value is the embedding, pictures put in."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    final, embed = seen.get("ln_final.hook_normalized"), seen.get("hook_embed")
    if final is not None:
        given = [before for before, _ in plain.get(head, ())]  # some models scale the state before the head
        states = [
            out for m in model.modules() if isinstance(m, hf.PreTrainedModel) for _, out in plain.get(m, ())
        ]
        if not any(_proportional(value, final) for value in (*given, *states)):
            raise Wrong("ln_final is neither the last hidden state nor the input of the head")
    if embed is None:
        return
    ids, table = inputs["input_ids"], model.get_input_embeddings()
    looked_up = table(ids)
    if embed.shape != looked_up.shape:
        raise Wrong(f"hook_embed has shape {tuple(embed.shape)}, the tokens {tuple(looked_up.shape)}")
    other = (embed != looked_up).any(-1)
    special = ids[other].unique()
    if len(special) > 1 or bool((~other & torch.isin(ids, special)).any()):
        raise Wrong("hook_embed is not the token embedding with pictures in place of one token")
    named = {getattr(model.config, name, None) for name in ("image_token_id", "image_token_index")} - {None}
    if "pixel_values" in inputs and named & set(ids.flatten().tolist()) and not len(special):
        raise Wrong("hook_embed has no pictures")


def _proportional(value: Tensor, other: Tensor) -> bool:
    if value.shape != other.shape:
        return False
    ratio = (value / other).flatten().nanmedian()
    return bool(((value - ratio * other).norm(dim=-1) <= _LIMIT * value.norm(dim=-1)).all())


def points_in_words(points: tuple[str, ...]) -> str:
    """Sites of one model in a few words."""
    if "hook_attn_out" in points:
        extra = [w for w, p in (("z", "attn.hook_z"), ("mlp post", "mlp.hook_post")) if p in points]
        middle = "" if "hook_resid_mid" in points else "parallel, "
        return middle + ", ".join(["stream, attention, MLP", *extra])
    missing = [
        w
        for w, p in (("hook_embed", "hook_embed"), ("ln_final", "ln_final.hook_normalized"))
        if p not in points
    ]
    return "stream alone" + (f", no {' and no '.join(missing)}" if missing else "")
