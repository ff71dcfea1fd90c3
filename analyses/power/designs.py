"""Detectable contrasts of designs (numbers of leaves, hypernyms and seeds), with the limits that the tool prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats as distributions

from analyses.power.components import Components
from probing.stats.limits import half_width
from probing.stats.seeding import stream

POWER = 0.8
WORLDS = 4_000
"""Simulated studies of each design; the quantile at .8 has a standard error of about .02 standard errors."""
UNCERTAIN = 200
"""Components that the pilot could have come from, for the limits of what is detectable."""
SINGULAR = {"leaves": "leaf", "hypernyms": "hypernym", "seeds": "seed"}
"""Size of a design → its word for one."""
MOST = 100_000
"""Leaves, or seeds, above which no design is looked for."""


@dataclass(frozen=True)
class Design:
    """How many leaves, hypernyms and seeds a study has."""

    leaves: int
    hypernyms: int
    seeds: int

    def __str__(self) -> str:
        return ", ".join(counted(getattr(self, name), name) for name in SINGULAR)


def counted(number: float, size: str) -> str:
    """A number of leaves, hypernyms or seeds, in words.

    >>> counted(1, "leaves"), counted(40, "seeds")
    ('1 leaf', '40 seeds')
    """
    return f"{number:g} {SINGULAR[size] if number == 1 else size}"


class Simulator:
    """Studies of any design under given components: by how far a contrast must exceed 0 to be found.

    The estimate errs by what leaves, hypernyms and seeds vary; its printed limits lie `half_width` away, from variances
    that are estimated too, those between seeds with seeds − 1 degrees of freedom. A contrast d is found where d + error
    exceeds the half-width: its 95 % limits are then above 0. The smallest d that a share of studies finds is therefore
    a quantile of half-width − error. All designs share the random numbers.

    Args:
        seed: of the random numbers.
        worlds: simulated studies of each design.
    """

    def __init__(self, seed: int = 0, worlds: int = WORLDS):
        rng = stream(seed, "power")
        self._errors = rng.normal(size=worlds)
        self._uniform = rng.uniform(size=(3, worlds))
        self._spread: dict[tuple[int, int], np.ndarray] = {}

    def shortfalls(self, of: Components, design: Design) -> Float[np.ndarray, " worlds"]:
        """Half-width less error of each simulated study."""
        n, h, s = design.leaves, design.hypernyms, design.seeds
        several, over_hypernyms = s > 1, of.hypernyms > 1
        printed = [(of.leaf / n + of.leaf_seed / (n * s), n - 1)]
        if over_hypernyms:
            printed.append(((of.hypernym + of.hypernym_seed / s) / h, h - 1))
        true = printed[0][0] if not several else of.leaf / n
        true += (of.hypernym + (0.0 if several else of.hypernym_seed)) / h if over_hypernyms else 0.0
        if several:  # of a single seed, limits and truth are those of this seed
            between = of.between_runs(n, h if over_hypernyms else 1) / s
            printed.append((between, s - 1))
            true += between
        drawn = [
            (variance * self._chi_squared(k, freedom), freedom)
            for k, (variance, freedom) in enumerate(printed)
        ]
        return np.asarray(half_width(drawn)) - np.sqrt(true) * self._errors

    def _chi_squared(self, part: int, freedom: int) -> Float[np.ndarray, " worlds"]:
        """An estimated variance as a multiple of the true one, in each simulated study."""
        if (part, freedom) not in self._spread:
            self._spread[part, freedom] = distributions.chi2.ppf(self._uniform[part], freedom) / freedom
        return self._spread[part, freedom]

    def detectable(self, of: Components, design: Design, power: float = POWER) -> float:
        """The smallest contrast that studies of this design find with that probability."""
        return float(np.quantile(self.shortfalls(of, design), power))

    def power(self, of: Components, design: Design, effect: float) -> float:
        """The share of studies of this design that find a contrast of that size."""
        return float((self.shortfalls(of, design) < effect).mean())

    def limits(self, of: Components, design: Design, power: float = POWER) -> tuple[float, float]:
        """The 95 % limits of what is detectable: the pilot's own variances are estimates too.

        Those of hypernyms, and of runs of other seeds, are drawn as their degrees of freedom allow; three seeds say
        little about how seeds differ. A stated variance is taken as it is.
        """
        found = [self.detectable(one, design, power) for one in self._plausible(of)]
        lower, upper = np.quantile(found, [0.025, 0.975])
        return float(lower), float(upper)

    def _plausible(self, of: Components) -> list[Components]:
        """Components that a pilot like this one could have been drawn from."""
        rng = np.random.Generator(np.random.PCG64(0))

        def scaled(variance: float, freedom: int) -> Float[np.ndarray, " draws"]:
            factors = freedom / rng.chisquare(freedom, UNCERTAIN) if freedom > 0 else np.ones(UNCERTAIN)
            return variance * factors

        interaction = scaled(of.hypernym_seed, (of.seeds - 1) * (of.hypernyms - 1))
        # Means of hypernyms vary by their leaves and seeds as well: it is the whole that has these degrees of freedom.
        rest = of.of_leaves + of.hypernym_seed / of.seeds
        hypernym = np.maximum(0.0, scaled(of.hypernym + rest, of.hypernyms - 1) - rest)
        runs = scaled(of.between_runs(of.leaves, of.hypernyms), of.seeds - 1)
        seed = np.maximum(0.0, runs - interaction / of.hypernyms - of.leaf_seed / of.leaves)
        seed = np.full(UNCERTAIN, of.seed) if of.stated or of.seeds == 1 else seed
        each = zip(hypernym.tolist(), interaction.tolist(), seed.tolist())
        return [replace(of, hypernym=one, hypernym_seed=both, seed=own) for one, both, own in each]


def check(of: Components, designs: Sequence[Design], power: float) -> None:
    """Refuses designs that cannot be foreseen.

    Raises:
        ValueError: too few leaves, hypernyms or seeds, several seeds of which nothing is known, or no power.
    """
    if not 0.5 <= power < 1:
        raise ValueError(f"--power {power} was asked for; it is a share of at least .5 and below 1, as .8")
    for design in designs:
        if design.leaves < 2 or design.hypernyms < 1 or design.seeds < 1:
            raise ValueError(f"{design} was asked for; give at least 2 leaves, 1 hypernym and 1 seed")
        if of.hypernyms > 1 and design.hypernyms < 2:
            raise ValueError("--hypernyms 1 was asked for; a mean over hypernyms needs at least 2")
        if design.seeds > 1 and not of.knows_seeds:
            raise ValueError(
                f"--seeds {design.seeds} was asked for, and the pilot has one seed: give pilot runs of several seeds, "
                "or state the standard deviation between seeds with --seed-sd"
            )


def detectable_table(
    of: Components, designs: Sequence[Design], power: float = POWER, seed: int = 0
) -> pd.DataFrame:
    """A row for each design: the smallest contrast that it finds with this power, and the limits of that number."""
    check(of, designs, power)
    simulator, few = Simulator(seed), Simulator(seed, worlds=500)
    rows: list[dict[str, Any]] = []
    for one in designs:
        lower, upper = few.limits(of, one, power)
        value = simulator.detectable(of, one, power)
        rows.append({**vars(one), "measure": "detectable", "value": value, "lower": lower, "upper": upper})
    return pd.DataFrame(rows).assign(power=power)


def required_table(
    of: Components, designs: Sequence[Design], effect: float, power: float = POWER, seed: int = 0
) -> pd.DataFrame:
    """For an effect, the fewest leaves for each number of hypernyms and seeds, and the fewest seeds for each of leaves.

    `value` is infinite where no number of them is enough, because of what the others vary.

    Raises:
        ValueError: the effect is not above 0.
    """
    check(of, designs, power)
    if not effect > 0:
        raise ValueError(f"--effect {effect} was asked for; it is a difference above 0")
    simulator, rows = Simulator(seed), []
    kinds = [("leaves", 2)] + ([("seeds", 2)] if of.knows_seeds else [])
    for kind, least in kinds:
        for one in dict.fromkeys(replace(design, **{kind: least}) for design in designs):
            fewest = _fewest(simulator, of, one, kind, effect, power)
            rows.append({**vars(one), kind: np.nan, "measure": f"required {kind}", "value": fewest})
    return pd.DataFrame(rows).assign(power=power, effect=effect, lower=np.nan, upper=np.nan)


def grid(leaves: Sequence[int], hypernyms: Sequence[int], seeds: Sequence[int]) -> list[Design]:
    """Every combination, the seeds varying fastest."""
    return [Design(*one) for one in product(leaves, hypernyms, seeds)]


def _fewest(
    simulator: Simulator, of: Components, design: Design, kind: str, effect: float, power: float
) -> float:
    def enough(number: int) -> bool:
        return simulator.detectable(of, replace(design, **{kind: number}), power) <= effect

    low, high = 1, getattr(design, kind)
    while not enough(high):
        if high > MOST:
            return float("inf")
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return float(high)
