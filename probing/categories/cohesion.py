"""Cohesion of categories: how much closer leaf concepts of one category lie than leaves of different ones.

Everything follows from the mean of each pair of leaves (`probing.categories.leaf_sums`). Only pairs of different
leaves count, each pair once: neither the number of pictures of a leaf nor two pictures of the same crow make birds
cohesive.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from probing.similarity.calibration import studentised_p
from probing.similarity.mantel import permutation_design, permuted_products
from probing.stats.undefined import refuse_undefined

_PAIR_ENTRIES = 8_000_000  # of weights over pairs that exist at a time


@dataclass(frozen=True)
class Cohesion:
    """Within- and between-category means of one pair matrix per layer; `difference` is within − between.

    One column per category, in the order given; a category of fewer than two leaves, or with no leaf outside,
    is NaN. `p` (per layer) is for the mean difference over categories, `p_corrected` for all layers
    together, `p_category` for each category of each layer, all one-sided for closer within.
    """

    within: Float[np.ndarray, "layers categories"]
    between: Float[np.ndarray, "layers categories"]
    p: Float[np.ndarray, " layers"]
    p_corrected: Float[np.ndarray, " layers"]
    p_category: Float[np.ndarray, "layers categories"]
    null: Float[np.ndarray, "permutations layers"]

    @property
    def difference(self) -> Float[np.ndarray, "layers categories"]:
        """Within minus between."""
        return self.within - self.between


@dataclass(frozen=True)
class CohesionDraws:
    """Cohesion of some layers, with within − between under each permutation (the first: none) of the leaves.

    What is to be corrected together may be measured apart, a few layers at a time; see `conclude`.
    """

    within: Float[np.ndarray, "layers categories"]
    between: Float[np.ndarray, "layers categories"]
    permuted: Float[np.ndarray, "permutations layers categories"]
    higher_is_closer: bool


def cohesion(
    pairs: Float[np.ndarray, "layers leaves leaves"],
    members: Bool[np.ndarray, "leaves categories"],
    draws: int = 1_000,
    seed: int = 0,
    higher_is_closer: bool = True,
    counts: Int[np.ndarray, " leaves"] | None = None,
) -> Cohesion:
    """Cohesion of categories in each layer, from the pair matrix of each (`mean_products`, or of distances).

    Within: all pairs of two leaves of a category, each once. Between: pairs of a member with a leaf that shares no
    category with it. The null gives the leaves' places in the categories to other leaves, which keeps category sizes
    and overlaps; a leaf's pictures stay together. With `counts`, the pictures of each leaf, only leaves of about as
    many change places: means of few pictures vary more, and categories may differ in how many their leaves have. The
    diagonals do not count, and may be NaN.

    >>> members = np.array([[1, 0], [1, 0], [0, 1], [0, 1]]) > 0  # two birds, two fruits
    >>> pairs = np.where(members @ members.T, 0.9, 0.1)[None]
    >>> cohesion(pairs, members, draws=20).difference
    array([[0.8, 0.8]])

    Raises:
        ValueError: a pair of different leaves is NaN or infinite, or no category has two leaves and one outside.
    """
    return conclude([cohesion_draws(pairs, members, draws, seed, higher_is_closer, counts)])


def cohesion_draws(
    pairs: Float[np.ndarray, "layers leaves leaves"],
    members: Bool[np.ndarray, "leaves categories"],
    draws: int = 1_000,
    seed: int = 0,
    higher_is_closer: bool = True,
    counts: Int[np.ndarray, " leaves"] | None = None,
) -> CohesionDraws:
    """Cohesion of some layers and its null, under permutations that are the same in every call of one seed.

    >>> members = np.array([[1, 0], [1, 0], [0, 1], [0, 1]]) > 0
    >>> pairs = np.where(members @ members.T, 0.9, 0.1)[None]
    >>> cohesion_draws(pairs, members, draws=20).within
    array([[0.9, 0.9]])
    """
    flat = _hollow_symmetric(pairs)
    design = permutation_design(len(members), draws, seed, counts)
    means = np.full((2, len(pairs), members.shape[1]), np.nan)
    permuted = np.full((len(design), len(pairs), members.shape[1]), np.nan)
    step = max(1, _PAIR_ENTRIES // len(members) ** 2)
    for start in range(0, members.shape[1], step):
        columns = np.arange(start, min(start + step, members.shape[1]))
        within, between = pair_weights(members, columns)
        usable = np.isfinite(within).all(axis=(1, 2)) & np.isfinite(between).all(axis=(1, 2))
        for kind, weights in enumerate((within, between)):
            means[kind][:, columns] = np.tensordot(flat, weights, axes=((1, 2), (1, 2)))
        if usable.any():
            permuted[:, :, columns[usable]] = permuted_products(flat, (within - between)[usable], design)
    return CohesionDraws(means[0], means[1], permuted, higher_is_closer)


def conclude(parts: Sequence[CohesionDraws]) -> Cohesion:
    """Cohesion of all layers that were measured in parts, corrected for all of them together.

    >>> members = np.array([[1, 0], [1, 0], [0, 1], [0, 1]]) > 0
    >>> pairs = np.where(members @ members.T, 0.9, 0.1)[None]
    >>> parts = [cohesion_draws(pairs, members, draws=20), cohesion_draws(pairs, members, draws=20)]
    >>> conclude(parts).difference.shape  # layers, categories
    (2, 2)

    Raises:
        ValueError: no category has two leaves and one outside.
    """
    within, between, permuted = (
        np.concatenate([getattr(part, name) for part in parts], axis=axis)
        for name, axis in (("within", 0), ("between", 0), ("permuted", 1))
    )
    usable = np.isfinite(permuted[0, 0])
    if not usable.any():
        raise ValueError(
            f"no category of {len(usable)} has two leaves and leaves outside it; there is no cohesion"
        )
    mean = permuted[:, :, usable].mean(axis=2)
    sign = 1 if parts[0].higher_is_closer else -1
    p_category = np.full(within.shape, np.nan)
    p_category[:, usable], _ = studentised_p(sign * permuted[:, :, usable])
    p, p_corrected = studentised_p(sign * mean)
    return Cohesion(within, between, p, p_corrected, p_category, null=mean[1:])


def bootstrap_cohesion(
    pairs: Float[np.ndarray, "layers leaves leaves"],
    members: Bool[np.ndarray, "leaves categories"],
    weights: Float[np.ndarray, "draws leaves"],
) -> tuple[Float[np.ndarray, "draws layers categories"], Float[np.ndarray, "draws layers categories"]]:
    """Within and between means with each leaf counted as often as each draw says.

    A leaf drawn twice makes no pair with itself. A draw that leaves a category no pair is NaN.

    >>> members = np.array([[1, 0], [1, 0], [0, 1], [0, 1]]) > 0
    >>> pairs = np.where(members @ members.T, 0.9, 0.1)[None]
    >>> within, between = bootstrap_cohesion(pairs, members, np.array([[1.0, 1, 1, 1], [2, 0, 1, 1]]))
    >>> within[:, 0]  # one bird drawn twice makes no pair
    array([[0.9, 0.9],
           [nan, 0.9]])
    """
    flat = _hollow_symmetric(pairs)
    apart = ~_together(members)
    results = np.full((2, len(weights), len(pairs), members.shape[1]), np.nan)
    for category in range(members.shape[1]):
        inside = np.flatnonzero(members[:, category])
        drawn = weights[:, inside]
        # Only rows of members: each pair once within (up to symmetry), once between.
        for kind, mask in enumerate(
            (members[:, category] & (np.arange(len(members)) != inside[:, None]), apart[inside])
        ):
            columns = np.flatnonzero(mask.any(axis=0))
            mask, others = mask[:, columns], weights[:, columns]
            count = ((others @ mask.T) * drawn).sum(axis=1)
            safe = np.where(count > 0, count, np.nan)
            for layer, matrix in enumerate(flat):
                total = ((others @ (matrix[np.ix_(columns, inside)] * mask.T)) * drawn).sum(axis=1)
                results[kind, :, layer, category] = total / safe
    return results[0], results[1]


def silhouette(
    distances: Float[np.ndarray, "leaves leaves"], members: Bool[np.ndarray, "leaves categories"]
) -> Float[np.ndarray, " leaves"]:
    """Silhouette of each leaf among categories, in [−1, 1]; chance is below 0 with many categories.

    A leaf's own distance is the mean over its categories of the mean distance to their other leaves; the
    other distance that to the nearest category it is not in. NaN for a leaf alone in its categories.

    >>> members = np.array([[1, 0], [1, 0], [0, 1], [0, 1]]) > 0
    >>> silhouette(np.where(members @ members.T, 1.0, 4.0), members)
    array([0.75, 0.75, 0.75, 0.75])

    Raises:
        ValueError: the distance of two different leaves is NaN or infinite.

    Source: Rousseeuw 1987, J. Comput. Appl. Math. 20, extended to leaves of several categories.
    """
    distances = _hollow(distances)
    sizes = members.sum(axis=0)
    others = sizes - members
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (distances @ members) / np.where(others > 0, others, np.nan)
    own = np.where(members & (others > 0), mean, np.nan)
    alone = np.isnan(own).all(axis=1)
    outside = np.where(members | (sizes == 0), np.inf, mean).min(axis=1)
    counted = np.maximum((~np.isnan(own)).sum(axis=1), 1)
    inside = np.where(alone, np.nan, np.nansum(own, axis=1) / counted)
    return (outside - inside) / np.maximum(outside, inside)


def pair_weights(
    members: Bool[np.ndarray, "leaves categories"], columns: Int[np.ndarray, " chosen"] | None = None
) -> tuple[Float[np.ndarray, "chosen leaves leaves"], Float[np.ndarray, "chosen leaves leaves"]]:
    """Weights over pairs of leaves, each summing to 1: within each category, and between it and the rest.

    NaN throughout where a category has no such pair. `columns` are the categories wanted; all of them
    say which leaves share none.

    >>> within, between = pair_weights(np.array([[1, 0], [1, 0], [0, 1]]) > 0)
    >>> within[0]
    array([[0. , 0.5, 0. ],
           [0.5, 0. , 0. ],
           [0. , 0. , 0. ]])
    """
    members = np.asarray(members, dtype=bool)
    together = _together(members)
    wanted = (members if columns is None else members[:, columns]).T
    within = wanted[:, :, None] & wanted[:, None, :] & ~np.eye(len(members), dtype=bool)
    between = (wanted[:, :, None] ^ wanted[:, None, :]) & ~together
    return _normalised(within), _normalised(between)


def _together(members):
    """Which leaves share a category; each in any shares its own."""
    return (members.astype(np.float32) @ members.T.astype(np.float32)) > 0


def _normalised(mask):
    count = mask.sum(axis=(1, 2), keepdims=True)
    return np.where(count > 0, mask / np.where(count > 0, count, 1), np.nan)


def _hollow_symmetric(pairs):
    """The pair matrices with mean of both directions and zero diagonal, [layers, leaves, leaves]."""
    return _hollow((pairs + pairs.transpose(0, 2, 1)) / 2)


def _hollow(pairs):
    """The matrix with zero diagonal; a pair of different leaves must be defined."""
    pairs = np.where(np.eye(pairs.shape[-1], dtype=bool), 0.0, pairs)
    refuse_undefined(pairs, "the matrix of pairs")
    return pairs
