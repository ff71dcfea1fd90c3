"""Intervals of the `mediation` analysis: over leaf concepts, hypernyms and seeds, as those of `behaviour`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analyses.inputs.intervals import within
from probing.stats import DRAWS, ClusterStatistic
from probing.stats.hierarchical import LEVELS, hierarchical


@dataclass(frozen=True)
class Intervals:
    """How limits are made: the bootstrap draws of leaves, and their seed."""

    draws: int = DRAWS
    seed: int = 0

    def mean(
        self, statistics: Sequence[ClusterStatistic], least: float | None = 0.0, n: int | None = None
    ) -> dict[str, Any]:
        """The mean over seeds and columns with its limits, as entries of a row.

        Args:
            statistics: one of each seed.
            least: the lowest value that there can be, and 1 the highest; None for any number.
            n: leaves that it rests on; by default all.
        """
        over = LEVELS if len(statistics[0].value) > 1 else ("leaf", "seed")
        with np.errstate(invalid="ignore"):
            found = hierarchical(statistics, over=over, draws=self.draws, seed=self.seed)
        found = found if least is None else within(found, least)
        found = found if n is None else replace(found, n=n)
        return {"runs": len(statistics), **found.__dict__}
