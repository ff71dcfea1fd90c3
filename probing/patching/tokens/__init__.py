"""Single tokens of a row: how much of the answer each carries, by attention, gradients, cut edges and exchange."""

from probing.patching.tokens.attention import Attention, attention, rollout
from probing.patching.tokens.exchanged import cut, exchanged
from probing.patching.tokens.gradients import contributions, metric_between
from probing.patching.tokens.row import TokensOfRow

__all__ = [
    "Attention",
    "TokensOfRow",
    "attention",
    "contributions",
    "cut",
    "exchanged",
    "metric_between",
    "rollout",
]
