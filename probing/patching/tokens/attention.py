"""Attention from chosen tokens to all others: of every head, and rolled out over the layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probing.hooks import record
from probing.hooks.layouts import layout_of
from probing.patching.runs import forward
from probing.patching.tokens.row import TokensOfRow
from probing.sites import PATTERN, Site


@dataclass(frozen=True)
class Attention:
    """Where some tokens look, in one row.

    Attributes:
        heads: of every layer that has patterns, and head: shares of the attention of each query, which sum to 1.
        layers: those layers.
        rolled: rolled out over these layers (`rollout`); sums to 1 over the keys.
    """

    heads: Float[Tensor, "layers heads queries keys"]
    layers: tuple[int, ...]
    rolled: Float[Tensor, "queries keys"]


@torch.no_grad()
def attention(tokens: TokensOfRow, queries: Sequence[int]) -> Attention:
    """The attention of some tokens of a row to all; queries and keys are positions in the whole sequence.

    Patterns of all tokens are needed for the rollout and held one layer at a time.

    >>> from probing.patching import Rows
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size, attn_implementation="eager"))
    >>> copies = lambda n: Rows(lambda: {"input_ids": torch.arange(6).expand(n, -1)}, spans={})
    >>> looks = attention(TokensOfRow(model, copies, (2, 3)), [4, 5])
    >>> tuple(looks.heads.shape), tuple(looks.rolled.shape)  # layers, heads, queries, keys
    ((2, 2, 2, 6), (2, 6))

    Raises:
        ValueError: attention is not eager, no layer has patterns, or a query lies in the cached prefix.
    """
    rows, layout = tokens.rows(), layout_of(tokens.model)
    if cached := [query for query in queries if query < rows.skip]:
        raise ValueError(f"token {cached[0]} was to look; the first {rows.skip} tokens are a cached prefix")
    sites = [site for site in layout.sites if site.point == PATTERN]
    if not sites:
        raise ValueError(f"{layout.model_type} has no attention patterns that could be recorded")
    own = [query - rows.skip for query in queries]
    joint: list[Tensor] = []

    def take(_: Site, pattern: Tensor) -> Tensor:
        joint[:] = [rollout([_square(pattern[0].float().mean(0))], *joint)]
        return pattern[0][:, own].float()

    with record(tokens.model, [str(site) for site in sites], take=take) as seen:
        forward(tokens.model, rows)
    heads = torch.stack([seen[str(site)] for site in sites])
    return Attention(heads, tuple(int(site.layer or 0) for site in sites), joint[0][list(queries)])


def rollout(
    patterns: Iterable[Float[Tensor, "token token"]], start: Float[Tensor, "token token"] | None = None
) -> Float[Tensor, "token token"]:
    """Attention rolled out: how much of each token's state would come from each input, if layers only mixed tokens.

    Half of a layer's mixing is its pattern (the mean over its heads), half the skip connection; layers multiply. What
    MLPs and values do to a state is left out, so that it tells where information can come from, not what is used.

    >>> rollout([torch.tensor([[1.0, 0.0], [0.5, 0.5]])] * 2)
    tensor([[1.0000, 0.0000],
            [0.4375, 0.5625]])

    Args:
        patterns: of each layer, the first below.
        start: the product of the layers under them; none by default.

    Source: Abnar & Zuidema 2020, ACL, "Quantifying attention flow in transformers", section 3, A = 0.5 W + 0.5 I.
    """
    joint = start
    for pattern in patterns:
        mixed = 0.5 * (pattern + torch.eye(len(pattern), dtype=pattern.dtype, device=pattern.device))
        mixed = mixed / mixed.sum(-1, keepdim=True)
        joint = mixed if joint is None else mixed @ joint
    if joint is None:
        raise ValueError("attention of no layer was to be rolled out; give one pattern at least")
    return joint


def _square(pattern: Float[Tensor, "query key"]) -> Float[Tensor, "key key"]:
    """A pattern with rows for the cached prefix, whose tokens keep their own state: they see none of the others."""
    queries, keys = pattern.shape
    whole = torch.eye(keys, dtype=pattern.dtype, device=pattern.device)
    whole[keys - queries :] = pattern
    return whole
