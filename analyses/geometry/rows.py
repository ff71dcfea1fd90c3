"""Tables of taxonomic geometry: distances, hierarchy, dimensions and maps of leaf means at every site."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from analyses.frame import tables
from analyses.frame.command_line import EXTENT, Resampling, option
from analyses.frame.parts import Collect, Done, Pieces, at_once
from analyses.frame.tables import NO_STEP, layer_of
from analyses.geometry.dimension import dimensions
from analyses.geometry.maps import MAPS, map_rows
from analyses.geometry.words import INPUT_EMBEDDINGS, Vectors, word_distances
from analyses.inputs import leaf_rows
from analyses.inputs.categories import Categories, categories_of, leaves_under
from analyses.inputs.references import taxonomic_distances
from probing.categories.geometry import bootstrap_rsa, causal_gram, hierarchy_cosines, partial_rsa
from probing.categories.jackknife import jackknife
from probing.categories.massive import TREATMENTS
from probing.similarity.calibration import jackknifed, leave_one_out
from probing.similarity.gram import leaf_means, linear_gram
from probing.similarity.rsa import rdm
from probing.stats import Estimate, draw_weights, expanded_estimate
from probing.store import ActivationStore
from taxogen.world.taxonomy import Taxonomy

LEAST_LEAVES = 4  # of a hypernym that is to have a direction
SHARED_DIRECTIONS = {"hierarchy_own": 1.2, "hierarchy_other": 1.6, "hierarchy_ratio": 1.2}
"""How much wider limits must be than the bootstrap of steps: all steps along a hypernym share its direction."""
RSA = "taxonomic_rsa"
ENOUGH_FOR_DIMENSION = 20  # leaves; over fewer, no dimension is measured


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """How geometry is measured; the defaults are those of the report.

    Attributes:
        steps: captured steps (default: all)
        spans: slot, cue or last (default: all)
        treatment: of massive activations
        map: how leaves are placed on the map
        map_layers: layers to map (default: first, middle, last)
        estimators: of scikit-dimension, such as MLE or lPCA, beside our own
        partial: vectors of words whose distances are partialled out as well: input-embeddings (of the run's language
            model; also where the flag has no value), or a text file of word2vec's or GloVe's format, plain or .gz
        held_out: hypernyms whose leaves no treatment is fitted on; of a run by default those without evidence there
        sites: of the model; None for all that were captured.
        permutations: of leaves.
    """

    steps: tuple[int, ...] = option((), flag="--step", role=EXTENT)
    spans: tuple[str, ...] | None = option(None, flag="--span", role=EXTENT)
    treatment: str = option(TREATMENTS[0], choices=TREATMENTS)
    map: str = option("pca", choices=tuple(MAPS))
    map_layers: tuple[int, ...] = option((), flag="--map-layer", metavar="LAYER", role=EXTENT)
    estimators: tuple[str, ...] = option((), flag="--dimension", metavar="NAME")
    partial: str | None = option(None, metavar="input-embeddings|FILE", const=INPUT_EMBEDDINGS)
    held_out: tuple[str, ...] = option((), metavar="HYPERNYM")
    sites: tuple[str, ...] | None = None
    permutations: int = 999


def geometry_table(
    images: Mapping[int, ActivationStore],
    text: ActivationStore | None,
    taxonomy: Taxonomy,
    options: Options = Options(),
    encoder: tuple[Float[np.ndarray, "n d"], np.ndarray] | None = None,
    words: Vectors | None = None,
    collect: Collect = at_once,
) -> pd.DataFrame:
    """Long table of the geometry of leaf means by step, site, span and modality; place by place.

    `taxonomic_rsa` is the rank correlation of distances between leaves with steps through the taxonomy,
    `taxonomic_rsa_given_encoder` the same given distances between the encoder's features of the leaves'
    pictures, `taxonomic_rsa_given_words` that given distances between vectors of the leaves' words, over the leaves
    that have one; all 0 by chance, with intervals over leaves and p over permuted leaves, corrected over layers.
    `hierarchy_ratio` is the root mean square cosine of steps from hypernym to leaf with their own hypernym over
    that with other hypernyms: 1 for an orthogonal hierarchy, above 1 where leaves carry their hypernym to different
    degrees; pictures under the inverse covariance of pictures about their leaf, where leaves have several, words
    plainly. Dimensions have jackknife intervals over groups of leaves. `pc1` and `pc2` (or `tsne1`, `tsne2`) place
    each leaf on a map, at the last step.

    Raises:
        KeyError: a dimension estimator or a layer to map that is not known.
        ValueError: hypernyms have too few leaves, or all share some.
    """
    dimension_of = dimensions(options.estimators)
    stores = {f"image@{step}": store for step, store in images.items()} | ({"text": text} if text else {})
    stored = leaf_rows.leaf_rows(stores, leaves_under(taxonomy, options.held_out))
    leaves = np.unique(next(iter(stored.values())).leaves)
    known = _Known(
        leaves,
        taxonomic_distances(taxonomy, leaves.tolist()),
        _given(leaves, encoder, words),
        categories_of(taxonomy, leaves.tolist(), LEAST_LEAVES),
        dimension_of if len(leaves) >= ENOUGH_FOR_DIMENSION else {},
    )
    pieces = Pieces()
    for place, span, twin in leaf_rows.places(images, text, options.spans):
        sides = [(step, "image", stored[f"image@{step}"], span) for step in images]
        sides += [(NO_STEP, "text", stored["text"], twin)] if twin else []
        for step, modality, side, at in sides:
            labels = {"step": step, "span": place, "modality": modality, "treatment": options.treatment}
            mapped = step in (max(images, default=NO_STEP), NO_STEP)
            size = len(options.sites or side.store.sites) * (2 + len(known.given))
            pieces.add(labels.values(), size, partial(_place_rows, side, at, known, labels, options, mapped))
    return tables.table(pieces.rows(collect, "geometry", "layers"), "geometry", options.seed)


@dataclass(frozen=True)
class _Known:
    """The leaves, and what is the same of them at every place.

    Attributes:
        leaves: in order.
        distances: steps through the taxonomy between them.
        given: measure → distances that are partialled out of it, and the places of the leaves that have them.
        categories: hypernyms with enough of them.
        dimensions: name → estimator; none where leaves are too few.
    """

    leaves: np.ndarray
    distances: np.ndarray
    given: Mapping[str, tuple[list[np.ndarray], np.ndarray]]
    categories: Categories
    dimensions: Mapping[str, Callable]


def _place_rows(
    side: leaf_rows.LeafRows, span: str, known: _Known, labels, options: Options, mapped: bool, done: Done
) -> list[dict]:
    """Table rows of one span at one step, with maps of its leaves where asked."""
    means, spread = _read(side, span, options, done)
    rows = _distance_rows(means, known.distances, known.given, labels, options, done)
    on_map = mapped_sites(list(means), options.map_layers) if mapped else ()
    for site, x in means.items():
        at_site = {**labels, "site": site}
        for name, dimension in known.dimensions.items():
            rows.append(tables.row(name, jackknife(dimension, x), **at_site, target="leaf"))
        rows += _hierarchy_rows(x, spread.get(site), known.categories, at_site, options)
        if site in on_map:
            rows += map_rows(x, known.leaves, options.map, at_site, options.seed)
        done(1)
    return rows


def _given(
    leaves: np.ndarray, encoder: tuple[np.ndarray, np.ndarray] | None, words: Vectors | None
) -> dict[str, tuple[list[np.ndarray], np.ndarray]]:
    """Measure → the distances that are partialled out of it, and the places of the leaves that have them."""
    given: dict[str, tuple[list[np.ndarray], np.ndarray]] = {RSA: ([], np.arange(len(leaves)))}
    if encoder is not None:
        given[f"{RSA}_given_encoder"] = [_encoder_distances(*encoder, leaves)], np.arange(len(leaves))
    if words is not None:
        known = np.flatnonzero(np.isin(leaves, list(words)))
        given[f"{RSA}_given_words"] = [word_distances(words, leaves[known].tolist())], known
    return given


def _read(rows, span, options: Options, done: Done):
    """Site → leaf means, and site → deviations of pictures from them where leaves have several."""
    means, spread = {}, {}
    counts = np.unique(rows.leaves, return_counts=True)[1]
    for site in options.sites or rows.store.sites:
        treated = leaf_rows.read_treated({"side": (rows, span)}, site, options.treatment).get("side")
        done(1)
        if treated is not None:
            x = treated.whole()
            means[site] = leaf_means(x, rows.leaves)[0]
            if counts.min() > 1:
                spread[site] = x - means[site][np.unique(rows.leaves, return_inverse=True)[1]]
    return means, spread


def _encoder_distances(x, names, leaves) -> Float[np.ndarray, "leaves leaves"]:
    own = np.isin(names, leaves)
    return rdm(leaf_means(np.asarray(x, dtype=np.float64)[own], np.asarray(names)[own])[0])


def _distance_rows(means, distances, given, labels, options: Options, done: Done) -> list[dict]:
    """Correlation of every site's distances with the taxonomy's, plain and given other distances of (some) leaves."""
    everywhere = np.stack([rdm(x) for x in means.values()])
    rows = []
    for name, (controls, chosen) in given.items():
        rdms, target = everywhere[:, chosen][:, :, chosen], distances[np.ix_(chosen, chosen)]
        result = partial_rsa(rdms, target, controls, options.permutations, options.seed)
        value, without = result.value[:, 0], leave_one_out(len(target))
        lower, upper = jackknifed(value, bootstrap_rsa(rdms, target, controls, without), factor=1.0)
        for k, site in enumerate(means):
            place = {**labels, "site": site, "target": "leaf"}
            limits = float(value[k]), float(lower[k]), float(upper[k])
            rows.append(tables.row(name, Estimate(*limits, result.n), **place))
            for part in ("null_limit", "p_corrected"):
                number = float(getattr(result, part)[k, 0])
                rows.append(tables.row(f"{name}_{part}", number, result.n, **place))
        done(len(means))
    return rows


def _hierarchy_rows(x, spread, categories: Categories, labels, options: Options) -> list[dict]:
    """How far steps from hypernym to leaf stay off the hypernym's direction, against other hypernyms'."""
    gram = linear_gram(x) if spread is None else causal_gram(x, spread)
    own, other, children = hierarchy_steps(gram, categories.members)
    weights = draw_weights(len(x), options.draws, options.seed)[:, children]
    place = {**labels, "target": "mean"}
    found = {
        "hierarchy_own": (own.mean(), (weights @ own) / weights.sum(axis=1)),
        "hierarchy_other": (other.mean(), (weights @ other) / weights.sum(axis=1)),
        "hierarchy_ratio": (own.mean() / other.mean(), (weights @ own) / (weights @ other)),
    }
    return [
        tables.row(
            name,
            expanded_estimate(np.sqrt(square), np.sqrt(draws), len(x), SHARED_DIRECTIONS[name]),
            **place,
        )
        for name, (square, draws) in found.items()
    ]


def hierarchy_steps(
    gram: Float[np.ndarray, "n n"], members: Bool[np.ndarray, "n categories"]
) -> tuple[Float[np.ndarray, " pairs"], Float[np.ndarray, " pairs"], np.ndarray]:
    """Squared cosine of every (leaf, category) step with its own category, the mean of it with others, the leaf.

    Others are the categories that share no leaf with it.
    """
    own, other, children = [], [], []
    for category in range(members.shape[1]):
        inside = np.flatnonzero(members[:, category])
        child = np.zeros((len(inside), len(members)), dtype=bool)
        child[np.arange(len(inside)), inside] = True
        parent = members[:, category] & ~child
        apart = np.flatnonzero(~(members & members[:, [category]]).any(axis=0))
        if len(apart):
            own.append(hierarchy_cosines(gram, child, parent) ** 2)
            other.append(np.mean(_along(gram, inside, members[:, apart]) ** 2, axis=1))
            children.append(inside)
    if not own:
        raise ValueError("every hypernym shares leaves with every other; there is nothing to compare with")
    return np.concatenate(own), np.concatenate(other), np.concatenate(children)


def _along(gram, inside, others) -> Float[np.ndarray, "children others"]:
    """Cosine of every step, from the mean of the other leaves `inside` to each of them, with other categories."""
    size, row = len(inside), np.arange(len(inside))
    parent = (gram[inside].sum(axis=0) - gram[inside]) / (
        size - 1
    )  # inner products of every parent with all leaves
    step = gram[inside] - parent
    own = step[row, inside]
    lengths = own - (step[:, inside].sum(axis=1) - own) / (size - 1)
    directions = others / others.sum(axis=0)
    sizes = ((gram @ directions) * directions).sum(axis=0)
    return (step @ directions) / np.sqrt(lengths[:, None] * sizes)


def mapped_sites(sites: Sequence[str], layers: Sequence[int] = ()) -> tuple[str, ...]:
    """The sites of these layers (−1 before the first block); the first, middle and last if none are named.

    Raises:
        KeyError: a layer is not among the sites.
    """
    by_layer = {layer_of(site): site for site in sites if np.isfinite(layer_of(site))}
    if missing := [layer for layer in layers if layer not in by_layer]:
        known = ", ".join(f"{layer:g}" for layer in by_layer)
        raise KeyError(f"no layer {missing[0]} to map; the layers with rows that vary are {known}")
    every = list(by_layer)
    middle = (every[k] for k in np.linspace(0, len(every) - 1, 3).round().astype(int))
    return tuple(by_layer[layer] for layer in (layers or dict.fromkeys(middle)))
