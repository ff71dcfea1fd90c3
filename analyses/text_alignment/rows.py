"""Tables of alignment: leaf geometry of picture rows at every layer against that of words, with null and ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from analyses.frame import tables
from analyses.frame.command_line import EXTENT, Resampling, option
from analyses.frame.parts import Collect, Done, Pieces, at_once, unheard
from analyses.frame.tables import layer_of
from analyses.inputs import leaf_rows
from analyses.inputs.categories import leaves_under
from analyses.inputs.leaf_rows import LeafRows
from analyses.inputs.references import TWIN, Nouns, References
from probing.categories.massive import TREATMENTS
from probing.similarity import MEASURES, Measure, measure_named
from probing.similarity.calibration import (
    JACKKNIFE,
    Calibration,
    bootstrap,
    calibrate_matrices,
    jackknifed,
    leave_one_out,
    noise_ceiling,
)
from probing.similarity.gram import leaf_means
from probing.similarity.mantel import permutation_design
from probing.stats import Estimate, draw_weights, half_rise, onset
from probing.store import ActivationStore, MismatchError
from taxogen.world.taxonomy import Taxonomy

EXTRA = ("reference", "other_site")
LEAST_LEAVES = 8


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """How alignment is measured; the defaults are those of the report.

    Attributes:
        steps: captured steps (default: all)
        spans: slot, cue or last (default: all)
        measure: of similarity between leaf geometries, a cosine of matrices such as cka_debiased or rsa_spearman
        treatments: of massive activations
        others: other language models whose bare nouns are references: hub names or paths
        encoders: text encoders that are references: all-minilm-l6-v2, hub names or paths
        held_out: hypernyms without evidence in training, reported apart; of a run by default its own
        permutations: of leaves.
        splits: of each leaf's pictures in two halves, for the noise ceiling.
    """

    steps: tuple[int, ...] = option((), flag="--step", role=EXTENT)
    spans: tuple[str, ...] | None = option(None, flag="--span", role=EXTENT)
    measure: str = option("cka_debiased")
    treatments: tuple[str, ...] = option(TREATMENTS, flag="--treatment", choices=TREATMENTS, role=EXTENT)
    others: tuple[str, ...] = option((), flag="--other", metavar="LM")
    encoders: tuple[str, ...] = option((), flag="--encoder", metavar="NAME")
    held_out: tuple[str, ...] = option((), metavar="HYPERNYM")
    permutations: int = 999
    splits: int = 10


@dataclass
class Place:
    """One span at one step under one treatment: matrices of pictures, and what is known of their rows.

    `counts` has, by reference, the pictures of each leaf where leaves of the reference differ in their rows as well.
    """

    labels: dict
    leaves: tuple[str, ...]
    pictures: dict[str, Float[np.ndarray, "leaves leaves"]]
    references: dict[str, dict[str, Float[np.ndarray, "leaves leaves"]]]
    ceilings: dict[str, Estimate] = field(default_factory=dict)
    counts: dict[str, Int[np.ndarray, " leaves"]] = field(default_factory=dict)


def alignment_table(
    images: Mapping[int, ActivationStore],
    text: ActivationStore | None,
    taxonomy: Taxonomy,
    options: Options = Options(),
    nouns: Mapping[str, Nouns] | None = None,
    collect: Collect = at_once,
) -> pd.DataFrame:
    """Long table of similarity between leaf geometries, by step, span, site, reference and its site; place by place.

    References: "same prompt" (the same language model reading the leaf's name in the slot), each of `nouns`,
    and "taxonomic distance" (steps through the taxonomy). Rows of one leaf are averaged; leaves are the units of n, of
    the null (permuted; within strata of picture counts where the leaves of the reference differ in their rows as well)
    and of the interval (left out in turn, see `jackknifed`). Beside each value stand `null_limit` (95 % of permutations
    lie below), `effect` (the share of the way from there to 1), `p` and `p_corrected` (for the maximum over all layer
    pairs of the map), and `ceiling`, the largest value that noise between pictures of a leaf leaves room for. Full
    layer × layer maps are given for the last step under the default treatment; elsewhere the diagonal. `onset` is the
    first layer detected, from which the diagonal stays above its null, `half_rise` that from which it keeps at least
    half of its largest value. Rows that are massive in both sides at once make p too small under all treatments but
    "unit rows".

    Raises:
        KeyError: a measure that is unknown, or that has no matrix form.
        MismatchError: fewer than 8 leaves are shared.
    """
    measure = matrix_measure(options.measure)
    stores = {f"image@{step}": store for step, store in images.items()} | ({"text": text} if text else {})
    held = leaves_under(taxonomy, options.held_out)
    rows = _shared(leaf_rows.leaf_rows(stores, held), nouns or {})
    splits = _splits(np.unique(next(iter(rows.values())).leaves), held)
    comparison, pieces = _Comparison(splits, options), Pieces()
    for span, picture_span, text_span in leaf_rows.places(images, text, options.spans):
        for treatment in options.treatments:
            twin = (rows["text"], text_span) if text_span else None
            references = References(twin, nouns or {}, taxonomy, measure, treatment, held)
            compared = 1 + bool(twin) + len(nouns or {})  # with the taxonomy, the text, and nouns
            for step in images:
                pictures = rows[f"image@{step}"], picture_span
                whole = treatment == TREATMENTS[0] and step == max(images)
                for split in splits if whole else [""]:
                    labels = {"step": step, "span": span, "treatment": treatment, "split": split}
                    make = partial(comparison.rows, pictures, references, labels, whole and not split)
                    size = len(pictures[0].store.sites) * (1 + compared)
                    pieces.add((*labels.values(), *["map"] * whole), size, make)
    table = pieces.rows(collect, "text_alignment", "layers")
    return tables.table(table, "text_alignment", options.seed, EXTRA)


@dataclass(frozen=True)
class _Comparison:
    """Pictures against references over the leaves of each split; the last references are kept for the next step."""

    splits: Mapping[str, np.ndarray]
    options: Options
    _last: dict[tuple[int, str], dict[str, dict[str, np.ndarray]]] = field(default_factory=dict)

    def rows(self, pictures, references: References, labels, whole_map: bool, done: Done) -> list[dict]:
        """Table rows of one place."""
        leaves, key = self.splits[labels["split"]], (id(references), labels["split"])
        if key not in self._last:
            self._last.clear()
            self._last[key] = references.matrices(leaves)
        place = _place(pictures, references, labels, leaves, self.options, self._last[key], done)
        return alignment_rows(place, self.options, whole_map, done)


def measure_of(table: pd.DataFrame) -> str:
    """The measure of similarity that a table is about."""
    return next(str(name) for name in table["measure"].unique() if name in MEASURES)


def matrix_measure(name: str) -> Measure:
    """The measure of that name, which must be a cosine of matrices so that all layer pairs have a null.

    Raises:
        KeyError: it is unknown or has no matrix form.
    """
    measure = measure_named(name)
    if measure.matrix is None:
        known = ", ".join(one for one, other in MEASURES.items() if other.matrix is not None)
        raise KeyError(f"{name} has no matrix form, which maps over all layer pairs need; use one of {known}")
    return measure


def alignment_rows(
    place: Place, options: Options, whole_map: bool = False, done: Done = unheard
) -> list[dict]:
    """Table rows of one place: the diagonal with intervals, and the whole map where asked.

    `done` is told of layers that have been compared with a reference.
    """
    n, without = len(place.leaves), leave_one_out(len(place.leaves))
    weights = draw_weights(n, options.draws, options.seed)
    rows = []
    sites = list(place.pictures)
    for name, reference in place.references.items():
        others = list(reference)
        left, right = (np.stack(list(side.values())) for side in (place.pictures, reference))
        design = permutation_design(n, options.permutations, options.seed, place.counts.get(name))
        calibration = calibrate_matrices(left, right, design)
        labels = {**place.labels, "reference": name, "modality": "image~text", "target": "leaf"}
        pairs = diagonal(sites, others)
        stacked = [np.stack(side) for side in zip(*((place.pictures[a], reference[b]) for a, b in pairs))]
        draws, left_out = (bootstrap(stacked[0], stacked[1], drawn) for drawn in (weights, without))
        for k, (a, b) in enumerate(pairs):
            at_pair = {**labels, "site": a, "other_site": b}
            at = sites.index(a), others.index(b)
            value = _estimate(calibration.value[at], left_out[:, k])
            rows += _calibrated(options.measure, value, calibration, at, at_pair, place.ceilings.get(a))
        rows += _onset_rows(pairs, calibration, draws, sites, others, labels)
        if whole_map:
            rows += _map_rows(sites, others, calibration, labels, options.measure, set(pairs))
        done(len(sites))
    return rows


def _estimate(value, left_out, widened: float = JACKKNIFE) -> Estimate:
    """With limits from leaving out leaves."""
    lower, upper = jackknifed(np.asarray(value), left_out, widened)
    return Estimate(float(value), float(lower), float(upper), len(left_out))


def diagonal(sites: Sequence[str], others: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of sites that mean the same; all sites against the only one of a reference without layers."""
    if len(others) == 1:
        return [(site, others[0]) for site in sites]
    return [(site, site) for site in sites if site in others]


def _calibrated(
    measure, value: Estimate, calibration: Calibration, at, labels, ceiling: Estimate | None
) -> list[dict]:
    rows = [tables.row(measure, value, **labels)]
    for name in ("null_mean", "null_limit", "effect", "p", "p_corrected"):
        rows.append(tables.row(name, float(getattr(calibration, name)[at]), calibration.n, **labels))
    if ceiling is not None:
        rows.append(tables.row("ceiling", ceiling, **labels))
    return rows


def _map_rows(sites, others, calibration: Calibration, labels, measure, done) -> list[dict]:
    """Layer pairs off the diagonal: value, p and effect, without intervals."""
    rows = []
    for i, a in enumerate(sites):
        for j, b in enumerate(others):
            if (a, b) not in done:
                at_pair = {**labels, "site": a, "other_site": b}
                rows.append(tables.row(measure, float(calibration.value[i, j]), calibration.n, **at_pair))
                for name in ("effect", "p_corrected"):
                    rows.append(
                        tables.row(name, float(getattr(calibration, name)[i, j]), calibration.n, **at_pair)
                    )
    return rows


def _onset_rows(pairs, calibration: Calibration, draws, sites, others, labels) -> list[dict]:
    """First layers from which the diagonal stays above the limit of its null, and above half its largest value."""
    layers = np.array([layer_of(a) for a, _ in pairs])
    inside = np.isfinite(layers)
    if inside.sum() < 2:
        return []
    at = [(sites.index(a), others.index(b)) for (a, b), of_block in zip(pairs, inside) if of_block]
    value, limits = (
        np.array([side[place] for place in at]) for side in (calibration.value, calibration.null_limit)
    )
    above = onset(value - limits, draws[:, inside] - limits, calibration.n)
    half = half_rise(value, draws[:, inside], calibration.n)
    rows = []
    for name, first in (("onset", above), ("half_rise", half)):
        limits = (first.value, first.lower, first.upper)
        counted = [float(layers[inside][int(x)]) if np.isfinite(x) else x for x in limits]
        result = Estimate(counted[0], counted[1], counted[2], calibration.n)
        rows.append(tables.row(name, result, **labels, site="all", other_site=""))
    return rows


def _splits(leaves, held: Sequence[str]) -> dict[str, np.ndarray]:
    """Leaves to be compared: all; and those without and with a held-out hypernym, where both are enough."""
    out = np.isin(leaves, list(held))
    splits = {"": leaves}
    if min(out.sum(), (~out).sum()) >= LEAST_LEAVES:
        splits |= {"seen": leaves[~out], "held-out": leaves[out]}
    return splits


def _place(
    side: tuple[LeafRows, str],
    references: References,
    labels,
    leaves,
    options: Options,
    against: dict[str, dict[str, np.ndarray]],
    done: Done = unheard,
) -> Place:
    """Matrices of picture rows of these leaves at every site, and noise ceilings under the default treatment."""
    rows = side[0]
    pictures, ceilings = {}, {}
    own = np.isin(rows.leaves, leaves)
    without = leave_one_out(len(leaves))
    shown_times = np.unique(rows.leaves[own], return_counts=True)[1]
    repeated = shown_times.min() > 1
    for site in rows.store.sites:
        x = leaf_rows.read_treated({"image": side}, site, labels["treatment"]).get("image")
        done(1)
        if x is None:
            continue
        x, shown = x.whole()[own], rows.leaves[own]
        pictures[site] = references.matrix(leaf_means(x, shown)[0])
        if labels["treatment"] == TREATMENTS[0] and repeated:
            value, left_out = noise_ceiling(
                [x], shown, references.matrix, without, options.splits, options.seed
            )
            ceilings[site] = _estimate(value[0], left_out[:, 0], widened=1.0)
    words = () if references.twin is None else references.twin[0].leaves
    counts = {TWIN: shown_times} if len(set(words)) < len(words) else {}
    return Place(dict(labels), tuple(leaves.tolist()), pictures, against, ceilings, counts)


def _shared(rows: dict[str, LeafRows], nouns: Mapping[str, Nouns]) -> dict[str, LeafRows]:
    """The rows of leaves that all references know.

    Raises:
        MismatchError: too few are left.
    """
    leaves = set(next(iter(rows.values())).leaves.tolist()).intersection(
        *(known.leaves for known in nouns.values())
    )
    if len(leaves) < LEAST_LEAVES:
        raise MismatchError(
            f"pictures and references share {len(leaves)} leaves; alignment needs at least {LEAST_LEAVES}: "
            "capture more leaves, or drop the reference that lacks them"
        )
    return {name: one.only(sorted(leaves)) for name, one in rows.items()}
