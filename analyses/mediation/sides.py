"""Sides: one run's answers beside what the names that it gives would answer in words."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped
from scipy.stats import rankdata

from analyses.inputs.answers import Answers, Part
from analyses.inputs.intervals import Aligned
from analyses.inputs.measures import Frame
from analyses.mediation.naming import Naming
from probing.stats import ClusterAUROC, ClusterMean, ClusterStatistic, divide
from probing.stats.mediation import ClusterSlope


@dataclass(frozen=True)
class Assumed:
    """What is assumed of the names that a model gives, and of how its answers follow them.

    Attributes:
        temperature: the distribution over names is raised to one over it.
        top: so many likeliest names alone; 0 for all.
        reliability: the share of the cascade's variance within leaves that is not error; the gain is divided by it.
        within: whether the gain rests on pictures of one leaf alone, so that their common content has no part in it.
    """

    temperature: float = 1.0
    top: int = 0
    reliability: float = 1.0
    within: bool = True


AS_READ = Assumed()


@dataclass(frozen=True, eq=False)
class Side:
    """One run of a condition.

    Attributes:
        answers: of the run.
        naming: of its test pictures.
        part: which of its read-outs are scored.
        frame: the leaves and hypernyms of all runs that are compared.
        values: read-outs of the model's hypernyms, NaN where a pair is not scored.
        leaves: what this world calls each picture.
    """

    answers: Answers
    naming: Naming
    part: Part
    frame: Frame
    values: Float[np.ndarray, "rows k"]
    leaves: Shaped[np.ndarray, " rows"]

    @classmethod
    def of(cls, answers: Answers, naming: Naming, part: Part, frame: Frame) -> Side:
        """The side of a run; `part` is that of its condition, all leaves."""
        values, _, leaves = answers.read(replace(part, leaves="all"))
        return cls(answers, naming, part, frame, values, leaves)

    @property
    def pictures(self) -> Shaped[np.ndarray, " rows"]:
        """The picture of each row."""
        return self.answers.scores.image["picture"].to_numpy(str)

    @property
    def shown(self) -> Shaped[np.ndarray, " rows"]:
        """The leaf that is really in each picture."""
        return self.answers.scores.image["shown_leaf"].to_numpy(str)

    @property
    def hypernyms(self) -> tuple[str, ...]:
        """The columns."""
        return self.answers.scores.hypernyms

    @cached_property
    def words(self) -> pd.DataFrame:
        """The language model's read-out of each hypernym (columns) for each leaf's name (index)."""
        scores = self.answers.scores
        return pd.DataFrame(
            scores.text_scores.astype(np.float64),
            index=scores.text["leaf"].to_numpy(str),
            columns=list(self.hypernyms),
        )

    @cached_property
    def right(self) -> Float[np.ndarray, " rows"]:
        """Log-probability of the right name; see `Naming.of_right`."""
        return self.naming.of_right(self.leaves)

    @property
    def names(self) -> set[str]:
        """The leaves whose names can be given and answered in words."""
        return set(self.naming.leaves) & set(self.words.index)

    def among(self, leaves: Collection[str]) -> Side:
        """The side in a world of some leaves: their names alone, and no read-outs of pictures without one of them."""
        naming = self.naming.among(leaves)
        known = np.isin(self.leaves, list(leaves)) & np.isfinite(naming.probability.sum(axis=1))
        return replace(self.of_rows(known), naming=naming)

    def of_rows(self, rows: Bool[np.ndarray, " rows"]) -> Side:
        """The side with the read-outs of these rows alone; those of others are NaN."""
        return replace(self, values=np.where(rows[:, None], self.values, np.nan))

    def cascade(
        self, assumed: Assumed = AS_READ, names_of: Side | None = None, words_of: Side | None = None
    ) -> Float[np.ndarray, "pictures k"]:
        """The read-out of hypernyms that names would give in words: log Σ p(name | picture) · exp(read-out of name).

        By the law of total probability that is the read-out of a model which answers about the picture as its language
        model does about the picture's name. Names and words may be those of another side; names that both have
        count, and a picture that has none of these is NaN.
        """
        naming, words = (names_of or self).naming, (words_of or self).words
        words = words.reindex(columns=list(self.hypernyms))
        known = np.isin(np.array(naming.leaves), words.index)
        mass = naming.changed(assumed.temperature, assumed.top).probability[:, known]
        mass = divide(mass, mass.sum(axis=1, keepdims=True))
        read = words.loc[np.array(naming.leaves)[known]].to_numpy()
        highest = read.max(axis=0)
        return highest + np.log(np.maximum(mass @ np.exp(read - highest), np.finfo(float).tiny))

    def gain(self, assumed: Assumed = AS_READ) -> ClusterStatistic:
        """By how many nats the model's read-out follows each nat of the cascade: [1]; see `ClusterSlope`."""
        slope = ClusterSlope(self.values, self.cascade(assumed), self.leaves, assumed.within)
        return slope if assumed.reliability == 1 else Scaled(slope, 1 / assumed.reliability)

    def auroc(
        self, values: Float[np.ndarray, "rows k"], against: Shaped[np.ndarray, " rows"] | None = None
    ) -> Aligned:
        """AUROC of some read-outs of the rows; labels are the hypernyms of what they are called, or of other leaves."""
        labels = self.labels(self.leaves if against is None else against)
        made = ClusterAUROC(np.where(np.isnan(self.values), np.nan, values), labels, self.leaves)
        return Aligned(made, self.hypernyms, self.frame.leaves, self.frame.hypernyms)

    def auroc_alone(self, values: Float[np.ndarray, "rows k"]) -> Float[np.ndarray, " hypernyms"]:
        """The values of `auroc` without their draws, in a fraction of the time."""
        values, labels = np.where(np.isnan(self.values), np.nan, values), self.labels(self.leaves)
        ranks, known = rankdata(values, axis=0, nan_policy="omit"), ~np.isnan(values)
        yes, no = (labels & known).sum(axis=0), (~labels & known).sum(axis=0)
        wins = np.where(labels & known, ranks, 0.0).sum(axis=0) - yes * (yes + 1) / 2
        found = np.full(len(self.frame.hypernyms), np.nan)
        found[[self.frame.hypernyms.index(name) for name in self.hypernyms]] = divide(
            wins, (yes * no).astype(float)
        )
        return found

    def over_leaves(self, values: Float[np.ndarray, " rows"]) -> Aligned:
        """The mean of a number of each row."""
        return self.aligned(ClusterMean(np.asarray(values, np.float64)[:, None], self.leaves))

    def aligned(self, one: ClusterStatistic) -> Aligned:
        """A statistic of one column, over the leaves of the frame."""
        return Aligned(one, ("",), self.frame.leaves, ("",))

    def labels(self, leaves: Shaped[np.ndarray, " n"]) -> Bool[np.ndarray, "rows k"]:
        """The hypernyms of leaves."""
        taxonomy = self.answers.taxonomy
        columns = [taxonomy.hypernyms.index(name) for name in self.hypernyms]
        return np.asarray(taxonomy.labels([str(leaf) for leaf in leaves]))[:, columns]


@dataclass(frozen=True, eq=False)
class Scaled:
    """A statistic times a number."""

    inner: ClusterStatistic
    factor: float

    @property
    def clusters(self) -> np.ndarray:
        """Those of the statistic."""
        return self.inner.clusters

    @property
    def value(self) -> np.ndarray:
        """With every cluster counted once."""
        return self.factor * self.inner.value

    def at(self, weights: np.ndarray) -> np.ndarray:
        """With each cluster counted as often as `weights` says."""
        return self.factor * self.inner.at(weights)
