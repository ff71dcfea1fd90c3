"""ClusterAUROC: areas under ROC curves that can be recomputed under any cluster weights, by the faster of two ways."""

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from probing.stats.clusters import alike_columns, as_columns, check_rows, check_weights, sum_by_cluster
from probing.stats.undefined import divide

_PAIRS_PER_ROW = 25
"""With more cluster pairs than this per row, sorting is the faster way."""
_ENTRIES = 4_000_000
_PRODUCTS = 500_000
_SORTED_ENTRIES = 2_000_000


class ClusterAUROC:
    """Area under the ROC curve of `k` score columns under any cluster weights; ties count half, chance is .5.

    With `strata` (the fold of each row) only pairs from one stratum are compared: out-of-fold scores of
    different folds come from different probes and lie on different scales, and pooling them biases a null
    result below .5. A column with no pair of a positive and a negative row, and every draw that leaves it
    none, is NaN. Rows with an undefined score are left out of their column.

    Pairs of clusters are compared once, or, where there are many clusters, rows are sorted once: the numbers are
    the same, to the last bit for whole weights.

    >>> auroc = ClusterAUROC(np.array([0.1, 0.8, 0.4, 0.9]), np.array([False, False, True, True]), np.arange(4))
    >>> auroc.value
    array([0.75])
    >>> auroc.at(np.array([[1.0, 1.0, 2.0, 0.0], [1.0, 1.0, 0.0, 0.0]]))  # in the second draw no row is positive
    array([[0.5],
           [nan]])

    Source: Hanley & McNeil 1982, Radiology 143(1), eq. 1 (concordance); Parker, Günter & Bedo 2007, BMC
    Bioinformatics 8:326 (the bias of pooled folds).
    """

    def __init__(
        self,
        scores: Float[np.ndarray, "n k"],
        labels: Bool[np.ndarray, "n k"],
        clusters: Shaped[np.ndarray, " n"],
        strata: Shaped[np.ndarray, " n"] | None = None,
    ):
        scores, labels = as_columns(scores, np.float64), as_columns(labels, np.bool_)
        check_rows(scores=scores, labels=labels, clusters=clusters)
        if scores.shape != labels.shape:
            raise ValueError(
                f"scores are {scores.shape} and labels {labels.shape}; give one label column per score column"
            )
        self.clusters, codes = np.unique(np.asarray(clusters), return_inverse=True)
        if strata is None and _many_pairs(labels, codes, len(self.clusters)):
            self._way = _BySorting(scores, labels, codes)
            return
        folds = np.zeros(len(codes), int) if strata is None else np.unique(strata, return_inverse=True)[1]
        check_rows(scores=scores, strata=folds)
        self._way = _ByPairs(scores, labels, codes, folds)

    @property
    def value(self) -> Float[np.ndarray, " k"]:
        """The area with every cluster counted once."""
        return self.at(np.ones((1, len(self.clusters))))[0]

    def at(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The area with each cluster counted as often as `weights` says."""
        return self._way.at(check_weights(weights, self.clusters))


def _many_pairs(labels: Bool[np.ndarray, "n k"], codes: Int[np.ndarray, " n"], n_clusters: int) -> bool:
    """Whether pairs of a positive and a negative cluster are many enough for sorting to be faster."""
    positive = sum_by_cluster(labels, codes, n_clusters) > 0
    return bool((positive.sum(0) * (~positive).sum(0)).mean() > _PAIRS_PER_ROW * len(codes))


class _ByPairs:
    """Pairs of clusters compared once: fast where clusters are few and many columns share their labels."""

    def __init__(self, scores, labels, codes, strata):
        self._columns = scores.shape[1]
        order = np.argsort(codes, kind="stable")
        scores, labels, codes, strata = scores[order], labels[order], codes[order], strata[order]
        defined = ~np.isnan(scores)
        up, down = labels & defined, ~labels & defined
        self._groups = []
        for columns in alike_columns(np.concatenate([up, down])):
            sides = up[:, columns[0]], down[:, columns[0]]
            self._groups.append((columns, *_concordance(scores[:, columns], *sides, codes, strata)))

    def at(self, weights):
        result = np.empty((len(weights), self._columns))
        for columns, first, second, pairs, concordant in self._groups:
            dtype = _exact_dtype(pairs, weights)
            numbers = np.concatenate([concordant, pairs[None]]).astype(dtype)
            step = max(1, _PRODUCTS // max(1, len(pairs)))
            for start in range(0, len(weights), step):
                part = np.ascontiguousarray(weights[start : start + step].T, dtype=dtype)
                counted = (numbers @ (part[first] * part[second])).astype(np.float64)
                result[start : start + step, columns] = divide(counted[:-1], counted[-1]).T
        return result


class _BySorting:
    """Rows sorted once: draws × rows per column, whatever the number of clusters."""

    def __init__(self, scores, labels, codes):
        self._columns = []
        for column, truth in zip(scores.T, labels.T, strict=True):
            rows = np.flatnonzero(~np.isnan(column))
            rows = rows[np.argsort(column[rows], kind="stable")]
            self._columns.append((codes[rows], truth[rows], _starts(column[rows])))

    def at(self, weights):
        result = np.full((len(weights), len(self._columns)), np.nan)
        for k, (codes, truth, starts) in enumerate(self._columns):
            step = max(1, _SORTED_ENTRIES // max(1, len(codes)))
            for start in range(0, len(weights) if truth.any() and not truth.all() else 0, step):
                counted = weights[start : start + step, codes]
                yes = np.add.reduceat(counted * truth, starts, axis=1)
                no = np.add.reduceat(counted * ~truth, starts, axis=1)
                below = np.cumsum(no, axis=1) - no / 2
                result[start : start + step, k] = divide((yes * below).sum(1), yes.sum(1) * no.sum(1))
        return result


def _concordance(scores, positive, negative, codes, strata):
    """Cluster pairs of one label column: first, second, row pairs, concordant row pairs of each score.

    Rows come sorted by cluster.
    """
    first, second, pairs, concordant = [], [], [], []
    for stratum in range(strata.max() + 1):
        ups, downs = (np.flatnonzero(side & (strata == stratum)) for side in (positive, negative))
        if not len(ups) or not len(downs):
            continue
        up_starts, down_starts = _starts(codes[ups]), _starts(codes[downs])
        first.append(np.repeat(codes[ups[up_starts]], len(down_starts)))
        second.append(np.tile(codes[downs[down_starts]], len(up_starts)))
        sizes = np.diff(up_starts, append=len(ups)), np.diff(down_starts, append=len(downs))
        pairs.append(np.outer(*sizes).ravel().astype(np.float64))
        concordant.append(_wins(scores[ups], scores[downs], up_starts, down_starts))
    if not first:
        return np.empty(0, int), np.empty(0, int), np.empty(0), np.empty((scores.shape[1], 0))
    parts = (first, second, pairs)
    return *(np.concatenate(part) for part in parts), np.concatenate(concordant, axis=1)


def _starts(values):
    """Where each run of equal values begins in sorted ones."""
    return np.append(0, np.flatnonzero(values[1:] != values[:-1]) + 1)


def _exact_dtype(pairs, weights):
    """float32 where every sum of half-integers stays exact in it (with integer weights), else float64."""
    whole = weights.size == 0 or (weights == np.rint(weights)).all()
    largest = pairs.sum() * max(weights.max(initial=1), 1) ** 2
    return np.float32 if whole and 2 * largest < 2**24 else np.float64


def _wins(ups, downs, up_starts, down_starts):
    """Concordant row pairs [k, cluster pairs], a tie counting half; columns in chunks that fit memory."""
    columns = ups.shape[1]
    result = np.empty((columns, len(up_starts) * len(down_starts)))
    step = max(1, _ENTRIES // (len(ups) * len(downs)))
    for start in range(0, columns, step):
        a, b = ups[:, start : start + step].T[:, :, None], downs[:, start : start + step].T[:, None, :]
        twice = np.greater(a, b).astype(np.float32)
        twice += np.greater_equal(a, b)
        twice = np.add.reduceat(np.add.reduceat(twice, up_starts, axis=1), down_starts, axis=2)
        result[start : start + step] = twice.reshape(len(twice), -1) / 2
    return result
