"""How the blocks of a model family that is not listed are built, found by running them once.

Names say which module attends and which is the MLP. What they add to the residual stream is not guessed
from names: it is the pair of module outputs that makes resid_pre + attn_out + mlp_out = resid_post hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from jaxtyping import Int
from torch import Tensor, nn

#: Part of a model or block → the names that published families give it.
NAMES: dict[str, tuple[str, ...]] = {
    "embed": ("embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings"),
    "blocks": ("layers", "h", "blocks"),
    "final_norm": ("norm", "ln_f", "final_layernorm", "final_layer_norm", "norm_f"),
    "attention": ("self_attn", "attn", "attention", "self_attention"),
    "attention_projection": ("o_proj", "c_proj", "dense", "out_proj"),
    "mlp": ("mlp", "feed_forward", "block_sparse_moe", "moe"),
    "mlp_projection": ("down_proj", "c_proj", "dense_4h_to_h", "fc2", "fc_out"),
}


def tolerance(dtype: torch.dtype) -> float:
    """The largest relative difference that rounding explains: 1e-5 in float32, else 16 rounding steps."""
    return 1e-5 if dtype in (torch.float32, torch.float64) else 16 * torch.finfo(dtype).eps


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a fraction of the largest expected value."""
    scale = expected.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    return float((found.float() - expected.float()).abs().max() / scale.float())


def sample_tokens(
    model: nn.Module, rows: int = 3, length: int = 6, seed: int = 0
) -> Int[Tensor, "rows length"]:
    """Random tokens without the special ones that the configs name (padding, picture, ...)."""
    configs = {id(c): c for m in model.modules() if (c := getattr(m, "config", None)) is not None}.values()
    special: set[int] = set()
    sizes: list[int] = []
    for config in configs:
        values: Mapping[str, Any] = vars(config)
        for name, value in values.items():
            if name.endswith(("token_id", "token_index")):
                special.update(value if isinstance(value, list) else [value])
        sizes += [value for name, value in values.items() if name == "vocab_size" and isinstance(value, int)]
    allowed = torch.tensor([token for token in range(min(sizes)) if token not in special])
    places = torch.randint(len(allowed), (rows, length), generator=torch.Generator().manual_seed(seed))
    return allowed[places].to(next(model.parameters()).device)


def part(module: nn.Module, role: str) -> str | None:
    """The one name under which a module keeps a part, None if it has no such part."""
    present = [name for name in NAMES[role] if isinstance(getattr(module, name, None), nn.Module)]
    return present[0] if len(present) == 1 else None


@contextmanager
def _children_watched(blocks: Sequence[nn.Module]) -> Iterator[list[dict[str, tuple[Tensor, Tensor]]]]:
    """For each block, a dictionary that a forward pass fills: child name (or "") → its input and output."""
    seen: list[dict[str, tuple[Tensor, Tensor]]] = [{} for _ in blocks]

    def watch(layer: int, name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            given = args[0] if args else kwargs.get("hidden_states")
            out = output[0] if isinstance(output, tuple) else output
            if isinstance(given, Tensor) and isinstance(out, Tensor):
                seen[layer][name] = (given, out)

        return hook

    handles = []
    try:
        for layer, block in enumerate(blocks):
            for name, module in [("", block), *block.named_children()]:
                handles.append(module.register_forward_hook(watch(layer, name), with_kwargs=True))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def contributions(model: nn.Module, blocks: Sequence[nn.Module], attention: str, mlp: str) -> dict[str, str]:
    """The children that add to the residual stream, as Family fields: attention_norm, mlp_norm and mid.

    An empty attention_norm or mlp_norm means that the module itself adds; an empty mid, that the block is
    parallel and has no middle.

    Raises:
        ValueError: no choice satisfies the residual identity in every block.
    """
    with torch.inference_mode(), _children_watched(blocks) as seen:
        model(input_ids=sample_tokens(model), use_cache=False)
    error = 0.0
    for attention_norm in _after(seen, attention):
        for mlp_norm in _after(seen, mlp):
            error = max(
                _identity_error(block, attention_norm or attention, mlp_norm or mlp) for block in seen
            )
            if error <= tolerance(cast(Tensor, seen[0][""][1]).dtype):
                mid = _middle(seen, attention_norm or attention)
                return {"attention_norm": attention_norm, "mlp_norm": mlp_norm, "mid": mid}
    raise ValueError(
        f"resid_pre + {attention} + {mlp} = resid_post does not hold (relative error {error:.1e}), with or "
        "without "
        f"the modules after them; a block has {', '.join(name for name, _ in blocks[0].named_children())}"
    )


def _after(seen: Sequence[Mapping[str, tuple[Tensor, Tensor]]], child: str) -> list[str]:
    """The children whose input is the output of `child` in every block, after the empty name for none."""
    after = [
        name
        for name in seen[0]
        if name
        and all(name in block and block[name][0] is block[child][1] for block in seen if child in block)
    ]
    return ["", *after]


def _identity_error(block: Mapping[str, tuple[Tensor, Tensor]], attention: str, mlp: str) -> float:
    if attention not in block or mlp not in block:
        return float("inf")
    before, after = block[""]
    if block[attention][1].shape != after.shape or block[mlp][1].shape != after.shape:
        return float("inf")
    return relative_error(before + block[attention][1] + block[mlp][1], after)


def _middle(seen: Sequence[Mapping[str, tuple[Tensor, Tensor]]], attention: str) -> str:
    """The child whose input is resid_pre + attn_out in every block, empty if there is none."""
    for name in seen[0]:
        if name and all(
            name in block
            and block[name][0].shape == block[""][0].shape
            and relative_error(block[name][0], block[""][0] + block[attention][1])
            <= tolerance(block[name][0].dtype)
            for block in seen
        ):
            return name
    return ""
