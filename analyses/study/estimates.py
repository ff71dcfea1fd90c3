"""Scores of a plan's conditions and their contrasts, with intervals over leaves, hypernyms and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analyses.inputs.answers import Answers
from analyses.inputs.conditions import Condition
from analyses.inputs.intervals import Aligned, Rule, within
from analyses.inputs.measures import HYPERNYM_MEASURES, Frame, chance, measured
from analyses.study.answers import Stored, condition_of, of_leaves, stored_runs
from analyses.study.tables import Tables
from probing.stats import ClusterMean, Estimate, nan_mean
from probing.stats.correlations import correlation
from probing.stats.hierarchical import leaf_weights, mean_over

MEASURES = ("auroc", "macro_f1", "top1", "leaf_naming")
BASELINES = ("blind", "gold", "cascade", "probe", "probe_held_out")
"""Beside the majority answer, whose AUROC is .5."""
DRAWS = 400
_COLUMNS = ("condition", "effective", "coherence", "scored", "measure", "baseline", "chance")
_NUMBERS = ("value", "lower", "upper", "n", "seeds")
_COLUMNS += _NUMBERS


@dataclass(frozen=True, eq=False)
class Study:
    """The finished runs of one plan.

    Attributes:
        plan: its rows of the table `plan`.
        runs: the finished runs by name.
        rule: of intervals.
    """

    plan: pd.DataFrame
    runs: dict[str, Stored]
    rule: Rule

    @classmethod
    def of(cls, tables: Tables, name: str, draws: int = DRAWS) -> Study:
        """The study of a plan by name."""
        plan = _whole_conditions(tables.plan[tables.plan["plan"] == name])
        runs = {run: stored for run, stored in stored_runs(tables).items() if run in set(plan["run"])}
        return cls(plan, runs, Rule(draws=draws))

    @cached_property
    def conditions(self) -> dict[str, Condition]:
        """The conditions of which a run is finished, by name."""
        of_name: dict[str, list[Stored]] = {}
        unique = self.plan.drop_duplicates("run")
        for name, run in zip(unique["condition"], unique["run"]):
            if run in self.runs:
                of_name.setdefault(name, []).append(self.runs[run])
        return {name: condition_of(name, runs) for name, runs in of_name.items()}

    @cached_property
    def frame(self) -> Frame:
        """Leaves and hypernyms of all runs."""
        return Frame.of(list(self.conditions.values()))

    @cached_property
    def effective(self) -> dict[str, float]:
        """Of each condition the share of hypernym questions that was really removed, on average over its runs."""
        return {name: self._mean(name, "effective") for name in self.conditions}

    def members(self, group: str) -> dict[str, str]:
        """Label → condition of a group, also of those without a finished run."""
        rows = self.plan[self.plan["group"] == group]
        return dict(zip(rows["label"], rows["condition"]))

    def scores(self) -> pd.DataFrame:
        """A row for each condition, measure and baseline, with the share of evidence that was really removed."""
        rows = [row for name in self.conditions for row in self._scores(name)]
        return pd.DataFrame(rows, columns=list(_COLUMNS))

    def heights(self, names: Sequence[str]) -> pd.DataFrame:
        """AUROC by the height of the hypernym above the leaves: of each hypernym and height, and their correlation.

        Rows are of hypernyms (`hypernym`), of the mean of those of a height (`height` alone), and of Spearman's rank
        correlation over hypernyms (neither). Limits are over leaves, hypernyms and seeds; single hypernyms have none.
        """
        rows = [row for name in names if name in self.conditions for row in self._heights(name)]
        return pd.DataFrame(rows, columns=["condition", "hypernym", "height", *_NUMBERS])

    def contrast(self, first: str, second: str, measure: str) -> dict[str, Any] | None:
        """The difference of two conditions at the seeds that both have; None where one has no finished run.

        Of each seed it rests on the pairs of leaf and hypernym that are scored in both, and naming on the leaves that
        both show.
        """
        pair = [self.conditions.get(name) for name in (first, second)]
        if pair[0] is None or pair[1] is None:
            return None
        seeds = sorted(set(pair[0].seeds) & set(pair[1].seeds))
        if not seeds:
            return None
        alike = _alike(pair[0].of_seeds(seeds), pair[1].of_seeds(seeds), measure)
        (one, counted), (other, counted_too) = (self._statistics(side, measure) for side in alike)
        if all(np.isnan(statistic.value).all() for statistic in one):
            return None
        return _numbers(self.rule.contrast(one, other, int((counted & counted_too).sum())), seeds)

    def _mean(self, name: str, column: str) -> float:
        runs = self.plan.loc[self.plan["condition"] == name, "run"].unique()
        values = [self.runs[run].row[column] for run in runs if run in self.runs]
        return float(nan_mean(np.array(values, dtype=float)))

    def _scores(self, name: str) -> Iterator[dict[str, Any]]:
        condition = self.conditions[name]
        about = {
            "condition": name,
            "effective": self.effective[name],
            "coherence": self._mean(name, "coherence"),
            "scored": condition.headline.scored,
        }
        for measure in MEASURES:
            statistics, counted = self._statistics(condition, measure)
            found = self.rule.mean(statistics, int(counted.sum()))
            level = {"chance": chance(condition, condition.headline, measure)}
            yield about | {"measure": measure, "baseline": ""} | level | _numbers(found, condition.seeds)
        for measure, baseline in [*(("auroc", name) for name in BASELINES), ("macro_f1", "majority")]:
            statistics, counted = self._statistics(condition, measure, baseline)
            found = self.rule.mean(statistics, int(counted.sum()))
            yield about | {"measure": measure, "baseline": baseline} | _numbers(found, condition.seeds)

    def _heights(self, name: str) -> Iterator[dict[str, Any]]:
        condition = self.conditions[name]
        statistics, counted = self._statistics(condition, "auroc")
        values = np.stack([one.value for one in statistics])
        weights = leaf_weights(len(self.frame.leaves), self.rule.draws, self.rule.seed)
        drawn = np.stack([one.at(weights) for one in statistics], axis=1)
        taxonomy, leaves = condition.answers[0].taxonomy, int(counted.sum())
        scored = [at for at in range(values.shape[1]) if not np.isnan(values[:, at]).all()]
        heights = np.array([taxonomy.height(self.frame.hypernyms[at]) for at in scored])
        means = nan_mean(values[:, scored].T)
        about = {"condition": name, "seeds": ",".join(map(str, condition.seeds))}
        for at, height, mean in zip(scored, heights, means):
            alone = Estimate(float(mean), np.nan, np.nan, leaves)
            yield about | {"hypernym": self.frame.hypernyms[at], "height": height} | alone.__dict__
        for height in np.unique(heights):
            own = np.array(scored)[heights == height]
            found = mean_over(values[:, own], drawn[:, :, own], len(own), leaves=len(self.frame.leaves))
            yield about | {"hypernym": "", "height": height} | within(found).__dict__
        found = correlation(np.stack([heights, means], axis=1), "spearman", self.rule.draws, self.rule.seed)
        yield about | {"hypernym": "", "height": np.nan} | found.__dict__

    def _statistics(
        self, condition: Condition, measure: str, baseline: str = ""
    ) -> tuple[list[Aligned], np.ndarray]:
        """A statistic of each seed, and the leaves that it rests on."""
        if measure == "top1":
            return self._top1(condition)
        part = replace(condition.headline, leaves="all", baseline=baseline)
        found = measured(condition, part, measure, self.frame)
        assert found is not None, "these measures need nothing that may not be given"
        return found.statistics, np.asarray(found.counted.any(axis=1))

    def _top1(self, condition: Condition) -> tuple[list[Aligned], np.ndarray]:
        """Whether the highest read-out was true, as it was stored: ranks of different hypernyms cannot be compared."""
        hits = {id(run.answers): run.top1 for run in self.runs.values()}
        found, counted = [], np.zeros(len(self.frame.leaves), dtype=bool)
        for answers in condition.answers:
            values = hits[id(answers)]
            mean = ClusterMean(values[:, None], answers.leaves)
            found.append(Aligned(mean, ("",), self.frame.leaves, ("",)))
            counted |= np.isin(self.frame.leaves, answers.leaves[~np.isnan(values)])
        return found, counted


def _whole_conditions(plan: pd.DataFrame) -> pd.DataFrame:
    """The rows of a plan, where runs of one label in a group are one condition.

    Where groups have seeds of their own, some of these runs may have the name of an earlier group.
    """
    names = plan["condition"].copy()
    for rows in plan.groupby(["group", "label"], sort=False).groups.values():
        parts = names[rows].unique()
        names[names.isin(parts)] = parts[0]
    return plan.assign(condition=names)


def _alike(first: Condition, second: Condition, measure: str) -> tuple[Condition, Condition]:
    """Both conditions with what they share: a shuffle may leave out leaves, an ablation scores some pairs."""
    parts = [_shared(*answers, measure) for answers in zip(_read(first), _read(second), strict=True)]
    one, other = (replace(side, answers=own) for side, own in zip((first, second), zip(*parts)))
    return one, other


def _read(condition: Condition) -> list[tuple[Answers, pd.DataFrame]]:
    """The answers of each seed, and whether each of their leaves × hypernyms is scored."""
    found = []
    for answers in condition.answers:
        values, _, leaves = answers.read(condition.headline)
        scored = pd.DataFrame(~np.isnan(values), columns=list(answers.scores.hypernyms))
        found.append((answers, scored.groupby(leaves).any()))
    return found


def _shared(
    first: tuple[Answers, pd.DataFrame], second: tuple[Answers, pd.DataFrame], measure: str
) -> list[Answers]:
    """Both answers about the leaves that both show; of hypernyms with the pairs that are scored in both."""
    (one, scored), (other, scored_too) = first, second
    shown = set(scored.index) & set(scored_too.index)
    sides = [of_leaves(answers, shown) for answers in (one, other)]
    if measure not in HYPERNYM_MEASURES:
        return sides
    both = scored & scored_too.reindex(index=scored.index, columns=scored.columns, fill_value=False)
    return [_of_pairs(answers, both) for answers in sides]


def _of_pairs(answers: Answers, scored: pd.DataFrame) -> Answers:
    """The answers about some pairs of leaf and hypernym."""
    scores = answers.scores
    kept = scored.reindex(index=answers.leaves, columns=list(scores.hypernyms), fill_value=False)
    return replace(answers, scores=replace(scores, image_scores=np.where(kept, scores.raw, np.nan)))


def _numbers(found: Estimate, seeds: Sequence[int]) -> dict[str, Any]:
    return {**found.__dict__, "seeds": ",".join(map(str, seeds))}
