"""A check: a number that is printed, a world in which the truth is known, and how often the number holds there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

Kind = Literal["coverage", "false positives", "power"]
LIMITS: dict[Kind, tuple[float, float]] = {
    "coverage": (0.92, 0.98),
    "false positives": (0.03, 0.07),
    "power": (0.75, 0.85),
}
"""Between which a rate must lie; below the first (above the second, for coverage) it may where that is said."""
MEASURED = Path(__file__).parent / "measured"


class Limits(NamedTuple):
    """What was printed about a world: numbers with their limits, and the truth where the world knows it.

    Where it does not, the truth is the mean of the numbers over all worlds: what is printed is then an estimate
    of its own expectation, over other leaves (and pictures, and seeds) from the same source.
    """

    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    truth: np.ndarray | None = None


@dataclass(frozen=True)
class Check:
    """How often a printed number holds in a world where the truth is known.

    Attributes:
        name: of the check; a file name.
        of: what is printed, as ("layer_probes.auroc", …): analysis, dot, measure; an asterisk stands for any measure.
        says: what is printed, in words.
        world: in which it is checked, in words.
        assumes: what the number rests on, in a sentence.
        kind: "coverage" of a 95 % interval, "false positives" at .05, or "power" of 80 %.
        trial: the seed of a world → the limits printed about it, or, for each test, whether it rejects; NaN where
            undefined.
        trials: how many worlds are drawn.
        conservative: why intervals cover more, or tests reject less, than they say; empty where they must not.
    """

    name: str
    of: tuple[str, ...]
    says: str
    world: str
    assumes: str
    kind: Kind
    trial: Callable[[int], Limits | np.ndarray | float | bool]
    trials: int = 400
    conservative: str = ""

    def measure(self) -> Rate:
        """The rate over all trials."""
        start = time.process_time()
        held = _held([self.trial(seed) for seed in range(self.trials)])
        each = np.array([np.nanmean(one) for one in held if not np.isnan(one).all()])
        error = float(each.std(ddof=1) / np.sqrt(len(each)))
        undefined = 1 - sum(int((~np.isnan(one)).sum()) for one in held) / sum(one.size for one in held)
        return Rate(float(each.mean()), error, len(each), undefined, time.process_time() - start)

    def holds(self, rate: float) -> bool:
        """Whether a rate is what the number says, or errs on the side that the check allows."""
        low, high = LIMITS[self.kind]
        if self.conservative:
            low, high = (low, 1.0) if self.kind == "coverage" else (0.0, high)
        return low <= rate <= high


@dataclass(frozen=True)
class Rate:
    """The rate that a check measured, its Monte-Carlo standard error, its worlds, the share undefined, CPU seconds."""

    value: float
    error: float
    trials: int
    undefined: float
    seconds: float

    def write(self, check: Check) -> None:
        """Keeps it for the page."""
        text = json.dumps({key: round(value, 4) for key, value in asdict(self).items()}, indent=1)
        (MEASURED / f"{check.name}.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, check: Check) -> Rate | None:
        """The one that was kept; None where the check was not measured."""
        path = MEASURED / f"{check.name}.json"
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _held(outcomes: Sequence[Limits | np.ndarray | float | bool]) -> list[np.ndarray]:
    """For each world, whether each interval covers or each test rejects; NaN where undefined."""
    limits = [one for one in outcomes if isinstance(one, Limits)]
    if not limits:
        return [np.atleast_1d(np.asarray(one, float)) for one in outcomes]
    mean = np.nanmean([np.atleast_1d(one.value) for one in limits], axis=0)
    held = []
    for one in limits:
        truth = mean if one.truth is None else np.atleast_1d(one.truth)
        covers = ((one.lower <= truth) & (truth <= one.upper)).astype(float)
        undefined = np.isnan(one.value) | np.isnan(one.lower) | np.isnan(one.upper)
        held.append(np.atleast_1d(np.where(undefined, np.nan, covers)))
    return held
