"""Estimates from out-of-fold scores: AUROC, its control, decisions and log-loss, with intervals over leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from probing.probes.held_out import HeldOut, LabelledRows
from probing.stats import (
    OUT_OF_FOLD,
    OUT_OF_FOLD_DECISIONS,
    OUT_OF_FOLD_PARTLY,
    ClusterAUROC,
    ClusterMean,
    ClusterRates,
    ClusterStatistic,
    expanded,
    few_clusters,
    interval,
    log_loss,
    nan_mean,
)

Pair = tuple[np.ndarray, np.ndarray]
_BOOTSTRAPPED = 5
_RANGES = {"selectivity": (-1.0, 1.0), "log_loss": (0.0, np.inf)}
"""Of measures that do not lie in [0, 1]."""
_DECIDED = ("macro_f1", "balanced_accuracy")


@dataclass(frozen=True)
class Series:
    """Mean AUROC of a subset of targets along sites, its draws; the same above control; and the controls."""

    auroc: Float[np.ndarray, " sites"]
    auroc_draws: Float[np.ndarray, "draws sites"]
    selectivity: Float[np.ndarray, " sites"]
    selectivity_draws: Float[np.ndarray, "draws sites"]
    null: Float[np.ndarray, "repeats sites"]

    def at(self, sites: slice | np.ndarray) -> "Series":
        """The series along some of the sites."""
        return Series(*(getattr(self, part.name)[..., sites] for part in fields(self)))


def estimates(
    held: Sequence[HeldOut],
    rows: LabelledRows,
    targets: Sequence[str],
    subsets: Mapping[str, Sequence[int]],
    weights: Float[np.ndarray, "draws clusters"],
) -> tuple[pd.DataFrame, dict[str, Series]]:
    """Long table of the estimates at each site, and for each subset of targets its series along the sites.

    Rows: `auroc` of each target; of each subset of targets the mean `auroc`, `control_auroc` (chance .5),
    `selectivity` (their difference), `shuffled_auroc` (labels permuted over rows), `macro_f1`,
    `balanced_accuracy` and `log_loss` (nats). Columns: index (of the site), target, measure, value, lower,
    upper, n (clusters; of a single target, those that have it). At most five control tasks are bootstrapped.

    Limits are `widening` times as far from the value as those of the bootstrap, which holds the probes fixed, and end
    where the measure does (an AUROC at 0 and 1); those of decisions `OUT_OF_FOLD_DECISIONS` times wider still, and NaN
    for a macro-F1 of 0. The draws of the series are as they were drawn.
    """
    sites, repeats = len(held), len(rows.controls)
    within = np.array([h.within for h in held])
    scores = np.stack([h.scores for h in held], axis=1)
    each, n = np.arange(sites), weights.shape[1]
    real = _auroc(scores[:, :, 0], rows.labels, rows, weights)
    floors = [
        _auroc(scores[:, :, 1 + r], labels, rows, weights[: 1 if _BOOTSTRAPPED <= r < repeats else None])
        for r, labels in enumerate(rows.meaningless)
    ]
    floors, shuffled = floors[:repeats], floors[repeats:]
    flat = real[0].ravel(), real[1].reshape(len(weights), -1)
    factor = np.stack([widening(rows, [k], within) for k in range(len(targets))], axis=1)
    having = np.array([len(np.unique(rows.groups[of_target])) for of_target in rows.labels.T])
    places = np.repeat(each, len(targets)), list(targets) * sites
    table = [_frame(*places, "auroc", flat, np.tile(having, sites), factor.ravel())]
    series = {}
    for subset, members in subsets.items():
        columns = list(members)
        factor = widening(rows, columns, within)
        auroc = _mean(real, columns)
        pairs = {"auroc": auroc} | _decisions(held, rows, columns, weights)
        if shuffled:
            pairs["shuffled_auroc"] = _average([_mean(each, columns) for each in shuffled])
        if floors:
            control = [_mean(each, columns) for each in floors]
            null, floor = np.stack([value for value, _ in control]), _average(control)
            above = auroc[0] - floor[0], auroc[1] - floor[1]
            pairs |= {"control_auroc": floor, "selectivity": above}
            series[subset] = Series(auroc[0], auroc[1], above[0], above[1], null)
        table += [_frame(each, [subset] * sites, measure, pair, n, factor) for measure, pair in pairs.items()]
    return pd.concat(table, ignore_index=True), series


def widening(
    rows: LabelledRows, members: Sequence[int], within: Bool[np.ndarray, " sites"]
) -> Float[np.ndarray, " sites"]:
    """How much wider than their bootstrap limits of a mean over these targets must be.

    Two sources of variance are missing in it. Leaves train the probes that score other leaves (`OUT_OF_FOLD`; less of
    it where the probes are of another modality, not `within`, or know the leaf, `OUT_OF_FOLD_PARTLY`). And few leaves,
    on the rarer side of the targets, are drawn as if they were many: `few_clusters`. NaN where a side is a single
    leaf, which has no variance to see.
    """
    labels = rows.labels[:, list(members)]
    sides = (labels.any(axis=1), ~labels.all(axis=1))
    few = float(few_clusters(np.array(min(len(np.unique(rows.groups[side])) for side in sides))))
    trained = np.where(within & ~rows.spread, OUT_OF_FOLD, OUT_OF_FOLD_PARTLY)
    return trained * (few if np.isfinite(few) else np.nan)


def _mean(pair: Pair, members: list[int]) -> Pair:
    """Mean over some of the targets, which are the last axis."""
    return nan_mean(pair[0][..., members]), nan_mean(pair[1][..., members])


def _average(pairs: Sequence[Pair]) -> Pair:
    """Mean over control tasks; of the draws, over those that were bootstrapped."""
    values = np.mean([value for value, _ in pairs], axis=0)
    return values, np.mean([draws for _, draws in pairs[:_BOOTSTRAPPED]], axis=0)


def _auroc(scores: np.ndarray, labels: np.ndarray, rows: LabelledRows, weights: np.ndarray) -> Pair:
    """Value [sites, targets] and draws [draws, sites, targets] of AUROC within folds."""
    n, sites, width = scores.shape
    statistic = ClusterAUROC(scores.reshape(n, -1), np.tile(labels, (1, sites)), rows.groups, rows.folds)
    return statistic.value.reshape(sites, width), statistic.at(weights).reshape(-1, sites, width)


def _decisions(
    held: Sequence[HeldOut], rows: LabelledRows, members: list[int], weights: np.ndarray
) -> dict[str, Pair]:
    """Macro-F1 (decided at probability .5), balanced accuracy (at the training prevalence) and log-loss."""
    series: dict[str, list[Pair]] = {"macro_f1": [], "balanced_accuracy": [], "log_loss": []}
    labels = rows.labels[:, members]
    for site in held:
        chance = site.probabilities[:, members]
        partly = np.isnan(chance).any(axis=0)
        likely = chance >= site.prevalence[:, members]
        recall, false_alarms = (
            _pair(ClusterRates(likely, truth, rows.groups, "tpr"), weights) for truth in (labels, ~labels)
        )
        pairs = {
            "macro_f1": _pair(ClusterRates(chance >= 0.5, labels, rows.groups, "f1_yes"), weights),
            # Not (tpr + tnr) / 2, which rounds differently: tables on disk stay comparable to the last bit.
            "balanced_accuracy": tuple((r + 1 - f) / 2 for r, f in zip(recall, false_alarms, strict=True)),
            "log_loss": _pair(ClusterMean(log_loss(chance, labels), rows.groups), weights),
        }
        for measure, pair in pairs.items():
            value, draws = (nan_mean(np.where(partly, np.nan, part)) for part in pair)
            series[measure].append((value, draws))
    return {
        measure: (np.stack([value for value, _ in pairs]), np.stack([draws for _, draws in pairs], axis=1))
        for measure, pairs in series.items()
    }


def _pair(statistic: ClusterStatistic, weights: np.ndarray) -> Pair:
    return statistic.value, statistic.at(weights)


def _frame(
    index: np.ndarray, target: list[str], measure: str, pair: Pair, n: int | np.ndarray, factor: np.ndarray
) -> pd.DataFrame:
    value, draws = pair
    if measure in _DECIDED:
        factor = factor * OUT_OF_FOLD_DECISIONS
    lower, upper = np.clip(expanded(value, *interval(draws), factor), *_RANGES.get(measure, (0.0, 1.0)))
    if measure == "macro_f1":  # where no probability reaches .5 it is 0 in every draw, which is no certainty
        lower, upper = (np.where(value > 0, limit, np.nan) for limit in (lower, upper))
    numbers = {"value": value, "lower": lower, "upper": upper, "n": n}
    return pd.DataFrame({"index": index, "target": target, "measure": measure, **numbers})
