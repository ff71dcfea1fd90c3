"""Out-of-fold scores of probes: no probe has seen the leaf whose rows it scores, within or across modalities."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from probing.probes.fitted import Array, FittedProbes, Standardizer, unit_columns
from probing.probes.places import host, take_rows
from probing.probes.transfer import group_means, orthogonal_map, standardize_for

Fit = Callable[..., FittedProbes]


@dataclass(frozen=True)
class LabelledRows:
    """Rows of one modality: labels, the leaf each row shows, the fold that holds it out, labels that mean nothing.

    Attributes:
        controls: the labels of control tasks, one label a leaf.
        shuffled: labels permuted over single rows; None for no such draw.
    """

    labels: Bool[np.ndarray, "n targets"]
    groups: Shaped[np.ndarray, " n"]
    folds: Int[np.ndarray, " n"]
    controls: Bool[np.ndarray, "repeats n targets"]
    shuffled: Bool[np.ndarray, "draws n targets"] | None = None

    def __post_init__(self):
        meaningless = [self.controls] if self.shuffled is None else [self.controls, self.shuffled]
        lengths = {
            len(self.labels),
            len(self.groups),
            len(self.folds),
            *(each.shape[1] for each in meaningless),
        }
        if len(lengths) > 1 or any(each.shape[2:] != self.labels.shape[1:] for each in meaningless):
            raise ValueError(
                f"labels {self.labels.shape}, groups {len(self.groups)}, folds {len(self.folds)} and "
                f"controls {[each.shape for each in meaningless]} do not describe the same rows and targets"
            )

    @property
    def meaningless(self) -> list[Bool[np.ndarray, "n targets"]]:
        """The labels of the control tasks, then the shuffled ones."""
        return [*self.controls, *(() if self.shuffled is None else self.shuffled)]

    @property
    def spread(self) -> bool:
        """Whether rows of one leaf are in several folds, so that probes know the leaves that they score."""
        pairs = np.unique(np.stack([np.unique(self.groups, return_inverse=True)[1], self.folds]), axis=1)
        return pairs.shape[1] > len(np.unique(self.groups))

    @property
    def blocks(self) -> Bool[np.ndarray, "n columns"]:
        """Label columns: the targets, then those of each control task, then the shuffled ones."""
        return np.concatenate([self.labels, *self.meaningless], axis=1)


@dataclass
class HeldOut:
    """Scores [n, blocks, targets] by probes that never saw the row's leaf; block 0 is the real task.

    `undefined` lists (fold, target) where all training rows are of one class; the scores there are NaN. `within` says
    whether the probes were trained on rows of the same modality, which the limits of estimates depend on.
    """

    scores: Float[np.ndarray, "n blocks targets"]
    probabilities: Float[np.ndarray, "n targets"]
    prevalence: Float[np.ndarray, "n targets"]
    undefined: list[tuple[int, int]] = field(default_factory=list)
    within: bool = True

    @classmethod
    def empty(cls, rows: LabelledRows, within: bool) -> "HeldOut":
        """NaN everywhere."""
        n, width = rows.labels.shape
        scores = np.full((n, 1 + len(rows.meaningless), width), np.nan)
        unknown = np.full((n, width), np.nan)
        return cls(scores, unknown, unknown.copy(), within=within)

    def write(
        self, rows: np.ndarray, scores: Array, probes: FittedProbes, labels: np.ndarray, fold: int
    ) -> None:
        """Puts a fold's scores in place; columns whose training labels are all alike stay undefined."""
        width, positives = self.probabilities.shape[1], labels.sum(axis=0)
        bare = (positives == 0) | (positives == len(labels))
        self.scores[rows] = np.where(bare, np.nan, host(scores)).reshape(len(rows), -1, width)
        chance = host(probes.probabilities(scores))[:, :width]
        self.probabilities[rows] = np.where(bare[:width], np.nan, chance)
        self.prevalence[rows] = labels[:, :width].mean(axis=0)
        self.undefined += [(fold, int(target)) for target in np.flatnonzero(bare[:width])]


def held_out_scores(
    fit: Fit,
    features: Mapping[str, Float[Array, "n d"]],
    rows: Mapping[str, LabelledRows],
    train: str,
    tests: Sequence[tuple[str, str]],
    penalties: tuple[float, ...],
) -> tuple[dict[tuple[str, str], HeldOut], Float[np.ndarray, "d targets"]]:
    """Scores of each (modality, transform) in `tests` by probes trained on modality `train`, fold by fold.

    In every fold the probes see only rows of `train` outside the fold, and score the fold's rows of each test
    modality. With the scores come the targets' directions in the features of `train`: unit vectors along the
    mean of the folds' probes.
    """
    source = rows[train]
    results = {
        (modality, transform): HeldOut.empty(rows[modality], modality == train)
        for modality, transform in tests
    }
    width, direction = source.labels.shape[1], 0
    for fold in np.unique(source.folds):
        seen = np.flatnonzero(source.folds != fold)
        known, labels = take_rows(features[train], seen), source.blocks[seen]
        blocks = 1 + len(source.meaningless)
        probes = fit(known, labels.astype(np.float64), source.groups[seen], penalties, blocks=blocks)
        direction = direction + probes.raw_coefficients()[:, :width]
        for (modality, transform), held in results.items():
            in_fold = np.flatnonzero(rows[modality].folds == fold)
            coming = take_rows(features[modality], in_fold)
            if transform == "raw" or modality == train:
                values = probes.standardizer(coming)
            else:
                others = np.flatnonzero(rows[modality].folds != fold)
                beside, names = take_rows(features[modality], others), rows[modality].groups[others]
                values = _adapted(transform, coming, (beside, names), (known, source.groups[seen]), probes)
            held.write(in_fold, probes.scores_standardized(values), probes, labels, int(fold))
    return results, host(unit_columns(direction))


def _adapted(
    transform: str,
    coming: Array,
    beside: tuple[Array, np.ndarray],
    known: tuple[Array, np.ndarray],
    probes: FittedProbes,
) -> Array:
    """Rows of another modality as the probes shall see them; all is fitted to training leaves (`beside`, `known`)."""
    own = Standardizer.fit(beside[0])
    if transform != "procrustes":
        return standardize_for(transform, own, probes.standardizer, coming)
    names = np.intersect1d(beside[1], known[1])
    source = group_means(own(beside[0]), beside[1], names)
    goal = group_means(probes.standardizer(known[0]), known[1], names)
    return standardize_for(transform, own, probes.standardizer, coming, orthogonal_map(source, goal))
