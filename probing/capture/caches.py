"""Key-value caches of a forward pass, handed on to the rows that continue it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from transformers import DynamicCache


@torch.inference_mode()
def select_rows(cache: DynamicCache, index: Tensor) -> DynamicCache:
    """A cache of its own with the given rows of another, which stays as it is; a row may come several times."""
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    chosen.batch_select_indices(index)
    return chosen
