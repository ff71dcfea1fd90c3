"""Counts of yes/no answers, the rates that follow from them, and their majority baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Shaped

from probing.stats.undefined import divide

SingleClass = Literal["nan", "study"]
RATES = (
    *("macro_f1", "balanced_accuracy", "accuracy", "tpr", "tnr"),
    *("f1_yes", "f1_no", "majority_macro_f1"),
)
"""The rates that follow from the counts of a `Confusion`. Chance is .5 for balanced_accuracy; for the others see
`Confusion.majority`."""
_TRUE = {"f1_yes": ("hit", "miss"), "f1_no": ("rejection", "false_alarm")}
"""The counts of questions whose true answer is the one that an F1 is of."""


@dataclass(frozen=True)
class Confusion:
    """Counts of the four kinds of answers, in arrays of any one shape."""

    hit: Float[np.ndarray, "..."]
    miss: Float[np.ndarray, "..."]
    false_alarm: Float[np.ndarray, "..."]
    rejection: Float[np.ndarray, "..."]

    @property
    def n(self) -> Float[np.ndarray, "..."]:
        """The number of questions."""
        return self.hit + self.miss + self.false_alarm + self.rejection

    @property
    def accuracy(self) -> Float[np.ndarray, "..."]:
        """The share of right answers, in [0, 1]."""
        return divide(self.hit + self.rejection, self.n)

    @property
    def tpr(self) -> Float[np.ndarray, "..."]:
        """The share of Yes among questions whose answer is Yes."""
        return divide(self.hit, self.hit + self.miss)

    @property
    def tnr(self) -> Float[np.ndarray, "..."]:
        """The share of No among questions whose answer is No."""
        return divide(self.rejection, self.rejection + self.false_alarm)

    @property
    def balanced_accuracy(self) -> Float[np.ndarray, "..."]:
        """The mean of `tpr` and `tnr`; chance is .5, undefined where a class is missing."""
        return (self.tpr + self.tnr) / 2

    @property
    def f1_yes(self) -> Float[np.ndarray, "..."]:
        """The F1 of the answer Yes; undefined where it is neither true nor given."""
        return divide(2 * self.hit, 2 * self.hit + self.miss + self.false_alarm)

    @property
    def f1_no(self) -> Float[np.ndarray, "..."]:
        """The F1 of the answer No; undefined where it is neither true nor given."""
        return divide(2 * self.rejection, 2 * self.rejection + self.miss + self.false_alarm)

    def macro_f1(self, single_class: SingleClass = "nan") -> Float[np.ndarray, "..."]:
        """The mean of the F1 of Yes and of No.

        Where the truth has one class only, a score says nothing about distinguishing two: "nan" (default)
        leaves it undefined. "study" is scikit-learn's macro average: the mean over the labels that are true
        or given, which is 1 where the only class is always answered.

        Raises:
            KeyError: unknown policy.
        """
        if single_class not in ("nan", "study"):
            raise KeyError(f"single_class={single_class!r} was asked for; known: nan, study")
        yes, no = self.f1_yes, self.f1_no
        both = np.where(np.isnan(yes), no, np.where(np.isnan(no), yes, (yes + no) / 2))
        if single_class == "study":
            return both
        two = (self.hit + self.miss > 0) & (self.rejection + self.false_alarm > 0)
        return np.where(two, both, np.nan)

    def majority(self) -> Confusion:
        """The counts of a baseline that always gives the more frequent answer of each hypernym.

        Its macro-F1 is majority / (2 · majority + minority), or 1 under "study" with one class only.
        """
        yes, no = self.hit + self.miss, self.rejection + self.false_alarm
        says_yes = yes >= no
        zero = np.zeros_like(yes)
        return Confusion(
            np.where(says_yes, yes, zero),
            np.where(says_yes, zero, yes),
            np.where(says_yes, no, zero),
            np.where(says_yes, zero, no),
        )

    def rate(self, measure: str, single_class: SingleClass = "nan") -> Float[np.ndarray, "..."]:
        """The rate of that name, one of `RATES`.

        Under the policy "nan" the F1 of an answer is undefined wherever that answer is never true; under "study"
        it is 0 there if the answer is given at all.

        Raises:
            KeyError: unknown rate or policy.
        """
        if measure not in RATES:
            raise KeyError(f"rate {measure!r} was asked for; known: {', '.join(RATES)}")
        if measure == "majority_macro_f1":
            return self.majority().macro_f1(single_class)
        if measure == "macro_f1":
            return self.macro_f1(single_class)
        value = getattr(self, measure)
        if measure in _TRUE and single_class == "nan":
            hits, misses = _TRUE[measure]
            return np.where(getattr(self, hits) + getattr(self, misses) > 0, value, np.nan)
        return value


def confusion(
    decisions: Bool[np.ndarray, "rows k"],
    labels: Bool[np.ndarray, "rows k"],
    counted: Bool[np.ndarray, "rows k"] | None = None,
) -> Confusion:
    """The counts of each column, over the questions in `counted` (all of them by default).

    >>> answers = confusion(np.array([[True], [False]]), np.array([[True], [True]]))
    >>> answers.tpr, answers.f1_yes.round(2)
    (array([0.5]), array([0.67]))
    """
    decisions, labels = np.asarray(decisions, bool), np.asarray(labels, bool)
    if decisions.shape != labels.shape:
        raise ValueError(f"decisions are {decisions.shape} and labels {labels.shape}; they must match")
    included = np.ones_like(labels) if counted is None else np.asarray(counted, bool)
    cells = (decisions & labels, ~decisions & labels, decisions & ~labels, ~decisions & ~labels)
    return Confusion(*((cell & included).sum(axis=0).astype(np.float64) for cell in cells))


def by_hypernym(
    decisions: Bool[np.ndarray, " rows"],
    labels: Bool[np.ndarray, " rows"],
    hypernyms: Shaped[np.ndarray, " rows"],
) -> tuple[tuple[str, ...], Confusion]:
    """The names, sorted, and the counts of questions in long form, each about one hypernym."""
    names, codes = np.unique(np.asarray(hypernyms).astype(str), return_inverse=True)
    decisions, labels = np.asarray(decisions, bool), np.asarray(labels, bool)
    cells = (decisions & labels, ~decisions & labels, decisions & ~labels, ~decisions & ~labels)
    counts = (np.bincount(codes, weights=cell, minlength=len(names)) for cell in cells)
    return tuple(str(name) for name in names), Confusion(*counts)
