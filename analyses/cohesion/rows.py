"""Tables of cohesion: every site, span, modality and treatment, with intervals and nulls."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.cohesion.pairs import Measured, Null, matrices_at, measured
from analyses.frame import tables
from analyses.frame.command_line import EXTENT, Resampling, option
from analyses.frame.parts import Collect, Done, Pieces, at_once
from analyses.frame.tables import NO_STEP
from analyses.inputs import leaf_rows
from analyses.inputs.categories import Categories, categories_of, leaves_under
from analyses.inputs.encoder import ENCODER
from probing.categories.cohesion import Cohesion
from probing.categories.leaf_sums import leaf_sums, mean_products
from probing.categories.massive import TREATMENTS
from probing.stats import draw_weights, expanded_estimate, few_clusters, nan_mean, q_values
from probing.store import ActivationStore
from taxogen.world.taxonomy import Taxonomy

OVERLAPPING = 1.15
"""How much wider limits of a mean over hypernyms that share leaves must be than its bootstrap over leaves."""


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """How cohesion is measured; the defaults are those of the report.

    Attributes:
        steps: captured steps (default: all)
        spans: slot, cue or last (default: all)
        treatments: of massive activations
        held_out: hypernyms without evidence in training, reported apart; of a run by default its own
        sites: of the model; None for all that were captured.
        least_leaves: that a hypernym needs.
        permutations: of leaves among hypernyms.
    """

    steps: tuple[int, ...] = option((), flag="--step", role=EXTENT)
    spans: tuple[str, ...] | None = option(None, flag="--span", role=EXTENT)
    treatments: tuple[str, ...] = option(TREATMENTS, flag="--treatment", choices=TREATMENTS, role=EXTENT)
    held_out: tuple[str, ...] = option((), metavar="HYPERNYM")
    sites: tuple[str, ...] | None = None
    least_leaves: int = 3
    permutations: int = 999


def cohesion_table(
    images: Mapping[int, ActivationStore],
    text: ActivationStore | None,
    taxonomy: Taxonomy,
    options: Options = Options(),
    encoder: tuple[Float[np.ndarray, "n d"], np.ndarray] | None = None,
    collect: Collect = at_once,
) -> pd.DataFrame:
    """Long table of cohesion by step, site, span, modality and treatment; place by place.

    Modality "image~text" pairs pictures of one leaf with words of another; both are centred on their own
    mean. `cohesion` is the mean cosine within a hypernym less that between hypernyms; `_uncentred` leaves the
    mean in; `distance_within` and `_between` are root mean squared Euclidean distances, `distance_ratio` the one
    over the other (1 for none).
    Target "mean" averages over hypernyms, "leaf" is one leaf's pictures against other leaves of its hypernyms.
    Intervals are over leaves, widened for the few leaves of a hypernym and for leaves that hypernyms share.
    `p` and `p_corrected` (over layers) come from leaves shuffled among hypernyms, within strata of picture counts; `q`
    is that of a single hypernym, Benjamini–Hochberg over hypernyms and sites. Site "encoder" holds the features that
    enter the projector: (rows, leaf of each row).

    Raises:
        ValueError: no hypernym has enough leaves.
        MismatchError: the stores share no leaf.
    """
    stores = {f"image@{step}": store for step, store in images.items()} | ({"text": text} if text else {})
    stored = leaf_rows.leaf_rows(stores, leaves_under(taxonomy, options.held_out))
    leaves = tuple(np.unique(next(iter(stored.values())).leaves).tolist())
    categories = categories_of(taxonomy, leaves, options.least_leaves, options.held_out)
    weights = draw_weights(len(leaves), options.draws, options.seed)
    null = Null(categories.members, options.permutations, options.seed, weights)
    pieces = Pieces()
    first, *others = stores.values()
    sites = [site for site in options.sites or first.sites if all(site in store.sites for store in others)]
    for place, span, twin in leaf_rows.places(images, text, options.spans):
        for treatment in options.treatments:
            for step in images or (NO_STEP,):
                labels = {"span": place, "treatment": treatment, "step": step}
                sides = {"image": (stored[f"image@{step}"], span)} if images else {}
                sides |= {"text": (stored["text"], twin)} if twin else {}
                # Text rows are the same at every step; once is enough.
                new = {"image", "image~text"} | ({"text"} if step == min(images, default=NO_STEP) else set())
                make = partial(_place_rows, sides, sites, labels, new, categories, null)
                size = len(sites) * matrices_at(sides, treatment, new)
                pieces.add((*labels.values(), *sorted(new)), size, make)
    if encoder is not None:
        pieces.add(("encoder",), 1, lambda _: _encoder_rows(encoder, categories, null))
    return tables.table(pieces.rows(collect, "cohesion", "pair matrices"), "cohesion", options.seed)


def _place_rows(
    sides, sites: Sequence[str], labels, new: Set[str], categories: Categories, null: Null, done: Done
) -> list[dict]:
    """Table rows of one span at one step under one treatment."""
    kinds, rows = measured(sides, sites, labels, null, new, done)
    for (modality, _), kind in kinds.items():
        step = NO_STEP if modality == "text" else labels["step"]
        rows += _summaries(kind, categories, null, {**labels, "modality": modality, "step": step})
    return rows


def _summaries(kind: Measured, categories: Categories, null: Null, labels) -> list[dict]:
    """Table rows of one kind of pair matrix over all its sites."""
    result, drawn = kind.conclude(), kind.drawn()
    q, rows = q_values(result.p_category), []
    for index, site in enumerate(kind.sites):
        place = {**labels, "site": site}
        rows += _mean_rows(result, drawn, index, kind.measure, categories, place)
        if kind.measure == "distance":
            rows.append(tables.row("silhouette", kind.silhouettes[index], **{**place, "target": "mean"}))
        elif kind.measure == "cohesion":
            for k, name in enumerate(categories.names):
                draws, size = (drawn[0] - drawn[1])[:, index, k], int(categories.members[:, k].sum())
                value = expanded_estimate(
                    result.difference[index, k], draws, size, few_clusters(np.array(size))
                )
                rows.append(tables.row("cohesion", value, **place, target=name))
                rows.append(tables.row("p", result.p_category[index, k], value.n, **place, target=name))
                rows.append(tables.row("q", q[index, k], value.n, **place, target=name))
            if labels["modality"] != "text":
                rows.append(
                    _leaf_row("cohesion", kind.by_leaf[index], null.weights, {**place, "target": "leaf"})
                )
    return rows


def _mean_rows(result: Cohesion, samples, index, measure, categories, labels) -> list[dict]:
    """Means over hypernyms, with p of the overall difference."""
    rows = []
    n = len(categories.leaves)
    for target, columns in categories.subsets.items():
        place, chosen = {**labels, "target": target}, list(columns)
        inside, outside = result.within[index, chosen], result.between[index, chosen]
        drawn = [sample[:, index, chosen] for sample in samples]
        factor = OVERLAPPING * few_clusters(categories.members[:, chosen].any(axis=1).sum())
        if measure == "distance":
            value = float(np.sqrt(inside.mean() / outside.mean()))
            means = [nan_mean(sample) for sample in drawn]
            rows.append(
                tables.row(
                    "distance_ratio",
                    expanded_estimate(value, np.sqrt(means[0] / means[1]), n, factor),
                    **place,
                )
            )
            for name, values, sample in (("within", inside, means[0]), ("between", outside, means[1])):
                size = expanded_estimate(np.sqrt(values.mean()), np.sqrt(sample), n, factor)
                rows.append(tables.row(f"distance_{name}", size, **place))
        else:
            draws = nan_mean(drawn[0] - drawn[1])
            rows.append(
                tables.row(measure, expanded_estimate((inside - outside).mean(), draws, n, factor), **place)
            )
            for name, values, sample in (("within", inside, drawn[0]), ("between", outside, drawn[1])):
                one = expanded_estimate(values.mean(), nan_mean(sample), n, factor)
                rows.append(tables.row(f"{measure}_{name}", one, **place))
        if target == "mean":
            name = "distance_ratio" if measure == "distance" else measure
            rows.append(tables.row(f"{name}_p", float(result.p[index]), n, **place))
            rows.append(tables.row(f"{name}_p_corrected", float(result.p_corrected[index]), n, **place))
            if measure != "distance":
                rows.append(
                    tables.row(f"{name}_null_limit", np.quantile(result.null[:, index], 0.95), n, **place)
                )
    return rows


def _leaf_row(measure, values, weights, labels) -> dict:
    """Mean over leaves, undefined ones left out, with its bootstrap over leaves."""
    defined = np.isfinite(values)
    if not defined.any():
        return tables.row(measure, float("nan"), 0, **labels)
    drawn = weights[:, defined]
    counts = drawn.sum(axis=1)
    draws = np.where(counts > 0, drawn @ values[defined] / np.where(counts > 0, counts, 1), np.nan)
    n = int(defined.sum())
    return tables.row(
        measure,
        expanded_estimate(values[defined].mean(), draws, n, OVERLAPPING * few_clusters(np.array(n))),
        **labels,
    )


def _encoder_rows(encoder, categories: Categories, null: Null) -> list[dict]:
    """Cohesion of the features that enter the projector: the visual coherence of each hypernym."""
    x, leaves = encoder
    own = np.isin(leaves, categories.leaves)
    x, leaves = np.asarray(x, dtype=np.float64)[own], np.asarray(leaves)[own]
    sums = leaf_sums(x, leaves, leaf_sums(x, leaves).centre, unit=True)
    labels = {"span": "image", "treatment": "raw", "modality": "image", "step": NO_STEP}
    kind = Measured("cohesion", sums.counts.astype(int))
    kind.add({ENCODER: mean_products(sums)}, null)
    return _summaries(kind, categories, null, labels)
