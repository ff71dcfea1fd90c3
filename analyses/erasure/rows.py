"""Tables of erasure and steering: what every edit changes, with intervals over leaves, beside its controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from analyses.frame.tables import row, table
from analyses.inputs.span_states import post
from probing.stats import ClusterAUROC, ClusterMean, estimate, lower_band, nan_mean

MEAN = "mean"
CONTROLS = ("random", "shuffled")
MEASURES = ("gap", "auroc", "other_off", "other_under", "leaf_off", "leaf_under")
"""What is measured of a hypernym: how far apart the model puts pictures under it and others (nats), how well that tells
them apart (chance .5), and the read-outs of other hypernyms and of the leaf (nats), off and under the hypernym."""


@dataclass(frozen=True)
class _Measured:
    """A measure of some hypernyms under one edit, and under bootstrap weights."""

    value: Float[np.ndarray, " k"]
    draws: Float[np.ndarray, "draws k"]

    def minus(self, other: _Measured) -> _Measured:
        return _Measured(self.value - other.value, self.draws - other.draws)


def erasure_table(parts: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"], seed: int) -> pd.DataFrame:
    """Long table of erasure: each measure under each edit, its change, and its change beyond the mean of the controls.

    Rows of target "mean" average over hypernyms; their `lower_band` rows are one-sided limits corrected over layers.
    """
    rows: list[dict[str, Any]] = []
    for span, here in parts.groupby("span", sort=False):
        along: dict[str, list[_Measured]] = {}
        for layer in sorted(set(here["layer"])):
            part = here[here["layer"] == layer]
            names = list(dict.fromkeys(part["hypernym"]))
            labels = {"site": post(layer), "span": span, "modality": "image", "treatment": ""}
            found = {
                edit: _measure(edited, names, weights) for edit, edited in part.groupby("edit", sort=False)
            }
            for measure in MEASURES:
                if measure not in found["none"]:
                    continue
                under = {edit: values[measure] for edit, values in found.items()}
                changes = {edit: under[edit].minus(under["none"]) for edit in under if edit != "none"}
                beyond = changes["erased"].minus(_mean([changes[control] for control in CONTROLS]))
                for edit, values in under.items():
                    rows += _rows(values, names, measure, weights.shape[1], edit=edit, **labels)
                for edit, values in changes.items():
                    rows += _rows(values, names, f"{measure}_change", weights.shape[1], edit=edit, **labels)
                rows += _rows(
                    beyond, names, f"{measure}_change", weights.shape[1], edit="erased − controls", **labels
                )
                along.setdefault(measure, []).append(beyond)
        layers = sorted(set(here["layer"]))
        for measure, found in along.items():
            rows += _bands(found, layers, measure, str(span))
    return table(rows, "erasure", seed, extra=("edit",))


def _bands(
    found: Sequence[_Measured], layers: Sequence[int], measure: str, span: str
) -> list[dict[str, Any]]:
    """How much is lost beyond the controls at least, at all layers at once with 95 %."""
    value = -np.array([nan_mean(one.value) for one in found])
    draws = -np.column_stack([nan_mean(one.draws) for one in found])
    band = lower_band(value, draws)
    labels: dict[str, Any] = {"span": span, "modality": "image", "target": MEAN, "treatment": ""}
    labels |= {"edit": "erased − controls"}
    return [
        row(f"{measure}_loss_lower_band", float(limit), site=post(layer), **labels)
        for layer, limit in zip(layers, band)
    ]


def _measure(
    part: pd.DataFrame, names: Sequence[str], weights: Float[np.ndarray, "draws leaves"]
) -> dict[str, _Measured]:
    """Every measure of each hypernym under one edit."""
    leaves = part.loc[part["hypernym"] == names[0], "leaf"].to_numpy().astype(str)

    def columns(name: str) -> np.ndarray:
        return np.column_stack([part.loc[part["hypernym"] == one, name] for one in names])

    member = columns("member").astype(bool)
    target, other = columns("target"), columns("other")
    auroc = ClusterAUROC(target, member, leaves)
    found = {
        "gap": _means(target, member, leaves, weights).minus(_means(target, ~member, leaves, weights)),
        "auroc": _Measured(auroc.value, auroc.at(weights)),
        "other_off": _means(other, ~member, leaves, weights),
        "other_under": _means(other, member, leaves, weights),
    }
    if "leaf_margin" in part:
        margin = columns("leaf_margin")
        found["leaf_off"] = _means(margin, ~member, leaves, weights)
        found["leaf_under"] = _means(margin, member, leaves, weights)
    return found


def _means(
    values: Float[np.ndarray, "n k"], kept: Bool[np.ndarray, "n k"], leaves: np.ndarray, weights: np.ndarray
) -> _Measured:
    found = ClusterMean(np.where(kept, values, np.nan), leaves)
    return _Measured(found.value, found.at(weights))


def _mean(found: Sequence[_Measured]) -> _Measured:
    return _Measured(
        np.mean([one.value for one in found], axis=0), np.mean([one.draws for one in found], axis=0)
    )


def _rows(
    found: _Measured, names: Sequence[str], measure: str, n: int, **labels: Any
) -> list[dict[str, Any]]:
    """A row for each hypernym and one for their mean."""
    rows = [
        row(measure, estimate(found.value[k], found.draws[:, k], n), target=name, **labels)
        for k, name in enumerate(names)
    ]
    mean = estimate(float(nan_mean(found.value)), nan_mean(found.draws), n)
    return [*rows, row(measure, mean, target=MEAN, **labels)]


def steering_table(
    parts: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"], seed: int
) -> pd.DataFrame:
    """Long table of steering: change of each read-out of pictures off the hypernym by direction and dose, in nats.

    Rows of target "mean" average over hypernyms. n counts all leaves; those under a hypernym have no part in its row.
    """
    rows: list[dict[str, Any]] = []
    everyone = np.unique(parts["leaf"].to_numpy().astype(str))
    for place, here in parts.groupby(["span", "layer"], sort=False):
        span, layer = cast(tuple[str, int], place)
        clean = here[here["edit"] == "none"].set_index(["hypernym", "leaf"])
        labels = {"site": post(layer), "span": span, "modality": "image", "treatment": ""}
        for (edit, dose), part in here[here["edit"] != "none"].groupby(["edit", "dose"], sort=False):
            part = part.set_index(["hypernym", "leaf"])
            for measure in ("target", "other", "leaf_margin"):
                if measure not in part:
                    continue
                change = (part[measure] - clean[measure]).unstack("hypernym").reindex(everyone)
                found = ClusterMean(change.to_numpy(dtype=float), everyone)
                values = _Measured(found.value, found.at(weights))
                names = [str(name) for name in change.columns]
                rows += _rows(
                    values, names, f"{measure}_change", len(everyone), edit=edit, dose=dose, **labels
                )
    return table(rows, "steering", seed, extra=("edit", "dose"))
