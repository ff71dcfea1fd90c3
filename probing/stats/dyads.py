"""Means over pairs of clusters (dyads), with standard errors that know that pairs share a cluster on either side."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

from probing.stats.bands import studentised_interval
from probing.stats.clusters import as_columns, check_rows, check_weights, sum_by_cluster
from probing.stats.estimates import DRAWS, draw_weights
from probing.stats.undefined import beyond_rounding, divide

_LEAST_CLUSTERS = 3
"""All rows between two clusters share both, and say nothing of how much clusters differ."""
_LEAST_PAIRS = 4
"""Pairs of clusters that a draw must hold, or its standard error rests on next to nothing."""
_BLOCK = 64  # draws that are in memory at once
_STEPS = 60  # to the limit of a ratio; each leaves a share of the way that is less than 1


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

    Raises:
        ValueError: no row is defined, or both clusters of a row are one.

    Source: Davezies, D'Haultfœuille & Guyonvarch 2021, Ann. Stat. 49(2) (the draws); Aronow, Samii & Assenova 2015,
    Polit. Anal. 23(4) (the standard error).
    """

    def __init__(self, values: Float[np.ndarray, "n k"], ends: Shaped[np.ndarray, "n 2"]):
        values = as_columns(values, np.float64)
        check_rows(values=values, ends=ends)
        defined = ~np.isnan(values).any(axis=1)
        if not defined.any() or (ends[:, 0] == ends[:, 1]).any():
            raise ValueError(
                f"{int(defined.sum())} of {len(values)} rows are defined, and {int((ends[:, 0] == ends[:, 1]).sum())} "
                "have one cluster on both sides; give rows between two clusters"
            )
        self.n = int(defined.sum())
        self.clusters, codes = np.unique(np.asarray(ends)[defined], return_inverse=True)
        dyads, code = np.unique(np.sort(codes.reshape(-1, 2)), axis=0, return_inverse=True)
        self._ends = tuple(dyads.T)
        whole = np.bincount(code.ravel()).astype(float)[:, None]
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
        return divide(drawn @ self._residual, drawn @ self._whole)

    def _errors(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        drawn, shift = self._drawn(weights), self._shift(weights)
        residual, whole = self._residual, self._whole
        of_cluster = self._sums(weights, residual) - shift[:, None] * self._sums(weights, whole)
        within = np.einsum("bh,bhk->bk", weights, of_cluster**2)
        own, moved = drawn @ residual**2, shift**2 * (drawn @ whole**2)
        of_dyad = own - 2 * shift * (drawn @ (residual * whole)) + moved
        variance = np.maximum(within - of_dyad, of_dyad)
        return divide(np.sqrt(beyond_rounding(variance, own + moved)), drawn @ whole)

    def _sums(
        self, weights: Float[np.ndarray, "draws clusters"], of_dyads: Float[np.ndarray, "dyads k"]
    ) -> Float[np.ndarray, "draws clusters k"]:
        """The sum over the rows of each cluster, those of its partners counted as often as they are drawn."""
        first, second = self._ends
        square = np.zeros((len(self.clusters), len(self.clusters), of_dyads.shape[1]))
        square[first, second] = square[second, first] = of_dyads
        return (weights @ square.reshape(len(square), -1)).reshape(len(weights), len(square), -1)


def ratio_limits(
    values: Float[np.ndarray, "n k"],
    over: Float[np.ndarray, " n"],
    ends: Shaped[np.ndarray, "n 2"],
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Ratios of the means of `values` to the mean of `over`, with lower and upper limits.

    A ratio is within the limits where values − ratio · over has a mean that may be 0, by its own standard error and the
    quantiles of studentised draws. NaN where the mean of `over` may itself be 0, so that any ratio may be.

    >>> ends = np.array([["bird", "fruit"], ["bird", "tool"], ["fruit", "tool"]])
    >>> value, lower, upper = ratio_limits(np.ones(3), np.full(3, 2.0), ends)  # they do not vary
    >>> value, lower, upper
    (array([0.5]), array([0.5]), array([0.5]))

    Source: Fieller 1954, J. R. Statist. Soc. B 16(2); Hall 1992, section 3.5, for the quantiles.
    """
    values, over = as_columns(values, np.float64), as_columns(over, np.float64)
    undefined = np.isnan(values).any(axis=1) | np.isnan(over[:, 0])
    top, base = (DyadMean(np.where(undefined[:, None], np.nan, side), ends) for side in (values, over))
    value = top.value / base.value
    rest = DyadMean(values - value * over, ends)
    weights = draw_weights(len(rest.clusters), draws, seed)
    unit = np.ones_like(value)  # an error of 1 gives the quantiles themselves
    low, high = studentised_interval(
        0 * unit, unit, rest.at(weights) - rest.value, rest.errors(weights), len(rest.clusters), level
    )
    limits = []
    for times in (low, high):
        bounded = np.abs(times) * base.error < np.abs(base.value)
        ratio, times = value, np.where(bounded, times, 0)
        for _ in range(_STEPS):
            ratio = (top.value + times * DyadMean(values - ratio * over, ends).error) / base.value
        limits.append(np.where(bounded, ratio, np.nan))
    return value, np.minimum(*limits), np.maximum(*limits)
