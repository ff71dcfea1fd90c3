"""Edits at chosen tokens: steering along a direction, or any change of the rows there; for `probing.hooks.edit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from array_api_compat import array_namespace
from jaxtyping import Float, Int
from torch import Tensor

from probing.hooks import Edit

Array = Any
Change = Callable[[Tensor], Tensor]


def at_tokens(change: Change, tokens: Int[Tensor, "rows k"] | Sequence[int], skip: int = 0) -> Edit:
    """The edit that changes some tokens of each row and leaves every bit of all others.

    >>> double_last = at_tokens(lambda value: 2 * value, [2])
    >>> double_last(torch.ones(1, 3, 1)).flatten()
    tensor([1., 1., 2.])

    Args:
        change: from values [rows, k, width] to new ones.
        tokens: positions in the whole sequence, the same for all rows or one line a row; with none the edit is empty.
        skip: how many first tokens the model does not see because their keys and values are cached.

    Raises:
        ValueError: (when it runs) a position is cached or beyond the end.
    """
    places = torch.as_tensor(tokens, dtype=torch.long)

    def edit(value: Tensor) -> Tensor | None:
        if not places.numel():
            return None
        at = (places - skip).to(value.device).expand(len(value), -1)
        if int(at.min()) < 0 or int(at.max()) >= value.shape[1]:
            raise ValueError(
                f"asked to edit tokens {sorted({*places.flatten().tolist()})}, found tokens {skip} to "
                f"{skip + value.shape[1] - 1} in this pass; name positions in the whole sequence, after the prefix"
            )
        rows = torch.arange(len(value), device=value.device)[:, None]
        new = value.clone()
        new[rows, at] = change(value[rows, at]).to(value.dtype)
        return new

    return edit


def added(vector: Float[Array, " width"]) -> Change:
    """The change that adds a vector: direction × dose × unit.

    >>> added(np.array([0.0, 3.0]))(torch.ones(1, 1, 2))
    tensor([[[1., 4.]]])
    """
    shift = torch.as_tensor(np.asarray(vector), dtype=torch.float32)
    return lambda value: value + shift.to(value.device)


def projection_std(rows: Float[Array, "n d"], direction: Float[Array, " d"]) -> float:
    """Spread of the rows along a direction (of any length, taken as a unit vector): the unit in which doses are told.

    >>> projection_std(np.array([[1.0, 9.0], [3.0, 0.0]]), np.array([2.0, 0.0]))
    1.0

    Source: Turner et al. 2023, arXiv:2308.10248 (adding directions); Marks & Tegmark 2023, arXiv:2310.06824, section 6
    (the difference of means as the dose). Told in standard deviations instead, so that doses of directions with
    unlike spread can be compared.

    Raises:
        ValueError: the rows do not vary along it.
    """
    xp = array_namespace(rows)
    unit = direction / xp.linalg.vector_norm(direction)
    spread = float(xp.std(xp.astype(rows, xp.float64) @ xp.astype(unit, xp.float64)))
    if not spread > 0:
        raise ValueError(
            f"{rows.shape[0]} rows do not vary along this direction, so a dose has no unit; "
            "choose a later site or another span"
        )
    return spread
