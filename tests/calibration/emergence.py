"""Agreement of evidence: the probability that kinds begin within two blocks of each other, and the order of kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd

from analyses.emergence.agreement import BEFORE, CLOSE, LEVEL, WITHIN, agreement_rows
from analyses.emergence.curves import HALF, Curve
from analyses.emergence.effects import _States
from analyses.frame.tables import CAUSES, SHARED
from probing.stats import draw_weights
from tests.calibration.check import Check, Kind

LAYERS, LEAVES, HYPERNYMS, DRAWS = np.arange(16.0), 60, 10, 300
BATCH = {2: 40, 4: 20}
"""Kinds of evidence in a world → worlds of a trial."""
_RISE = 4
"""Blocks over which evidence rises from nothing to all of it."""
_ERROR = 0.1
"""The standard error of a curve, as a share of all: that of the place of its half-rise is .4 blocks."""


def _along(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Noise of unit variance along the layers, of which neighbours correlate by .8."""
    steps = rng.normal(size=(*shape, len(LAYERS)))
    for at in range(1, len(LAYERS)):
        steps[..., at] = 0.8 * steps[..., at - 1] + 0.6 * steps[..., at]
    return steps


def _kinds(rng: np.random.Generator, places: np.ndarray, seeds: int) -> tuple[list[Curve], float]:
    """Kinds of evidence that rise around these places, and how many blocks their true half-rises are apart.

    Each is of effects of leaves, as causal analyses store them; half of what is peculiar to a leaf is the same in all.
    """
    true = np.clip((LAYERS - places[:, None]) / _RISE + 0.5, 0, 1)
    own = (_along(rng, LEAVES)[:, None] + _along(rng, LEAVES, len(places))) / np.sqrt(2)
    values = true + _ERROR * np.sqrt(LEAVES) * own  # [leaves, kinds, layers]
    runs = values + _ERROR * np.sqrt(seeds) * (seeds > 1) * _along(rng, seeds, 1, len(places))
    names = [f"kind {at}" for at in range(len(places))]
    cells = pd.DataFrame([{"span": name, "state": "", "at": at} for name in names for at in LAYERS])
    cells = cells.assign(first=cells["at"], last=cells["at"])
    leaves = np.arange(LEAVES).astype(str)
    units = pd.DataFrame({"leaf": leaves, "hypernym": (np.arange(LEAVES) % HYPERNYMS).astype(str)})
    weights = draw_weights(LEAVES, DRAWS, int(rng.integers(2**31)))
    states = _States(runs.transpose(0, 2, 3, 1).reshape(seeds, -1, LEAVES), cells, units, weights, 0)
    curves = []
    for at, name in enumerate(names):
        labels = {"kind": name, "about": (CAUSES, SHARED)[at % 2], "analysis": "planted", "place": "cue"}
        curves += states.curves(name, labels)
    bare: dict[str, Any] = {"draws": None, "held": None}
    begun = [
        replace(one, value=each, **bare).places()[HALF].value for one, each in zip(curves, true, strict=True)
    ]
    return curves, float(np.ptp(begun))


def _rows(curves: Iterable[Curve], measure: str) -> list[dict[str, Any]]:
    return [row for row in agreement_rows(list(curves)) if row["measure"] == measure and row["of"] == HALF]


@cache
def _asked(seed: int, kinds: int, seeds: int) -> np.ndarray:
    """Of each world of a trial the probability that is printed, and whether it is so; NaN where nothing is printed."""
    rng = np.random.default_rng([seed, kinds, seeds])
    printed = np.full((BATCH[kinds], 2), np.nan)
    for world in printed:
        first = 5 + rng.uniform()
        later = [rng.uniform(1, 5)] if kinds == 2 else rng.uniform(0, 5, kinds - 1)
        curves, apart = _kinds(rng, first + np.array([0, *later]), seeds)
        for row in _rows(curves, WITHIN):
            if row["about"] == "all" and row["kind"].count(";") == kinds - 1:
                world[:] = row["value"], apart <= CLOSE
    return printed


def _wrong(seed: int, kinds: int, seeds: int) -> np.ndarray:
    """Whether a verdict is wrong; NaN where the question is left open."""
    probability, within = _asked(seed, kinds, seeds).T
    said = np.where(probability >= LEVEL, 1.0, np.where(probability <= 1 - LEVEL, 0.0, np.nan))
    return np.where(np.isnan(said), np.nan, said != within)


def _right(seed: int, kinds: int, seeds: int) -> np.ndarray:
    """Whether what has a probability of .92 to .98 is so; NaN for any other."""
    probability, within = _asked(seed, kinds, seeds).T
    likely = np.maximum(probability, 1 - probability)
    hit = np.where(probability > 0.5, within, 1 - within)
    return np.where((likely >= 0.92) & (likely <= 0.98), hit, np.nan)


def _ordered(seed: int) -> bool:
    """Whether any order is said of four kinds that begin at once."""
    rng = np.random.default_rng([seed, 99])
    curves, _ = _kinds(rng, np.full(4, 8 + rng.uniform()), 1)
    return any(row["lower"] > 0 for row in _rows(curves, BEFORE))


_WORLD = (
    "{} kinds of effects of 60 leaves, which rise over 4 of 16 blocks around places up to 5 blocks apart, each with a "
    "standard error of .4 blocks{}; batches of {} such worlds"
)
_SEEDS = {1: "", 3: "; 3 seeds, which add as much again"}
_POSTERIOR = (
    "Leaves are independent draws, the same for all kinds. The probability is the share of their bootstrap draws, and "
    "right as a posterior is: over worlds in which half-rises may lie anywhere, and not for each world alone. Where it "
    "leaves the question open it is somewhat too large: of two kinds, .35 to .65 (.51 on average) was so in .42 of 69 "
    "worlds. Onsets, which depend on n, were not counted."
)

_SAID: tuple[tuple[str, str, Kind, Callable[..., np.ndarray | float], str], ...] = (
    (
        "said",
        "half-rises lie within two blocks, or do not: what is said is wrong",
        "false positives",
        _wrong,
        "it is said from a probability of .95 on, and most are higher",
    ),
    (
        "likely",
        "probability that half-rises lie within two blocks, or do not, where it is .92 to .98",
        "coverage",
        _right,
        "",
    ),
)

CHECKS: tuple[Check, ...] = (
    *(
        Check(
            f"emergence_within_{about}_{kinds}_{seeds}",
            ("emergence.within",),
            says,
            _WORLD.format(kinds, _SEEDS[seeds], BATCH[kinds]),
            _POSTERIOR,
            kind,
            partial(trial, kinds=kinds, seeds=seeds),
            50,
            conservative,
        )
        for kinds, seeds in ((2, 1), (4, 1), (2, 3))
        for about, says, kind, trial, conservative in _SAID
    ),
    Check(
        "emergence_order",
        ("emergence.before",),
        "an order of half-rises, of any pair",
        "4 kinds of effects of 60 leaves, which rise around the same place",
        "Leaves are independent draws, the same for all kinds; limits hold for all pairs at once.",
        "false positives",
        _ordered,
        400,
        "blocks are whole numbers",
    ),
)
