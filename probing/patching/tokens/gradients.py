"""Contributions of tokens to a number: difference to a baseline times gradient, where they are or on the way there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from probing.patching.runs import forward
from probing.patching.tokens.row import TokensOfRow

Metric = Callable[[Float[Tensor, "rows width"]], Float[Tensor, " rows"]]
"""From last hidden states to the number of each row that tokens contribute to."""


def contributions(
    tokens: TokensOfRow, baseline: Float[Tensor, "*tokens width"], metric: Metric, steps: int = 0
) -> Float[Tensor, " tokens"]:
    """What each token adds to the metric, by its gradient; in the metric's unit.

    All tokens move together from the baseline to where they are. With 0 steps: the whole way times the gradient at
    its end (gradient × input, with a baseline other than zero). With more: times the mean gradient at the middles of
    so many equal steps; they then sum to the difference of the metric between both ends (`metric_between` with the
    shares 1 and 0), the better the more steps.

    >>> from probing.patching import Rows
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size)).requires_grad_(False)
    >>> copies = lambda n: Rows(lambda: {"input_ids": torch.arange(6).expand(n, -1)}, spans={})
    >>> tokens = TokensOfRow(model, copies, (2, 3))
    >>> tuple(contributions(tokens, torch.zeros(8), lambda hidden: hidden[:, 0], steps=4).shape)
    (2,)

    Source: Shrikumar et al. 2017, arXiv:1605.01713 (gradient × input); Sundararajan et al. 2017, arXiv:1703.01365,
    eq. 1 and Proposition 1 (completeness).
    """
    shares = [(step + 0.5) / steps for step in range(steps)] or [1.0]
    way, parts = tokens.embedded.float() - baseline.float(), []
    for chunk in tokens.chunks(len(shares)):
        new = _between(tokens, baseline, [shares[at] for at in chunk]).requires_grad_()
        with torch.enable_grad():
            hidden = forward(tokens.model, tokens.rows(new)).last_hidden_state[:, -1]
            (gradient,) = torch.autograd.grad(metric(hidden).sum(), [new])
        parts.append((gradient * way).sum(-1))
    return torch.cat(parts).mean(0)


@torch.no_grad()
def metric_between(
    tokens: TokensOfRow, baseline: Float[Tensor, "*tokens width"], metric: Metric, shares: Sequence[float]
) -> Float[Tensor, " shares"]:
    """The metric with the tokens at some shares of the way from the baseline, 0, to where they are, 1.

    >>> from probing.patching import Rows
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    >>> model = LlamaForCausalLM(LlamaConfig(**size)).requires_grad_(False)
    >>> copies = lambda n: Rows(lambda: {"input_ids": torch.arange(6).expand(n, -1)}, spans={})
    >>> tokens = TokensOfRow(model, copies, (2, 3))
    >>> tuple(metric_between(tokens, torch.zeros(8), lambda hidden: hidden[:, 0], [0.0, 1.0]).shape)
    (2,)
    """
    rows = tokens.rows(_between(tokens, baseline, shares))
    return metric(forward(tokens.model, rows).last_hidden_state[:, -1])


def _between(
    tokens: TokensOfRow, baseline: Float[Tensor, "*tokens width"], shares: Sequence[float]
) -> Float[Tensor, "shares tokens width"]:
    own = tokens.embedded.float()
    share = torch.tensor(shares, device=own.device)[:, None, None]
    return (baseline.float() + share * (own - baseline.float())).detach()
