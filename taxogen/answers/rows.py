"""Rows of scores: which hypernyms each has, and which leaves they rest on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from taxogen.world.taxonomy import Taxonomy


def labels_of(
    table: pd.DataFrame, taxonomy: Taxonomy, hypernyms: Sequence[str] | None = None
) -> Bool[np.ndarray, "rows k"]:
    """Whether each row's leaf, as this world calls it, has each hypernym.

    Raises:
        KeyError: a hypernym is not in the taxonomy.
    """
    wanted = taxonomy.hypernyms if hypernyms is None else hypernyms
    if unknown := sorted(set(wanted) - set(taxonomy.hypernyms)):
        raise KeyError(f"hypernyms {unknown} are not in the taxonomy; known: {', '.join(taxonomy.hypernyms)}")
    columns = [taxonomy.hypernyms.index(name) for name in wanted]
    return np.asarray(taxonomy.labels(np.asarray(table["leaf"], dtype=str).tolist()))[:, columns]


def only_leaves(
    scores: Float[np.ndarray, "rows k"], table: pd.DataFrame, leaves: Sequence[str]
) -> Float[np.ndarray, "rows k"]:
    """The scores, NaN in the rows of other leaves: these stay clusters, so that runs stay paired."""
    keep = np.isin(np.asarray(table["leaf"], dtype=str), list(leaves))
    return np.where(keep[:, None], np.asarray(scores, np.float64), np.nan)


def named_leaves(
    leaves: Sequence[str], correct: Bool[np.ndarray, " rows"], at_least: float = 0.5
) -> tuple[str, ...]:
    """The leaves that the model names correctly on at least this share of their test pictures, sorted.

    Scores of an across-matched shuffle rest on these only (`only_leaves`).
    """
    names, codes = np.unique(np.asarray(leaves, dtype=str), return_inverse=True)
    share = np.bincount(codes, weights=np.asarray(correct, np.float64)) / np.bincount(codes)
    return tuple(str(name) for name in names[share >= at_least])
