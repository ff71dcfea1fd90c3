"""Sparse features: p and q of what words and pictures share, limits of AUROC and of reconstruction errors."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pandas as pd

from analyses.sparse_features.rows import Side, _difference_rows, _error_rows, _shared_rows, with_q
from analyses.sparse_features.shared import PICTURES, WORDS, Firing, sharing
from probing.probes.splits import grouped_folds
from probing.stats import draw_weights
from tests.calibration.check import Check, Limits
from tests.calibration.worlds import members, spectrum, taxonomy

_FEATURES, _TOP, _FEW, _KINDS = 60, 5, 120, 8


def _firing(seed: int, leaves: int, effect: float, kinds: int) -> Firing:
    """Features of leaves, some in words and pictures alike; some fire for a hypernym, by `effect`, in both."""
    rng = np.random.default_rng([seed, 41])
    rows = np.sort(rng.choice(len(members()), leaves, replace=False))
    labels = members()[rows]
    labels = labels[:, labels.sum(0) >= 5][:, :kinds]
    of_kind = rng.random((labels.shape[1], _FEATURES)) < 0.06
    common = rng.normal(size=(leaves, _FEATURES)) - 1.2 + rng.normal(size=_FEATURES)
    sides = []
    for count in (3, rng.integers(1, 4, (leaves, 1))):
        tendency = common + 0.7 * rng.normal(size=common.shape) + effect * (labels @ of_kind > 0)
        sides.append(rng.binomial(count, 1 / (1 + np.exp(-2 * tendency))) / count)
    names = np.array(taxonomy().leaves)[rows]
    first, second = (side.astype(np.float32) for side in sides)
    return Firing(first, second, names, labels, _folds(names, labels, seed), _TOP)


def _folds(names: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    return grouped_folds(names, labels, 5, seed)


@cache
def _table(seed: int, leaves: int, effect: float, permutations: int, kinds: int = 34) -> pd.DataFrame:
    firing = _firing(seed, leaves, effect, kinds)
    names = [f"kind {at}" for at in range(firing.labels.shape[1])]
    shared = sharing(firing, permutations, 200, seed)
    return with_q(pd.DataFrame(_shared_rows(shared, names, {"span": "slot", "site": "", "step": 1})))


def _p(seed: int) -> np.ndarray:
    """Where no feature has to do with a hypernym: p of the mean of each measure, and the share of hypernyms'."""
    table = _table(seed, _FEW, 0.0, 39)
    found = []
    for _, rows in table[table["measure"].str.endswith("_p")].groupby("measure"):
        mean = rows["target"] == "mean"
        found += [
            float(rows.loc[mean, "value"].iloc[0] <= 0.05),
            float((rows.loc[~mean, "value"] <= 0.05).mean()),
        ]
    return np.array(found)


def _q(seed: int) -> np.ndarray:
    table = _table(seed, _FEW, 0.0, 199, _KINDS)
    rows = table[table["measure"].str.endswith("_q")]
    return (rows.groupby("measure")["value"].min() <= 0.05).to_numpy(float)


def _auroc(seed: int, single: bool) -> Limits:
    """Limits of the mean, or of hypernyms of 8 leaves or more, which the same leaves have in every world."""
    table = _table(seed, len(members()), 0.6, 2)
    rows = table[table["measure"].isin([WORDS, PICTURES]) & ((table["target"] != "mean") == single)]
    return Limits(*rows[["value", "lower", "upper"]].to_numpy(float).T)


def _side(rng: np.random.Generator, common: np.ndarray, error: float) -> Side:
    """Rows of leaves in a spectrum, of which a dictionary leaves more unexplained for some leaves than for others."""
    counts = rng.integers(1, 4, len(common))
    leaf = np.repeat(np.arange(len(common)), counts)
    states = (
        1.0 + common[leaf] + 0.5 * rng.normal(size=(len(leaf), common.shape[1])) * spectrum(common.shape[1])
    )
    hard = np.exp(0.5 * rng.normal(size=len(common)))[leaf]
    squares = (states**2).sum(1)
    errors = error * hard * squares * np.exp(0.3 * rng.normal(size=len(leaf)))
    active = rng.poisson(20 * np.exp(0.2 * rng.normal(size=len(common)))[leaf])
    each, sums = np.column_stack([errors, squares, active, np.ones(len(leaf))]), np.zeros((len(common), 4))
    np.add.at(sums, leaf, each)
    total = np.zeros_like(common)
    np.add.at(total, leaf, states)
    return Side(np.zeros((len(common), 1)), sums, total)


def _errors(seed: int, leaves: int) -> Limits:
    rng = np.random.default_rng([seed, 42])
    common = rng.normal(size=(leaves, 24)) * spectrum(24)
    pictures, words = _side(rng, common, 0.3), _side(rng, common, 0.2)
    weights = draw_weights(leaves, 300, seed)
    rows = [*_error_rows(pictures, weights, {}), *_error_rows(words, weights, {})]
    table = pd.DataFrame([*rows, *_difference_rows(pictures, words, weights, {})])
    return Limits(*table[["value", "lower", "upper"]].to_numpy(float).T)


_MEASURES = (WORDS, PICTURES, "overlap")
_WORLD = (
    f"{_FEW} leaves, {_FEATURES} features that words and pictures of a leaf share, none those of a hypernym"
)
_EXCHANGED = (
    "Labels are exchanged among leaves, in words and pictures alike: where leaves of a hypernym have nothing in "
    "common, the rank among them is exact."
)

CHECKS: tuple[Check, ...] = (
    Check(
        "features_p",
        tuple(f"sparse_features.{measure}_p" for measure in _MEASURES),
        "p of features that words and pictures share, of the mean and of hypernyms",
        f"{_WORLD}; 39 exchanges of labels",
        _EXCHANGED,
        "false positives",
        _p,
        150,
    ),
    Check(
        "features_q",
        tuple(f"sparse_features.{measure}_q" for measure in _MEASURES),
        "q of single hypernyms, any of them",
        f"{_WORLD}; {_KINDS} hypernyms, 199 exchanges of labels",
        f"{_EXCHANGED} Benjamini–Hochberg over hypernyms and places, which depend on each other positively.",
        "false positives",
        _q,
        150,
    ),
    Check(
        "features_auroc",
        tuple(f"sparse_features.{measure}" for measure in (WORDS, PICTURES)),
        "AUROC of features that words of other leaves choose, of words and of pictures, mean over hypernyms",
        f"351 leaves, {_FEATURES} features, of which some fire for hypernyms",
        "Leaves are drawn from many; each trains the choice that scores the others.",
        "coverage",
        partial(_auroc, single=False),
        200,
    ),
    *(
        Check(
            f"features_errors_{leaves}",
            tuple(f"sparse_features.{measure}" for measure in ("unexplained", "error_share", "active")),
            "unexplained share, error share and active features of words, pictures, and their difference",
            f"{leaves} leaves of 1 to 3 rows; leaves differ in how much is unexplained",
            "Leaves are drawn from many.",
            "coverage",
            partial(_errors, leaves=leaves),
            400,
        )
        for leaves in (40, 351)
    ),
)
