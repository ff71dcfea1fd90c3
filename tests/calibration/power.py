"""Worlds for the power of contrasts: leaves under hypernyms in several seeds, with variances that are chosen."""

from __future__ import annotations

from functools import cache, partial

import numpy as np

from analyses.power.components import Components, components
from analyses.power.designs import Design, Simulator, detectable_table, required_table
from analyses.power.pilots import _values
from probing.stats import ClusterMean, Estimate
from probing.stats.hierarchical import hierarchical_contrast
from tests.calibration.check import Check, Limits

DRAWS = 80


def pilot(leaves: int, hypernyms: int, seeds: int, **deviations: float) -> Components:
    """Components of these standard deviations; those that are not named are 0."""
    names = ("leaf", "leaf_seed", "hypernym", "hypernym_seed", "seed")
    leaf, leaf_seed, hypernym, hypernym_seed, seed = (deviations.get(name, 0.0) ** 2 for name in names)
    return Components(leaf, leaf_seed, hypernym, hypernym_seed, seed, leaves, hypernyms, seeds)


@cache
def detectable(of: Components, design: Design) -> float:
    """The contrast that four of five studies of a design find."""
    return Simulator().detectable(of, design)


def sides(
    of: Components, design: Design, effect: float, seed: int
) -> tuple[list[ClusterMean], list[ClusterMean]]:
    """A study of a design: of each seed a statistic, a column for each hypernym, of one condition and of another."""
    rng = np.random.default_rng([seed, 11])
    n, h, s = design.leaves, design.hypernyms, design.seeds
    leaves, kinds = _of_leaves(rng, of.leaf, n, h), np.sqrt(of.hypernym) * rng.normal(size=h)
    names, first, second = np.arange(n).astype(str), [], []
    for _ in range(s):
        level = (
            effect + kinds + np.sqrt(of.seed) * rng.normal() + np.sqrt(of.hypernym_seed) * rng.normal(size=h)
        )
        first.append(ClusterMean(level + leaves + _of_leaves(rng, of.leaf_seed, n, h), names))
        second.append(ClusterMean(np.zeros((n, h)), names))
    return first, second


def _of_leaves(rng: np.random.Generator, variance: float, n: int, h: int) -> np.ndarray:
    """What leaves vary, half of it in all hypernyms alike; their means over hypernyms have the variance."""
    return np.sqrt(variance / 2) * (rng.normal(size=(n, 1)) + np.sqrt(h) * rng.normal(size=(n, h)))


def printed(of: Components, design: Design, effect: float, seed: int) -> Estimate:
    """The contrast of a study as the tool prints it."""
    over = ("leaf", "hypernym", "seed") if design.hypernyms > 1 else ("leaf", "seed")
    return hierarchical_contrast(*sides(of, design, effect, seed), over=over, draws=DRAWS, seed=seed)


def found(seed: int, of: Components, design: Design) -> bool:
    """Whether a study finds the contrast that its design is to detect."""
    return printed(of, design, detectable(of, design), seed).lower > 0


@cache
def required(of: Components, design: Design, effect: float, kind: str) -> Design:
    """The design with the fewest leaves, or seeds, that are said to be needed for an effect."""
    table = required_table(of, [design], effect)
    number = table.loc[table["measure"] == f"required {kind}", "value"].iloc[0]
    return Design(**{**vars(design), kind: int(number)})


def enough(seed: int, of: Components, design: Design, effect: float, kind: str) -> bool:
    """Whether a study of as many leaves, or seeds, as are needed for an effect finds it."""
    return printed(of, required(of, design, effect, kind), effect, seed).lower > 0


def foreseen(seed: int, of: Components, design: Design) -> Limits:
    """The limits of the smallest contrast that a design detects, from a pilot of these components."""
    own = Design(of.leaves, of.hypernyms, of.seeds)
    first, second = sides(of, own, 0.0, seed)
    values, drawn = _values(first, second, seed)
    row = detectable_table(components(values, drawn, of.leaves), [design]).iloc[0]
    value, lower, upper = (np.array([row[name]], float) for name in ("value", "lower", "upper"))
    return Limits(value, lower, upper, np.array([detectable(of, design)]))


WORLDS = {
    "seeds_that_differ": (
        pilot(351, 34, 3, leaf=0.3, leaf_seed=0.3, hypernym=0.1, hypernym_seed=0.1, seed=0.03),
        Design(200, 20, 4),
    ),
    "seeds_alike": (pilot(351, 34, 3, leaf=0.5, hypernym=0.1), Design(150, 30, 3)),
    "one_seed": (pilot(351, 34, 1, leaf=0.4, hypernym=0.1), Design(120, 25, 1)),
    "no_hypernyms": (pilot(351, 1, 3, leaf=0.5, leaf_seed=0.4, seed=0.02), Design(200, 1, 5)),
}
"""Name → components and the design whose power is measured."""
CHECKS: tuple[Check, ...] = tuple(
    Check(
        name=f"power_{name}",
        of=("power.detectable",),
        says="smallest contrast that is detected in 80 % of studies",
        world=f"{name.replace('_', ' ')}; {design}",
        assumes="The variances of leaves, hypernyms and seeds are those that are given, and all are normal.",
        kind="power",
        trial=partial(found, of=of, design=design),
        trials=600,
    )
    for name, (of, design) in WORLDS.items()
)
NEEDED = {
    "leaves": (pilot(351, 34, 3, leaf=0.6, leaf_seed=0.3, hypernym=0.02, seed=0.01), Design(2, 34, 5), 0.1),
    "seeds": (
        pilot(351, 34, 3, leaf=0.2, hypernym=0.02, hypernym_seed=0.05, seed=0.05),
        Design(351, 34, 2),
        0.08,
    ),
}
"""What is needed → components, the design that lacks it, and the effect."""
PILOT = pilot(351, 34, 3, leaf=0.4, leaf_seed=0.3, hypernym=0.1, hypernym_seed=0.05, seed=0.04)
CHECKS += tuple(
    Check(
        name=f"power_required_{kind}",
        of=(f"power.required {kind}",),
        says=f"{kind} that a contrast needs",
        world=f"{effect} in {design}, but for the {kind}",
        assumes="The variances of leaves, hypernyms and seeds are those that are given, and all are normal.",
        kind="power",
        trial=partial(enough, of=of, design=design, effect=effect, kind=kind),
        trials=400,
    )
    for kind, (of, design, effect) in NEEDED.items()
)
CHECKS += (
    Check(
        name="power_limits_three_seeds",
        of=("power.detectable",),
        says="limits of the smallest contrast that is detected",
        world=f"a pilot of {Design(PILOT.leaves, PILOT.hypernyms, PILOT.seeds)}; of 200 leaves, 20 hypernyms, 5 seeds",
        assumes="The variances of the pilot are estimates; those of hypernyms and seeds are drawn by their degrees of "
        "freedom, those of leaves are taken as known. From a pilot of five seeds limits covered .90 ± .03.",
        kind="coverage",
        trial=partial(foreseen, of=PILOT, design=Design(200, 20, 5)),
        trials=100,
    ),
)
