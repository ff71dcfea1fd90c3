"""Statistics that can be recomputed under any cluster weights: the protocol, means, and the sums they rest on.

Each keeps sufficient numbers of each cluster, so that its value under bootstrap weights is a matrix product:
`.value` is `[k]`, `.at(weights)` is `[draws, k]`, `.clusters` names the columns of `weights`. Two statistics
on the same clusters, taken at the same weights, are paired. `probing.stats` draws weights and makes intervals.
"""

from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from probing.stats.undefined import beyond_rounding, divide


class ClusterStatistic(Protocol):
    """Anything whose `k` values can be recomputed under cluster weights.

    >>> statistic: ClusterStatistic = ClusterMean(np.array([1.0, 3.0, 5.0]), np.array(["crow", "crow", "owl"]))
    >>> statistic.at(np.array([[2.0, 0.0]]))
    array([[2.]])
    """

    @property
    def clusters(self) -> np.ndarray:
        """Names of the clusters, sorted."""
        ...

    @property
    def value(self) -> Float[np.ndarray, " k"]:
        """The statistic with every cluster counted once."""
        ...

    def at(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The statistic with each cluster counted as often as `weights` says."""
        ...


class ClusterMean:
    """Mean of `k` columns of numbers per row (log-loss, accuracy, an effect) under any cluster weights.

    Undefined rows are left out of their column.

    >>> mean = ClusterMean(np.array([1.0, 3.0, 5.0]), np.array(["crow", "crow", "owl"]))
    >>> mean.value
    array([3.])
    >>> mean.at(np.array([[0.0, 2.0]]))  # the owl drawn twice
    array([[5.]])
    """

    def __init__(self, values: Float[np.ndarray, "n k"], clusters: Shaped[np.ndarray, " n"]):
        values = as_columns(values, np.float64)
        check_rows(values=values, clusters=clusters)
        self.clusters, codes = np.unique(np.asarray(clusters), return_inverse=True)
        defined = ~np.isnan(values)
        self._total = sum_by_cluster(np.where(defined, values, 0), codes, len(self.clusters))
        self._rows = sum_by_cluster(defined.astype(np.float64), codes, len(self.clusters))

    @property
    def value(self) -> Float[np.ndarray, " k"]:
        """The mean over all rows."""
        return self.at(np.ones((1, len(self.clusters))))[0]

    def at(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The mean with each cluster's rows counted as often as `weights` says."""
        weights = check_weights(weights, self.clusters)
        return divide(weights @ self._total, weights @ self._rows)

    @property
    def error(self) -> Float[np.ndarray, " k"]:
        """The standard error of the value over clusters; NaN of one cluster."""
        return self.errors(np.ones((1, len(self.clusters))))[0]

    def errors(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The standard error of each draw's mean, by the clusters that it drew alone (see `studentised_interval`)."""
        weights = check_weights(weights, self.clusters)
        if len(self.clusters) == 1:
            return np.full((len(weights), self._total.shape[1]), np.nan)
        rows, away = self._rows, self._total - self.value * self._rows
        drawn = weights @ rows
        shift = divide(weights @ away, drawn)
        own, moved = weights @ away**2, shift**2 * (weights @ rows**2)
        squares = own - 2 * shift * (weights @ (away * rows)) + moved
        return divide(np.sqrt(beyond_rounding(squares, own + moved)), drawn)


def log_loss(
    probability: Float[np.ndarray, "n k"], labels: Bool[np.ndarray, "n k"], floor: float = 1e-12
) -> Float[np.ndarray, "n k"]:
    """Negative log-likelihood of each yes/no label, in nats; a coin gives .693. Feeds `ClusterMean`.

    >>> log_loss(np.array([0.5, 0.9]), np.array([True, True])).round(3).ravel()
    array([0.693, 0.105])
    """
    probability = np.clip(as_columns(probability, np.float64), floor, 1 - floor)
    return -np.where(as_columns(labels, np.bool_), np.log(probability), np.log1p(-probability))


def alike_columns(flags: Bool[np.ndarray, "n k"]) -> list[Int[np.ndarray, " columns"]]:
    """Columns grouped by equality, in the order of their first occurrence."""
    groups: dict[bytes, list[int]] = {}
    for column, packed in enumerate(np.packbits(flags, axis=0).T):
        groups.setdefault(packed.tobytes(), []).append(column)
    return [np.array(columns) for columns in groups.values()]


def sum_by_cluster(
    values: Shaped[np.ndarray, "n k"], codes: Int[np.ndarray, " n"], n_clusters: int
) -> Float[np.ndarray, "clusters k"]:
    """Sum of the rows of each cluster."""
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(n_clusters))
    return np.add.reduceat(values[order], starts, axis=0, dtype=np.float64)


def as_columns(values: Shaped[np.ndarray, "n *k"], dtype: type) -> Shaped[np.ndarray, "n k"]:
    """The values as [n, k] of one dtype; a vector is one column."""
    values = np.asarray(values).astype(dtype, copy=False)
    return values[:, None] if values.ndim == 1 else values


def check_rows(**arrays: Shaped[np.ndarray, "n *rest"]) -> None:
    """Nothing, when all arrays have the same number of rows.

    Raises:
        ValueError: they do not, or have none.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise ValueError(f"rows do not match or are empty: {lengths}; every array needs one entry per row")


def check_weights(
    weights: Float[np.ndarray, "draws clusters"], clusters: np.ndarray
) -> Float[np.ndarray, "draws clusters"]:
    """The weights as float64.

    Raises:
        ValueError: they do not have one column per cluster.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim != 2 or weights.shape[1] != len(clusters):
        raise ValueError(
            f"weights are {weights.shape} but there are {len(clusters)} clusters; "
            f"make them with draw_weights({len(clusters)}, ...)"
        )
    return weights
