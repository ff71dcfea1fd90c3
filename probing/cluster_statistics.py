"""Statistics that can be recomputed under any cluster weights: AUROC, F1 and recall, means.

Each keeps per-cluster sufficient numbers, so that its value under bootstrap weights is a matrix product:
`.value` is `[k]`, `.at(weights)` is `[draws, k]`, `.clusters` names the columns of `weights`. Two statistics
on the same clusters, taken at the same weights, are paired. `probing.stats` draws weights, makes intervals.
"""

import numpy as np
from jaxtyping import Bool, Float, Shaped

_ENTRIES = 4_000_000


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
        kinds, kind_of = np.unique((labels.astype(np.int8) + 2 * defined).T, axis=0, return_inverse=True)
        self._groups = []
        for kind, row in enumerate(kinds):
            columns = np.flatnonzero(kind_of.ravel() == kind)
            self._groups.append(
                (columns, *_concordance(scores[:, columns], row == 3, row == 2, codes, strata))
            )

    @property
    def value(self) -> Float[np.ndarray, " k"]:
        """The statistic with every cluster counted once."""
        return self.at(np.ones((1, len(self.clusters))))[0]

    def at(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The statistic with each cluster counted as often as `weights` says."""
        weights = _check_weights(weights, self.clusters)
        result = np.empty((len(weights), self.shape[1]))
        for columns, first, second, pairs, concordant in self._groups:
            step = max(1, _ENTRIES // max(1, len(pairs)))
            for start in range(0, len(weights), step):
                part = np.ascontiguousarray(weights[start : start + step].T)
                product = part[first] * part[second]
                result[start : start + step, columns] = _divide(concordant @ product, pairs @ product).T
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
        cells = (decisions & labels, ~decisions & labels, decisions & ~labels, ~decisions & ~labels)
        self._counts = [_sum_by_cluster(cell.astype(np.float64), codes, len(self.clusters)) for cell in cells]

    @property
    def value(self) -> Float[np.ndarray, " k"]:
        """The rate with every cluster counted once."""
        return self.at(np.ones((1, len(self.clusters))))[0]

    def at(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The rate with each cluster counted as `weights` says; undefined where a class is missing."""
        weights = _check_weights(weights, self.clusters)
        hit, miss, false_alarm, rejection = (weights @ counts for counts in self._counts)
        if self.measure == "f1":
            return np.where(hit + miss > 0, _divide(2 * hit, 2 * hit + miss + false_alarm), np.nan)
        recall = _divide(hit, hit + miss)
        if self.measure == "recall":
            return recall
        return (recall + _divide(rejection, rejection + false_alarm)) / 2


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
    """Cluster pairs of one label column: first, second, row pairs, concordant row pairs of each score."""
    first, second, pairs, concordant = [], [], [], []
    for stratum in np.unique(strata):
        here = strata == stratum
        ups, downs = np.flatnonzero(positive & here), np.flatnonzero(negative & here)
        if not len(ups) or not len(downs):
            continue
        up_codes, up_starts, up_counts = np.unique(codes[ups], return_index=True, return_counts=True)
        down_codes, down_starts, down_counts = np.unique(codes[downs], return_index=True, return_counts=True)
        first.append(np.repeat(up_codes, len(down_codes)))
        second.append(np.tile(down_codes, len(up_codes)))
        pairs.append(np.outer(up_counts, down_counts).ravel().astype(np.float64))
        concordant.append(_wins(scores[ups], scores[downs], up_starts, down_starts))
    if not first:
        return np.empty(0, int), np.empty(0, int), np.empty(0), np.empty((scores.shape[1], 0))
    return (
        np.concatenate(first),
        np.concatenate(second),
        np.concatenate(pairs),
        np.concatenate(concordant, axis=1),
    )


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
    safe = np.where(denominator > 0, denominator, 1)
    return np.where(denominator > 0, numerator / safe, np.nan)


def _sum_by_cluster(values, codes, n_clusters):
    """Sum of the rows of each cluster, [clusters, k]."""
    total = np.zeros((n_clusters, values.shape[1]))
    np.add.at(total, codes, values)
    return total


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
