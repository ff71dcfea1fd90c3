"""Measures of the `behaviour` analysis: statistics of every run's answers, ready for intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from analyses.inputs.answers import Answers, Part
from analyses.inputs.conditions import Condition
from analyses.inputs.intervals import Aligned
from probing.stats import ClusterAUROC, ClusterMean, ClusterRates, ClusterStatistic, nan_mean

HYPERNYM_MEASURES = {
    "auroc": "hypernym AUROC",
    "macro_f1": "hypernym macro-F1",
    "balanced_accuracy": "hypernym balanced accuracy",
    "tpr": "hypernym TPR",
    "tnr": "hypernym TNR",
}
LEAF_MEASURES = {
    "leaf_naming": "leaf naming",
    "leaf_top1": "leaf naming, all leaves",
    "leaf_macro_f1": "leaf macro-F1, all leaves",
}
MEASURES = {**HYPERNYM_MEASURES, "top1": "top-1 hypernym", **LEAF_MEASURES}


@dataclass(frozen=True)
class Frame:
    """The leaves and hypernyms, both sorted, of all runs that are compared."""

    leaves: np.ndarray
    hypernyms: tuple[str, ...]

    @classmethod
    def of(cls, found: Sequence[Condition]) -> Frame:
        """The frame of all runs of some conditions."""
        taxonomies = [answers.taxonomy for condition in found for answers in condition.answers]
        leaves = sorted({leaf for one in taxonomies for leaf in one.leaves})
        return cls(np.array(leaves), tuple(sorted({name for one in taxonomies for name in one.hypernyms})))


@dataclass(frozen=True, eq=False)
class Measured:
    """A measure of a part of a condition's answers.

    Attributes:
        statistics: one of each seed.
        counted: the leaves that each column rests on.
        fewest: on how many of these the interval of a single hypernym rests (`fewest`).
    """

    statistics: list[Aligned]
    counted: Bool[np.ndarray, "leaves columns"]
    fewest: Int[np.ndarray, " columns"]

    @property
    def n(self) -> int:
        """The number of leaves that it rests on."""
        return int(self.counted.any(axis=1).sum())


def measured(
    condition: Condition, part: Part, measure: str, frame: Frame, partner: Condition | None = None
) -> Measured | None:
    """A measure of a part; None where its answers were not given.

    With a partner only the leaves are scored that its run of the same seed names correctly as well.
    """
    columns = frame.hypernyms if measure in HYPERNYM_MEASURES else ("",)
    counted, found = np.zeros((len(frame.leaves), len(columns)), bool), []
    having, varies = np.zeros_like(counted), np.zeros(len(columns), bool)
    for place, answers in enumerate(condition.answers):
        only = sorted(set(answers.named) & set(partner.answers[place].named)) if partner else None
        values, labels, leaves = answers.read(part, only)
        made = _statistic(answers, part, measure, (values, labels, leaves))
        if made is None:
            return None
        own = answers.scores.hypernyms if measure in HYPERNYM_MEASURES else ("",)
        found.append(Aligned(made, own, frame.leaves, columns))
        asked = np.asarray(~np.isnan(values))
        rows, used = np.nonzero(asked if len(columns) > 1 else asked.any(axis=1, keepdims=True))
        places = np.array([columns.index(name) for name in own])
        at = np.searchsorted(frame.leaves, leaves[rows])
        counted[at, places[used]] = True
        if measure in HYPERNYM_MEASURES:
            having[at, places[used]] = labels[rows, used]
            with_it, without = (labels & asked).sum(axis=0), (~labels & asked).sum(axis=0)
            varies[places] |= ~decided_alike(made, measure, with_it <= without)
    yes, no = (counted & having).sum(axis=0), (counted & ~having).sum(axis=0)
    return Measured(found, counted, np.where(varies, fewest(measure, yes, no), 0))


def fewest(measure: str, yes: Int[np.ndarray, " k"], no: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
    """On how many leaves the number of a hypernym rests: those with it, those without, or the fewer of both."""
    return {"tpr": yes, "tnr": no}.get(measure, np.minimum(yes, no))


def decided_alike(
    statistic: ClusterStatistic, measure: str, with_it_rarer: Bool[np.ndarray, " k"]
) -> np.ndarray:
    """Whether all questions of the side that a rate rests on got one answer: a bootstrap sees no variance then."""
    if not isinstance(statistic, ClusterRates):
        return np.zeros(len(with_it_rarer), bool)
    side = {"tpr": np.ones_like(with_it_rarer), "tnr": np.zeros_like(with_it_rarer)}.get(
        measure, with_it_rarer
    )
    return np.isin(np.where(side, statistic.of("tpr").value, statistic.of("tnr").value), (0.0, 1.0))


def _statistic(
    answers: Answers, part: Part, measure: str, rows: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> ClusterStatistic | None:
    values, labels, leaves = rows
    if measure == "auroc":
        return ClusterAUROC(values, labels, leaves)
    if measure == "top1":
        return ClusterMean(top1_hits(values, labels)[:, None], leaves)
    if measure == "leaf_naming":
        return ClusterMean(answers.scores.leaf_correct[:, None].astype(float), leaves)
    if measure in LEAF_MEASURES:
        return _leaf_statistic(answers, measure, leaves) if len(answers.naming) else None
    asked = ~np.isnan(values)
    if part.baseline == "majority":
        rate = "majority_macro_f1" if measure == "macro_f1" else measure
        return ClusterRates(np.zeros_like(labels), labels, leaves, rate, counted=asked)
    yes = _decided(answers, part.decision, values, labels)
    return ClusterRates(yes, labels, leaves, measure, counted=asked)


def _decided(
    answers: Answers, decision: str, values: np.ndarray, labels: np.ndarray
) -> Bool[np.ndarray, "rows k"]:
    if decision == "prevalence":
        return prevalence_matched(values, labels) > 0
    thresholds = answers.scores.thresholds if decision == "calibrated" else None
    return values > (0 if thresholds is None else thresholds)


def _leaf_statistic(answers: Answers, measure: str, leaves: np.ndarray) -> ClusterStatistic:
    naming = np.asarray(answers.naming, dtype=str)
    if measure == "leaf_top1":
        return ClusterMean((naming == leaves)[:, None].astype(float), leaves)
    names = np.unique(leaves)
    given, true = (side[:, None] == names for side in (naming, leaves))
    return _MeanOf(ClusterRates(given, true, leaves, "macro_f1"))


@dataclass(frozen=True)
class _MeanOf:
    """The mean over the columns of a statistic, as a statistic of one column."""

    inner: ClusterStatistic

    @property
    def clusters(self) -> np.ndarray:
        return self.inner.clusters

    @property
    def value(self) -> np.ndarray:
        return nan_mean(self.inner.value[None])

    def at(self, weights: np.ndarray) -> np.ndarray:
        return nan_mean(self.inner.at(weights))[:, None]


def top1_hits(values: np.ndarray, labels: np.ndarray) -> Float[np.ndarray, " rows"]:
    """Whether the highest read-out is of a true hypernym; NaN where no true one is scored."""
    asked = ~np.isnan(values)
    best = np.where(asked, values, -np.inf).argmax(axis=1)
    right = labels[np.arange(len(labels)), best].astype(float)
    return np.where((asked & labels).any(axis=1), right, np.nan)


def chance(condition: Condition, part: Part, measure: str) -> float:
    """What answers that know nothing reach; NaN where that depends on the threshold.

    Of top-1 it is the share of the scored hypernyms of a picture that are true, on average over those with a true one.
    """
    answers = condition.answers[0]
    if measure == "top1":
        values, labels, _ = answers.read(part)
        asked = ~np.isnan(values)
        true = (labels & asked).sum(axis=1)
        return (
            float((true / np.maximum(asked.sum(axis=1), 1))[true > 0].mean()) if true.any() else float("nan")
        )
    levels = {
        "auroc": 0.5,
        "balanced_accuracy": 0.5,
        "leaf_naming": 1 / answers.scores.leaf_choices,
        "leaf_top1": 1 / len(answers.taxonomy.leaves),
    }
    return levels.get(measure, float("nan"))


def prevalence_matched(
    values: Float[np.ndarray, "rows k"], labels: Bool[np.ndarray, "rows k"]
) -> Float[np.ndarray, "rows k"]:
    """½ (Yes) for as many pictures as have the hypernym, the highest read-outs first; −½ (No) for the others.

    Labels give the count alone. A completion's read-out has no threshold of its own.
    """
    asked = ~np.isnan(values)
    place = np.argsort(np.argsort(np.where(asked, -values, np.inf), axis=0, kind="stable"), axis=0)
    return np.where(asked, np.where(place < (labels & asked).sum(0), 0.5, -0.5), np.nan)
