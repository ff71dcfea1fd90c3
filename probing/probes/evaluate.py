"""Out-of-fold scores of probes, within a modality and across modalities, and the estimates they give."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd
from array_api_compat import array_namespace
from jaxtyping import Bool, Float, Int, Shaped

from probing.probes.fitted import Array, FittedProbes, Standardizer
from probing.probes.transfer import group_means, orthogonal_map, standardize_for
from probing.stats import ClusterAUROC, ClusterMean, ClusterRates, interval, log_loss, nan_mean

Fit = Callable[..., FittedProbes]
Pair = tuple[np.ndarray, np.ndarray]
_BOOTSTRAPPED = 5


@dataclass(frozen=True)
class LabelledRows:
    """Rows of one modality: labels, the leaf each row shows, the fold that holds it out, control labels."""

    labels: Bool[np.ndarray, "n targets"]
    groups: Shaped[np.ndarray, " n"]
    folds: Int[np.ndarray, " n"]
    controls: Bool[np.ndarray, "repeats n targets"]

    def __post_init__(self):
        lengths = {len(self.labels), len(self.groups), len(self.folds), self.controls.shape[1]}
        if len(lengths) > 1 or self.controls.shape[2:] != self.labels.shape[1:]:
            raise ValueError(
                f"labels {self.labels.shape}, groups {len(self.groups)}, folds {len(self.folds)} and "
                f"controls {self.controls.shape} do not describe the same rows and targets"
            )

    @property
    def blocks(self) -> Bool[np.ndarray, "n columns"]:
        """Label columns: the targets, then the targets of each control task."""
        return np.concatenate([self.labels, *self.controls], axis=1)


@dataclass
class HeldOut:
    """Scores [n, 1 + repeats, targets] by probes that never saw the row's leaf; block 0 is the real task."""

    scores: Float[np.ndarray, "n blocks targets"]
    probabilities: Float[np.ndarray, "n targets"]
    prevalence: Float[np.ndarray, "n targets"]
    undefined: list[str] = field(default_factory=list)


def held_out_scores(
    fit: Fit,
    features: Mapping[str, Float[Array, "n d"]],
    rows: Mapping[str, LabelledRows],
    train: str,
    tests: Sequence[tuple[str, str]],
    penalties: tuple[float, ...],
) -> dict[tuple[str, str], HeldOut]:
    """Scores of each (modality, transform) in `tests` by probes trained on modality `train`, fold by fold.

    In every fold the probes see only rows of `train` outside the fold, and score the fold's rows of each test
    modality. A target whose training rows are all of one class is scored not-a-number there, and `undefined`
    says so.
    """
    source, blocks = rows[train], rows[train].blocks
    repeats = 1 + len(source.controls)
    found = {key: _empty(rows[key[0]], repeats) for key in tests}
    for fold in np.unique(source.folds):
        seen = np.flatnonzero(source.folds != fold)
        known = _take(features[train], seen)
        probes = fit(known, blocks[seen].astype(np.float64), source.groups[seen], penalties, blocks=repeats)
        bare = _one_class(blocks[seen])
        for (modality, transform), held in found.items():
            here = np.flatnonzero(rows[modality].folds == fold)
            own = probes.standardizer
            bridge = None
            if modality != train and transform != "raw":
                others = np.flatnonzero(rows[modality].folds != fold)
                beside = _take(features[modality], others)
                own = Standardizer.fit(beside)
                if transform == "procrustes":
                    bridge = _bridge(
                        own(beside),
                        rows[modality].groups[others],
                        probes.standardizer(known),
                        source.groups[seen],
                    )
            values = standardize_for(
                transform, own, probes.standardizer, _take(features[modality], here), bridge
            )
            scores = probes.scores_standardized(values)
            _write(held, here, scores, probes, bare)
            held.prevalence[here] = source.labels[seen].mean(axis=0)
            held.undefined += [
                f"fold {fold}: target {t} has one class in training"
                for t in np.flatnonzero(bare[: source.labels.shape[1]])
            ]
    return found


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
    `selectivity` (their difference), `macro_f1`, `balanced_accuracy` and `log_loss` (nats). Columns: index
    (of the site), target, measure, value, lower, upper, n (clusters). At most five control tasks are
    bootstrapped.
    """
    sites, blocks = len(held), held[0].scores.shape[1]
    scores = np.stack([h.scores for h in held], axis=1)
    each, n = np.arange(sites), weights.shape[1]
    real = _auroc(scores[:, :, 0], rows.labels, rows, weights)
    floors = [
        _auroc(scores[:, :, 1 + r], rows.controls[r], rows, weights[: 1 if r >= _BOOTSTRAPPED else None])
        for r in range(blocks - 1)
    ]
    flat = real[0].ravel(), real[1].reshape(len(weights), -1)
    table = [_frame(np.repeat(each, len(targets)), list(targets) * sites, "auroc", flat, n)]
    series = {}
    for subset, members in subsets.items():
        here = list(members)
        auroc = _mean(real, here)
        found = {"auroc": auroc} | _decisions(held, rows, here, weights)
        if floors:
            control = [_mean(floor, here) for floor in floors]
            null = np.stack([value for value, _ in control])
            floor = null.mean(axis=0), np.mean([draws for _, draws in control[:_BOOTSTRAPPED]], axis=0)
            above = auroc[0] - floor[0], auroc[1] - floor[1]
            found |= {"control_auroc": floor, "selectivity": above}
            series[subset] = Series(auroc[0], auroc[1], above[0], above[1], null)
        table += [_frame(each, [subset] * sites, measure, pair, n) for measure, pair in found.items()]
    return pd.concat(table, ignore_index=True), series


def _mean(pair: Pair, members: list[int]) -> Pair:
    """Mean over some of the targets, which are the last axis."""
    return nan_mean(pair[0][..., members]), nan_mean(pair[1][..., members])


def _auroc(scores: np.ndarray, labels: np.ndarray, rows: LabelledRows, weights: np.ndarray) -> Pair:
    """Value [sites, targets] and draws [draws, sites, targets] of AUROC within folds."""
    n, sites, width = scores.shape
    statistic = ClusterAUROC(scores.reshape(n, -1), np.tile(labels, (1, sites)), rows.groups, rows.folds)
    return statistic.value.reshape(sites, width), statistic.at(weights).reshape(-1, sites, width)


def _decisions(
    held: Sequence[HeldOut], rows: LabelledRows, members: list[int], weights: np.ndarray
) -> dict[str, Pair]:
    """Macro-F1 (decided at probability .5), balanced accuracy (at the training prevalence) and log-loss."""
    found = {}
    labels = np.tile(rows.labels[:, members], (1, len(held)))
    chance = np.concatenate([h.probabilities[:, members] for h in held], axis=1)
    prevalence = np.concatenate([h.prevalence[:, members] for h in held], axis=1)
    partly = np.isnan(chance).any(axis=0)
    for measure, statistic in (
        ("macro_f1", ClusterRates(chance >= 0.5, labels, rows.groups, "f1")),
        ("balanced_accuracy", ClusterRates(chance >= prevalence, labels, rows.groups)),
        ("log_loss", ClusterMean(log_loss(chance, labels), rows.groups)),
    ):
        value, draws = (np.where(partly, np.nan, part) for part in (statistic.value, statistic.at(weights)))
        shape = (len(held), len(members))
        found[measure] = nan_mean(value.reshape(shape)), nan_mean(draws.reshape(-1, *shape))
    return found


def _frame(index: np.ndarray, target: list[str], measure: str, pair: Pair, n: int) -> pd.DataFrame:
    value, (lower, upper) = pair[0], interval(pair[1])
    return pd.DataFrame(
        {
            "index": index,
            "target": target,
            "measure": measure,
            "value": value,
            "lower": lower,
            "upper": upper,
            "n": n,
        }
    )


def _empty(rows, repeats):
    n, width = rows.labels.shape
    return HeldOut(
        np.full((n, repeats, width), np.nan), np.full((n, width), np.nan), np.full((n, width), np.nan)
    )


def _write(held, here, scores, probes, bare):
    """Puts a fold's scores in place, those of one-class columns as undefined."""
    width = held.probabilities.shape[1]
    values = host(scores)
    chance = host(probes.probabilities(scores))[:, :width]
    held.scores[here] = np.where(bare, np.nan, values).reshape(len(here), -1, width)
    held.probabilities[here] = np.where(bare[:width], np.nan, chance)


def _one_class(labels):
    positives = labels.sum(axis=0)
    return (positives == 0) | (positives == len(labels))


def _bridge(source, source_groups, goal, goal_groups):
    """Rotation of one modality's leaf means onto the other's, over the training leaves that both have."""
    names = np.intersect1d(source_groups, goal_groups)
    return orthogonal_map(group_means(source, source_groups, names), group_means(goal, goal_groups, names))


def _take(features: Array, index: np.ndarray) -> Array:
    xp = array_namespace(features)
    return xp.take(features, xp.asarray(index, device=getattr(features, "device", None)), axis=0)


def host(values: Any) -> np.ndarray:
    """The values as a NumPy array, wherever they live."""
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values)
