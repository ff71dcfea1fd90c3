"""Scores of a plan's conditions and their contrasts, with intervals over leaves, hypernyms and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analyses.inputs.answers import Part
from analyses.inputs.conditions import Condition
from analyses.inputs.intervals import Aligned, Rule
from analyses.inputs.measures import Frame, measured
from analyses.study.answers import Stored, condition_of, of_leaves, stored_runs
from analyses.study.tables import Tables
from probing.stats import ClusterMean, Estimate, nan_mean

MEASURES = ("auroc", "top1", "leaf_naming")
BASELINES = ("blind", "gold", "cascade", "probe", "probe_held_out")
"""Beside the majority answer, whose AUROC is .5."""
DRAWS = 400
_COLUMNS = ("condition", "effective", "coherence", "scored", "measure", "baseline")
_COLUMNS += ("value", "lower", "upper", "n", "seeds")


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
        plan = tables.plan[tables.plan["plan"] == name]
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

    def members(self, group: str) -> dict[str, str]:
        """Label → condition of a group, also of those without a finished run."""
        rows = self.plan[self.plan["group"] == group]
        return dict(zip(rows["label"], rows["condition"]))

    def scores(self) -> pd.DataFrame:
        """A row for each condition, measure and baseline, with the share of evidence that was really removed."""
        rows = [row for name in self.conditions for row in self._scores(name)]
        return pd.DataFrame(rows, columns=list(_COLUMNS))

    def contrast(self, first: str, second: str, measure: str) -> dict[str, Any] | None:
        """The difference of two conditions at the seeds that both have; None where one has no finished run.

        Of each seed it rests on the leaves that both show and the hypernyms that are scored in both.
        """
        pair = [self.conditions.get(name) for name in (first, second)]
        if pair[0] is None or pair[1] is None:
            return None
        seeds = sorted(set(pair[0].seeds) & set(pair[1].seeds))
        if not seeds:
            return None
        sides = [
            self._statistics(one, measure) for one in _alike(pair[0].of_seeds(seeds), pair[1].of_seeds(seeds))
        ]
        (one, counted), (other, counted_too) = sides
        both = [~np.isnan(a.value) & ~np.isnan(b.value) for a, b in zip(one, other)]
        masked = [[_Masked(stat, keep) for stat, keep in zip(side, both)] for side in (one, other)]
        if not any(keep.any() for keep in both):
            return None
        n = int((counted & counted_too).sum())
        return _numbers(self.rule.contrast(masked[0], masked[1], n), seeds)  # pyright: ignore[reportArgumentType]

    def _scores(self, name: str) -> Iterator[dict[str, Any]]:
        condition = self.conditions[name]
        rows = [
            self.runs[run].row
            for run in self.plan.loc[self.plan["condition"] == name, "run"]
            if run in self.runs
        ]
        about = {
            "condition": name,
            "effective": float(np.mean([row["effective"] for row in rows])),
            "coherence": float(nan_mean(np.array([row["coherence"] for row in rows]))),
            "scored": condition.headline.scored,
        }
        for measure in MEASURES:
            statistics, counted = self._statistics(condition, measure)
            found = self.rule.mean(statistics, int(counted.sum()))
            yield about | {"measure": measure, "baseline": ""} | _numbers(found, condition.seeds)
        for baseline in BASELINES:
            statistics, counted = self._statistics(condition, "auroc", baseline)
            found = self.rule.mean(statistics, int(counted.sum()))
            yield about | {"measure": "auroc", "baseline": baseline} | _numbers(found, condition.seeds)

    def _statistics(
        self, condition: Condition, measure: str, baseline: str = ""
    ) -> tuple[list[Aligned], np.ndarray]:
        """A statistic of each seed, and the leaves that it rests on."""
        if measure == "top1":
            return self._top1(condition)
        part = Part(scored=condition.headline.scored, baseline=baseline)
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


def _alike(first: Condition, second: Condition) -> tuple[Condition, Condition]:
    """Both conditions with the leaves that both show: a shuffle may leave some out."""
    shown = [set(one.leaves) & set(other.leaves) for one, other in zip(first.answers, second.answers)]
    one, other = (
        replace(side, answers=tuple(map(of_leaves, side.answers, shown))) for side in (first, second)
    )
    return one, other


class _Masked:
    """A statistic without some of its columns."""

    def __init__(self, inner: Aligned, keep: np.ndarray):
        self.clusters, self._inner, self._keep = inner.clusters, inner, keep

    @property
    def value(self) -> np.ndarray:
        return np.where(self._keep, self._inner.value, np.nan)

    def at(self, weights: np.ndarray) -> np.ndarray:
        return np.where(self._keep, self._inner.at(weights), np.nan)


def _numbers(found: Estimate, seeds: Sequence[int]) -> dict[str, Any]:
    return {**found.__dict__, "seeds": ",".join(map(str, seeds))}
