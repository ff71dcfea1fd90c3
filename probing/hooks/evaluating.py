"""evaluating() and uncompiled(): a model without dropout, or without compiled graphs, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A block in which the model is in evaluation mode; afterwards every module has its own mode back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def uncompiled() -> Iterator[None]:
    """A block in which compiled models and functions run as they are written.

    A compiled graph calls no hook that came later, and keeps those that were there when it was made.
    """
    with torch.compiler.set_stance("force_eager"):
        yield
