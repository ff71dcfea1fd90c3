"""Rows of activation stores made ready for probes: aligned, labelled, folded, with control labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from analyses.inputs.categories import subsets
from analyses.inputs.encoder import ENCODER
from analyses.inputs.leaf_rows import places
from analyses.layer_probes.options import SEES_LEAVES, Options, refuse_unanswerable
from probing.probes.controls import control_task, shuffled_labels
from probing.probes.held_out import LabelledRows
from probing.probes.splits import grouped_folds, ungrouped_folds
from probing.store import ActivationStore, MismatchError
from taxogen.world.taxonomy import Taxonomy


@dataclass(frozen=True)
class Source:
    """Rows of a store in the order of their item ids, and the encoder's features of their pictures."""

    store: ActivationStore
    order: Int[np.ndarray, " n"]
    leaves: np.ndarray
    encoder: Float[np.ndarray, "n d"] | None = None

    def read(self, site: str, span: str) -> Float[np.ndarray, "n d"]:
        """Features of these rows, float32; of one head where the site names one."""
        if site == ENCODER and self.encoder is not None:
            return self.encoder
        name, _, head = site.partition("#")
        values = np.asarray(self.store.read(name, span), dtype=np.float32)[self.order]
        return values[:, int(head)] if head else values

    def only(self, leaves: Sequence[str]) -> Source:
        """The rows of these leaves."""
        members = np.isin(self.leaves, leaves)
        encoder = None if self.encoder is None else self.encoder[members]
        return Source(self.store, self.order[members], self.leaves[members], encoder)


@dataclass(frozen=True)
class Design:
    """What probes are fitted to.

    Attributes:
        sources: name of a source of rows (`text`, or `image@` and a step) → its rows.
        rows: the same name → labels, folds and control labels of the rows.
        targets: names of the label columns.
        subsets: target of a row that is a mean → the targets that it goes over.
        leaves: that all sources have.
    """

    sources: Mapping[str, Source]
    rows: Mapping[str, LabelledRows]
    targets: tuple[str, ...]
    subsets: Mapping[str, tuple[int, ...]]
    leaves: tuple[str, ...]


def design(
    images: Mapping[int, ActivationStore],
    text: ActivationStore | None,
    taxonomy: Taxonomy,
    options: Options,
    encoder: Mapping[str, np.ndarray] | None = None,
    source_of: Mapping[str, str] | None = None,
) -> Design:
    """Rows of all modalities over the leaves they share; folds and control labels agree between modalities.

    `source_of` maps a picture to its source. Text rows have none: they are left out when sources are held out.

    Raises:
        KeyError: an unknown target, split, probe or transform.
        MismatchError: the steps hold different items, or no leaf is shared.
        ValueError: leaf identity was asked for with leaves held out, or picture sources without `source_of`; or a store
            holds the tokens of a place one by one.
    """
    refuse_unanswerable(options)
    stores = {f"image@{step}": store for step, store in images.items()}
    if text is not None and options.split != "source":
        stores["text"] = text
    if not stores:
        raise ValueError("--split source is of pictures, and no picture rows were given; take another split")
    places(images, text, options.spans)
    sources = _sources(stores, encoder)
    leaves = tuple(sorted(set.intersection(*(set(source.leaves.tolist()) for source in sources.values()))))
    if not leaves:
        raise MismatchError(
            "picture and text rows share no leaf: the stores are of different worlds; capture again"
        )
    sources = {name: source.only(leaves) for name, source in sources.items()}
    names, of_leaf = _targets(taxonomy, leaves, options.target, options.least_leaves)
    fold_of = _leaf_folds(taxonomy, leaves, of_leaf, options)
    rows = {}
    for name, source in sources.items():
        place = np.searchsorted(leaves, source.leaves)
        drawn = control_task(of_leaf, np.array(leaves), fold_of, options.controls, options.seed)[:, place]
        shuffled = (
            shuffled_labels(of_leaf[place], options.shuffled, options.seed) if options.shuffled else None
        )
        fold = _row_folds(source, fold_of[place], of_leaf[place], options, source_of)
        rows[name] = LabelledRows(of_leaf[place], place, fold, drawn, shuffled)
    return Design(sources, rows, names, subsets(names, options.held_out), leaves)


def _row_folds(
    source: Source,
    by_leaf: Int[np.ndarray, " n"],
    labels: Bool[np.ndarray, "n targets"],
    options: Options,
    source_of: Mapping[str, str] | None,
) -> Int[np.ndarray, " n"]:
    """The fold of each row: that of its leaf, of its picture's source, or any."""
    if options.split == "ungrouped":
        return ungrouped_folds(len(by_leaf), options.folds, options.seed)
    if options.split != "source":
        return by_leaf
    if source_of is None:
        raise ValueError(
            "--split source needs to know where each picture comes from: give source_of, or a column `source` in stores"
        )
    names = np.array([source_of[picture] for picture in source.store.columns["picture"].iloc[source.order]])
    return grouped_folds(names, labels, options.folds, options.seed)


def _sources(
    stores: Mapping[str, ActivationStore], encoder: Mapping[str, np.ndarray] | None
) -> dict[str, Source]:
    """Each store's rows sorted by item id; steps must hold the same items."""
    sources, first, features = {}, None, None
    for name, store in stores.items():
        ids = np.asarray(store.item_ids, dtype=str)
        order = np.argsort(ids, kind="stable")
        if name != "text":
            first = ids[order] if first is None else first
            if not np.array_equal(first, ids[order]):
                raise MismatchError(
                    f"{name} holds other items than the first step; capture both from one manifest"
                )
        columns = store.columns.iloc[order]
        if encoder is not None and name != "text" and features is None:
            features = np.stack([np.ravel(encoder[one]) for one in columns["picture"]]).astype(np.float32)
        own = None if name == "text" else features
        sources[name] = Source(store, order, columns["leaf"].to_numpy().astype(str), own)
    return sources


def _targets(
    taxonomy: Taxonomy, leaves: Sequence[str], target: str, least: int
) -> tuple[tuple[str, ...], Bool[np.ndarray, "leaves targets"]]:
    """Names of the targets and which leaves have them; drops hypernyms with (or without) too few leaves."""
    if target == "leaf":
        return tuple(leaves), np.eye(len(leaves), dtype=bool)
    if target == "height":
        above = np.array([len(taxonomy.hypernyms_of(leaf)) for leaf in leaves])
        names = tuple(f"{k} or more hypernyms" for k in range(int(above.min()) + 1, int(above.max()) + 1))
        labels = above[:, None] > np.arange(int(above.min()), int(above.max()))
    else:
        names, labels = taxonomy.hypernyms, taxonomy.labels(leaves)
    counts = labels.sum(axis=0)
    enough = np.flatnonzero((counts >= least) & (len(leaves) - counts >= least))
    if not len(enough):
        raise ValueError(
            f"no {target} has at least {least} of these {len(leaves)} leaves under it and as many not; "
            "capture more leaves, or group them under other hypernyms"
        )
    return tuple(names[k] for k in enough), labels[:, enough]


def _leaf_folds(
    taxonomy: Taxonomy, leaves: Sequence[str], labels: Bool[np.ndarray, "leaves targets"], options: Options
) -> Int[np.ndarray, " leaves"]:
    """The fold of each leaf; by family, leaves that share their most specific hypernym stay together.

    All in one where rows are split without regard to leaves.
    """
    if options.split in SEES_LEAVES:
        return np.zeros(len(leaves), dtype=int)
    if options.split == "leaf":
        return grouped_folds(np.array(leaves), labels, options.folds, options.seed)
    size = {name: len(taxonomy.leaves_of(name)) for name in taxonomy.hypernyms}
    families = [min(taxonomy.hypernyms_of(leaf), key=lambda name: (size[name], name)) for leaf in leaves]
    return grouped_folds(np.array(families), labels, options.folds, options.seed)
