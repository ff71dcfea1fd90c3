"""Scores of many hypernyms that can be recomputed under any cluster weights, for intervals over leaves."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

import numpy as np
from jaxtyping import Bool, Float, Shaped

from probing.stats.confusion import RATES, Confusion, SingleClass
from probing.stats.estimates import ClusterStatistic

_ENTRIES = 2_000_000


def statistics(
    measures: Iterable[str],
    scores: Float[np.ndarray, "rows k"],
    labels: Bool[np.ndarray, "rows k"],
    clusters: Shaped[np.ndarray, " rows"],
    *,
    threshold: float | Float[np.ndarray, " k"] = 0.0,
    single_class: SingleClass = "nan",
) -> dict[str, ClusterStatistic]:
    """Measures of every hypernym, ready for a bootstrap over clusters; scores above the threshold mean Yes.

    Raises:
        KeyError: unknown measure.
    """
    known = ("auroc", *RATES)
    if unknown := [measure for measure in measures if measure not in known]:
        raise KeyError(f"measure {unknown[0]!r} was asked for; known: {', '.join(known)}")
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels, bool)
    asked = ~np.isnan(scores)
    counts = ClusterConfusion(
        scores > threshold, labels, clusters, "accuracy", asked=asked, single_class=single_class
    )
    return {
        measure: SortedAUROC(scores, labels, clusters) if measure == "auroc" else counts.of(measure)
        for measure in measures
    }


class ClusterConfusion:
    """A rate of `k` hypernyms that can be recomputed under any weights of the clusters (leaves).

    `clusters`, `value` and `at` are those of `probing.stats.ClusterStatistic`.
    """

    def __init__(
        self,
        decisions: Bool[np.ndarray, "rows k"],
        labels: Bool[np.ndarray, "rows k"],
        clusters: Shaped[np.ndarray, " rows"],
        measure: str,
        *,
        asked: Bool[np.ndarray, "rows k"] | None = None,
        single_class: SingleClass = "nan",
    ):
        self.measure = measure
        self.single_class: SingleClass = single_class
        self.clusters, codes = np.unique(np.asarray(clusters), return_inverse=True)
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(self.clusters)))
        counted = np.ones_like(labels) if asked is None else asked
        cells = (decisions & labels, ~decisions & labels, decisions & ~labels, ~decisions & ~labels)
        self._counts = [
            np.add.reduceat((cell & counted)[order].astype(np.float64), starts, axis=0) for cell in cells
        ]

    def of(self, measure: str) -> ClusterConfusion:
        """Another rate of the same counts."""
        other = copy(self)
        other.measure = measure
        return other

    @property
    def value(self) -> Float[np.ndarray, " k"]:
        """The rate with every cluster counted once."""
        return self.at(np.ones((1, len(self.clusters))))[0]

    def at(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The rate with each cluster counted as often as `weights` says."""
        counts = Confusion(*(np.asarray(weights, np.float64) @ cell for cell in self._counts))
        return counts.rate(self.measure, self.single_class)


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
