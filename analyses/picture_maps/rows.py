"""Tables of picture maps: drawn maps patch by patch, and over leaves how much of each map is on the object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.frame.tables import row, table
from analyses.picture_maps.leaf_maps import QUERIES, SHUFFLED, Arrays
from analyses.picture_maps.pointing import agreement, pointing
from analyses.picture_maps.summary import MODELS, PATCHES
from probing.edits.placebos import over_clusters
from probing.stats import ClusterMean, draw_weights, nan_mean

EXTRA = (
    *("map", "model", "patches", "leaf", "picture", "patch", "left", "top", "right", "bottom", "inside"),
    *("content_hash", "pictures"),
)
"""Columns of the table beside those of every table."""
RANGES = {"area": (0.0, 1.0), "pointing": (0.0, 1.0), "agreement": (-1.0, 1.0), "incomplete": (0.0, np.inf)}
"""What each mean can be; differences of shares lie within 1 of 0."""


@dataclass(frozen=True)
class Shown:
    """The pictures whose maps are made.

    Attributes:
        pictures: leaf, picture, content_hash, and whether it is `measured` and `drawn`.
        source: the collection, as `data.pictures` names it.
    """

    pictures: pd.DataFrame
    source: str

    def leaves(self, which: str) -> list[str]:
        """The leaves that are measured, or drawn."""
        return self.pictures.loc[self.pictures[which], "leaf"].tolist()


@dataclass(frozen=True)
class Kind:
    """A map that every leaf has: `name` in `summary.LABELS`, the array that holds it, and where it was made.

    Attributes:
        name: of the map.
        key: of its array.
        span: from which attention looks; the slot for all others.
        site: of a head or a probe; else all.
        head: its layer among those with patterns, and which head.
    """

    name: str
    key: str
    span: str = "slot"
    site: str = "all"
    head: tuple[int, int] | None = None

    def of(self, arrays: Arrays, shuffled: bool = False) -> Float[np.ndarray, " tokens"]:
        """The map of a picture."""
        values = arrays[SHUFFLED * shuffled + self.key]
        if self.name == "attention":
            return values.mean((0, 1))
        return values if self.head is None else values[self.head]

    @property
    def labels(self) -> dict[str, str]:
        """Its columns."""
        return {"map": self.name, "span": self.span, "site": self.site}


def kinds_of(arrays: Arrays) -> tuple[list[Kind], list[Kind]]:
    """The maps that a picture has: one a method, and those of single heads."""
    kinds, heads = [], []
    for query in QUERIES:
        if (key := f"heads.{query}") in arrays:
            kinds += [Kind("attention", key, query), Kind("rollout", f"rollout.{query}", query)]
            for at, layer in enumerate(arrays["layers"].astype(int)):
                for head in range(arrays[key].shape[1]):
                    site = f"blocks.{layer}.attn.hook_pattern#{head}"
                    heads.append(Kind("head", key, query, site, (at, head)))
    kinds += [
        Kind(name, name) for name in ("gradient", "integrated", "cut", "mean", "patch") if name in arrays
    ]
    probes = [key for key in arrays if key.startswith("probe.")]
    return [*kinds, *(Kind("probe", key, site=key.removeprefix("probe.")) for key in probes)], heads


def maps_table(
    shown: Shown, maps: Mapping[str, Mapping[str, Arrays]], question: str, heads: int, draws: int, seed: int
) -> pd.DataFrame:
    """Long table of the maps of each model, "run" and perhaps "placebo".

    Measures: `map`, a number for each patch of drawn leaves; `leaf_pointing`, the share of a leaf's map on its object;
    `pointing`, its mean over measured leaves, with `patches` in place, shuffled and their difference, and the
    difference of the models, both paired over leaves; `area`, the mean share of the patches' area that is the object,
    which is the chance level; `agreement`, the mean Spearman correlation of a map with that of the exchange by the mean
    patch (or the last that there is); `incomplete`, how far integrated gradients are from adding up, in nats.

    Args:
        shown: the pictures.
        maps: model → leaf → arrays of `Mapper`.
        question: which names the answer is.
        heads: how many heads are drawn: those whose attention to the pictures of measured leaves is the most.
        draws: of the bootstrap over leaves.
        seed: of the bootstrap.
    """
    first = next(iter(maps["run"].values()))
    kinds, single = kinds_of(first)
    leaves = shown.leaves("measured")
    weights = draw_weights(len(leaves), draws, seed)
    drawn = [*kinds, *_most_looking(single, [maps["run"][leaf] for leaf in leaves], heads)]
    rows = [
        one
        for model, of_leaf in maps.items()
        for kind in drawn
        for one in _patch_rows(shown, of_leaf, kind, {"model": model, **kind.labels})
    ]
    rows += _area(maps["run"], leaves, weights)
    for kind in (*kinds, *single):
        rows += _pointing(maps, kind, leaves, weights)
    for model, of_leaf in maps.items():
        rows += _agreements(of_leaf, kinds, leaves, weights, model)
        if "ends" in first:
            rows.append(_incomplete(of_leaf, leaves, weights, model))
    labelled = [{"modality": "image", "target": question, "patch": -1, **one} for one in rows]
    made = table(labelled, "picture_maps", seed, extra=EXTRA)
    for name in ("left", "top", "right", "bottom", "inside"):
        made[name] = pd.to_numeric(made[name], errors="coerce")
    return made


def _patch_rows(
    shown: Shown, of_leaf: Mapping[str, Arrays], kind: Kind, labels: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The map of every drawn leaf, patch by patch, and how it points."""
    rows = []
    for one in shown.pictures[shown.pictures["drawn"]].to_dict("records"):
        arrays = of_leaf[one["leaf"]]
        own = {name: one[name] for name in ("leaf", "picture", "content_hash")} | {"pictures": shown.source}
        for shuffled in (False, True):
            values, label = kind.of(arrays, shuffled), {**labels, **own, "patches": PATCHES[shuffled]}
            share = pointing(values, kind.name, arrays["inside"])
            rows.append(row("leaf_pointing", float(share), 1, **label))
            for patch, (value, box, inside) in enumerate(zip(values, arrays["boxes"], arrays["inside"])):
                place = dict(zip(("left", "top", "right", "bottom"), box.tolist()))
                rows.append(row("map", float(value), 1, patch=patch, inside=inside, **place, **label))
    return rows


def _most_looking(heads: Sequence[Kind], pictures: Sequence[Arrays], count: int) -> list[Kind]:
    """The heads whose last token looks at the pictures most."""
    last = [head for head in heads if head.span == QUERIES[0]]
    looks = [np.mean([head.of(arrays).sum() for arrays in pictures]) for head in last]
    return [last[at] for at in np.argsort(looks)[::-1][:count]]


def _area(
    of_leaf: Mapping[str, Arrays], leaves: Sequence[str], weights: Float[np.ndarray, "draws leaves"]
) -> list[dict[str, Any]]:
    shares = np.array([of_leaf[leaf]["inside"].mean() for leaf in leaves])
    label = {"map": "area", "span": "slot", "site": "all", "model": MODELS[0], "patches": PATCHES[0]}
    return [_mean("area", shares, leaves, weights, **label)]


def _pointing(
    maps: Mapping[str, Mapping[str, Arrays]],
    kind: Kind,
    leaves: Sequence[str],
    weights: Float[np.ndarray, "draws leaves"],
) -> list[dict[str, Any]]:
    """Pointing by each model with patches in place and shuffled, and the paired differences."""
    shares: dict[tuple[str, str], np.ndarray] = {}
    for model, of_leaf in maps.items():
        for shuffled in (False, True):
            shares[model, PATCHES[shuffled]] = np.array(
                [
                    pointing(kind.of(of_leaf[leaf], shuffled), kind.name, of_leaf[leaf]["inside"])
                    for leaf in leaves
                ]
            )
        shares[model, PATCHES[2]] = shares[model, PATCHES[0]] - shares[model, PATCHES[1]]
    if "placebo" in maps:
        for patches in PATCHES:
            shares[MODELS[2], patches] = shares["run", patches] - shares["placebo", patches]
    return [
        _mean("pointing", values, leaves, weights, model=model, patches=patches, **kind.labels)
        for (model, patches), values in shares.items()
    ]


def _agreements(
    of_leaf: Mapping[str, Arrays],
    kinds: Sequence[Kind],
    leaves: Sequence[str],
    weights: Float[np.ndarray, "draws leaves"],
    model: str,
) -> list[dict[str, Any]]:
    reference = next((kind for kind in kinds if kind.name == "mean"), kinds[-1])
    rows = []
    for kind in kinds:
        if kind is not reference:
            values = [agreement(kind.of(of_leaf[leaf]), reference.of(of_leaf[leaf])) for leaf in leaves]
            label = {**kind.labels, "model": model, "patches": PATCHES[0]}
            rows.append(_mean("agreement", np.array(values), leaves, weights, **label))
    return rows


def _incomplete(
    of_leaf: Mapping[str, Arrays],
    leaves: Sequence[str],
    weights: Float[np.ndarray, "draws leaves"],
    model: str,
) -> dict[str, Any]:
    gaps = [
        abs(float(of_leaf[leaf]["integrated"].sum() - (of_leaf[leaf]["ends"][0] - of_leaf[leaf]["ends"][1])))
        for leaf in leaves
    ]
    label = {"map": "integrated", "span": "slot", "site": "all", "model": model, "patches": PATCHES[0]}
    return _mean("incomplete", np.array(gaps), leaves, weights, **label)


def _mean(
    measure: str,
    values: Float[np.ndarray, " leaves"],
    leaves: Sequence[str],
    weights: Float[np.ndarray, "draws leaves"],
    **labels: Any,
) -> dict[str, Any]:
    """The mean over leaves, those without a value left out, as a row.

    Limits are widened for few leaves, within what the measure can be.
    """
    defined = int(np.isfinite(values).sum())
    if defined < 2:
        return row(measure, float(nan_mean(values)), defined, **labels)
    mean = ClusterMean(values, np.array(leaves))
    found = over_clusters(mean.value[0], mean.at(weights)[:, 0], defined, defined)
    difference = labels["model"] == MODELS[2] or labels["patches"] == PATCHES[2]
    lowest, highest = (-1.0, 1.0) if difference else RANGES[measure]
    return row(measure, found.within(lowest, highest), **labels)


def fill(path: Path, maps: Mapping[str, Mapping[str, Arrays]]) -> None:
    """Writes every map of every leaf: MODEL/LEAF/ARRAY."""
    with h5py.File(path, "w") as file:
        file.attrs["what"] = (
            "maps of pictures by model, leaf and method: [tokens], heads.QUERY [layers, heads, tokens]; boxes "
            "[tokens, 4] left, top, right, bottom in shares of the picture; inside, the share of each on the object"
        )
        for model, of_leaf in maps.items():
            for leaf, arrays in of_leaf.items():
                group = file.create_group(f"{model}/{leaf.replace('/', '_')}", track_order=True)
                for name, values in arrays.items():
                    group.create_dataset(name, data=values)
