"""Means over pairs of clusters (dyads), with standard errors that know that pairs share a cluster on either side."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

from probing.stats.clusters import as_columns, check_rows, check_weights, sum_by_cluster

_LEAST_CLUSTERS = 3
"""All rows between two clusters share both, and say nothing of how much clusters differ."""
_LEAST_PAIRS = 4
"""Pairs of clusters that a draw must hold, or its standard error rests on next to nothing."""
_BLOCK = 64  # draws that are in memory at once


class DyadMean:
    """Mean of `k` columns over rows that each belong to two clusters, under any weights of the clusters.

    A row counts as often as the product of its two clusters' weights, so that whatever all rows of a cluster share is
    drawn again with it. Where a row has an undefined number it is left out of all columns.

    >>> ends = np.array([["bird", "fruit"], ["bird", "tool"], ["fruit", "tool"]])
    >>> mean = DyadMean(np.array([1.0, 2.0, 6.0]), ends)
    >>> mean.value, mean.clusters.tolist()
    (array([3.]), ['bird', 'fruit', 'tool'])
    >>> mean.at(np.array([[2.0, 1.0, 0.0]]))  # the tools were not drawn
    array([[1.]])

    Args:
        values: of rows.
        ends: the two clusters of each row, in any order.
        over: a number of each row; the mean is then the ratio of the means of `values` and of `over`.

    Raises:
        ValueError: no row is defined, or both clusters of a row are one.

    Source: Davezies, D'Haultfœuille & Guyonvarch 2021, Ann. Stat. 49(2) (the draws); Aronow, Samii & Assenova 2015,
    Polit. Anal. 23(4) (the standard error).
    """

    def __init__(
        self,
        values: Float[np.ndarray, "n k"],
        ends: Shaped[np.ndarray, "n 2"],
        over: Float[np.ndarray, " n"] | None = None,
    ):
        values = as_columns(values, np.float64)
        over = np.ones(len(values)) if over is None else np.asarray(over, np.float64)
        check_rows(values=values, ends=ends, over=over)
        defined = ~(np.isnan(values).any(axis=1) | np.isnan(over))
        if not defined.any() or (ends[:, 0] == ends[:, 1]).any():
            raise ValueError(
                f"{int(defined.sum())} of {len(values)} rows are defined, and {int((ends[:, 0] == ends[:, 1]).sum())} "
                "have one cluster on both sides; give rows between two clusters"
            )
        self.n = int(defined.sum())
        self.clusters, codes = np.unique(np.asarray(ends)[defined], return_inverse=True)
        dyads, code = np.unique(np.sort(codes.reshape(-1, 2)), axis=0, return_inverse=True)
        self._ends = tuple(dyads.T)
        whole = sum_by_cluster(over[defined, None], code.ravel(), len(dyads))
        total = sum_by_cluster(values[defined], code.ravel(), len(dyads))
        self.value = total.sum(axis=0) / whole.sum()
        self._whole, self._residual = whole, total - self.value * whole

    def at(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The mean with each cluster counted as often as `weights` says; NaN where no row is drawn."""
        return self.value + self._shift(check_weights(weights, self.clusters))

    @property
    def error(self) -> Float[np.ndarray, " k"]:
        """The standard error of the value."""
        return self.errors(np.ones((1, len(self.clusters))))[0]

    def errors(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The standard error of the mean of each draw, by its own rows alone; NaN where these are of too few clusters.

        The sum of squares within clusters, less that within pairs of clusters, which it counts twice; never less than
        the latter, which is all there is where clusters do not matter.
        """
        weights = check_weights(weights, self.clusters)
        if len(self.clusters) < _LEAST_CLUSTERS:
            return np.full((len(weights), len(self.value)), np.nan)
        errors = [self._errors(weights[i : i + _BLOCK]) for i in range(0, len(weights), _BLOCK)]
        few = (self._drawn(weights) > 0).sum(axis=1) < min(_LEAST_PAIRS, len(self._whole))
        return np.where(few[:, None], np.nan, np.concatenate(errors))

    def _drawn(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws dyads"]:
        first, second = self._ends
        return weights[:, first] * weights[:, second]

    def _shift(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        drawn = self._drawn(weights)
        return _ratio(drawn @ self._residual, drawn @ self._whole)

    def _errors(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        drawn, shift = self._drawn(weights), self._shift(weights)
        residual, whole = self._residual, self._whole
        of_cluster = self._sums(weights, residual) - shift[:, None] * self._sums(weights, whole)
        within = np.einsum("bh,bhk->bk", weights, of_cluster**2)
        of_dyad = (
            drawn @ residual**2 - 2 * shift * (drawn @ (residual * whole)) + shift**2 * (drawn @ whole**2)
        )
        variance = np.maximum(np.maximum(within - of_dyad, of_dyad), 0)
        return _ratio(np.sqrt(variance), np.abs(drawn @ whole))

    def _sums(
        self, weights: Float[np.ndarray, "draws clusters"], of_dyads: Float[np.ndarray, "dyads k"]
    ) -> Float[np.ndarray, "draws clusters k"]:
        """The sum over the rows of each cluster, those of its partners counted as often as they are drawn."""
        first, second = self._ends
        square = np.zeros((len(self.clusters), len(self.clusters), of_dyads.shape[1]))
        square[first, second] = square[second, first] = of_dyads
        return (weights @ square.reshape(len(square), -1)).reshape(len(weights), len(square), -1)


def _ratio(
    numerator: Float[np.ndarray, "draws k"], denominator: Float[np.ndarray, "draws 1"]
) -> Float[np.ndarray, "draws k"]:
    """NaN where nothing was drawn; a sum of differences, by which is divided, may be negative."""
    empty = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=empty, where=denominator != 0)
