"""Tables of lenses: evidence for own words beside others', by layer, and which of leaf and hypernym comes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.frame.tables import estimate_text, layer_of, layer_text, row, table
from probing.stats import OUT_OF_FOLD, ClusterMean, Estimate, bounds_text, expanded_estimate, onset_draws

OWN, OTHER, BEYOND = "own", "other", "own − other"
DIFFERENCE = "hypernym − leaf"
COSINES = ("cosine", "contextual")
"""Lenses in which evidence is a cosine."""
FITTED = ("tuned", "jacobian")
"""Lenses that are fitted on other leaves."""
REUSED = 1.2
"""How much wider limits of own and of others' words must be than a bootstrap over leaves: each word is looked for at
five leaves. In the difference of the two that cancels. Measured: docs/statistics.md."""


def lens_table(
    parts: pd.DataFrame,
    weights: Float[np.ndarray, "draws leaves"],
    seed: int,
    more: Sequence[Mapping[str, Any]] = (),
) -> pd.DataFrame:
    """Long table: log-probability (nats), or cosine, and log10 of the rank, of own words and of other leaves' words.

    Rows "onset" are the first layer detected from which own words stay above others', corrected over layers; those of
    target "hypernym − leaf" are the difference of the two, paired: above 0, the leaf comes first. Limits are over
    leaves, of the same hypernyms; n counts leaves that have own words and words of others. Those of own and of others'
    words alone are wider than the bootstrap's, by `REUSED`, and through a tuned lens by `OUT_OF_FOLD`: its translators
    are fitted on other leaves; likewise through the Jacobian lens. `more` rows stand behind these.
    """
    everyone = np.unique(parts["leaf"].to_numpy().astype(str))
    rows: list[dict[str, Any]] = []
    for keys, view in parts.groupby(["modality", "span", "lens"], sort=False):  # pyright: ignore[reportGeneralTypeIssues]
        labels: dict[str, Any] = dict(zip(("modality", "span", "lens"), keys)) | {"treatment": ""}
        curves: dict[str, _Curve] = {}
        sites = sorted(set(view["site"]), key=layer_of)
        for target, of_target in view.groupby("target", sort=False):
            along, n = [], 0
            for site in sites:
                drawn, n = _measured(of_target[of_target["site"] == site], everyone, weights, labels["lens"])
                for (measure, words), (value, draws) in drawn.items():
                    factor = 1.0 if words == BEYOND else OUT_OF_FOLD if labels["lens"] in FITTED else REUSED
                    level = expanded_estimate(value, draws, n, factor)
                    rows.append(row(measure, level, site=site, target=target, words=words, **labels))
                along.append(drawn[_name(labels["lens"]), BEYOND])
            value, draws = zip(*along)
            curves[str(target)] = _Curve(np.array(value), np.column_stack(draws), n)
        if len(sites) > 1:
            rows += _onsets(curves, [layer_of(site) for site in sites], labels)
    return table([*rows, *more], "lens", seed, extra=("lens", "words"))


@dataclass(frozen=True)
class _Curve:
    """Evidence for own words beyond others' along the layers, the same under bootstrap weights, and n."""

    value: Float[np.ndarray, " layers"]
    draws: Float[np.ndarray, "draws layers"]
    n: int


def _name(lens: str) -> str:
    return "cosine" if lens in COSINES else "log_prob"


def _measured(
    part: pd.DataFrame, leaves: np.ndarray, weights: Float[np.ndarray, "draws leaves"], lens: str
) -> tuple[dict[tuple[str, str], tuple[float, Float[np.ndarray, " draws"]]], int]:
    """(measure, words) → value and draws, of own words, of others', and of their difference; the number of leaves."""
    drawn, n = {}, 0
    for measure, column in ((_name(lens), "evidence"), ("log10_rank", "log10_rank")):
        wide = part.pivot(index="leaf", columns="words", values=column).reindex(leaves)
        both = wide[[OWN, OTHER]].to_numpy(float)
        missing = np.isnan(both).any(1, keepdims=True)  # a leaf without the one or the other is left out
        means, n = ClusterMean(np.where(missing, np.nan, both), leaves), int((~missing).sum())
        value, draws = means.value, means.at(weights)
        drawn[measure, OWN] = value[0], draws[:, 0]
        drawn[measure, OTHER] = value[1], draws[:, 1]
        drawn[measure, BEYOND] = value[0] - value[1], draws[:, 0] - draws[:, 1]
    return drawn, n


def _onsets(
    curves: Mapping[str, _Curve], layers: list[float], labels: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Onset of leaf and hypernym, in layers, and their paired difference."""
    onsets: dict[str, tuple[float, np.ndarray, int]] = {}
    for target, curve in curves.items():
        value, draws = onset_draws(curve.value, curve.draws)
        onsets[target] = _layers(np.array([value]), layers)[0], _layers(draws, layers), curve.n
    hypernym, leaf = onsets["hypernym"], onsets["leaf"]
    with np.errstate(invalid="ignore"):  # where neither has an onset the difference is undefined
        difference = hypernym[0] - leaf[0], hypernym[1] - leaf[1], min(hypernym[2], leaf[2])
    return [
        row("onset", _limits(*onset), site="all", target=target, words=BEYOND, **labels)
        for target, onset in {**onsets, DIFFERENCE: difference}.items()
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


def _onset_text(one: Mapping[Any, Any]) -> str:
    """An onset in words; a difference of two is a number of blocks, endless where one of them is not detected."""
    if one["target"] != DIFFERENCE:
        return layer_text(one)
    if np.isnan(one["value"]) and not np.isnan([one["lower"], one["upper"]]).any():
        return f"none {bounds_text(one['lower'], one['upper'], '.0f')}"
    return estimate_text(one, ".0f")


def summary(table: pd.DataFrame) -> str:
    """Which of leaf and hypernym comes first, and how high both stand at the last layer, in a few lines."""
    lines = [f"What layers say, {', '.join(table['run'].unique())} (own words against other leaves'):"]
    onsets = table[table["measure"] == "onset"]
    for keys, view in onsets.groupby(["modality", "lens", "span"], sort=False):  # pyright: ignore[reportGeneralTypeIssues]
        each = "; ".join(f"{one['target']} {_onset_text(one)}" for one in view.to_dict("records"))
        lines.append(f"  {' '.join(map(str, keys)):17} first block detected: {each}, n = {view['n'].min()}")
    beyond = table[table["words"] == BEYOND]
    last = beyond[(beyond["measure"] == "log_prob") & (beyond["layer"] == table["layer"].max())]
    last = last[(last["span"] == "last") & (last["lens"] == "logit")]
    lines += [
        f"  at the last token of the last layer, {one['modality']}, {one['target']}: {estimate_text(one, '+.2f')} nats "
        "beyond other words"
        for one in last.to_dict("records")
    ]
    near = beyond[(beyond["lens"] == "cosine") & (beyond["measure"] == "cosine")]
    lines += [
        f"  projected picture tokens, {one['target']}: cosine to own words {estimate_text(one, '+.3f')} beyond others'"
        for one in near.to_dict("records")
    ]
    return "\n".join(lines)
