"""Pair matrices of leaves at every site, and their cohesion: a few sites at a time, so that memory stays flat."""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from analyses.frame import tables
from analyses.frame.parts import Done, unheard
from analyses.frame.tables import NO_STEP
from analyses.inputs import leaf_rows
from analyses.inputs.leaf_rows import LeafRows
from probing.categories.cohesion import (
    Cohesion,
    CohesionDraws,
    bootstrap_cohesion,
    cohesion_draws,
    conclude,
    silhouette,
)
from probing.categories.jackknife import jackknife
from probing.categories.leaf_sums import leaf_sums, mean_products, mean_squared_distances
from probing.categories.massive import massive_dimensions, massive_rows
from probing.stats import Estimate

UNCENTRED = ("raw", "without outliers")  # the other treatments are centred, or nearly, by what they do
_GROUPS = 40  # of leaves, left out in turn for the interval of their mean silhouette
_PAIR_ENTRIES = 14_000_000  # of pair matrices of one kind that exist at a time
#: (modality, measure) → site → matrix over pairs of leaves.
PairMatrices = dict[tuple[str, str], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Null:
    """How leaves are shuffled among hypernyms, and redrawn."""

    members: Bool[np.ndarray, "leaves categories"]
    permutations: int
    seed: int
    weights: Float[np.ndarray, "draws leaves"]


@dataclass
class Measured:
    """Cohesion of one kind of pair matrix, site after site, without the matrices.

    `counts` are pictures of each leaf: leaves change places within strata of these.
    """

    measure: str
    counts: Int[np.ndarray, " leaves"]
    sites: list[str] = field(default_factory=list)
    parts: list[CohesionDraws] = field(default_factory=list)
    within: list[np.ndarray] = field(default_factory=list)
    between: list[np.ndarray] = field(default_factory=list)
    by_leaf: list[Float[np.ndarray, " leaves"]] = field(default_factory=list)
    silhouettes: list[Estimate] = field(default_factory=list)

    def add(self, matrices: Mapping[str, np.ndarray], null: Null) -> None:
        """Take in some sites."""
        distance = self.measure == "distance"
        pairs = np.stack(list(matrices.values()))
        self.sites += matrices
        self.parts.append(
            cohesion_draws(pairs, null.members, null.permutations, null.seed, not distance, self.counts)
        )
        for kept, draws in zip(
            (self.within, self.between), bootstrap_cohesion(pairs, null.members, null.weights)
        ):
            kept.append(draws)
        if distance:
            self.silhouettes += [mean_silhouette(x, null.members) for x in pairs]
        else:
            self.by_leaf += [own_cohesion(x, null.members) for x in pairs]

    def conclude(self) -> Cohesion:
        """Cohesion of all sites, corrected for all of them."""
        return conclude(self.parts)

    def drawn(self) -> tuple[Float[np.ndarray, "draws sites categories"], ...]:
        """Within and between means under every draw of the bootstrap."""
        return np.concatenate(self.within, axis=1), np.concatenate(self.between, axis=1)


def measured(
    sides: Mapping[str, tuple[LeafRows, str]],
    sites: Sequence[str],
    labels: Mapping,
    null: Null,
    modalities: Set[str],
    done: Done = unheard,
) -> tuple[dict[tuple[str, str], Measured], list[dict]]:
    """Cohesion in these modalities over the sites, each read once; and table rows on massive activations.

    `done` is told how many pair matrices have been looked at: of `matrices_at` a site.
    """
    found: dict[tuple[str, str], Measured] = {}
    massive: list[dict] = []
    counts = {name: np.unique(rows.leaves, return_counts=True)[1] for name, (rows, _) in sides.items()}
    counts["image~text"] = counts.get("image", np.array([], dtype=int))
    for some in _groups(sites, len(null.members)):
        pairs, seen = pair_matrices(sides, some, labels)
        massive += [row for row in seen if row["modality"] in modalities]
        for key, matrices in pairs.items():
            if key[0] not in modalities:
                continue
            found.setdefault(key, Measured(key[1], counts[key[0]])).add(matrices, null)
            done(len(matrices))
    return found, massive


def matrices_at(sides: Collection[str], treatment: str, modalities: Set[str]) -> int:
    """How many pair matrices there are at a site at most."""
    own = (2 + (treatment in UNCENTRED)) * len(modalities & set(sides))
    return own + (len(sides) == 2 and "image~text" in modalities)


def pair_matrices(
    sides: Mapping[str, tuple[LeafRows, str]], sites: Sequence[str], labels: Mapping
) -> tuple[PairMatrices, list[dict]]:
    """Pair matrices of all modalities and measures at some sites, and rows on massive activations there."""
    pairs: PairMatrices = {}
    massive = []
    for site in sites:
        found: dict[tuple[str, str], np.ndarray] = {}
        units = {}
        for name, x in leaf_rows.read_treated(sides, site, labels["treatment"]).items():
            leaves = sides[name][0].leaves
            plain = leaf_sums(x.parts(), leaves)
            units[name] = leaf_sums(x.parts(), leaves, plain.centre, unit=True)
            found[name, "cohesion"] = mean_products(units[name])
            found[name, "distance"] = mean_squared_distances(plain)
            if labels["treatment"] in UNCENTRED:
                found[name, "cohesion_uncentred"] = mean_products(leaf_sums(x.parts(), leaves, unit=True))
            if labels["treatment"] == "raw":
                here = {**labels, "site": site, "modality": name}
                here |= {"step": NO_STEP} if name == "text" else {}
                massive += _massive_found(x.values, here)
        if len(units) == 2:
            found["image~text", "cohesion"] = mean_products(units["image"], units["text"])
        for key, matrix in found.items():
            pairs.setdefault(key, {})[site] = matrix
    return pairs, massive


def own_cohesion(
    pairs: Float[np.ndarray, "leaves leaves"], members: Bool[np.ndarray, "leaves categories"]
) -> Float[np.ndarray, " leaves"]:
    """Cosine of two pictures of each leaf (or picture and word) less that with other leaves of its hypernyms."""
    shared = (members.astype(np.float32) @ members.T.astype(np.float32)) > 0
    np.fill_diagonal(shared, False)
    counts = shared.sum(axis=1)
    near = np.where(counts > 0, np.where(shared, pairs, 0).sum(axis=1) / np.maximum(counts, 1), np.nan)
    return np.diagonal(pairs) - near


def mean_silhouette(
    squared: Float[np.ndarray, "leaves leaves"], members: Bool[np.ndarray, "leaves categories"]
) -> Estimate:
    """The mean silhouette of leaves, undefined ones left out, with its jackknife: each depends on the other leaves."""
    distances = np.sqrt(np.where(np.eye(len(squared), dtype=bool), 0, squared))

    def mean(leaves):
        with np.errstate(invalid="ignore"):  # without some leaves, another may have no category but its own
            values = silhouette(distances[np.ix_(leaves, leaves)], members[leaves])
        defined = values[np.isfinite(values)]
        return float(defined.mean()) if len(defined) else float("nan")

    found = jackknife(mean, np.arange(len(squared)), groups=_GROUPS)
    return replace(found, n=int(np.isfinite(silhouette(distances, members)).sum()))


def _groups(sites: Sequence[str], leaves: int) -> Iterator[Sequence[str]]:
    size = max(1, _PAIR_ENTRIES // leaves**2)
    for start in range(0, len(sites), size):
        yield sites[start : start + size]


def _massive_found(x, labels) -> list[dict]:
    """The massive dimensions of one site: ratio to the median dimension, share of variance; and its massive rows."""
    made = []
    for found in massive_dimensions(x):
        here = {**labels, "target": f"dimension {found.dimension}"}
        made.append(tables.row("massive_ratio", found.ratio_to_median, len(x), **here))
        made.append(tables.row("massive_variance_share", found.variance_share, len(x), **here))
    times = massive_rows(x)
    here = {**labels, "target": "rows"}
    made.append(tables.row("massive_rows", len(times), len(x), **here))
    if len(times):
        made.append(tables.row("massive_row_ratio", float(times[0]), len(x), **here))
    return made
