"""LLaVA's projector (Linear, activation, Linear) with the weights of a projector of each token."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from taxogen.models.features import PictureStandardizer

EXPRESSED: Mapping[str, str] = {"linear": "linear", "gelu-mlp": "gelu"}
"""Projectors that LLaVA has a counterpart for → its activation (`projector_hidden_act`)."""


def llava_weights(net: nn.Module, width: int, standardiser: PictureStandardizer | None) -> dict[str, Tensor]:
    """The state of LLaVA's projector that maps encoder features as these layers map standardised ones.

    Standardising goes into the first layer; a hidden layer that is narrower than the language model is filled up with
    zeros, of which GELU makes zeros; behind a single layer stands the identity. Sums are made in float64.

    Args:
        net: layers of `linear` or `gelu-mlp`, the hidden one at most `width` wide.
        width: of the language model.
        standardiser: of the run, or None.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    weight, bias = layers[0].weight.detach().double(), layers[0].bias.detach().double()
    if standardiser is not None:
        weight = weight / torch.from_numpy(standardiser.scale).double()
        bias = bias - weight @ torch.from_numpy(standardiser.mean).double()
    more = width - len(bias)
    last = (layers[1].weight, layers[1].bias) if len(layers) > 1 else (torch.eye(width), torch.zeros(width))
    state = {
        "linear_1.weight": nn.functional.pad(weight, (0, 0, 0, more)),
        "linear_1.bias": nn.functional.pad(bias, (0, more)),
        "linear_2.weight": nn.functional.pad(last[0].detach(), (0, more)),
        "linear_2.bias": last[1].detach(),
    }
    return {name: value.float().contiguous() for name, value in state.items()}
