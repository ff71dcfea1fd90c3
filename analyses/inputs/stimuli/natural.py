"""How natural states are that are put into a model: percentiles among those of other leaves, and when to warn."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Float

from probing.edits.naturalness import UNNATURAL, Naturalness

MEASURES = ("mahalanobis_percentile", "neighbour_percentile", "unnatural")
"""Percentiles of the distances to the mean and to the nearest natural state; whether the larger is over the 99th."""
WARNED = 0.5
"""Share of states over the 99th percentile above which one is warned."""


def ranked(
    natural: Naturalness, states: Iterable[Float[np.ndarray, "rows k d"]], leaves: np.ndarray | None
) -> dict[str, Float[np.ndarray, "edits rows"]]:
    """`MEASURES` of the states under each edit, among natural ones of other leaves of one site and span.

    Args:
        natural: states of all leaves.
        states: of each edit.
        leaves: whose states they were before; see `Naturalness.percentile`.
    """
    pairs = [
        (natural.percentile(one, leaves), natural.neighbour_percentile(one, leaves))
        for one in map(np.asarray, states)
    ]
    mean, neighbour = (np.array(side) for side in zip(*pairs))
    return columns(mean, neighbour)


def columns(
    mean: Float[np.ndarray, "edits rows"], neighbour: Float[np.ndarray, "edits rows"]
) -> dict[str, Float[np.ndarray, "edits rows"]]:
    """`MEASURES` from both percentiles."""
    return dict(zip(MEASURES, (mean, neighbour, (np.maximum(mean, neighbour) > UNNATURAL).astype(float))))


def warnings(rows: pd.DataFrame, by: str) -> list[str]:
    """A line for each kind (an entry of column `by`) of states most of which lie where no natural ones do."""
    far = rows[(rows["measure"] == MEASURES[-1]) & (rows["value"] > WARNED)]
    lines = []
    for kind, of_kind in far.groupby(by, sort=False):
        where = [f"{one['span']} behind block {one['layer']:.0f}" for one in of_kind.to_dict("records")]
        lines.append(
            f"  warning: {kind}: most states lie beyond the 99th percentile of natural ones at "
            f"{', '.join(dict.fromkeys(where))}"
        )
    return lines
