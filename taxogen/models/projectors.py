"""Projectors: learned maps from encoder features to tokens in the language model's embedding space, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Sizes:
    """The sizes that a projector is made for.

    Attributes:
        features: encoder tokens of a picture, and their width.
        tokens: image tokens, and the width of the language model.
        hidden: width of a hidden layer, where there is one.
    """

    features: tuple[int, int]
    tokens: tuple[int, int]
    hidden: int

    @property
    def inputs(self) -> int:
        """The number of features of a picture, all encoder tokens together."""
        return self.features[0] * self.features[1]

    @property
    def outputs(self) -> int:
        """The number of values of a picture's image tokens together."""
        return self.tokens[0] * self.tokens[1]


def _linear(sizes: Sizes) -> nn.Module:
    return nn.Linear(sizes.inputs, sizes.outputs)


def _gelu_mlp(sizes: Sizes) -> nn.Module:
    return nn.Sequential(
        nn.Linear(sizes.inputs, sizes.hidden), nn.GELU(), nn.Linear(sizes.hidden, sizes.outputs)
    )


PROJECTORS: Mapping[str, Callable[[Sizes], nn.Module]] = {"gelu-mlp": _gelu_mlp, "linear": _linear}
"""Name (`model.projector`) → maker of a module [n, features of a picture] → [n, values of its image tokens]."""


class Projector(nn.Module):
    """A map from encoder features to tokens in the language model's embedding space.

    Each token is divided by its root mean square and multiplied by `scale` (the standard deviation of the embedding
    table), so that a frozen model meets vectors of the size it knows from the first step on.
    """

    def __init__(
        self, kind: str, features: tuple[int, int], tokens: tuple[int, int], hidden: int, scale: float
    ):
        """`kind`: one of `PROJECTORS`; `features`, `tokens` and `hidden`: see `Sizes`."""
        super().__init__()
        if kind not in PROJECTORS:
            raise KeyError(f"projector {kind!r} is not known; known: {', '.join(PROJECTORS)}")
        self.tokens, self.scale = tokens, scale
        self.net = PROJECTORS[kind](Sizes(features, tokens, hidden))

    def forward(self, features: Float[Tensor, "n encoder_tokens d"]) -> Float[Tensor, "n image_tokens width"]:
        """Image tokens for each picture."""
        tokens = self.net(features.flatten(1)).unflatten(1, self.tokens)
        return nn.functional.rms_norm(tokens, (self.tokens[1],), eps=1e-6) * self.scale
