"""The main scores of a run: three numbers that a table of many runs shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from probing.stats import ClusterAUROC, ClusterMean, ClusterStatistic, Estimate, nan_mean
from probing.stats.hierarchical import LEVELS, hierarchical
from taxogen.answers.rows import labels_of
from taxogen.answers.scores import Scores
from taxogen.questions import ablation
from taxogen.runs.run import Run

NAMES = ("auroc", "top1", "leaf_naming")
"""Mean AUROC over hypernyms whose evidence was removed (.5 by chance; over all where none was), how often the highest
read-out among them is true, and how often the shown leaf is named among `evaluate.leaf_choices`."""


@dataclass(frozen=True)
class MainScores:
    """The main scores of an evaluated run, by name.

    Attributes:
        statistics: over leaf concepts; the AUROC has a column for each hypernym.
        chance: what a model would get that knows nothing.
        hypernyms: how many are scored.
        removed: whether these are those whose evidence was removed; else all.
    """

    statistics: Mapping[str, ClusterStatistic]
    chance: Mapping[str, float]
    hypernyms: int
    removed: bool

    @property
    def values(self) -> dict[str, float]:
        """The scores."""
        return {name: float(nan_mean(one.value)) for name, one in self.statistics.items()}

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The scores with 95 % limits over leaf concepts, of the AUROC over hypernyms too; seeds are not included."""
        return {name: _estimate(one) for name, one in self.statistics.items()}


def _estimate(statistic: ClusterStatistic) -> Estimate:
    found = hierarchical([statistic], over=LEVELS if len(statistic.value) > 1 else ("leaf", "seed"))
    lower, upper = np.clip((found.lower, found.upper), 0, 1)
    return replace(found, lower=float(lower), upper=float(upper))


def scored(run: Run) -> MainScores:
    """The main scores of an evaluated run, and what they rest on.

    Raises:
        FileNotFoundError, DamagedError, MismatchError: as `Scores.read`.
    """
    scores, data, taxonomy = Scores.read(run), run.config.data, run.taxonomy
    options = {"fraction": data.fraction, "rule": data.rule or None, "held_out": data.held_out}
    removal = ablation.plan(taxonomy, data.ablation, **options, seed=run.config.seed)
    pairs = removal.scored if removal.pairs.any() else np.ones_like(removal.true)
    leaves = scores.image["leaf"].to_numpy(str)
    rows = np.searchsorted(np.array(taxonomy.leaves), leaves)
    columns = [taxonomy.hypernyms.index(name) for name in scores.hypernyms]
    counted = pairs[rows][:, columns]
    values = np.where(counted, scores.image_scores.astype(np.float64), np.nan)
    labels = labels_of(scores.image, taxonomy, scores.hypernyms)
    best = np.where(counted, values, -np.inf).argmax(axis=1)
    right = labels[np.arange(len(labels)), best].astype(float)
    right[~(counted & labels).any(axis=1)] = np.nan
    of_rows = {"top1": right, "leaf_naming": scores.leaf_correct.astype(float)}
    means = {name: ClusterMean(value[:, None], leaves) for name, value in of_rows.items()}
    numbers = {"auroc": ClusterAUROC(values, labels, leaves), **means}
    chance = {"auroc": 0.5, "top1": float(labels[~np.isnan(values)].mean())}
    chance["leaf_naming"] = 1 / scores.leaf_choices
    hypernyms = int(counted.any(axis=0).sum())
    return MainScores({name: numbers[name] for name in NAMES}, chance, hypernyms, bool(removal.pairs.any()))


def main_scores(run: Run) -> dict[str, float]:
    """The main scores of an evaluated run by name; raises what `scored` does."""
    return scored(run).values
