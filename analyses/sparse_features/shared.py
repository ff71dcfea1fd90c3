"""Features that a hypernym's words and its pictures share: chosen on words of some leaves, tested on others'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.stats import rankdata

from probing.stats import (
    OUT_OF_FOLD,
    OUT_OF_FOLD_PARTLY,
    ClusterAUROC,
    Estimate,
    draw_weights,
    few_clusters,
    interval,
    nan_mean,
    permutation_p,
)
from probing.stats.limits import expanded
from probing.stats.seeding import stream

WORDS, PICTURES, OVERLAP = "words_auroc", "pictures_auroc", "overlap"
FACTORS = {WORDS: OUT_OF_FOLD, PICTURES: OUT_OF_FOLD_PARTLY}


@dataclass(frozen=True)
class Sharing:
    """What the words and pictures of hypernyms share.

    Attributes:
        estimates: measure → of the mean and of each hypernym, in that order; limits of `OVERLAP` are NaN.
        null_mean: measure → mean over exchanged labels, likewise.
        p: measure → rank among them, one-sided.
        differences: modality → by how much oftener a feature fires for leaves of a hypernym than for others.
        tops: modality → the features with the largest differences, of each hypernym.
    """

    estimates: Mapping[str, list[Estimate]]
    null_mean: Mapping[str, Float[np.ndarray, " 1+k"]]
    p: Mapping[str, Float[np.ndarray, " 1+k"]]
    differences: Mapping[str, Float[np.ndarray, "k features"]]
    tops: Mapping[str, Int[np.ndarray, "k top"]]


@dataclass(frozen=True)
class Firing:
    """How often features fire for words and for pictures of the same leaves.

    Attributes:
        words: share of a leaf's rows of words in which a feature is active.
        pictures: of its pictures.
        leaves: their names, sorted.
        labels: which leaf is under which hypernym.
        folds: that hold out each leaf.
        top: features that are chosen for a hypernym.
    """

    words: Float[np.ndarray, "leaves features"]
    pictures: Float[np.ndarray, "leaves features"]
    leaves: Shaped[np.ndarray, " leaves"]
    labels: Bool[np.ndarray, "leaves k"]
    folds: Int[np.ndarray, " leaves"]
    top: int

    def scores(self, labels: Bool[np.ndarray, "leaves k"]) -> dict[str, Float[np.ndarray, "leaves k"]]:
        """Of each leaf, how often the features fire that words of other folds' leaves choose for each hypernym."""
        scores = {WORDS: np.empty(labels.shape), PICTURES: np.empty(labels.shape)}
        for fold in np.unique(self.folds):
            out = self.folds == fold
            chosen = tops(differences(self.words[~out], labels[~out]), self.top)
            for name, fires in ((WORDS, self.words), (PICTURES, self.pictures)):
                scores[name][out] = fires[out][:, chosen].mean(axis=2)
        return scores

    def values(self, labels: Bool[np.ndarray, "leaves k"]) -> dict[str, Float[np.ndarray, " 1+k"]]:
        """Measure → of the mean over hypernyms, and of each."""
        values = {name: auroc(one, labels, self.folds) for name, one in self.scores(labels).items()}
        sides = [tops(differences(fires, labels), self.top) for fires in (self.words, self.pictures)]
        values[OVERLAP] = np.array([len(np.intersect1d(*pair)) / self.top for pair in zip(*sides)])
        return {name: np.array([nan_mean(one), *one]) for name, one in values.items()}


def sharing(of: Firing, permutations: int, draws: int, seed: int) -> Sharing:
    """What words and pictures share, beside labels that are exchanged among leaves, in words and pictures alike.

    The null keeps that words and pictures of a single leaf may have features in common: what is tested is that the
    leaves of a hypernym have. Chosen features are those that fire oftenest for words of leaves under a hypernym, as
    against words of others; they are scored on leaves of the fold that did not choose them.
    """
    observed = of.values(of.labels)
    rng = stream(seed, "labels exchanged among leaves")
    null = [of.values(of.labels[rng.permutation(len(of.labels))]) for _ in range(permutations)]
    drawn = {name: np.stack([one[name] for one in null]) for name in observed}
    weights = draw_weights(len(of.leaves), draws, seed)
    estimates = {name: _estimates(of, scores, weights, name) for name, scores in of.scores(of.labels).items()}
    nothing = (float("nan"), float("nan"), len(of.leaves))
    estimates[OVERLAP] = [Estimate(float(value), *nothing) for value in observed[OVERLAP]]
    fires = {"text": of.words, "image": of.pictures}
    apart = {name: differences(one, of.labels) for name, one in fires.items()}
    return Sharing(
        estimates,
        {name: nan_mean(one.T) for name, one in drawn.items()},
        {name: permutation_p(observed[name], drawn[name], corrected=False) for name in observed},
        apart,
        {name: tops(one, of.top) for name, one in apart.items()},
    )


def differences(
    fires: Float[np.ndarray, "leaves features"], labels: Bool[np.ndarray, "leaves k"]
) -> Float[np.ndarray, "k features"]:
    """By how much oftener each feature fires for leaves of each hypernym than for all others.

    >>> differences(np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), np.array([[True], [True], [False]]))
    array([[ 1. , -0.5]])
    """
    inside, outside = labels.T.astype(np.float32), (~labels).T.astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = inside @ fires / inside.sum(axis=1, keepdims=True)
        apart -= outside @ fires / outside.sum(axis=1, keepdims=True)
    return np.nan_to_num(apart)


def tops(apart: Float[np.ndarray, "k features"], top: int) -> Int[np.ndarray, "k top"]:
    """The features with the largest differences, of each hypernym; of equal ones, those that come first."""
    return np.argsort(-apart, axis=1, kind="stable")[:, :top]


def auroc(
    scores: Float[np.ndarray, "n k"], labels: Bool[np.ndarray, "n k"], folds: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " k"]:
    """AUROC of pairs within folds, as `ClusterAUROC` with folds for strata and every leaf counted once; by ranks."""
    above, pairs = np.zeros(labels.shape[1]), np.zeros(labels.shape[1])
    for fold in np.unique(folds):
        own, true = scores[folds == fold], labels[folds == fold]
        count = true.sum(axis=0)
        above += (rankdata(own, axis=0) * true).sum(axis=0) - count * (count + 1) / 2
        pairs += count * (len(true) - count)
    return np.divide(above, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def _estimates(of: Firing, scores, weights, name: str) -> list[Estimate]:
    """Of the mean and of each hypernym, with limits over leaves that allow for the choice of features."""
    statistic = ClusterAUROC(scores, of.labels, of.leaves, strata=of.folds)
    every = statistic.at(weights)
    values = np.array([nan_mean(statistic.value), *statistic.value])
    drawn = np.column_stack([nan_mean(every), every])
    fewest = np.minimum(of.labels.sum(axis=0), (~of.labels).sum(axis=0))
    factor = FACTORS[name] * few_clusters(np.array([len(of.leaves), *fewest]))
    least, most = interval(drawn)
    lower, upper = expanded(values, least, most, factor)
    lower, upper = np.maximum(lower, 0.0), np.minimum(upper, 1.0)
    return [
        Estimate(float(v), float(lo), float(up), len(of.leaves)) for v, lo, up in zip(values, lower, upper)
    ]
