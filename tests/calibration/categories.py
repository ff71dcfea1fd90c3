"""Checks of categories: p and intervals of cohesion, silhouettes, correlations with scores, and of geometry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from analyses.cohesion.pairs import Measured, Null
from analyses.cohesion.relation import relate
from analyses.cohesion.rows import _encoder_rows, _summaries
from analyses.frame.parts import unheard
from analyses.geometry.dimension import DIMENSIONS
from analyses.geometry.rows import LEAST_LEAVES, RSA, Options, _distance_rows, _hierarchy_rows
from analyses.inputs.categories import Categories, categories_of
from analyses.inputs.references import taxonomic_distances
from probing.categories.jackknife import jackknife
from probing.categories.leaf_sums import leaf_sums, mean_products, mean_squared_distances
from probing.similarity.gram import leaf_means
from probing.similarity.rsa import rdm
from probing.stats import draw_weights
from tests.calibration.check import Check, Limits
from tests.calibration.worlds import members, pictures, spectrum, taxonomy

_WIDTH = 32
_DIRECTIONS = np.random.default_rng(99).normal(size=(34, _WIDTH)) / np.sqrt(_WIDTH)
_ROTATION = np.linalg.qr(np.random.default_rng(98).normal(size=(_WIDTH, _WIDTH)))[0]
_LEAVES = np.array(taxonomy().leaves)
_SOME = _LEAVES[::3]


@dataclass(frozen=True)
class _World:
    """How much of its hypernyms is in a leaf, whether alike for all leaves, and whether rows have heavy tails."""

    effect: float = 0.0
    varied: bool = True
    heavy: bool = False


def _rows(rng: np.random.Generator, n: int, heavy: bool = False) -> Float[np.ndarray, "n width"]:
    """Rows with a spiked spectrum; each, if `heavy`, as long as Student's t with 3 degrees of freedom makes it."""
    rows = rng.normal(size=(n, _WIDTH)) * spectrum(_WIDTH)
    return rows * np.sqrt(3 / rng.chisquare(3, size=(n, 1))) if heavy else rows


def _states(rng: np.random.Generator, world: _World) -> Float[np.ndarray, "leaves width"]:
    share = rng.uniform(0, 2, size=(len(_LEAVES), 1)) if world.varied else 1.0
    return _rows(rng, len(_LEAVES), world.heavy) + world.effect * share * (members() @ _DIRECTIONS)


def _shown(
    rng: np.random.Generator, world: _World, counts: Int[np.ndarray, " leaves"]
) -> tuple[Float[np.ndarray, "n width"], Int[np.ndarray, " n"]]:
    rows, leaf = pictures(rng, _states(rng, world), counts, 0.0)
    return rows + _rows(rng, len(leaf), world.heavy), leaf


@cache
def _categories() -> Categories:
    return categories_of(taxonomy(), _LEAVES.tolist(), 3)


@cache
def _fewer() -> Categories:
    """Hypernyms of every third leaf."""
    return categories_of(taxonomy(), _SOME.tolist(), 3)


def _null(categories: Categories, seed: int, permutations: int, draws: int) -> Null:
    return Null(categories.members, permutations, seed, draw_weights(len(categories.leaves), draws, seed))


@cache
def _cohesion(world: _World, seed: int) -> pd.DataFrame:
    """The rows that are printed about the pictures of one draw of a world: cosines and distances."""
    rng = np.random.default_rng(seed)
    rows, leaf = _shown(rng, world, np.full(len(_LEAVES), 2))
    null = _null(_categories(), seed, 19, 200)
    distances = Measured("distance", np.bincount(leaf))
    distances.add({"embed": mean_squared_distances(leaf_sums(rows, leaf))}, null)
    labels = {"span": "image", "treatment": "raw", "modality": "image", "step": 0}
    found = _encoder_rows((rows, _LEAVES[leaf]), _categories(), null)
    return pd.DataFrame(found + _summaries(distances, _categories(), null, labels))


def _limits(table: pd.DataFrame, measure: str, target: str = "mean") -> Limits:
    rows = table[table["measure"].str.fullmatch(measure) & table["target"].str.fullmatch(target)]
    return Limits(*(rows[name].to_numpy(float) for name in ("value", "lower", "upper")))


def _covered(worlds: tuple[_World, ...], measure: str, target: str = "mean"):
    """A trial: the limits of a measure in each of some worlds."""

    def trial(seed: int) -> Limits:
        each = [_limits(_cohesion(world, seed), measure, target) for world in worlds]
        return Limits(*(np.concatenate([getattr(one, name) for one in each]) for name in Limits._fields[:3]))

    return trial


def _single(low: int, high: int):
    """A trial: the limits of the cohesion of hypernyms with more than `low`, at most `high` leaves."""
    sizes = _categories().members.sum(axis=0)
    names = [name for name, size in zip(_categories().names, sizes) if low < size <= high]
    return _covered((_PLANTED, _HEAVY), "cohesion", "|".join(names))


@cache
def _by_counts(seed: int) -> pd.DataFrame:
    """Cohesion of three unrelated sites where leaves of a quarter of the hypernyms have 12 pictures, others one."""
    rng, categories = np.random.default_rng(seed), _fewer()
    many = rng.permutation(len(categories.names))[: len(categories.names) // 4]
    counts = np.where(categories.members[:, many].any(axis=1), 12, 1)
    null = _null(categories, seed, 199, 2)
    cosines, distances = Measured("cohesion", counts), Measured("distance", counts)
    for site in ("embed", "blocks.0", "blocks.1"):
        rows, leaf = pictures(rng, _rows(rng, len(counts)), counts, 1.0)
        plain = leaf_sums(rows, leaf)
        cosines.add({site: mean_products(leaf_sums(rows, leaf, plain.centre, unit=True))}, null)
        distances.add({site: mean_squared_distances(plain)}, null)
    labels = {"span": "image", "treatment": "raw", "modality": "image", "step": 0}
    found = [_summaries(kind, categories, null, labels) for kind in (cosines, distances)]
    return pd.DataFrame(found[0] + found[1])


def _rejected(measure: str):
    def trial(seed: int) -> np.ndarray:
        table = _by_counts(seed)
        return (table.loc[table["measure"] == measure, "value"].to_numpy() <= 0.05).astype(float)

    return trial


def _any_site(seed: int) -> np.ndarray:
    table = _by_counts(seed)
    names = ("cohesion_p_corrected", "distance_ratio_p_corrected")
    return np.array([(table.loc[table["measure"] == name, "value"] <= 0.05).any() for name in names], float)


def _any_hypernym(seed: int) -> np.ndarray:
    """Whether any hypernym has a q of at most .05 at any site: where nothing coheres, a false discovery."""
    table = _by_counts(seed)
    return np.array([(table.loc[table["measure"] == "q", "value"] <= 0.05).any()], float)


def _beyond_limit(seed: int) -> np.ndarray:
    table = _by_counts(seed)
    mean = table[table["target"] == "mean"]
    value, limit = (
        mean.loc[mean["measure"] == name, "value"].to_numpy() for name in ("cohesion", "cohesion_null_limit")
    )
    return (value > limit).astype(float)


def _relation(noise: float):
    """A trial: the correlation of hypernyms' cohesion with scores that follow how much of them is in their leaves."""

    def trial(seed: int) -> Limits:
        rng = np.random.default_rng(seed)
        strength = rng.uniform(0, 2, members().shape[1])
        states = _rows(rng, len(_LEAVES)) + members() @ (strength[:, None] * _DIRECTIONS)
        rows, leaf = pictures(rng, states, np.full(len(_LEAVES), 2), 1.0)
        found = pd.DataFrame(
            _encoder_rows((rows, _LEAVES[leaf]), _categories(), _null(_categories(), seed, 1, 2))
        )
        scores = strength + noise * rng.normal(size=len(strength))
        return _limits(relate(found, dict(zip(taxonomy().hypernyms, scores)), seed), "correlation_with_score")

    return trial


@cache
def _distances() -> Float[np.ndarray, "leaves leaves"]:
    return taxonomic_distances(taxonomy(), _SOME.tolist())


def _distance_table(states, encoder, seed: int) -> pd.DataFrame:
    """Correlations of distances at a site with the taxonomy's, plain and given an encoder's."""
    every = np.arange(len(_SOME))
    given = {RSA: ([], every), f"{RSA}_given_encoder": ([rdm(encoder)], every)}
    options = Options(permutations=199, draws=2, seed=seed)
    return pd.DataFrame(_distance_rows({"embed": states}, _distances(), given, {}, options, unheard))


@cache
def _rsa(world: _World, seed: int) -> pd.DataFrame:
    """Correlations of distances of 117 leaves with the taxonomy's, plain and given an encoder that shows the same."""
    rng = np.random.default_rng(seed)
    states = _states(rng, world)[::3]
    encoder = _states(rng, world)[::3]
    return _distance_table(states, encoder, seed)


def _taxonomic(world: _World, measure: str):
    return lambda seed: _limits(_rsa(world, seed), measure, "leaf")


def _taxonomic_null(seed: int) -> np.ndarray:
    """Whether p is at most .05, or the value above the null's limit, where distances do not follow the taxonomy."""
    table = _rsa(_NOTHING, seed).set_index("measure")["value"]
    names = ("taxonomic_rsa", "taxonomic_rsa_given_encoder")
    return np.array(
        [table[f"{name}_p_corrected"] <= 0.05 for name in names]
        + [table[name] > table[f"{name}_null_limit"] for name in names],
        float,
    )


def _given_encoder(seed: int) -> np.ndarray:
    """Whether p given the encoder is at most .05 where a site shows the taxonomy only as far as the encoder does."""
    rng = np.random.default_rng(seed)
    encoder = _states(rng, _World(1.0))[::3]
    site = encoder @ _ROTATION + 0.5 * _rows(rng, len(encoder))
    table = _distance_table(site, encoder, seed)
    p = table.loc[table["measure"] == "taxonomic_rsa_given_encoder_p_corrected", "value"]
    return (p.to_numpy() <= 0.05).astype(float)


@cache
def _hierarchy(world: _World, seed: int) -> pd.DataFrame:
    """Steps from hypernym to leaf along hypernyms, and dimensions, of leaves with two pictures each."""
    rng = np.random.default_rng(seed)
    rows, leaf = _shown(rng, world, np.full(len(_LEAVES), 2))
    means = leaf_means(rows, leaf)[0]
    options = Options(draws=200, seed=seed)
    categories = categories_of(taxonomy(), _LEAVES.tolist(), LEAST_LEAVES)
    found = _hierarchy_rows(means, rows - means[leaf], categories, {}, options)
    for name, dimension in DIMENSIONS.items():
        one = jackknife(dimension, means)
        found.append(dict(measure=name, target="mean", value=one.value, lower=one.lower, upper=one.upper))
    return pd.DataFrame(found)


def _of_hierarchy(world: _World, measure: str):
    return lambda seed: _limits(_hierarchy(world, seed), measure)


_NOTHING = _World()
_PLANTED, _HEAVY, _ALIKE = _World(1.5), _World(1.5, heavy=True), _World(1.0, varied=False)
_BUNDLED = "351 leaves under the 34 bundled hypernyms, two pictures a leaf"
_T = "rows as long as Student's t with 3 degrees of freedom makes them"
_BOTH = f"{_BUNDLED}; spiked rows, and {_T}"
_COUNTED = (
    "no cohesion of 117 of the bundled leaves; those of a quarter of hypernyms have 12 pictures, others one"
)
_SHUFFLED = "Leaves are exchangeable among those of about as many pictures (`probing.similarity.strata`)."
_WIDENED = (
    "Leaves are independent draws. Percentile limits of a bootstrap over them are widened by 1.15, since hypernyms "
    "share leaves, and for few leaves (`few_clusters`). Distances grow with the longest rows: with heavy tails they "
    "are too narrow (`distance_within` and `_between` cover .80)."
)
_LEFT_OUT = (
    "Leaves are independent draws, left out in groups: silhouettes and neighbours depend on other leaves."
)
_LONGEST = (
    f"{_LEFT_OUT} One row much longer than all lowers the effective rank: with heavy tails limits cover .80."
)
_JACKKNIFED = "Leaves are independent draws; limits are Fisher's z with the jackknife's error."
_STEPS = (
    "Leaves are independent draws; a bootstrap of steps is widened by 1.2 (of other hypernyms by 1.6), since all steps "
    "along a hypernym share its direction."
)
_FIXED = "which leaves there are is resampled, but does not vary; where all show their hypernyms alike, that is most"
_DISCOVERED = " Benjamini–Hochberg over hypernyms and sites, whose p depend on each other positively."
_FAR = "with fewer leaves the nearest ones are farther: groups differ for that alone"

CHECKS: tuple[Check, ...] = (
    Check("cohesion_p", ("cohesion.cohesion_p", "cohesion.cohesion_uncentred_p"), "p of cohesion",
          _COUNTED, _SHUFFLED, "false positives",
          _rejected("cohesion_p"), 300),
    Check("cohesion_ratio_p", ("cohesion.distance_ratio_p",), "p of the ratio of distances",
          _COUNTED, _SHUFFLED, "false positives",
          _rejected("distance_ratio_p"), 300),
    Check("cohesion_p_hypernym", ("cohesion.p",), "p of one hypernym's cohesion",
          _COUNTED, _SHUFFLED, "false positives",
          _rejected("p"), 300),
    Check("cohesion_q", ("cohesion.q", "visual_coherence.q"), "q of a hypernym's cohesion, any at any site",
          _COUNTED, _SHUFFLED + _DISCOVERED,
          "false positives", _any_hypernym, 300, "hypernyms share leaves, and sites pictures; p come in steps"),
    Check("cohesion_p_corrected", ("cohesion.*_p_corrected",), "corrected p of cohesion, any of three sites",
          _COUNTED, _SHUFFLED, "false positives",
          _any_site, 300),
    Check("cohesion_limit", ("cohesion.*_null_limit",), "cohesion above its `null_limit`",
          _COUNTED, _SHUFFLED, "false positives",
          _beyond_limit, 300),
    Check("cohesion_mean", ("cohesion.cohesion", "cohesion.cohesion_within", "cohesion.cohesion_uncentred*"),
          "cohesion, mean over hypernyms, and `_within`", f"{_BOTH}; hypernyms in leaves to different degrees",
          _WIDENED, "coverage", _covered((_PLANTED, _HEAVY), "cohesion(_within)?"), 200),
    Check("cohesion_mean_alike", ("cohesion.cohesion", "cohesion.cohesion_between"),
          "cohesion, mean over hypernyms, and `_between`", f"{_BUNDLED}; hypernyms in all leaves to the same degree",
          _WIDENED, "coverage", _covered((_ALIKE,), "cohesion(_between)?"), 150, _FIXED),
    Check("cohesion_distances", ("cohesion.distance_within", "cohesion.distance_between"),
          "distances within and between", f"{_BUNDLED}; spiked rows", _WIDENED,
          "coverage", _covered((_PLANTED,), "distance_(within|between)"), 200),
    Check("cohesion_ratio", ("cohesion.distance_ratio",), "ratio of distances", _BOTH, _WIDENED,
          "coverage", _covered((_PLANTED, _HEAVY), "distance_ratio"), 200),
    Check("cohesion_few", ("cohesion.cohesion",), "cohesion of one hypernym of 4 to 6 leaves", _BOTH, _WIDENED,
          "coverage", _single(3, 6), 200),
    Check("cohesion_some", ("cohesion.cohesion",), "cohesion of one hypernym of 7 to 20 leaves", _BOTH, _WIDENED,
          "coverage", _single(6, 20), 200),
    Check("cohesion_many", ("cohesion.cohesion",), "cohesion of one hypernym of over 20 leaves", _BOTH, _WIDENED,
          "coverage", _single(20, 400), 200),
    Check("cohesion_leaf", ("cohesion.cohesion",), "a leaf's own pictures against others of its hypernyms", _BOTH,
          _WIDENED, "coverage", _covered((_PLANTED, _HEAVY), "cohesion", "leaf"), 200),
    Check("cohesion_silhouette", ("cohesion.silhouette",), "mean silhouette", _BOTH, _LEFT_OUT,
          "coverage", _covered((_PLANTED, _HEAVY), "silhouette"), 200),
    *(
        Check(f"cohesion_score_{label}", ("cohesion.correlation_with_score",),
              "rank correlation of hypernyms' cohesion with scores", f"{_BUNDLED}; scores {world}",
              "Hypernyms are independent draws; they share leaves.", "coverage", _relation(noise), 150,
              "the farther of two limits is taken")
        for label, world, noise in (("strong", "follow it", 0.3), ("weak", "hardly follow it", 3.0))
    ),
    Check("geometry_null", ("geometry.taxonomic_rsa*_p_corrected", "geometry.taxonomic_rsa*_null_limit"),
          "p of `taxonomic_rsa`, plain and given the encoder, and its null's limit",
          "117 of the bundled leaves, of which neither a site nor the encoder shows hypernyms", _SHUFFLED,
          "false positives", _taxonomic_null, 400),
    Check("geometry_given_encoder", ("geometry.taxonomic_rsa_given_encoder_p_corrected",),
          "p of `taxonomic_rsa_given_encoder`",
          "117 of the bundled leaves; a site shows hypernyms as far as the encoder does", _SHUFFLED,
          "false positives", _given_encoder, 400),
    *(
        Check(f"geometry_{name}_{label}", (f"geometry.{name}",), f"`{name}`", f"117 of the bundled leaves, {rows}",
              _JACKKNIFED, "coverage", _taxonomic(world, name), 300, "the taxonomy does not vary")
        for name in ("taxonomic_rsa", "taxonomic_rsa_given_encoder")
        for label, rows, world in (("spiked", "spiked", _PLANTED), ("heavy", _T, _HEAVY))
    ),
    *(
        Check(f"geometry_{name}_{label}", (f"geometry.{name}",), f"`{name}`",
              f"351 leaves of two pictures under the 34 bundled hypernyms, {rows}", assumes, "coverage",
              _of_hierarchy(world, name), 200, reason)
        for name, assumes, reason in (
            ("hierarchy_own", _STEPS, ""),
            ("hierarchy_other", _STEPS, ""),
            ("hierarchy_ratio", _STEPS, ""),
            ("intrinsic_dimension", _LEFT_OUT, _FAR),
            ("effective_rank", _LONGEST, ""),
            ("participation_ratio", _LEFT_OUT, ""),
        )
        for label, rows, world in (("spiked", "spiked", _PLANTED), ("heavy", _T, _HEAVY))
        if (name, label) != ("effective_rank", "heavy")
    ),
)  # fmt: skip
