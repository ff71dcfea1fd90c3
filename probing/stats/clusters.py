"""Statistics that can be recomputed under any cluster weights: AUROC, F1 and recall, means.

Each keeps per-cluster sufficient numbers, so that its value under bootstrap weights is a matrix product:
`.value` is `[k]`, `.at(weights)` is `[draws, k]`, `.clusters` names the columns of `weights`. Two statistics
on the same clusters, taken at the same weights, are paired. `probing.stats` draws weights, makes intervals.
"""

import numpy as np
from jaxtyping import Bool, Float, Shaped

_ENTRIES = 4_000_000
_PRODUCTS = 500_000


class ClusterAUROC:
    """Area under the ROC curve of `k` score columns under any cluster weights; ties count half, chance is .5.

    With `strata` (the fold of each row) only pairs from one stratum are compared: out-of-fold scores of
    different folds come from different probes and lie on different scales, and pooling them biases a null
    result below .5. A column with no pair of a positive and a negative row, and every draw that leaves it
    none, is not-a-number. Rows with an undefined score are left out of their column.

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
        scores, labels = _columns(scores, np.float64), _columns(labels, np.bool_)
        _check_rows(scores=scores, labels=labels, clusters=clusters)
        if scores.shape != labels.shape:
            raise ValueError(
                f"scores are {scores.shape} and labels {labels.shape}; give one label column per score column"
            )
        self.clusters, codes = np.unique(np.asarray(clusters), return_inverse=True)
        strata = (
            np.zeros(len(codes), dtype=int) if strata is None else np.unique(strata, return_inverse=True)[1]
        )
        _check_rows(scores=scores, strata=strata)
        self.shape = scores.shape
        order = np.argsort(codes, kind="stable")
        scores, labels, codes, strata = scores[order], labels[order], codes[order], strata[order]
        defined = ~np.isnan(scores)
        up, down = labels & defined, ~labels & defined
        self._groups = []
        for columns in _alike(np.concatenate([up, down])):
            sides = up[:, columns[0]], down[:, columns[0]]
            self._groups.append((columns, *_concordance(scores[:, columns], *sides, codes, strata)))

    @property
    def value(self) -> Float[np.ndarray, " k"]:
        """The statistic with every cluster counted once."""
        return self.at(np.ones((1, len(self.clusters))))[0]

    def at(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The statistic with each cluster counted as often as `weights` says."""
        weights = _check_weights(weights, self.clusters)
        result = np.empty((len(weights), self.shape[1]))
        for columns, first, second, pairs, concordant in self._groups:
            dtype = _exact_dtype(pairs, weights)
            numbers = np.concatenate([concordant, pairs[None]]).astype(dtype)
            step = max(1, _PRODUCTS // max(1, len(pairs)))
            for start in range(0, len(weights), step):
                part = np.ascontiguousarray(weights[start : start + step].T, dtype=dtype)
                counted = (numbers @ (part[first] * part[second])).astype(np.float64)
                result[start : start + step, columns] = _divide(counted[:-1], counted[-1]).T
        return result


class ClusterRates:
    """F1, recall and balanced accuracy of `k` yes/no decision columns under any cluster weights.

    For a choice among classes give one-hot decisions and labels: the mean of `f1` over columns is macro-F1,
    the mean of `recall` is the balanced accuracy. `at` and `value` are those of `measure`.
    """

    def __init__(
        self,
        decisions: Bool[np.ndarray, "n k"],
        labels: Bool[np.ndarray, "n k"],
        clusters: Shaped[np.ndarray, " n"],
        measure: str = "balanced_accuracy",
    ):
        known = ("balanced_accuracy", "f1", "recall")
        if measure not in known:
            raise KeyError(f"unknown rate {measure!r}; known: {', '.join(known)}")
        decisions, labels = _columns(decisions, np.bool_), _columns(labels, np.bool_)
        _check_rows(decisions=decisions, labels=labels, clusters=clusters)
        self.measure = measure
        self.clusters, codes = np.unique(np.asarray(clusters), return_inverse=True)
        alike = _alike(labels)
        self._kind_of = np.empty(labels.shape[1], dtype=int)
        for kind, columns in enumerate(alike):
            self._kind_of[columns] = kind
        kinds = labels[:, [columns[0] for columns in alike]]
        cells = (decisions & labels, decisions & ~labels, kinds, ~kinds)
        self._counts = [_sum_by_cluster(cell, codes, len(self.clusters)) for cell in cells]

    @property
    def value(self) -> Float[np.ndarray, " k"]:
        """The rate with every cluster counted once."""
        return self.at(np.ones((1, len(self.clusters))))[0]

    def at(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The rate with each cluster counted as `weights` says; undefined where a class is missing."""
        weights = _check_weights(weights, self.clusters)
        hit, false_alarm, *totals = (weights @ counts for counts in self._counts)
        positive, negative = (total[:, self._kind_of] for total in totals)
        if self.measure == "f1":
            return np.where(positive > 0, _divide(2 * hit, positive + hit + false_alarm), np.nan)
        recall = _divide(hit, positive)
        if self.measure == "recall":
            return recall
        return (recall + 1 - _divide(false_alarm, negative)) / 2


class ClusterMean:
    """Mean of `k` columns of per-row numbers (log-loss, accuracy, an effect) under any cluster weights.

    Undefined rows are left out of their column.
    """

    def __init__(self, values: Float[np.ndarray, "n k"], clusters: Shaped[np.ndarray, " n"]):
        values = _columns(values, np.float64)
        _check_rows(values=values, clusters=clusters)
        self.clusters, codes = np.unique(np.asarray(clusters), return_inverse=True)
        defined = ~np.isnan(values)
        self._total = _sum_by_cluster(np.where(defined, values, 0), codes, len(self.clusters))
        self._rows = _sum_by_cluster(defined.astype(np.float64), codes, len(self.clusters))

    @property
    def value(self) -> Float[np.ndarray, " k"]:
        """The mean over all rows."""
        return self.at(np.ones((1, len(self.clusters))))[0]

    def at(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The mean with each cluster's rows counted as often as `weights` says."""
        weights = _check_weights(weights, self.clusters)
        return _divide(weights @ self._total, weights @ self._rows)


def log_loss(
    probability: Float[np.ndarray, "n k"], labels: Bool[np.ndarray, "n k"], floor: float = 1e-12
) -> Float[np.ndarray, "n k"]:
    """Negative log-likelihood of each yes/no label, in nats; a coin gives .693. Feeds `ClusterMean`."""
    probability = np.clip(_columns(probability, np.float64), floor, 1 - floor)
    return -np.where(_columns(labels, np.bool_), np.log(probability), np.log1p(-probability))


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


def _alike(flags: Bool[np.ndarray, "n k"]) -> list[np.ndarray]:
    """Columns grouped by equality, in the order of their first occurrence."""
    groups: dict[bytes, list[int]] = {}
    for column, packed in enumerate(np.packbits(flags, axis=0).T):
        groups.setdefault(packed.tobytes(), []).append(column)
    return [np.array(columns) for columns in groups.values()]


def _starts(sorted_codes):
    """Where each cluster's rows begin."""
    return np.append(0, np.flatnonzero(sorted_codes[1:] != sorted_codes[:-1]) + 1)


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


def _divide(numerator, denominator):
    """The quotient, not-a-number where the denominator is 0."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    empty = np.full(shape, np.nan)
    return np.divide(numerator, denominator, out=empty, where=np.broadcast_to(denominator > 0, shape))


def _sum_by_cluster(values, codes, n_clusters):
    """Sum of the rows of each cluster, [clusters, k]."""
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(n_clusters))
    return np.add.reduceat(values[order], starts, axis=0, dtype=np.float64)


def _columns(values, dtype):
    """The values as [n, k] of one dtype; a vector is one column."""
    values = np.asarray(values).astype(dtype, copy=False)
    return values[:, None] if values.ndim == 1 else values


def _check_rows(**arrays):
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise ValueError(f"rows do not match or are empty: {lengths}; every array needs one entry per row")


def _check_weights(weights, clusters):
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim != 2 or weights.shape[1] != len(clusters):
        raise ValueError(
            f"weights are {weights.shape} but there are {len(clusters)} clusters; "
            f"make them with draw_weights({len(clusters)}, ...)"
        )
    return weights
