"""Checks of similarity: p, limits of nulls, intervals, ceilings and onsets of `calibrate` and `text_alignment`."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from analyses.inputs.leaf_rows import leaf_rows
from analyses.inputs.references import TWIN, References
from analyses.text_alignment.rows import Options, Place, _place, alignment_rows
from probing.similarity import MEASURES
from probing.similarity.calibration import calibrate
from probing.similarity.gram import leaf_means, unit_rows
from taxogen.world.taxonomy import Taxonomy
from tests.analyses.leaf_stores import MemoryStore, columns_of
from tests.calibration.check import Check, Limits
from tests.calibration.worlds import pictures, spectrum

_WIDTH = 32
_ROTATION = np.linalg.qr(np.random.default_rng(7).normal(size=(_WIDTH, _WIDTH)))[0]
_P_MEASURES = ("cka_debiased", "rsa_spearman")
_SITES = tuple(f"blocks.{k}.hook_resid_post" for k in range(6))


def _rows(rng: np.random.Generator, n: int, heavy: bool = False) -> Float[np.ndarray, "n width"]:
    """Rows with a spiked spectrum; each, if `heavy`, as long as Student's t with 3 degrees of freedom makes it."""
    rows = rng.normal(size=(n, _WIDTH)) * spectrum(_WIDTH)
    return rows * np.sqrt(3 / rng.chisquare(3, size=(n, 1))) if heavy else rows


def _counts(rng: np.random.Generator, kind: str, n: int) -> Int[np.ndarray, " n"]:
    return rng.integers(1, 41, n) if kind == "1..40" else np.where(rng.random(n) < 0.5, 1, 12)


def _p_of_counts(kind: str, n: int, seed: int) -> np.ndarray:
    """Whether unrelated sides, whose leaves have the same unequal numbers of rows, are alike at .05."""
    rng = np.random.default_rng(seed)
    counts = _counts(rng, kind, n)
    left, right = (pictures(rng, _rows(rng, n), counts, 2.0) for _ in range(2))
    found = (calibrate(MEASURES[name], [left[0]], [right[0]], left[1], 199, seed) for name in _P_MEASURES)
    return np.array([float(one.p[0, 0] <= 0.05) for one in found])


def _p_of_one_side(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows, leaf = pictures(rng, _rows(rng, 120), _counts(rng, "1 or 12", 120), 2.0)
    sides = leaf_means(rows, leaf)[0], _rows(rng, 120)
    found = (calibrate(MEASURES[name], [sides[0]], [sides[1]], None, 199, seed) for name in _P_MEASURES)
    return np.array([float(one.p[0, 0] <= 0.05) for one in found])


def _p_of_massive_rows(seed: int) -> np.ndarray:
    """Whether standardised rows and rows at unit length both say alike; rows are massive on both sides at once."""
    rng = np.random.default_rng(seed)
    leaf = np.repeat(np.arange(120), 2)
    longer = np.where(rng.random((240, 1)) < 0.03, rng.uniform(4, 9, (240, 1)), 1)
    sides = [pictures(rng, _rows(rng, 120), np.full(120, 2), 2.0)[0] * longer for _ in range(2)]
    sides = [(side - side.mean(0)) / side.std(0) for side in sides]
    both = []
    for name in _P_MEASURES:
        kinds = (sides, [unit_rows(side) for side in sides])
        p = [calibrate(MEASURES[name], [x], [y], leaf, 199, seed).p[0, 0] for x, y in kinds]
        both.append(float(max(p) <= 0.05))
    return np.array(both)


@cache
def _aligned(
    name: str, n: int, effects: tuple[float, ...], heavy: bool, seed: int, counts: str = ""
) -> pd.DataFrame:
    """The rows that are printed about pictures at several blocks, each with so much of the words in them."""
    rng = np.random.default_rng(seed)
    matrix = MEASURES[name].matrix
    assert matrix is not None
    words = _rows(rng, n, heavy)
    layers = [effect * words @ _ROTATION + _rows(rng, n, heavy) for effect in effects]
    shown = _counts(rng, counts, n) if counts else np.ones(n, int)
    if counts:
        layers, words = (
            [leaf_means(*pictures(rng, x, shown, 2.0))[0] for x in side] for side in (layers, [words])
        )
        words = words[0]
    place = Place(
        {"step": 0, "span": "slot", "treatment": "standardised", "split": ""},
        tuple(map(str, range(n))),
        {site: matrix(x) for site, x in zip(_SITES, layers)},
        {TWIN: {"words": matrix(words)}},
        counts={TWIN: shown} if counts else {},
    )
    return pd.DataFrame(alignment_rows(place, Options(measure=name, permutations=199, draws=200, seed=seed)))


def _limits(table: pd.DataFrame, measure: str, truth: float | None = None) -> Limits:
    rows = table[table["measure"] == measure]
    known = None if truth is None else np.full(len(rows), truth)
    return Limits(*(rows[name].to_numpy(float) for name in ("value", "lower", "upper")), truth=known)


def _interval(name: str, n: int, effects: tuple[float, ...], heavy: bool):
    return lambda seed: _limits(_aligned(name, n, effects, heavy, seed), name)


def _any_layer(seed: int) -> np.ndarray:
    """Whether any block has a corrected p of at most .05 where none is like the words, leaves with 1 or 12 rows."""
    table = _aligned("cka_debiased", 120, (0.0,) * 4, False, seed, "1 or 12")
    return np.array([(table.loc[table["measure"] == "p_corrected", "value"] <= 0.05).any()], float)


def _beyond_limit(seed: int) -> np.ndarray:
    """Whether the value of each block is above the 95 % limit of its null, and whether its p is at most .05."""
    table = _aligned("cka_debiased", 120, (0.0,) * 4, False, seed)
    value, limit, p = (
        table.loc[table["measure"] == name, "value"].to_numpy()
        for name in ("cka_debiased", "null_limit", "p")
    )
    return np.r_[value > limit, p <= 0.05].astype(float)


def _found_where_none_is(seed: int) -> np.ndarray:
    table = _aligned("cka_debiased", 120, (0.0,) * 4, False, seed)
    return np.isfinite(table.loc[table["measure"] == "onset", "value"].to_numpy()).astype(float)


_STEP = (0.0, 0.0, 0.0, 0.6, 0.8, 1.0)
_RISE = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


def _onset(seed: int) -> Limits:
    return _limits(_aligned("cka_debiased", 120, _STEP, False, seed), "onset", 3.0)


def _half_rise(seed: int) -> Limits:
    return _limits(_aligned("cka_debiased", 120, _RISE, False, seed), "half_rise", _half_of_the_rise())


@cache
def _half_of_the_rise() -> float:
    """The block from which similarity is at least half of the largest, by its mean over worlds."""
    values = [
        _limits(_aligned("cka_debiased", 120, _RISE, False, seed), "cka_debiased").value
        for seed in range(100)
    ]
    mean = np.mean(values, axis=0)
    return float(np.flatnonzero(mean < mean.max() / 2)[-1] + 1)


def _ceiling(heavy: bool):
    """A world's noise ceilings at two blocks, of 60 leaves with two or three pictures each."""

    def trial(seed: int) -> Limits:
        rng = np.random.default_rng(seed)
        names = np.array([f"leaf {k:02}" for k in range(60)])
        counts = rng.integers(2, 4, 60)
        values, leaf = {}, np.empty(0, int)
        for site, noise in zip(_SITES, (0.5, 1.5)):
            states, noises = _rows(rng, 60, heavy), np.repeat(np.arange(60), counts)
            leaf = noises
            values[site, "last"] = states[leaf] + noise * _rows(rng, len(leaf), heavy)
        store = MemoryStore(values, columns_of(names[leaf], "image", seed), _SITES[:2])
        taxonomy = Taxonomy(tuple((name, f"kind {k % 3}") for k, name in enumerate(names)))
        rows = leaf_rows({"image": store})["image"]  # pyright: ignore[reportArgumentType]
        references = References(None, {}, taxonomy, MEASURES["cka_debiased"], "standardised")
        labels = {"step": 0, "span": "slot", "treatment": "standardised", "split": ""}
        place = _place((rows, "last"), references, labels, names, Options(splits=5, seed=seed), {})
        ceilings = [place.ceilings[site] for site in _SITES[:2]]
        return Limits(
            *(np.array([getattr(one, name) for one in ceilings]) for name in ("value", "lower", "upper"))
        )

    return trial


_ALIKE = (0.25, 0.5, 0.8, 1.2)
_HEAVY = "rows as long as Student's t with 3 degrees of freedom makes them"
_PERMUTED = (
    "Leaves are exchangeable among those of about as many rows (`probing.similarity.strata`). Rows that are massive on "
    "both sides at once break that: believe p only where that of unit rows is small too."
)
_JACKKNIFED = (
    "Leaves are independent draws; limits are Fisher's z with the jackknife's error, widened by 1.15."
)
_WIDE = "limits are wide enough for rows with heavy tails, which these have not"
_ROOT = "Leaves are independent draws; limits are Fisher's z with the jackknife's error."
_DETECTED = (
    "The onset is the first layer detected, later with fewer leaves. Both limits are percentiles over leaves."
)

CHECKS: tuple[Check, ...] = (
    *(
        Check(
            f"calibrate_{label}",
            ("text_alignment.p",),
            "p of `calibrate`, `cka_debiased` and `rsa_spearman`",
            f"unrelated sides of {n} leaves, the same {kind} rows a leaf on both",
            _PERMUTED,
            "false positives",
            lambda seed, kind=kind, n=n: _p_of_counts(kind, n, seed),
            trials,
        )
        for label, kind, n, trials in (
            ("1_or_12", "1 or 12", 120, 500),
            ("1_to_40", "1..40", 120, 500),
            ("1_or_12_bundled", "1 or 12", 351, 300),
        )
    ),
    Check(
        "calibrate_one_side",
        ("text_alignment.p",),
        "p of `calibrate`, `cka_debiased` and `rsa_spearman`",
        "unrelated sides of 120 leaves, 1 or 12 rows a leaf on one of them",
        _PERMUTED,
        "false positives",
        _p_of_one_side,
        500,
    ),
    Check(
        "calibrate_massive_rows",
        ("text_alignment.p",),
        "p of `calibrate` and that of unit rows, both at most .05",
        "unrelated sides of 120 leaves, the same row in 30 four to nine times as long on both",
        _PERMUTED,
        "false positives",
        _p_of_massive_rows,
        400,
        conservative="both must be small",
    ),
    Check(
        "alignment_any_layer",
        ("text_alignment.p_corrected",),
        "corrected p of alignment, any of four blocks",
        "unrelated pictures and words of 120 leaves, 1 or 12 rows a leaf in both",
        _PERMUTED,
        "false positives",
        _any_layer,
        500,
    ),
    Check(
        "alignment_limit",
        ("text_alignment.null_limit", "text_alignment.p"),
        "alignment above its `null_limit`, and p",
        "unrelated pictures and words of 120 leaves",
        _PERMUTED,
        "false positives",
        _beyond_limit,
        400,
    ),
    Check(
        "alignment_onset_of_nothing",
        ("text_alignment.onset",),
        "an onset of alignment",
        "unrelated pictures and words of 120 leaves, four blocks",
        _DETECTED,
        "false positives",
        _found_where_none_is,
        400,
        conservative="the band must lie above the limit of the null, not above 0",
    ),
    Check(
        "alignment_onset",
        ("text_alignment.onset",),
        "onset of alignment",
        "120 leaves; nothing before block 3, debiased CKA of .3 to .6 from there",
        _DETECTED,
        "coverage",
        _onset,
        300,
        conservative="blocks are whole numbers",
    ),
    Check(
        "alignment_half_rise",
        ("text_alignment.half_rise",),
        "half-rise of alignment",
        "120 leaves; debiased CKA rises from 0 to .6 over six blocks",
        _DETECTED,
        "coverage",
        _half_rise,
        300,
        conservative="blocks are whole numbers",
    ),
    *(
        Check(
            f"alignment_{name}_{label}",
            (f"text_alignment.{name.split('_')[0]}*",),
            f"`{name}` of pictures and words",
            f"{n} leaves, {rows}; {unit}",
            _JACKKNIFED,
            "coverage",
            _interval(name, n, effects, heavy),
            trials,
            conservative,
        )
        for name, label, n, rows, heavy, effects, unit, trials, conservative in (
            ("cka_debiased", "351", 351, "spiked", False, _ALIKE, ".06 to .75", 300, _WIDE),
            ("cka_debiased", "heavy", 351, _HEAVY, True, _ALIKE, ".06 to .75", 300, ""),
            (
                "cka_debiased",
                "40",
                40,
                "spiked",
                False,
                _ALIKE,
                ".06 to .75",
                400,
                "few leaves, and little likeness",
            ),
            ("cka_debiased", "40_heavy", 40, _HEAVY, True, _ALIKE, ".06 to .75", 400, ""),
            (
                "cka_debiased",
                "unrelated",
                120,
                "spiked",
                False,
                (0.0,),
                "0",
                300,
                "without likeness the first-order part of the statistic vanishes, and the jackknife doubles the rest",
            ),
            ("rsa_spearman", "120", 120, "spiked", False, _ALIKE, ".05 to .7", 300, ""),
            ("rsa_spearman", "heavy", 120, _HEAVY, True, _ALIKE, ".1 to .7", 300, ""),
            ("mutual_knn", "120", 120, "spiked", False, _ALIKE, ".1 to .5", 300, "neighbours are held fixed"),
        )
    ),
    *(
        Check(
            f"alignment_ceiling_{label}",
            ("text_alignment.ceiling",),
            "noise ceiling of `cka_debiased`",
            f"60 leaves of two or three pictures, {rows}",
            _ROOT,
            "coverage",
            _ceiling(heavy),
            300,
            "close to 1 the ceiling is skewed",
        )
        for label, rows, heavy in (("spiked", "spiked", False), ("heavy", _HEAVY, True))
    ),
)
