"""Rates of yes/no answers that can be recomputed under any cluster weights, for intervals over leaves."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

import numpy as np
from jaxtyping import Bool, Float, Shaped

from probing.stats.auroc import ClusterAUROC
from probing.stats.clusters import (
    ClusterStatistic,
    alike_columns,
    as_columns,
    check_rows,
    check_weights,
    sum_by_cluster,
)
from probing.stats.confusion import RATES, Confusion, SingleClass


def statistics(
    measures: Iterable[str],
    scores: Float[np.ndarray, "rows k"],
    labels: Bool[np.ndarray, "rows k"],
    clusters: Shaped[np.ndarray, " rows"],
    *,
    threshold: float | Float[np.ndarray, " k"] = 0.0,
    single_class: SingleClass = "nan",
) -> dict[str, ClusterStatistic]:
    """Measures of every column, ready for a bootstrap over clusters; scores above the threshold mean Yes.

    Raises:
        KeyError: unknown measure.
    """
    known = ("auroc", *RATES)
    if unknown := [measure for measure in measures if measure not in known]:
        raise KeyError(f"measure {unknown[0]!r} was asked for; known: {', '.join(known)}")
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels, bool)
    counts = ClusterRates(
        scores > threshold, labels, clusters, counted=~np.isnan(scores), single_class=single_class
    )
    return {
        measure: ClusterAUROC(scores, labels, clusters) if measure == "auroc" else counts.of(measure)
        for measure in measures
    }


class ClusterRates:
    """One of `RATES` of `k` yes/no decision columns under any cluster weights.

    For a choice among classes give one-hot decisions and labels: the mean of `f1_yes` over columns is macro-F1,
    the mean of `tpr` is the balanced accuracy. Questions outside `counted` (all count by default) are left out;
    for `single_class` see `Confusion.rate`.

    >>> yes, truth = np.array([True, False, True, False]), np.array([True, True, False, False])
    >>> rates = ClusterRates(yes, truth, np.array(["crow", "crow", "owl", "owl"]), "tpr")
    >>> rates.value
    array([0.5])
    >>> rates.of("accuracy").at(np.array([[2.0, 1.0]]))
    array([[0.5]])
    """

    def __init__(
        self,
        decisions: Bool[np.ndarray, "rows k"],
        labels: Bool[np.ndarray, "rows k"],
        clusters: Shaped[np.ndarray, " rows"],
        measure: str = "balanced_accuracy",
        *,
        counted: Bool[np.ndarray, "rows k"] | None = None,
        single_class: SingleClass = "nan",
    ):
        decisions, labels = as_columns(decisions, np.bool_), as_columns(labels, np.bool_)
        included = np.ones_like(labels) if counted is None else as_columns(counted, np.bool_)
        check_rows(decisions=decisions, labels=labels, counted=included, clusters=clusters)
        self.measure = _known(measure)
        self.single_class: SingleClass = single_class
        self.clusters, codes = np.unique(np.asarray(clusters), return_inverse=True)
        yes, no = labels & included, ~labels & included
        # Columns that share their questions share the counts of these.
        alike = alike_columns(np.concatenate([yes, no]))
        self._kind_of = np.empty(labels.shape[1], dtype=int)
        for kind, columns in enumerate(alike):
            self._kind_of[columns] = kind
        first = [columns[0] for columns in alike]
        cells = (decisions & yes, decisions & no, yes[:, first], no[:, first])
        self._counts = [sum_by_cluster(cell, codes, len(self.clusters)) for cell in cells]

    def of(self, measure: str) -> ClusterRates:
        """Another rate of the same counts."""
        other = copy(self)
        other.measure = _known(measure)
        return other

    @property
    def value(self) -> Float[np.ndarray, " k"]:
        """The rate with every cluster counted once."""
        return self.at(np.ones((1, len(self.clusters))))[0]

    def at(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The rate with each cluster counted as often as `weights` says; undefined where a class is missing."""
        weights = check_weights(weights, self.clusters)
        hit, false_alarm, *totals = (weights @ counts for counts in self._counts)
        yes, no = (total[:, self._kind_of] for total in totals)
        return Confusion(hit, yes - hit, false_alarm, no - false_alarm).rate(self.measure, self.single_class)


def _known(measure: str) -> str:
    if measure not in RATES:
        raise KeyError(f"rate {measure!r} was asked for; known: {', '.join(RATES)}")
    return measure
