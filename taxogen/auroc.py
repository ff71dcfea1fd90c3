"""AUROC under cluster weights by sorting: for columns with labels of their own, over many clusters."""

import numpy as np
from jaxtyping import Bool, Float, Shaped

_ENTRIES = 2_000_000


class SortedAUROC:
    """Area under the ROC curve of `k` columns under any cluster weights; ties count half, chance is .5.

    The same numbers as `probing.stats.ClusterAUROC` without strata, by another way: that one compares all
    pairs of clusters once and is fast where many columns share their labels; this one takes draws × rows per
    column, whatever the number of clusters. Rows with an undefined score are left out of their column; a
    column or a draw without both classes is not-a-number.

    Source: Hanley & McNeil 1982, Radiology 143(1), eq. 1 (concordance).
    """

    def __init__(
        self,
        scores: Float[np.ndarray, "rows k"],
        labels: Bool[np.ndarray, "rows k"],
        clusters: Shaped[np.ndarray, " rows"],
    ):
        if not np.shape(scores) == np.shape(labels) == (len(clusters), np.shape(labels)[-1]):
            raise ValueError(
                f"scores are {np.shape(scores)}, labels {np.shape(labels)}, clusters {np.shape(clusters)}; "
                "give a row each and one label column per score column"
            )
        self.clusters, codes = np.unique(np.asarray(clusters), return_inverse=True)
        self._columns = []
        for column, truth in zip(np.asarray(scores, np.float64).T, np.asarray(labels, bool).T, strict=True):
            rows = np.flatnonzero(~np.isnan(column))
            rows = rows[np.argsort(column[rows], kind="stable")]
            starts = np.flatnonzero(np.diff(column[rows], prepend=-np.inf) > 0)
            self._columns.append((codes[rows], truth[rows], starts))

    @property
    def value(self) -> Float[np.ndarray, " k"]:
        """The area with every cluster counted once."""
        return self.at(np.ones((1, len(self.clusters))))[0]

    def at(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The area with each cluster counted as often as `weights` says."""
        weights = np.asarray(weights, np.float64)
        result = np.full((len(weights), len(self._columns)), np.nan)
        for k, (codes, truth, starts) in enumerate(self._columns):
            step = max(1, _ENTRIES // max(1, len(codes)))
            for start in range(0, len(weights) if truth.any() and not truth.all() else 0, step):
                counted = weights[start : start + step, codes]
                yes = np.add.reduceat(counted * truth, starts, axis=1)
                no = np.add.reduceat(counted * ~truth, starts, axis=1)
                below = np.cumsum(no, axis=1) - no / 2
                pairs = yes.sum(1) * no.sum(1)
                wins = (yes * below).sum(1)
                result[start : start + step, k] = np.where(
                    pairs > 0, wins / np.where(pairs > 0, pairs, 1), np.nan
                )
        return result
