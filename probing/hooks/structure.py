"""What tells the structure of a model: names of parts, a few random tokens, and when two values are equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


#: Rows and positions of the tokens that show how a model is built: two numbers that can be told from one another.
ROWS, LENGTH = 3, 6


def sample_tokens(
    model: nn.Module, rows: int = ROWS, length: int = LENGTH, seed: int = 0
) -> Int[Tensor, "rows length"]:
    """Random tokens without the special ones that the configs name (padding, picture, ...)."""
    configs = {
        id(c): c for m in model.modules() if hasattr(c := getattr(m, "config", None), "__dict__")
    }.values()
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
