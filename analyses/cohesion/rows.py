"""Tables of cohesion: every site, span, modality and treatment, with intervals and nulls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from analyses.cohesion.pairs import Measured, Null, measured
from analyses.frame import tables
from analyses.frame.tables import NO_STEP
from analyses.inputs import leaf_rows
from analyses.inputs.categories import leaves_under, subsets
from probing.categories.cohesion import Cohesion, leaf_sums, mean_products
from probing.categories.massive import TREATMENTS
from probing.stats import DRAWS, draw_weights, estimate, nan_mean
from probing.store import ActivationStore
from taxogen.world.taxonomy import Taxonomy

ENCODER = "encoder"


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
    held = leaves_under(taxonomy, options.held_out)
    rows = leaf_rows.leaf_rows(stores, held)
    leaves = tuple(np.unique(next(iter(rows.values())).leaves).tolist())
    categories = categories_of(taxonomy, leaves, options)
    weights = draw_weights(len(leaves), options.draws, options.seed)
    null = Null(categories.members, options.permutations, options.seed, weights)
    first = next(iter(images.values()))
    sites = [site for site in options.sites or first.sites if text is None or site in text.sites]
    made: list[dict] = []
    for place, span, twin in leaf_rows.span_pairs(first.spans, text.spans if text else ()):
        if options.spans is not None and place not in options.spans:
            continue
        for treatment in options.treatments:
            labels = {"span": place, "treatment": treatment}
            for step in images:
                sides = {"image": (rows[f"image@{step}"], span)} | (
                    {"text": (rows["text"], twin)} if twin else {}
                )
                # Text rows are the same at every step; once is enough.
                new = {"image", "image~text"} | ({"text"} if step == min(images) else set())
                kinds, massive = measured(sides, sites, labels | {"step": step}, null, new)
                made += massive
                for (modality, _), kind in kinds.items():
                    at = {**labels, "modality": modality, "step": NO_STEP if modality == "text" else step}
                    made += _summaries(kind, categories, null, at)
    if encoder is not None:
        made += _encoder_rows(encoder, categories, null)
    return tables.table(made, "cohesion", options.seed)


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
    return Categories(names, tuple(leaves), members[:, kept], subsets(names, options.held_out))


def _summaries(kind: Measured, categories: Categories, null: Null, labels) -> list[dict]:
    """Table rows of one kind of pair matrix over all its sites."""
    found, drawn = kind.conclude(), kind.drawn()
    made = []
    for index, site in enumerate(kind.sites):
        here = {**labels, "site": site}
        made += _mean_rows(found, drawn, index, kind.measure, categories, here)
        if kind.measure == "distance":
            made.append(
                _leaf_row("silhouette", kind.by_leaf[index], null.weights, {**here, "target": "mean"})
            )
        elif kind.measure == "cohesion":
            for k, name in enumerate(categories.names):
                draws, size = (drawn[0] - drawn[1])[:, index, k], int(categories.members[:, k].sum())
                value = estimate(found.difference[index, k], draws, size)
                made.append(tables.row("cohesion", value, **here, target=name))
                made.append(tables.row("p", found.p_category[index, k], value.n, **here, target=name))
            if labels["modality"] != "text":
                made.append(
                    _leaf_row("cohesion", kind.by_leaf[index], null.weights, {**here, "target": "leaf"})
                )
    return made


def _mean_rows(found: Cohesion, samples, index, measure, categories, labels) -> list[dict]:
    """Means over hypernyms, with p of the overall difference."""
    made = []
    n = len(categories.leaves)
    for target, columns in categories.subsets.items():
        here, chosen = {**labels, "target": target}, list(columns)
        inside, outside = found.within[index, chosen], found.between[index, chosen]
        drawn = [sample[:, index, chosen] for sample in samples]
        if measure == "distance":
            value = float(np.sqrt(inside.mean() / outside.mean()))
            means = [nan_mean(sample) for sample in drawn]
            made.append(
                tables.row("distance_ratio", estimate(value, np.sqrt(means[0] / means[1]), n), **here)
            )
            for name, values, sample in (("within", inside, means[0]), ("between", outside, means[1])):
                size = estimate(np.sqrt(values.mean()), np.sqrt(sample), n)
                made.append(tables.row(f"distance_{name}", size, **here))
        else:
            draws = nan_mean(drawn[0] - drawn[1])
            made.append(tables.row(measure, estimate((inside - outside).mean(), draws, n), **here))
            for name, values, sample in (("within", inside, drawn[0]), ("between", outside, drawn[1])):
                made.append(
                    tables.row(f"{measure}_{name}", estimate(values.mean(), nan_mean(sample), n), **here)
                )
        if target == "mean":
            name = "distance_ratio" if measure == "distance" else measure
            made.append(tables.row(f"{name}_p", float(found.p[index]), n, **here))
            made.append(tables.row(f"{name}_p_corrected", float(found.p_corrected[index]), n, **here))
            if measure != "distance":
                made.append(
                    tables.row(f"{name}_null_limit", np.quantile(found.null[:, index], 0.95), n, **here)
                )
    return made


def _leaf_row(measure, values, weights, labels) -> dict:
    """Mean over leaves, undefined ones left out, with its bootstrap over leaves."""
    kept = np.isfinite(values)
    if not kept.any():
        return tables.row(measure, float("nan"), 0, **labels)
    drawn = weights[:, kept]
    counts = drawn.sum(axis=1)
    draws = np.where(counts > 0, drawn @ values[kept] / np.where(counts > 0, counts, 1), np.nan)
    return tables.row(measure, estimate(values[kept].mean(), draws, int(kept.sum())), **labels)


def _encoder_rows(encoder, categories: Categories, null: Null) -> list[dict]:
    """Cohesion of the features that enter the projector: the visual coherence of each hypernym."""
    x, leaves = encoder
    kept = np.isin(leaves, categories.leaves)
    x, leaves = np.asarray(x, dtype=np.float64)[kept], np.asarray(leaves)[kept]
    sums = leaf_sums(x, leaves, leaf_sums(x, leaves).centre, unit=True)
    labels = {"span": "image", "treatment": "raw", "modality": "image", "step": NO_STEP}
    kind = Measured("cohesion")
    kind.add({ENCODER: mean_products(sums)}, null)
    return _summaries(kind, categories, null, labels)
