"""Mediation: effects that go by way of a mediator and past it, slopes within clusters, pairs within a caliper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.optimize import linear_sum_assignment

from probing.stats.clusters import ClusterStatistic, as_columns, check_rows, check_weights, sum_by_cluster
from probing.stats.estimates import check_paired
from probing.stats.undefined import divide

Cell = tuple[int, int, int]
"""Whether the direct part, the mediator's state and what that state means come from the first side (1) or not (0)."""
_HALVES = {
    "direct": {(1, 1, 1): 0.5, (0, 1, 1): -0.5, (1, 0, 0): 0.5, (0, 0, 0): -0.5},
    "indirect": {(1, 1, 1): 0.5, (1, 0, 0): -0.5, (0, 1, 1): 0.5, (0, 0, 0): -0.5},
}
_WHOLE = {
    "total": {(1, 1, 1): 1.0, (0, 0, 0): -1.0},
    "direct_if_second": {(1, 0, 0): 1.0, (0, 0, 0): -1.0},
    "direct_if_first": {(1, 1, 1): 1.0, (0, 1, 1): -1.0},
    "indirect_if_second": {(0, 1, 1): 1.0, (0, 0, 0): -1.0},
    "indirect_if_first": {(1, 1, 1): 1.0, (1, 0, 0): -1.0},
}
_PARTS = {
    "state": {(d, 1, w): 0.25 for d in (0, 1) for w in (0, 1)}
    | {(d, 0, w): -0.25 for d in (0, 1) for w in (0, 1)},
    "meaning": {(d, s, 1): 0.25 for d in (0, 1) for s in (0, 1)}
    | {(d, s, 0): -0.25 for d in (0, 1) for s in (0, 1)},
}
EFFECTS: Mapping[str, Mapping[Cell, float]] = {**_WHOLE, **_HALVES, **_PARTS}
"""Every effect as weights of the cells; see `natural_effects`."""


def natural_effects(cells: Mapping[Cell, ClusterStatistic]) -> dict[str, Combined]:
    """Natural direct and indirect effects of two sides, first minus second, from an outcome with parts exchanged.

    A cell (d, s, w) is the outcome whose direct part comes from the first side where d is 1, else from the second, and
    whose mediator likewise: its state (s) and what such a state means (w). `direct_if_second` is the natural direct
    effect at the second side's mediator, `direct_if_first` that at the first's; `indirect_…` likewise at the direct
    part of a side. `direct` and `indirect` are their averages, which add to `total`, and `state` and `meaning` add to
    `indirect`. These two are left out where a cell that exchanges only one of them is not given.

    Source: Pearl 2001, Proc. UAI, eqs. 6–8; Imai, Keele & Tingley 2010, Psychol. Methods 15(4), eqs. 3–5 (averages over
    both sides); Owen 1977, Lect. Notes Econ. Math. Syst. 141 (the value that splits a union of parts).
    """
    possible = {name: weights for name, weights in EFFECTS.items() if set(weights) <= set(cells)}
    return {
        name: Combined([(weight, cells[cell]) for cell, weight in weights.items()])
        for name, weights in possible.items()
    }


class Combined:
    """A weighted sum of statistics on the same clusters, such as a difference.

    >>> from probing.stats import ClusterMean
    >>> birds = np.array(["crow", "owl"])
    >>> gap = Combined([(1, ClusterMean(np.array([3.0, 5.0]), birds)), (-1, ClusterMean(np.array([1.0, 1.0]), birds))])
    >>> gap.value, gap.at(np.array([[0.0, 2.0]]))
    (array([3.]), array([[4.]]))

    Raises:
        ValueError: they do not rest on the same clusters.
    """

    def __init__(self, terms: Sequence[tuple[float, ClusterStatistic]]):
        for _, other in terms[1:]:
            check_paired(terms[0][1], other)
        self._terms = terms
        self.clusters = terms[0][1].clusters

    @property
    def value(self) -> Float[np.ndarray, " k"]:
        """The sum with every cluster counted once."""
        return np.sum([weight * one.value for weight, one in self._terms], axis=0)

    def at(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The sum with each cluster counted as often as `weights` says."""
        return np.sum([weight * one.at(weights) for weight, one in self._terms], axis=0)


class ClusterSlope:
    """Slope of y on x about the means of each cluster, all columns pooled: [1]; NaN where x does not vary in any.

    Whatever the rows of a cluster share has no part in it (fixed effects of cluster × column). With `within=False` only
    the mean of each column is taken out. Rows where x or y is undefined are left out of their column.

    >>> leaves = np.array(["crow", "crow", "owl", "owl"])
    >>> ClusterSlope(np.array([1.0, 3.0, 9.0, 9.0]), np.array([0.0, 1.0, 5.0, 5.0]), leaves).value
    array([2.])

    Source: Wooldridge 2010, Econometric Analysis of Cross Section and Panel Data, ch. 10.5 (the within estimator).
    """

    def __init__(
        self,
        y: Float[np.ndarray, "n k"],
        x: Float[np.ndarray, "n k"],
        clusters: Shaped[np.ndarray, " n"],
        within: bool = True,
    ):
        y, x = as_columns(y, np.float64), as_columns(x, np.float64)
        check_rows(y=y, x=x, clusters=clusters)
        self.clusters, codes = np.unique(np.asarray(clusters), return_inverse=True)
        defined = ~np.isnan(y) & ~np.isnan(x)
        groups, count = (codes, len(self.clusters)) if within else (np.zeros_like(codes), 1)
        y, x = (_about_means(values, defined, groups, count) for values in (y, x))
        both = np.stack([(x * y).sum(axis=1), (x * x).sum(axis=1)], axis=1)
        self._sums = sum_by_cluster(both, codes, len(self.clusters))

    @property
    def value(self) -> Float[np.ndarray, " one"]:
        """The slope with every cluster counted once."""
        return self.at(np.ones((1, len(self.clusters))))[0]

    def at(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws one"]:
        """The slope with each cluster counted as often as `weights` says."""
        sums = check_weights(weights, self.clusters) @ self._sums
        return divide(sums[:, :1], sums[:, 1:])


class WithSlope:
    """A statistic that was made with an estimated slope; draws carry the error of the slope to first order.

    Args:
        inner: the statistic at the slope's value.
        slope: on the same clusters.
        gradient: by how much each column of the statistic grows with the slope.
    """

    def __init__(self, inner: ClusterStatistic, slope: ClusterStatistic, gradient: Float[np.ndarray, " k"]):
        check_paired(inner, slope)
        self._inner, self._slope, self._gradient = inner, slope, gradient
        self.clusters = inner.clusters

    @property
    def value(self) -> Float[np.ndarray, " k"]:
        """The statistic with every cluster counted once."""
        return self._inner.value

    def at(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The statistic with each cluster counted as often as `weights` says, at the slope that these give."""
        moved = self._slope.at(weights) - self._slope.value
        return self._inner.at(weights) + moved * self._gradient


class CurveGap:
    """First minus second curve at some abscissae, averaged over these: [k]. Both coordinates of points are statistics.

    Between points a curve is a line; before its first and behind its last point it stays.

    Args:
        first: points in any order: abscissa [1] and heights [k].
        second: the same of the other curve.
        levels: the abscissae.
    """

    def __init__(self, first: Sequence[Point], second: Sequence[Point], levels: Float[np.ndarray, " levels"]):
        every = [one for curve in (first, second) for point in curve for one in point]
        for other in every[1:]:
            check_paired(every[0], other)
        self._curves, self._levels = (first, second), levels
        self.clusters = every[0].clusters

    @property
    def value(self) -> Float[np.ndarray, " k"]:
        """The gap with every cluster counted once."""
        return self.at(np.ones((1, len(self.clusters))))[0]

    def at(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The gap with each cluster counted as often as `weights` says."""
        first, second = (self._heights(curve, weights) for curve in self._curves)
        return first - second

    def _heights(self, curve: Sequence[Point], weights: np.ndarray) -> Float[np.ndarray, "draws k"]:
        x = np.concatenate([abscissa.at(weights) for abscissa, _ in curve], axis=1)
        y = np.stack([height.at(weights) for _, height in curve], axis=1)
        order = np.argsort(x, axis=1, kind="stable")
        x, y = np.take_along_axis(x, order, 1), np.take_along_axis(y, order[:, :, None], 1)
        shares = [
            np.stack([np.interp(self._levels, row, hat) for hat in np.eye(len(curve))], axis=1).mean(axis=0)
            for row in x
        ]
        return np.einsum("ds,dsk->dk", np.stack(shares), y)


Point = tuple[ClusterStatistic, ClusterStatistic]
"""Abscissa and heights of a point of a curve."""


def matched_pairs(
    first: Float[np.ndarray, " n"], second: Float[np.ndarray, " m"], caliper: float
) -> Int[np.ndarray, "pairs 2"]:
    """Places of one of the first and one of the second that differ by at most the caliper; each is taken once.

    As many pairs as there can be, and of all such sets the one whose differences add to the least.

    >>> matched_pairs(np.array([0.0, 1.0, 9.0]), np.array([1.1, 0.2]), caliper=0.5)
    array([[0, 1],
           [1, 0]])

    Source: Rosenbaum 1989, J. Am. Stat. Assoc. 84(408) (optimal matching).
    """
    distance = np.abs(np.subtract.outer(first, second))
    near = distance <= caliper
    # Worse than all near pairs together, so that one more pair always counts more than closer ones.
    beyond = 1.0 + min(len(first), len(second)) * caliper
    pairs = np.stack(linear_sum_assignment(np.where(near, distance, beyond)), axis=1)
    return pairs[near[pairs[:, 0], pairs[:, 1]]]


def _about_means(
    values: Float[np.ndarray, "n k"], defined: np.ndarray, groups: Int[np.ndarray, " n"], count: int
) -> Float[np.ndarray, "n k"]:
    """The values less the mean of their group and column; 0 where undefined."""
    values = np.where(defined, values, 0.0)
    sums = sum_by_cluster(values, groups, count)
    rows = sum_by_cluster(defined.astype(np.float64), groups, count)
    means = np.where(rows > 0, sums / np.maximum(rows, 1), 0.0)
    return np.where(defined, values - means[groups], 0.0)
