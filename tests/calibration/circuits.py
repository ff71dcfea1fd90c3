"""Circuits: curves and areas of sets, beyond random sets, contributions of parts, losses by routes, overlaps."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.circuits.routes import Route
from analyses.circuits.rows import AREAS, SetTest, agreement_row, part_rows, path_rows
from analyses.circuits.search import RANDOM, Sets, sets_of
from analyses.circuits.sharing import sharing_rows
from probing.patching.circuits import order_of
from probing.stats import draw_weights
from probing.stats.correlations import spearman
from tests.calibration.check import Check, Limits

_LAYERS, _HEADS, _LEAVES, _SIZES = 8, 4, 40, (1, 2, 4, 8, 20)
_PARTS = _LAYERS * (_HEADS + 1)
_STRATA = [
    f"{layer} {'mlp' if head == _HEADS else 'head'}" for layer in range(_LAYERS) for head in range(_HEADS + 1)
]
_LABELS = {"modality": "image", "target": "hypernym", "span": "", "split": ""}


def _means(rng: np.random.Generator) -> Float[np.ndarray, " parts"]:
    """What each part adds: a few much, most little, later layers more."""
    late = np.repeat(np.linspace(0.5, 1.5, _LAYERS), _HEADS + 1)
    return 0.3 * late * np.exp(rng.normal(size=_PARTS)) / np.exp(0.5)


def _contributions(
    rng: np.random.Generator, means: Float[np.ndarray, " parts"], leaves: int
) -> Float[np.ndarray, "parts leaves"]:
    """What each part adds for each leaf: more for some leaves than for others, in skewed amounts."""
    of_leaf, own = rng.gamma(4, 0.25, leaves), rng.gamma(1, 1.0, (len(means), leaves))
    return means[:, None] * (0.5 * of_leaf + 0.5 * own) + 0.1 * rng.normal(size=(len(means), leaves))


def _tested(seed: int, informed: bool, draws: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of a test on both halves, and the same where every leaf is the mean of all leaves.

    Sets are found on other leaves or, not informed, by scores that have nothing to do with what parts add. Of random
    sets the second table has the expectation, which is that of a set whose parts are members by a share.
    """
    rng = np.random.default_rng([seed, 31, informed])
    means = _means(rng)
    common = rng.permutation(_means(rng))  # nor late, as what parts add is
    levels: list[np.ndarray] = []
    expected: list[np.ndarray] = []
    sets = None
    for _ in (0, 1):
        of_search = means if informed else common
        found, other = ({"contributions": _contributions(rng, of_search, _LEAVES // 2)} for _ in (0, 1))
        found["greedy"] = order_of(_contributions(rng, of_search, _LEAVES // 2).mean(1))
        sets = sets_of(found, other, _SIZES, draws, 4, _STRATA, seed)
        adds = _contributions(rng, means, _LEAVES // 2)
        noise = 0.2 * rng.normal(size=(len(sets.labels), _LEAVES // 2))
        levels.append((~sets.ablated) @ adds + noise)
        own = order_of(found["contributions"].mean(1))
        expected.append(np.repeat(((1 - _expected(sets, own)) @ means)[:, None], _LEAVES // 2, axis=1))
    assert sets is not None
    weights = draw_weights(_LEAVES, 200 if informed else 20, seed)  # no p depends on them
    test = SetTest(sets, np.concatenate(levels, axis=1), _SIZES, _PARTS, weights, _LABELS)
    truth = replace(test, levels=np.concatenate(expected, axis=1))
    return pd.DataFrame(test.rows()), pd.DataFrame(truth.rows())


def _expected(sets: Sets, own: np.ndarray) -> Float[np.ndarray, "sets parts"]:
    """With which probability each part is ablated: that of random sets over all their draws."""
    ablated, strata = sets.ablated.astype(float), np.array(_STRATA)
    for at, (name, _, size, what) in enumerate(sets.labels):
        if name not in RANDOM:
            continue
        share = np.full(_PARTS, size / _PARTS)
        if RANDOM[name]:
            first = strata[own[:size]]
            share = np.array([(first == one).sum() / (strata == one).sum() for one in strata])
        ablated[at] = share if what == "set" else 1 - share
    return ablated


_known = cache(partial(_tested, informed=True, draws=4))


def _curves(measures: tuple[str, ...], seed: int) -> Limits:
    """The limits of some measures, the truth being that of all leaves with the sets at hand."""
    table, truth = _known(seed)
    rows = table["measure"].isin(measures)
    value, lower, upper = table.loc[rows, ["value", "lower", "upper"]].to_numpy(float).T
    return Limits(value, lower, upper, truth.loc[rows, "value"].to_numpy(float))


def _p(seed: int) -> np.ndarray:
    """Whether sets that were found by nothing do better than random ones, by each of two searches and measures."""
    table, _ = _tested(seed, informed=False, draws=19)
    rows = table[table["measure"].isin([f"{AREAS[side]}_p" for side in ("faithfulness", "completeness")])]
    return (rows["value"].to_numpy(float) <= 0.05).astype(float)


def _parts(seed: int) -> Limits:
    rng = np.random.default_rng([seed, 32])
    means = _means(rng)
    found = _contributions(rng, means, _LEAVES)
    table = pd.DataFrame(part_rows(found, _STRATA, draw_weights(_LEAVES, 200, seed), _LABELS))
    value, lower, upper = table[["value", "lower", "upper"]].to_numpy(float).T
    return Limits(value, lower, upper, means)


def _agreement(seed: int) -> Limits:
    """The agreement of 30 parts, the truth being that over all parts of this kind of model."""
    rng = np.random.default_rng([seed, 33])
    means = _means(rng)
    sample = np.sort(rng.permutation(_PARTS)[:30])
    taken = 0.7 * means + 0.15 * rng.normal(size=_PARTS)
    found, lost = _contributions(rng, means, _LEAVES), _contributions(rng, taken, _LEAVES)
    row = agreement_row(found[sample], lost[sample], 300, seed, _LABELS)
    value, lower, upper = (np.array([row[name]], float) for name in ("value", "lower", "upper"))
    return Limits(value, lower, upper, np.array([spearman(found.mean(1), lost.mean(1))]))


_ROUTES = [Route("slot", "cue", f"{of}-{of}", f"{to}-{to}") for of in range(10) for to in range(of, 10)]


def _routes(seed: int) -> pd.DataFrame:
    """Losses by routes whose mean is 0: neighbouring ones alike, a few leaves with large ones."""
    rng = np.random.default_rng([seed, 34])
    shared, own = rng.normal(size=(3, 10, _LEAVES)), rng.normal(size=(len(_ROUTES), _LEAVES))
    at = np.array([[int(one.of[0]), int(one.to[0])] for one in _ROUTES])
    normal = (shared[0, at[:, 0]] + shared[1, at[:, 1]] + own) / np.sqrt(3)
    skewed = (np.exp(0.4 * normal) - np.exp(0.08)) / (np.exp(0.08) * np.sqrt(np.exp(0.16) - 1))
    leaves = np.arange(_LEAVES).astype(str)
    return pd.DataFrame(path_rows(skewed, _ROUTES, leaves, 300, seed, _LABELS))


def _losses(seed: int) -> Limits:
    table = _routes(seed)
    rows = table[table["measure"] == "loss"]
    value, lower, upper = rows[["value", "lower", "upper"]].to_numpy(float).T
    return Limits(value, lower, upper, np.zeros(len(rows)))


def _counts(seed: int) -> bool:
    table = _routes(seed)
    return bool(table.loc[table["measure"] == "counts", "value"].any())


def _shared(seed: int) -> np.ndarray:
    """Whether unrelated sets of words and pictures share more than chance, of each size, and of any corrected."""
    rng, late = np.random.default_rng([seed, 35]), np.repeat(np.linspace(0, 1, _LAYERS), _HEADS + 1)
    found = {
        (modality, half): score[:, None] + 0.3 * rng.normal(size=(_PARTS, 20))
        for modality, by_layer in (("text", 0.0), ("image", 2.0))
        for score in [rng.normal(size=_PARTS) + by_layer * late]
        for half in (0, 1)
    }
    table = pd.DataFrame(sharing_rows(found, _SIZES, _STRATA, 20, seed))
    alone = table.loc[table["measure"] == "shared_p", "value"].to_numpy(float) <= 0.05
    least = (
        table[table["measure"] == "shared_p_corrected"].groupby("order")["value"].min().to_numpy(float)
        <= 0.05
    )
    return np.concatenate([alone, least]).astype(float)


_WORLD = (
    f"{_PARTS} parts in {_LAYERS} layers, {_LEAVES} leaves in two halves; parts differ much, and what they add to a "
    "leaf is skewed"
)
_CHOSEN = "The sets are taken as they were found, on the other half of the leaves; limits are over leaves"


def _curve(name: str, measures: tuple[str, ...], says: str, assumes: str, conservative: str = "") -> Check:
    return Check(
        f"circuits_{name}",
        tuple(f"circuits.{measure}" for measure in measures),
        says,
        _WORLD,
        assumes,
        "coverage",
        partial(_curves, measures),
        200,
        conservative,
    )


CHECKS: tuple[Check, ...] = (
    _curve(
        "curves",
        ("effect", "faithfulness", "completeness"),
        "effect of all parts, faithfulness and completeness of sets, of random ones over 4 draws",
        f"{_CHOSEN} and, of random sets, over their draws.",
    ),
    _curve(
        "areas",
        tuple(AREAS.values()),
        "areas under the curves",
        f"{_CHOSEN} and, of random sets, over their draws.",
    ),
    _curve(
        "excess",
        tuple(f"{AREAS[side]}_excess" for side in ("faithfulness", "completeness")),
        "areas beyond random sets of either kind",
        f"{_CHOSEN} and over the draws of random sets.",
    ),
    _curve("minimality", ("minimality",), "share that is lost with one member", f"{_CHOSEN}."),
    Check(
        "circuits_p",
        tuple(f"circuits.{AREAS[side]}_p" for side in ("faithfulness", "completeness")),
        "p of areas beside random sets of either kind",
        f"{_WORLD}; 19 draws; sets are found by what has nothing to do with what parts add",
        "A set that was found by nothing could as well be any random one.",
        "false positives",
        _p,
        400,
    ),
    Check(
        "circuits_contribution",
        ("circuits.contribution",),
        "contribution of a part",
        _WORLD,
        "Leaves are drawn from many.",
        "coverage",
        _parts,
        200,
    ),
    Check(
        "circuits_agreement",
        ("circuits.rank_agreement",),
        "rank agreement of contributions with true losses",
        f"30 parts of {_PARTS}; the truth is the agreement over all parts",
        "The parts are drawn at random.",
        "coverage",
        _agreement,
        400,
        "most parts are in the sample, and the interval is for a sample of very many",
    ),
    Check(
        "circuits_loss",
        ("circuits.loss",),
        "loss by a route",
        f"{_LEAVES} leaves, {len(_ROUTES)} routes, those of one window alike; skewness 1.3",
        "Leaves are drawn from many; each draw is measured by its own standard error.",
        "coverage",
        _losses,
        200,
    ),
    Check(
        "circuits_counts",
        ("circuits.counts", "circuits.loss_band"),
        "any route counts",
        f"no loss; {_LEAVES} leaves, {len(_ROUTES)} routes, those of one window alike; skewness 1.3",
        "Leaves are drawn from many; each draw is measured by its own standard error.",
        "false positives",
        _counts,
        400,
    ),
    Check(
        "circuits_shared",
        ("circuits.shared_p", "circuits.shared_p_corrected"),
        "p that sets of words and of pictures share parts, of a size, and of any corrected",
        f"{_PARTS} parts in {_LAYERS} layers; unrelated sets of sizes {', '.join(map(str, _SIZES))}, those of pictures "
        "late",
        "Any parts, or any of the same layer and kind, could as well be in a set.",
        "false positives",
        _shared,
        400,
        "counts are whole numbers, p is the larger of two pairs of halves, and sizes are corrected by Bonferroni",
    ),
)
