"""Pooling: intervals and the band of effects that are pooled over pairs, hypernyms and seeds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from analyses.pooling.groups import Group
from analyses.pooling.rows import CONDITION, MEAN, pooled_table
from tests.calibration.check import Check, Limits
from tests.calibration.patching import PairWorld, pairs_of_world

_LAYERS, _ALONG, _PECULIAR = 30, 0.97, 0.3
_EFFECTS = PairWorld(up=0.1, down=0.2, spans=6)


@dataclass(frozen=True)
class _Seeds:
    """How runs differ beyond their pairs.

    Attributes:
        runs: how many there are.
        spread: standard deviation of what a seed adds to a cell, in those of a pair's effect.
        along: its correlation from one layer to the next; 1 for the same in all cells, 0 for each cell its own.
    """

    runs: int = 3
    spread: float = 0.5
    along: float = _ALONG

    def table(self, seed: int) -> pd.DataFrame:
        """Effects whose mean over all pairs and seeds is 0 in every cell, pooled."""
        rng = np.random.default_rng(seed)
        shared = np.sqrt(1 - _PECULIAR) * _EFFECTS.effects(rng)
        own = [
            np.sqrt(_PECULIAR) * _EFFECTS.effects(rng) + self._added(rng)[:, None] for _ in range(self.runs)
        ]
        spans = [(f"span {at}", layer) for at in range(_EFFECTS.spans) for layer in range(_LAYERS)]
        cells = pd.DataFrame(spans, columns=["span", "layers"]).astype(str)
        cells = cells.assign(target="hypernym", measure="effect", state="clean", modality="", head="")
        cells["site"] = [f"blocks.{layer}.hook_resid_post" for _, layer in spans]
        pairs = pairs_of_world(_EFFECTS.pairs, 0)
        names = ("clean", "corrupted", "up", "down")
        units = pd.DataFrame([{name: getattr(pair, name) for name in names} for pair in pairs])
        runs = tuple(f"run {at}" for at in range(self.runs))
        group = Group("world", {}, tuple(range(self.runs)), runs, cells, units, shared + np.array(own))
        table = pooled_table([group], [], "patching", 200, seed)
        return table[(table["kind"] == CONDITION) & (table["statistic"] == MEAN)]

    def _added(self, rng: np.random.Generator) -> np.ndarray:
        fresh = rng.normal(size=(_EFFECTS.spans, _LAYERS))
        if self.along == 1:
            fresh[:] = fresh[0, 0]
        for layer in range(1, _LAYERS):
            kept = self.along * fresh[:, layer - 1]
            fresh[:, layer] = kept + np.sqrt(1 - self.along**2) * fresh[:, layer]
        return self.spread * fresh.ravel()


def _covers(seeds: _Seeds, seed: int) -> Limits:
    table = seeds.table(seed)
    value, lower, upper = table[["value", "lower", "upper"]].to_numpy(float).T
    return Limits(value, lower, upper, np.zeros(len(table)))


def _passes(seeds: _Seeds, seed: int) -> bool:
    return bool(seeds.table(seed)["passes"].any())


_WORLDS = {
    "alike": (_Seeds(spread=0.0), "3 seeds that do not differ"),
    "same": (_Seeds(along=1.0), "3 seeds that differ by half of what pairs do, in all cells alike"),
    "along": (_Seeds(), "3 seeds that differ by half of what pairs do, along the layers"),
    "own": (_Seeds(along=0.0), "3 seeds that differ by half of what pairs do, in each cell its own way"),
    "two": (_Seeds(runs=2), "2 seeds that differ by half of what pairs do, along the layers"),
    "five": (_Seeds(runs=5), "5 seeds that differ by half of what pairs do, along the layers"),
}
_ASSUMES = (
    "Pairs are drawn again with their hypernyms, which all seeds share; seeds are normal draws, of one distribution in "
    "each cell."
)
_PAIRS = "200 pairs, 6 spans × 30 layers; of an effect hypernyms share .1 and .2 of the variance, seeds .7"
_TWICE = "what pairs add to one seed is counted among hypernyms and again among seeds"

CHECKS: tuple[Check, ...] = tuple(
    Check(
        f"pooling_{kind}_{name}",
        ("pooling.*",),
        says,
        f"{words}; {_PAIRS}",
        _ASSUMES,
        "coverage" if kind == "limits" else "false positives",
        partial(trial, seeds),
        100,
        conservative=why,
    )
    for name, (seeds, words) in _WORLDS.items()
    for kind, says, trial, why in (
        ("limits", "effect pooled over runs", _covers, _TWICE),
        (
            "band",
            "a cell passes the band over all cells",
            _passes,
            f"{_TWICE}; seeds are taken at their widest",
        ),
    )
)
