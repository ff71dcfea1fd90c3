"""The main scores of a run: three numbers that a table of many runs shows."""

from __future__ import annotations

import numpy as np

from probing.stats import ClusterAUROC, ClusterMean, nan_mean
from taxogen.answers.rows import labels_of
from taxogen.answers.scores import Scores
from taxogen.questions import ablation
from taxogen.runs.run import Run

NAMES = ("auroc", "top1", "leaf_naming")
"""Mean AUROC over hypernyms whose evidence was removed (.5 by chance; over all where none was), how often the highest
read-out among them is true, and how often the shown leaf is named among `evaluate.leaf_choices`."""


def main_scores(run: Run) -> dict[str, float]:
    """The main scores of an evaluated run by name.

    Raises:
        FileNotFoundError, DamagedError, MismatchError: as `Scores.read`.
    """
    scores, data, taxonomy = Scores.read(run), run.config.data, run.taxonomy
    options = {"fraction": data.fraction, "rule": data.rule or None, "held_out": data.held_out}
    removal = ablation.plan(taxonomy, data.ablation, **options, seed=run.config.seed)
    pairs = removal.scored if removal.pairs.any() else np.ones_like(removal.true)
    leaves = scores.image["leaf"].to_numpy(str)
    rows = np.searchsorted(np.array(taxonomy.leaves), leaves)
    columns = [taxonomy.hypernyms.index(name) for name in scores.hypernyms]
    counted = pairs[rows][:, columns]
    values = np.where(counted, scores.image_scores.astype(np.float64), np.nan)
    labels = labels_of(scores.image, taxonomy, scores.hypernyms)
    best = np.where(counted, values, -np.inf).argmax(axis=1)
    right = labels[np.arange(len(labels)), best].astype(float)
    right[~(counted & labels).any(axis=1)] = np.nan
    of_rows = {"top1": right, "leaf_naming": scores.leaf_correct.astype(float)}
    means = {name: ClusterMean(value[:, None], leaves) for name, value in of_rows.items()}
    numbers = {"auroc": ClusterAUROC(values, labels, leaves), **means}
    return {name: float(nan_mean(numbers[name].value)) for name in NAMES}
