"""Tables of lenses: evidence for own words beside others', by layer, and which of leaf and hypernym comes first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.frame.tables import layer_of, row, table
from probing.stats import ClusterMean, Estimate, estimate, onset_draws

OWN, OTHER, BEYOND = "own", "other", "own − other"


def lens_table(parts: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"], seed: int) -> pd.DataFrame:
    """Long table: log-probability (nats), or cosine, and log10 of the rank, of own words and of other leaves' words.

    Rows "onset" are the first layer from which own words stay above others', corrected over layers; those of target
    "hypernym − leaf" are the difference of the two onsets, paired: above 0, the leaf comes first.
    """
    everyone = np.unique(parts["leaf"].to_numpy().astype(str))
    rows: list[dict[str, Any]] = []
    for keys, here in parts.groupby(["modality", "span", "lens"], sort=False):  # pyright: ignore[reportGeneralTypeIssues]
        labels: dict[str, Any] = dict(zip(("modality", "span", "lens"), keys)) | {"treatment": ""}
        curves: dict[str, list[tuple[float, np.ndarray]]] = {}
        sites = sorted(set(here["site"]), key=layer_of)
        for target, of in here.groupby("target", sort=False):
            for site in sites:
                found = _measured(of[of["site"] == site], everyone, weights, labels["lens"])
                for (measure, words), (value, draws) in found.items():
                    estimated = estimate(value, draws, len(everyone))
                    rows.append(row(measure, estimated, site=site, target=target, words=words, **labels))
                curves.setdefault(str(target), []).append(found[_name(labels["lens"]), BEYOND])
        if len(sites) > 1:
            rows += _onsets(curves, [layer_of(site) for site in sites], len(everyone), labels)
    return table(rows, "lens", seed, extra=("lens", "words"))


def _name(lens: str) -> str:
    return "cosine" if lens == "cosine" else "log_prob"


def _measured(
    part: pd.DataFrame, leaves: np.ndarray, weights: Float[np.ndarray, "draws leaves"], lens: str
) -> dict[tuple[str, str], tuple[float, Float[np.ndarray, " draws"]]]:
    """(measure, words) → value and draws, of own words, of others', and of what is beyond them."""
    made = {}
    for measure, column in ((_name(lens), "evidence"), ("log10_rank", "log10_rank")):
        wide = (
            part.pivot(index="leaf", columns="words", values=column)
            .reindex(leaves)[[OWN, OTHER]]
            .to_numpy(float)
        )
        wide = np.where(
            np.isnan(wide).any(1, keepdims=True), np.nan, wide
        )  # a leaf without other words is left out
        found = ClusterMean(wide, leaves)
        value, draws = found.value, found.at(weights)
        made[measure, OWN] = value[0], draws[:, 0]
        made[measure, OTHER] = value[1], draws[:, 1]
        made[measure, BEYOND] = value[0] - value[1], draws[:, 0] - draws[:, 1]
    return made


def _onsets(
    curves: dict[str, list[tuple[float, np.ndarray]]], layers: list[float], n: int, labels: dict[str, Any]
) -> list[dict[str, Any]]:
    """Onset of leaf and hypernym, in layers, and their paired difference."""
    found = {}
    for target, curve in curves.items():
        value, draws = onset_draws(np.array([v for v, _ in curve]), np.column_stack([d for _, d in curve]))
        found[target] = _layers(np.array([value]), layers)[0], _layers(draws, layers)
    with np.errstate(invalid="ignore"):  # where neither has an onset the difference is undefined
        difference = [a - b for a, b in zip(found["hypernym"], found["leaf"])]
    made = {**found, "hypernym − leaf": tuple(difference)}
    return [
        row("onset", _limits(value, draws, n), site="all", target=target, words=BEYOND, **labels)
        for target, (value, draws) in made.items()
    ]


def _layers(index: np.ndarray, layers: list[float]) -> np.ndarray:
    """The layer of each index into the curve; infinite where there is no onset."""
    known = np.array([*layers, np.inf])
    return known[np.where(np.isfinite(index), index, len(layers)).astype(int)]


def _limits(value: float, draws: np.ndarray, n: int) -> Estimate:
    """Percentile limits that may be infinite; draws in which neither has an onset are left out."""
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return Estimate(float("nan"), float("nan"), float("nan"), n)
    lower, upper = np.quantile(draws, [0.025, 0.975], method="inverted_cdf")
    return Estimate(float(value) if np.isfinite(value) else float("nan"), float(lower), float(upper), n)
