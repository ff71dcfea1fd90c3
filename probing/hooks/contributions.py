"""What the blocks of a model add to the residual stream, found by watching them run once.

Names tell which module attends and which is the MLP. What they add is not guessed from names: it is the pair of module
outputs that makes resid_pre + attn_out + mlp_out = resid_post hold in every block.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probing.hooks.families import Family
from probing.hooks.stacks import Stack, joined
from probing.hooks.structure import NAMES, part


class Unresolved(Exception):
    """Why attention and MLP are not captured one by one."""


def family_of(stack: Stack, blocks: nn.ModuleList, heads: object) -> tuple[Family, str]:
    """The family of blocks that were watched; and why it has the residual stream alone, empty if it has all.

    >>> from probing.hooks.stacks import running_stack
    >>> from transformers import CohereConfig, CohereForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> stack = running_stack(model := CohereForCausalLM(CohereConfig(**size)))
    >>> family, _ = family_of(stack, model.model.layers, heads=2)
    >>> family.attention, family.mlp, family.mid  # both read the stream at the block's entry: no middle
    ('self_attn', 'mlp', '')
    """
    places = {"embed": stack.embed, "blocks": stack.blocks, "final_norm": stack.final_norm}
    inside = dict.fromkeys(("attention", "attention_projection", "mlp", "mlp_projection", "mid"), "")
    try:
        return Family(**places, **{**inside, **_inside(stack, blocks, heads)}), ""
    except Unresolved as reason:
        return Family(**places, **inside), str(reason)


def _inside(stack: Stack, blocks: nn.ModuleList, heads: object) -> dict[str, str]:
    """The fields of a family that name what is in a block.

    Raises:
        Unresolved: a block has no attention or no MLP under a known name, or its stream is another sum.
    """
    attention, mlp = (_everywhere(blocks, role) for role in ("attention", "mlp"))
    for norm in _after(stack, len(blocks), attention):
        for mlp_norm in _after(stack, len(blocks), mlp):
            added = norm or attention, mlp_norm or mlp
            if all(_adds_up(stack, layer, *added) for layer in range(len(blocks))):
                return {
                    "attention": attention,
                    "mlp": mlp,
                    "attention_norm": norm,
                    "mlp_norm": mlp_norm,
                    "mid": _middle(stack, len(blocks), blocks[0], added[0]),
                    "attention_projection": _projection(stack, blocks, "attention", attention, heads),
                    "mlp_projection": _projection(stack, blocks, "mlp", mlp),
                }
    raise Unresolved(
        f"resid_pre + {attention} + {mlp} = resid_post does not hold, with or without the modules after them"
    )


def _everywhere(blocks: nn.ModuleList, role: str) -> str:
    """The name under which every block keeps its part.

    Raises:
        Unresolved: blocks differ, or have none.
    """
    names = [part(block, role) for block in blocks]
    if names[0] is None or len(set(names)) > 1:
        at = next(i for i, name in enumerate(names) if name is None or name != names[0])
        children = ", ".join(name for name, _ in blocks[at].named_children())
        raise Unresolved(
            f"not every block has one {role} named {', '.join(NAMES[role])}: block {at} has {children}"
        )
    return names[0]


def _after(stack: Stack, depth: int, child: str) -> list[str]:
    """Children of a block whose input is the output of `child` in every block, after the empty name for none."""
    first = joined(stack.blocks, "0")
    names = [path.removeprefix(f"{first}.") for path in stack.calls if path.startswith(f"{first}.")]

    def follows(name: str) -> bool:
        for layer in range(depth):
            call, before = stack.block(layer, name), stack.block(layer, child)
            if call is None or before is None or not torch.equal(call.given, before.out):
                return False
        return True

    return ["", *(name for name in names if "." not in name and follows(name))]


def _equal(value: Tensor, expected: Tensor, *terms: Tensor) -> bool:
    """Whether two sums are equal in every token up to the rounding of sums of these terms."""
    if value.shape != expected.shape:
        return False
    sizes = sum((term.float().norm(dim=-1) for term in terms), expected.float().norm(dim=-1))
    step = torch.finfo(expected.dtype).eps
    return bool(((value.float() - expected.float()).norm(dim=-1) <= step * sizes).all())


def _adds_up(stack: Stack, layer: int, attention: str, mlp: str) -> bool:
    block, first, second = stack.block(layer), stack.block(layer, attention), stack.block(layer, mlp)
    if block is None or first is None or second is None:
        return False
    if not first.out.shape == second.out.shape == block.out.shape:
        return False
    total = block.given.double() + first.out.double() + second.out.double()
    return _equal(total, block.out, block.given, first.out, second.out)


def _middle(stack: Stack, depth: int, block: nn.Module, attention: str) -> str:
    """The child whose input is resid_pre + attn_out in every block, empty if there is none."""

    def reads_the_middle(layer: int, name: str) -> bool:
        call, whole, first = stack.block(layer, name), stack.block(layer), stack.block(layer, attention)
        if call is None or whole is None or first is None:
            return False
        return _equal(call.given, whole.given.double() + first.out.double(), whole.given, first.out)

    names = [name for name, _ in block.named_children()]
    return next((n for n in names if all(reads_the_middle(layer, n) for layer in range(depth))), "")


def _projection(stack: Stack, blocks: nn.ModuleList, role: str, owner: str, heads: object = None) -> str:
    """The child that makes the output of attention or MLP in every block that has one, empty if there is none.

    That of an attention whose width is not `heads` equal heads is left out.
    """
    names = {part(getattr(block, owner), f"{role}_projection") for block in blocks} - {None}
    if len(names) != 1:
        return ""
    (name,) = names
    for layer, block in enumerate(blocks):
        projection = getattr(getattr(block, owner), str(name), None)
        if projection is None:
            continue
        call, whole = stack.block(layer, joined(owner, str(name))), stack.block(layer, owner)
        if call is None or whole is None or not torch.equal(call.out, whole.out):
            return ""
        if role == "attention" and not _splits(getattr(block, owner), call.given.shape[-1], heads):
            return ""
    return str(name)


def _splits(attention: nn.Module, width: int, heads: object) -> bool:
    if not isinstance(heads, int) or width % heads:
        return False
    sizes = {getattr(attention, name, None) for name in ("head_dim", "v_head_dim")} - {None}
    return not sizes or width // heads in sizes
