"""Tables of cohesion: pair matrices of leaves at every site, their cohesion, intervals and nulls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from analyses import _leaf_rows
from analyses._leaf_rows import NO_STEP, LeafRows
from probing.cohesion import (
    Cohesion,
    bootstrap_cohesion,
    cohesion,
    leaf_sums,
    mean_products,
    mean_squared_distances,
    silhouette,
)
from probing.massive import TREATMENTS, massive_dimensions, massive_rows
from probing.stats import DRAWS, draw_weights, estimate, nan_mean
from probing.store import ActivationStore
from taxogen.taxonomy import Taxonomy

ENCODER = "encoder"
UNCENTRED = ("raw", "without outliers")  # the others are centred, or nearly, by what they do
#: (modality, measure) → site → matrix over pairs of leaves.
PairMatrices = dict[tuple[str, str], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Options:
    """How cohesion is measured; the defaults are those of the report."""

    treatments: tuple[str, ...] = TREATMENTS
    spans: tuple[str, ...] | None = None
    sites: tuple[str, ...] | None = None
    least_leaves: int = 3
    permutations: int = 999
    draws: int = DRAWS
    held_out: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Categories:
    """Hypernyms with enough leaves, and which leaves are under them."""

    names: tuple[str, ...]
    leaves: tuple[str, ...]
    members: Bool[np.ndarray, "leaves categories"]
    subsets: Mapping[str, tuple[int, ...]]


def compute(
    images: Mapping[int, ActivationStore],
    text: ActivationStore | None,
    taxonomy: Taxonomy,
    options: Options = Options(),
    encoder: tuple[Float[np.ndarray, "n d"], np.ndarray] | None = None,
) -> pd.DataFrame:
    """Long table of cohesion by step, site, span, modality and treatment.

    Modality "image~text" pairs pictures of one leaf with words of another; both are centred on their own
    mean. `cohesion` is the mean cosine within a hypernym less that between hypernyms; `_uncentred` leaves the
    mean in; `distance_within` and `_between` are root mean squared Euclidean distances, `distance_ratio` the one
    over the other (1 for none).
    Target "mean" averages over hypernyms, "leaf" is one leaf's pictures against other leaves of its hypernyms.
    `p` and `p_corrected` (over layers) come from leaves shuffled among hypernyms. Site "encoder" holds the
    features that enter the projector: (rows, leaf of each row).
    """
    stores = {f"image@{step}": store for step, store in images.items()} | ({"text": text} if text else {})
    out = set(options.held_out)
    held = {leaf for leaf in taxonomy.leaves if out & set(taxonomy.hypernyms_of(leaf))}
    rows = _leaf_rows.leaf_rows(stores, held)
    leaves = tuple(np.unique(next(iter(rows.values())).leaves).tolist())
    categories = categories_of(taxonomy, leaves, options)
    first = next(iter(images.values()))
    sites = [site for site in options.sites or first.sites if text is None or site in text.sites]
    made: list[dict] = []
    for place, span, twin in _leaf_rows.span_pairs(first.spans, text.spans if text else ()):
        if options.spans is not None and place not in options.spans:
            continue
        for treatment in options.treatments:
            labels = {"span": place, "treatment": treatment}
            for step in images:
                sides = {"image": (rows[f"image@{step}"], span)} | (
                    {"text": (rows["text"], twin)} if twin else {}
                )
                pairs, massive = _pair_matrices(sides, sites, labels | {"step": step})
                if step != min(images):
                    # Text rows are the same at every step; once is enough.
                    pairs = {key: value for key, value in pairs.items() if key[0] != "text"}
                made += [found for found in massive if found["modality"] == "image" or step == min(images)]
                made += _all_summaries(pairs, categories, options, labels | {"step": step})
    if encoder is not None:
        made += _encoder_rows(encoder, categories, options)
    return _leaf_rows.table(made, "cohesion", options.seed)


def categories_of(taxonomy: Taxonomy, leaves: Sequence[str], options: Options) -> Categories:
    """The hypernyms with at least `least_leaves` of these leaves, and at least one leaf outside.

    Raises:
        ValueError: no hypernym has.
    """
    members = taxonomy.labels(leaves)
    sizes = members.sum(axis=0)
    kept = np.flatnonzero((sizes >= options.least_leaves) & (sizes < len(leaves)))
    if not len(kept):
        raise ValueError(
            f"no hypernym has {options.least_leaves} of these {len(leaves)} leaves and one outside it; "
            "capture more leaves"
        )
    names = tuple(taxonomy.hypernyms[k] for k in kept)
    out = tuple(k for k, name in enumerate(names) if name in options.held_out)
    subsets = {"mean": tuple(range(len(names)))}
    if out and len(out) < len(names):
        subsets |= {
            "mean of seen": tuple(k for k in range(len(names)) if k not in out),
            "mean of held-out": out,
        }
    return Categories(names, tuple(leaves), members[:, kept], subsets)


def _pair_matrices(
    sides: Mapping[str, tuple[LeafRows, str]], sites: Sequence[str], labels: Mapping
) -> tuple[PairMatrices, list[dict]]:
    """Pair matrices of all modalities and measures, each site read once; and rows on massive dimensions."""
    pairs: PairMatrices = {}
    massive = []
    for site in sites:
        found: dict[tuple[str, str], np.ndarray] = {}
        units = {}
        for name, x in _leaf_rows.read_treated(sides, site, labels["treatment"]).items():
            leaves = sides[name][0].leaves
            plain = leaf_sums(x.parts(), leaves)
            units[name] = leaf_sums(x.parts(), leaves, plain.centre, unit=True)
            found[name, "cohesion"] = mean_products(units[name])
            found[name, "distance"] = mean_squared_distances(plain)
            if labels["treatment"] in UNCENTRED:
                found[name, "cohesion_uncentred"] = mean_products(leaf_sums(x.parts(), leaves, unit=True))
            if labels["treatment"] == "raw":
                here = {**labels, "site": site, "modality": name, "step": _step(name, labels["step"])}
                massive += _massive_found(x.values, here)
        if len(units) == 2:
            found["image~text", "cohesion"] = mean_products(units["image"], units["text"])
        for key, matrix in found.items():
            pairs.setdefault(key, {})[site] = matrix
    return pairs, massive


def _all_summaries(pairs: PairMatrices, categories, options, labels) -> list[dict]:
    """Table rows of every kind of pair matrix."""
    weights = draw_weights(len(categories.leaves), options.draws, options.seed)
    made = []
    for (modality, measure), matrices in pairs.items():
        here = {**labels, "modality": modality, "step": _step(modality, labels["step"])}
        stacked = np.stack(list(matrices.values()))
        made += _summaries(stacked, measure, list(matrices), categories, weights, options, here)
    return made


def _step(modality: str, step: int) -> int:
    return NO_STEP if modality == "text" else step


def _summaries(pairs, measure, sites, categories, weights, options, labels) -> list[dict]:
    """Table rows of one kind of pair matrix over all sites."""
    distance = measure == "distance"
    found = cohesion(
        pairs, categories.members, options.permutations, options.seed, higher_is_closer=not distance
    )
    within, between = bootstrap_cohesion(pairs, categories.members, weights)
    made = []
    for index, site in enumerate(sites):
        here = {**labels, "site": site}
        made += _mean_rows(found, within, between, index, measure, categories, here)
        if distance:
            rooted = np.sqrt(np.where(np.eye(len(pairs[index]), dtype=bool), 0, pairs[index]))
            values = silhouette(rooted, categories.members)
            made.append(_leaf_row("silhouette", values, weights, {**here, "target": "mean"}))
        elif measure == "cohesion":
            for k, name in enumerate(categories.names):
                value = estimate(
                    found.difference[index, k],
                    (within - between)[:, index, k],
                    int(categories.members[:, k].sum()),
                )
                made.append(_leaf_rows.row("cohesion", value, **here, target=name))
                made.append(_leaf_rows.row("p", found.p_category[index, k], value.n, **here, target=name))
            if labels["modality"] != "text":
                made += _leaf_cohesion(pairs[index], categories, weights, {**here, "target": "leaf"})
    return made


def _mean_rows(found: Cohesion, within, between, index, measure, categories, labels) -> list[dict]:
    """Means over hypernyms, with p of the overall difference."""
    made = []
    n = len(categories.leaves)
    for target, columns in categories.subsets.items():
        here, chosen = {**labels, "target": target}, list(columns)
        inside, outside = found.within[index, chosen], found.between[index, chosen]
        drawn = within[:, index, chosen], between[:, index, chosen]
        if measure == "distance":
            value = float(np.sqrt(inside.mean() / outside.mean()))
            means = [nan_mean(sample) for sample in drawn]
            made.append(
                _leaf_rows.row("distance_ratio", estimate(value, np.sqrt(means[0] / means[1]), n), **here)
            )
            for name, values, sample in (("within", inside, means[0]), ("between", outside, means[1])):
                size = estimate(np.sqrt(values.mean()), np.sqrt(sample), n)
                made.append(_leaf_rows.row(f"distance_{name}", size, **here))
        else:
            draws = nan_mean(drawn[0] - drawn[1])
            made.append(_leaf_rows.row(measure, estimate((inside - outside).mean(), draws, n), **here))
            for name, values, sample in (("within", inside, drawn[0]), ("between", outside, drawn[1])):
                made.append(
                    _leaf_rows.row(f"{measure}_{name}", estimate(values.mean(), nan_mean(sample), n), **here)
                )
        if target == "mean":
            name = "distance_ratio" if measure == "distance" else measure
            made.append(_leaf_rows.row(f"{name}_p", float(found.p[index]), n, **here))
            made.append(_leaf_rows.row(f"{name}_p_corrected", float(found.p_corrected[index]), n, **here))
            if measure != "distance":
                made.append(
                    _leaf_rows.row(f"{name}_null_limit", np.quantile(found.null[:, index], 0.95), n, **here)
                )
    return made


def _leaf_cohesion(pairs, categories, weights, labels) -> list[dict]:
    """Cosine of two pictures of one leaf (or picture and word) less that with other leaves of its hypernyms."""
    members = categories.members.astype(float)
    shared = ((members @ members.T) > 0) & ~np.eye(len(pairs), dtype=bool)
    near = np.where(
        shared.any(axis=1), (pairs * shared).sum(axis=1) / np.maximum(shared.sum(axis=1), 1), np.nan
    )
    return [_leaf_row("cohesion", np.diagonal(pairs) - near, weights, labels)]


def _leaf_row(measure, values, weights, labels) -> dict:
    """Mean over leaves, undefined ones left out, with its bootstrap over leaves."""
    kept = np.isfinite(values)
    if not kept.any():
        return _leaf_rows.row(measure, float("nan"), 0, **labels)
    drawn = weights[:, kept]
    counts = drawn.sum(axis=1)
    draws = np.where(counts > 0, drawn @ values[kept] / np.where(counts > 0, counts, 1), np.nan)
    return _leaf_rows.row(measure, estimate(values[kept].mean(), draws, int(kept.sum())), **labels)


def _massive_found(x, labels) -> list[dict]:
    """The massive dimensions of one site: ratio to the median dimension, share of variance; and its massive rows."""
    made = []
    for found in massive_dimensions(x):
        here = {**labels, "target": f"dimension {found.dimension}"}
        made.append(_leaf_rows.row("massive_ratio", found.ratio_to_median, len(x), **here))
        made.append(_leaf_rows.row("massive_variance_share", found.variance_share, len(x), **here))
    times = massive_rows(x)
    here = {**labels, "target": "rows"}
    made.append(_leaf_rows.row("massive_rows", len(times), len(x), **here))
    if len(times):
        made.append(_leaf_rows.row("massive_row_ratio", float(times[0]), len(x), **here))
    return made


def _encoder_rows(encoder, categories, options) -> list[dict]:
    """Cohesion of the features that enter the projector: the visual coherence of each hypernym."""
    x, leaves = encoder
    kept = np.isin(leaves, categories.leaves)
    x, leaves = np.asarray(x, dtype=np.float64)[kept], np.asarray(leaves)[kept]
    sums = leaf_sums(x, leaves, leaf_sums(x, leaves).centre, unit=True)
    weights = draw_weights(len(categories.leaves), options.draws, options.seed)
    labels = {"span": "image", "treatment": "raw", "modality": "image", "step": NO_STEP}
    return _summaries(mean_products(sums)[None], "cohesion", [ENCODER], categories, weights, options, labels)
