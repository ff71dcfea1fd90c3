"""Projectors: learned maps from encoder features to tokens in the language model's embedding space, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from taxogen.models.grids import joined_side


@dataclass(frozen=True)
class Sizes:
    """The sizes that a projector's layers are made for.

    Attributes:
        inputs: numbers that go in.
        outputs: numbers that come out.
        hidden: width of the first hidden layer; 0 for the usual one of its kind.
        width: of the language model.
    """

    inputs: int
    outputs: int
    hidden: int
    width: int


def _linear(sizes: Sizes) -> nn.Module:
    return nn.Linear(sizes.inputs, sizes.outputs)


def _gelu_mlp(sizes: Sizes) -> nn.Module:
    hidden = sizes.hidden or sizes.width
    return nn.Sequential(nn.Linear(sizes.inputs, hidden), nn.GELU(), nn.Linear(hidden, sizes.outputs))


def _fused_gelu_mlp(sizes: Sizes) -> nn.Module:
    hidden, out = sizes.hidden or 4 * sizes.inputs, sizes.outputs
    layers = (
        nn.Linear(sizes.inputs, hidden),
        nn.GELU(),
        nn.Linear(hidden, out),
        nn.GELU(),
        nn.Linear(out, out),
    )
    return nn.Sequential(*layers)


FLAT = "flat-"
"""How names of projectors begin that take all encoder tokens of a picture as one vector."""

PROJECTORS: Mapping[str, Callable[[Sizes], nn.Module]] = {
    "flat-gelu-mlp": _gelu_mlp,
    "flat-linear": _linear,
    "linear": _linear,
    "gelu-mlp": _gelu_mlp,
    "fused-gelu-mlp": _fused_gelu_mlp,
}
"""Name (`model.projector`) → maker of the layers that map a vector: each encoder token, or all of them flattened.

`gelu-mlp` is the multi-modal projector of LLaVA-1.5 (Liu et al. 2024, arXiv:2310.03744) and, with `linear` and
`fused-gelu-mlp`, one of prismatic-vlms (Karamcheti et al. 2024, arXiv:2402.07865), which the study used.
"""


class Projector(nn.Module):
    """A map from encoder features to tokens in the language model's embedding space.

    Where `scale` is given, each token is divided by its root mean square and multiplied by it, so that a frozen model
    meets vectors of the size it knows from the first step on.
    """

    def __init__(
        self, kind: str, features: tuple[int, int], tokens: tuple[int, int], hidden: int, scale: float | None
    ):
        """Freshly drawn.

        Args:
            kind: one of `PROJECTORS`.
            features: encoder tokens of a picture, and their width.
            tokens: image tokens, and the width of the language model. Unless the projector is a flat one there are as
                many as encoder tokens, or fewer by a square: then r × r neighbours in the grid go in together.
            hidden: see `Sizes`.
            scale: the root mean square of the tokens; None leaves them as they come.

        Raises:
            KeyError: an unknown kind.
            ValueError: the encoder tokens do not give this number of image tokens.
        """
        super().__init__()
        if kind not in PROJECTORS:
            raise KeyError(f"projector {kind!r} is not known; known: {', '.join(PROJECTORS)}")
        self.tokens, self.scale, self.flat = tokens, scale, kind.startswith(FLAT)
        self.side = 1 if self.flat else joined_side(features[0], tokens[0], kind)
        inputs = features[0] * features[1] if self.flat else features[1] * self.side**2
        outputs = tokens[0] * tokens[1] if self.flat else tokens[1]
        self.net = PROJECTORS[kind](Sizes(inputs, outputs, hidden, tokens[1]))

    def forward(self, features: Float[Tensor, "n encoder_tokens d"]) -> Float[Tensor, "n image_tokens width"]:
        """Image tokens for each picture; those of a grid in its order, row by row."""
        if self.flat:
            tokens = self.net(features.flatten(1)).unflatten(1, self.tokens)
        else:
            tokens = self.net(joined(features, self.side))
        if self.scale is None:
            return tokens
        return nn.functional.rms_norm(tokens, (self.tokens[1],), eps=1e-6) * self.scale


def joined(features: Float[Tensor, "n tokens d"], side: int) -> Float[Tensor, "n fewer joined"]:
    """`side` × `side` neighbours of a square grid as one token: their features row by row (space to depth).

    >>> import torch
    >>> joined(torch.arange(16.0)[None, :, None], 2)[0, 0]
    tensor([0., 1., 4., 5.])
    """
    if side == 1:
        return features
    n, tokens, width = features.shape
    cells = math.isqrt(tokens) // side
    grid = features.reshape(n, cells, side, cells, side, width)
    return grid.transpose(2, 3).reshape(n, cells * cells, side * side * width)
