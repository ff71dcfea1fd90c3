"""Intervals of the `behaviour` analysis: over leaves, hypernyms and runs of several seeds, or the study's rule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from probing.stats import DRAWS, ClusterStatistic, Estimate, nan_mean
from probing.stats.hierarchical import (
    LEVELS,
    hierarchical,
    hierarchical_contrast,
    leaf_weights,
    mean_over,
    t_interval,
)

INTERVALS = {
    "hierarchical": "95 %, over leaf concepts, hypernyms and seeds",
    "study": "95 %, the study's t-interval over hypernym × seed",
}
"""The rules by which intervals of means and contrasts are made, as captions say them."""
LEVELS_IN_WORDS = ("leaf concepts", "hypernyms")
"""What limits of a mean over hypernyms are over, beside seeds."""
ONE_SEED = "differences between seeds not included"
"""What limits of a single run leave out."""


def seeds_text(runs: Iterable[int]) -> str:
    """What is to be said after the limits of values that rest on so many runs each; empty where no run is alone."""
    alone = [count == 1 for count in runs]
    return f"; {'' if all(alone) else 'of one seed, '}{ONE_SEED}" if any(alone) else ""


def limits_text(
    runs: Iterable[int], rule: str = "hierarchical", over: Sequence[str] = LEVELS_IN_WORDS
) -> str:
    """What the limits of values that rest on so many runs each are over, and what they leave out."""
    runs = list(runs)
    if rule == "study":
        return INTERVALS[rule] + seeds_text(runs)
    every = [*over, "seeds"] if any(count > 1 for count in runs) else [*over]
    return f"95 %, over {' and '.join(filter(None, (', '.join(every[:-1]), every[-1])))}{seeds_text(runs)}"


@dataclass(frozen=True)
class Rule:
    """How intervals are made: the rule (`INTERVALS`), and the bootstrap draws of leaves and their seed.

    n counts leaves, and under the study's rule the values that it takes for independent. Limits keep to the range of a
    share or area, [0, 1], and of their differences.
    """

    interval: str = "hierarchical"
    draws: int = DRAWS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.interval not in INTERVALS:
            raise KeyError(f"interval {self.interval!r} was asked for; known: {', '.join(INTERVALS)}")

    def mean(self, statistics: Sequence[Aligned], n: int) -> Estimate:
        """The mean over seeds and hypernyms of a statistic per seed."""
        if self.interval == "study":
            return _t(np.stack([one.units for one in statistics]))
        found = hierarchical(statistics, over=_levels(statistics), draws=self.draws, seed=self.seed)
        return within(replace(found, n=n))

    def contrast(self, first: Sequence[Aligned], second: Sequence[Aligned], n: int) -> Estimate:
        """The difference of two means, paired by hypernym, leaf and seed."""
        if self.interval == "study":
            sides = (np.stack([one.units for one in side]) for side in (first, second))
            return _t(np.subtract(*sides))
        over = _levels(first)
        found = hierarchical_contrast(first, second, over=over, draws=self.draws, seed=self.seed)
        return within(replace(found, n=n), -1.0)

    def each(
        self,
        statistics: Sequence[Aligned],
        counts: Int[np.ndarray, " k"],
        fewest: Int[np.ndarray, " k"],
    ) -> list[Estimate]:
        """The mean over seeds of every hypernym, over other leaves and seeds.

        `counts` are their n, and `fewest` on how many leaves the interval rests. It is NaN where these are less than 2,
        or nothing varies in the draws, as where every answer is right.
        """
        weights = leaf_weights(len(statistics[0].clusters), self.draws, self.seed)
        values = np.stack([one.value for one in statistics])
        drawn = np.stack([one.at(weights) for one in statistics], axis=1)
        found = [
            within(mean_over(values[:, [k]], drawn[:, :, [k]], int(n), over=("seed",), leaves=int(few)))
            for k, (n, few) in enumerate(zip(counts, fewest, strict=True))
        ]
        return [replace(one, lower=np.nan, upper=np.nan) if one.lower == one.upper else one for one in found]


def within(found: Estimate, least: float = 0.0) -> Estimate:
    """The estimate with limits in [`least`, 1]; undefined limits stay NaN."""
    lower, upper = np.maximum(found.lower, least), np.minimum(found.upper, 1.0)
    return replace(found, lower=float(lower), upper=float(upper))


DEFAULT = Rule()


class Aligned:
    """A statistic over the leaves and hypernyms of several runs, of which its own run may lack some.

    A leaf that the run does not have weighs nothing, a hypernym that it lacks is NaN. The last draws are
    kept: a mean and its contrasts ask for the same ones.
    """

    def __init__(
        self, inner: ClusterStatistic, own: Sequence[str], clusters: np.ndarray, columns: Sequence[str]
    ):
        self.clusters = clusters
        self._inner = inner
        self._rows = np.searchsorted(clusters, inner.clusters)
        place = {name: at for at, name in enumerate(columns)}
        self._columns, self._width = [place[name] for name in own], len(columns)
        self._asked: np.ndarray | None = None
        self._given = np.empty((0, self._width))

    @property
    def value(self) -> Float[np.ndarray, " k"]:
        """The statistic with every leaf counted once."""
        return self._spread(self._inner.value[None])[0]

    @property
    def units(self) -> Float[np.ndarray, " units"]:
        """The values that the study's rule treats as independent: those of hypernyms, or else those of leaves."""
        return self.value if self._width > 1 else self.at(np.eye(len(self.clusters)))[:, 0]

    def at(self, weights: Float[np.ndarray, "draws clusters"]) -> Float[np.ndarray, "draws k"]:
        """The statistic with each leaf counted as often as `weights` says."""
        if self._asked is None or not np.array_equal(self._asked, weights):
            self._asked, self._given = weights, self._spread(self._inner.at(weights[:, self._rows]))
        return self._given

    def _spread(self, values: np.ndarray) -> np.ndarray:
        result = np.full((len(values), self._width), np.nan)
        result[:, self._columns] = values
        return result


def _levels(statistics: Sequence[Aligned]) -> tuple[str, ...]:
    """The levels that a bootstrap resamples: hypernyms only where there are several columns."""
    return LEVELS if len(statistics[0].value) > 1 else ("leaf", "seed")


def _t(values: np.ndarray) -> Estimate:
    """The study's t-interval; NaN where fewer than 2 values are defined."""
    defined = int((~np.isnan(values)).sum())
    if defined >= 2:
        return t_interval(values)
    return Estimate(float(nan_mean(values.ravel())), float("nan"), float("nan"), defined)
