"""Calibrated thresholds: the read-out above which a model that answers No too often means Yes."""

import numpy as np
from jaxtyping import Bool, Float


def thresholds(
    scores: Float[np.ndarray, "rows k"], labels: Bool[np.ndarray, "rows k"]
) -> Float[np.ndarray, " k"]:
    """The threshold of each column with the best balanced accuracy: fit on validation rows, use on test rows.

    It lies half-way between two scores; of equally good ones the middle one is taken. A column without both
    classes takes the median of the others, or 0 where no column has both.

    Source: Youden 1950, Cancer 3(1), the index TPR + TNR − 1.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels, bool)
    cuts = np.array([_best_cut(column, truth) for column, truth in zip(scores.T, labels.T, strict=True)])
    spare = float(np.median(cuts[~np.isnan(cuts)])) if not np.isnan(cuts).all() else 0.0
    return np.where(np.isnan(cuts), spare, cuts)


def _best_cut(scores: Float[np.ndarray, " rows"], labels: Bool[np.ndarray, " rows"]) -> float:
    defined = ~np.isnan(scores)
    scores, labels = scores[defined], labels[defined]
    if labels.all() or not labels.any():
        return float("nan")
    values, codes = np.unique(scores, return_inverse=True)
    yes = np.bincount(codes, weights=labels, minlength=len(values))
    no = np.bincount(codes, weights=~labels, minlength=len(values))
    gained = np.cumsum(no) / no.sum() - np.cumsum(yes) / yes.sum()
    best = np.flatnonzero(gained >= gained[:-1].max(initial=-np.inf) - 1e-12)
    best = best[best < len(values) - 1]
    if not len(best):
        return float(values[0]) - 1.0
    place = best[len(best) // 2]
    return float((values[place] + values[place + 1]) / 2)
