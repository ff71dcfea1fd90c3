"""Patching: intervals of effects, fractions and excesses, cells that count, ranks of attributions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from analyses.inputs.stimuli.pairs import Pair, pairs_of
from analyses.patching.options import Options
from analyses.patching.outcomes import CHANGES, Outcomes
from analyses.patching.rows import patching_table, screen_rows
from probing.patching import Cell, excess
from probing.sites import Site
from probing.stats.correlations import spearman
from tests.calibration.check import Check, Limits
from tests.calibration.worlds import taxonomy

_LAYERS, _ALONG, _ACROSS = 30, 0.97, 0.6


@dataclass(frozen=True)
class PairWorld:
    """How effects vary over pairs; the mean effect of every cell is 0 unless `mean` is another.

    Attributes:
        pairs: of leaves, drawn as the analysis draws them.
        up: share of the variance that pairs of one clean hypernym have in common.
        down: likewise of one corrupted hypernym.
        skew: of the logarithm of mirrored effects; 0.3 gives a skewness of −0.9, 0.75 of −3.3.
        spans: beside one another, 30 layers each.
        mean: of the effects, in standard deviations.
        hypernyms: how many there are; 0 for those of the bundled taxonomy.
    """

    pairs: int = 200
    up: float = 0.0
    down: float = 0.0
    skew: float = 0.3
    spans: int = 1
    mean: float = 0.0
    hypernyms: int = 0

    @property
    def words(self) -> str:
        """The world for the page."""
        kinds = f" between {self.hypernyms} hypernyms" if self.hypernyms else ""
        shared = "effects independent"
        if self.up:
            shared = f"those of one clean / corrupted hypernym share {self.up:.0%} / {self.down:.0%} of the variance"
        return f"{self.pairs} pairs{kinds}; {shared}; skewness {_SKEWNESS[self.skew]}"

    def effects(self, rng: np.random.Generator) -> Float[np.ndarray, "cells pairs"]:
        """Effects of unit variance about `mean`, strongly correlated along the layers."""
        (up, down), own = _ends(self.pairs, self.hypernyms), 1 - self.up - self.down
        count = max(up.max(), down.max()) + 1
        parts = (self.up, self._field(rng, count)[up]), (self.down, self._field(rng, count)[down])
        whole = np.sqrt(own) * self._field(rng, self.pairs)
        return (self.mean + whole + sum(np.sqrt(share) * part for share, part in parts)).T

    def _field(self, rng: np.random.Generator, rows: int) -> Float[np.ndarray, "rows cells"]:
        fresh = np.sqrt(1 - _ACROSS) * rng.normal(size=(rows, self.spans, _LAYERS))
        fresh += np.sqrt(_ACROSS) * rng.normal(size=(rows, 1, _LAYERS))
        normal = fresh.copy()
        for layer in range(1, _LAYERS):
            normal[..., layer] = _ALONG * normal[..., layer - 1] + np.sqrt(1 - _ALONG**2) * fresh[..., layer]
        normal, square = normal.reshape(rows, -1), np.exp(self.skew**2)
        return (np.sqrt(square) - np.exp(self.skew * normal)) / np.sqrt((square - 1) * square)


_SKEWNESS = {0.3: "−0.9", 0.75: "−3.3"}
_RUN = PairWorld(up=0.1, down=0.2)
_TURN = PairWorld(pairs=60, up=0.35, down=0.15, skew=0.75)
_LEFT = PairWorld(skew=0.75)


@cache
def pairs_of_world(count: int, hypernyms: int) -> tuple[Pair, ...]:
    """Pairs as the analysis draws them; between few hypernyms, drawn at random."""
    if not hypernyms:
        leaves = {leaf: at for at, leaf in enumerate(taxonomy().leaves)}
        return tuple(pairs_of(taxonomy(), leaves, taxonomy().hypernyms, count))
    rng = np.random.default_rng(0)
    sides = [rng.choice(hypernyms, 2, replace=False) for _ in range(count)]
    return tuple(
        Pair(f"a{i}", f"b{i}", f"kind {up}", f"kind {down}", i % 4 == 0, "", "")
        for i, (up, down) in enumerate(sides)
    )


@cache
def _ends(count: int, hypernyms: int) -> Int[np.ndarray, "2 pairs"]:
    pairs = pairs_of_world(count, hypernyms)
    names = [[pair.up for pair in pairs], [pair.down for pair in pairs]]
    return np.unique(names, return_inverse=True)[1].reshape(2, -1)


def _cells(spans: int) -> list[Cell]:
    return [
        Cell((Site("hook_resid_post", layer),), f"span {at}")
        for at in range(spans)
        for layer in range(_LAYERS)
    ]


def _outcomes(world: PairWorld, rng: np.random.Generator, options: Options) -> Outcomes:
    """A grid whose effects, and all that is measured beside them, vary as the world says."""
    effects = np.stack([world.effects(rng) for _ in options.kinds])
    near = np.array([pair.near for pair in pairs_of_world(world.pairs, world.hypernyms)])
    base = rng.normal(size=world.pairs)
    # Where the runs of a pair differ much a patch does much, as on trained runs.
    gap = 1.5 + 0.7 * (effects[0, -1] - world.mean) + 0.7 * rng.normal(size=world.pairs)
    changes = {name: np.stack([world.effects(rng) for _ in options.kinds]) for name in CHANGES}
    changes["shared"] = np.where(near, changes["shared"], np.nan)
    heavy = replace(world, skew=0.75, mean=0.0)
    kl = np.stack([1 - heavy.effects(rng) for _ in options.kinds])
    return {"log_odds": base + effects, "base": base, "donor": base + gap, "kl": kl, **changes}


def _table(world: PairWorld, seed: int, kinds: tuple[str, ...] = (), mode: str = "denoising") -> pd.DataFrame:
    rng, options = np.random.default_rng(seed), Options(draws=300, seed=seed, kinds=kinds, mode=mode)
    outcomes = _outcomes(world, rng, options)
    return patching_table(
        {"hypernym": outcomes}, pairs_of_world(world.pairs, world.hypernyms), _cells(world.spans), options
    )


def _counts(world: PairWorld, seed: int) -> bool:
    """Whether any cell counts."""
    table = _table(world, seed)
    return bool((table.loc[table["measure"] == "counts", "value"] > 0).any())


def _beats(world: PairWorld, seed: int) -> bool:
    """Whether any cell is above 0 by the band alone, of which `counts` is made."""
    ends = _ends(world.pairs, world.hypernyms).T
    effects = world.effects(np.random.default_rng(seed))
    return bool(excess(effects, 0.0, ends, draws=300, seed=seed).beats.any())


def _covers(
    world: PairWorld, truth: dict[str, float], split: tuple[str, ...], mode: str, seed: int
) -> Limits:
    """The limits of some measures."""
    table = _table(world, seed, ("stranger",), mode)
    rows = table[table["measure"].isin(list(truth)) & table["split"].isin(split)]
    value, lower, upper = rows[["value", "lower", "upper"]].to_numpy(float).T
    return Limits(value, lower, upper, rows["measure"].map(truth).to_numpy(float))


def _ranks(world: PairWorld, seed: int) -> Limits:
    """The agreement of 30 cells of 90, where attributions miss more in some layers than in others."""
    rng = np.random.default_rng(seed)
    rise = np.tile(3 / (1 + np.exp((np.arange(_LAYERS) - 15) / 3)), world.spans)[:, None]
    effects = rise * (1 + world.effects(rng))
    attributions = 0.6 * effects + 0.7 * world.effects(rng)[:, :1] + world.effects(rng)
    sample = sorted(rng.choice(len(effects), 30, replace=False).tolist())
    table = screen_rows(
        attributions,
        effects[sample],
        sample,
        pairs_of_world(world.pairs, 0),
        _cells(world.spans),
        Options(draws=300, seed=seed),
    )
    row = table[table["measure"] == "rank_agreement"].iloc[0]
    truth = np.array([spearman(attributions.mean(1), effects.mean(1))])
    value, lower, upper = row[["value", "lower", "upper"]].to_numpy(float)[:, None]
    return Limits(value, lower, upper, truth)


def _attributions(world: PairWorld, seed: int) -> Limits:
    """The limits of attributions whose mean is 0."""
    attributions = world.effects(np.random.default_rng(seed))
    options = Options(draws=300, seed=seed)
    cells, pairs = _cells(world.spans), pairs_of_world(world.pairs, 0)
    table = screen_rows(attributions, attributions[:3], range(3), pairs, cells, options)
    rows = table[table["measure"] == "attribution"]
    value, lower, upper = rows[["value", "lower", "upper"]].to_numpy(float).T
    return Limits(value, lower, upper, np.zeros(len(rows)))


_CLUSTERED = (
    "Pairs are drawn again with the hypernyms in which they differ, on either side; each draw is measured by its own "
    "standard error. On a run of the demo (125 pairs) pairs of one clean hypernym share 0 to .35 of the variance, of "
    "one corrupted hypernym 0 to .25, most where effects begin."
)
_MEANS = dict.fromkeys(("effect", "excess", "up", "down", "other"), 0.0) | {"kl": 1.0}
_RUNS = {"log_odds_of_source": 1.5, "log_odds_of_patched_run": 0.0, "gap": 1.5}
_SPLITS = {"effect": 0.0, "shared": 0.0}
_INDEPENDENT = "hypernyms are drawn again though nothing is shared under them"


def _count(name: str, world: PairWorld, spans: int = 10) -> Check:
    return Check(
        f"patching_counts_{name}",
        ("patching.counts", "patching.excess_band"),
        "a cell counts",
        f"no effect in any of {spans} spans × {_LAYERS} layers; {world.words}",
        _CLUSTERED,
        "false positives",
        partial(_beats if spans == 10 else _counts, replace(world, spans=spans)),
        300 if spans == 10 else 200,
        conservative="of few or independent pairs the standard error of a draw is the larger of two",
    )


def _cover(
    name: str, world: PairWorld, truth: dict[str, float], mode: str = "denoising", conservative: str = ""
) -> Check:
    split, says = ("all",), ", ".join(measure.replace("_", " ") for measure in truth)
    if truth is _SPLITS:
        split, says = ("near", "far", "all"), "effect of near and of far pairs, shared"
    return Check(
        f"patching_{name}",
        tuple(f"patching.{measure}" for measure in truth),
        says,
        world.words,
        _CLUSTERED,
        "coverage",
        partial(_covers, world, truth, split, mode),
        300,
        conservative,
    )


CHECKS: tuple[Check, ...] = (
    _count("left_200", _LEFT),
    _count("table", _LEFT, spans=3),
    _count("left_60", replace(_LEFT, pairs=60)),
    _count("run", _RUN),
    _count("turn", _TURN),
    _cover("means", _RUN, _MEANS),
    _cover("means_turn", _TURN, _MEANS),
    _cover("means_independent", _LEFT, _MEANS, conservative=_INDEPENDENT),
    _cover(
        "means_few",
        replace(_RUN, pairs=60, hypernyms=5),
        _MEANS,
        conservative="by Student's t",
    ),
    _cover("runs", _RUN, _RUNS),
    _cover("restored", replace(_RUN, mean=0.75), {"restored_fraction": 0.5}),
    _cover("lost", replace(_TURN, mean=0.75), {"lost_fraction": 0.5}, mode="noising"),
    _cover("splits", _RUN, _SPLITS),
    _cover("splits_60", replace(_RUN, pairs=60), _SPLITS),
    Check(
        "patching_ranks",
        ("patching.rank_agreement",),
        "rank agreement of attributions",
        "30 cells of 90, 200 pairs; the truth is the agreement over all 90",
        "The cells are drawn at random from the grid; neighbours on the layers may be alike. It is the agreement of "
        "the means of these pairs.",
        "coverage",
        partial(_ranks, replace(_RUN, spans=3)),
        400,
        conservative="a third of all cells are in the sample, and the interval is for a sample of very many",
    ),
    Check(
        "patching_attributions",
        ("patching.attribution",),
        "attribution",
        replace(_RUN, pairs=60).words,
        _CLUSTERED,
        "coverage",
        partial(_attributions, replace(_RUN, pairs=60)),
        300,
    ),
)
