"""Parts of a padded batch: rows of like length go through the model together, so that little of it is padding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

#: What one more forward pass costs, in tokens: on two CPU cores a pass of SmolLM2-135M took 46 ms and 1.2 ms a token.
#: On a GPU a pass costs thousands of tokens, and batches are not split there.
PASS_TOKENS = 48
#: What a model takes with a row an item; a batch with any other tensor, or with a cache of its own, is not split.
_BY_ROW = frozenset({"input_ids", "inputs_embeds", "attention_mask", "position_ids"})


@dataclass(frozen=True)
class Part:
    """Rows of a batch, and the columns behind the prefix that hold all their tokens.

    Attributes:
        rows: which rows of the batch.
        start: the first of their columns, counted in the whole sequence.
        stop: the column after the last.
        prefix: how many first columns the prefix has.
    """

    rows: Int[np.ndarray, "rows"]
    start: int
    stop: int
    prefix: int

    def inputs(self, whole: Mapping[str, Any]) -> dict[str, Any]:
        """The model's arguments for the part; the mask goes over the prefix too."""
        return {
            name: self._of(name, value) if isinstance(value, Tensor) else value
            for name, value in whole.items()
        }

    def _of(self, name: str, value: Tensor) -> Tensor:
        rows = value[torch.from_numpy(self.rows).to(value.device)]
        if name == "attention_mask":
            return torch.cat([rows[:, : self.prefix], rows[:, self.start : self.stop]], 1)
        return rows[:, self.start - self.prefix : self.stop - self.prefix]


def parts_of(inputs: Mapping[str, Any], prefix: int) -> list[Part]:
    """The parts in which a batch costs least; an empty list where it is better, or has to be, left whole.

    Args:
        inputs: the model's arguments for the rows, without their shared prefix.
        prefix: how many tokens that has.
    """
    mask = inputs.get("attention_mask")
    tensors = {name: value for name, value in inputs.items() if value is not None and name != "use_cache"}
    if (
        not isinstance(mask, Tensor)
        or mask.ndim != 2
        or mask.device.type != "cpu"
        or not _BY_ROW.issuperset(tensors)
    ):
        return []
    if any(
        value.shape[:2] not in (mask.shape, (len(mask), mask.shape[1] - prefix)) for value in tensors.values()
    ):
        return []  # positions that all rows share, or three a token
    real = mask.bool().numpy()[:, prefix:]
    stops = real.shape[1] - real[:, ::-1].argmax(1)
    starts = real.argmax(1) if "position_ids" in tensors else np.zeros_like(stops)
    order = np.argsort(stops - starts, kind="stable")
    parts = [
        Part(np.sort(rows), prefix + int(starts[rows].min()), prefix + int(stops[rows].max()), prefix)
        for rows in np.split(order, _cuts((stops - starts)[order]))
    ]
    return parts if len(parts) > 1 else []


def _cuts(lengths: Int[np.ndarray, "rows"]) -> list[int]:
    """Where to cut ascending lengths so that padded tokens and passes cost least together."""
    edges = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(lengths)]
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for j in range(1, len(edges)):
        longest = int(lengths[edges[j] - 1])
        best.append(
            min(
                (best[i][0] + (edges[j] - edges[i]) * longest + PASS_TOKENS, [*best[i][1], edges[i]])
                for i in range(j)
            )
        )
    return best[-1][1][1:]
