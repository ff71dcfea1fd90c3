"""Scoring: from a matrix of read-outs (test rows × hypernyms) to a long table of numbers with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped

from probing.stats import DRAWS, ClusterMean, Estimate, interval
from probing.stats.confusion import MEASURES, SingleClass
from probing.stats.hierarchical import leaf_weights, mean_over
from probing.stats.rates import statistics
from taxogen.world.taxonomy import Taxonomy

MEAN = "mean"
"""The target of a row that averages over hypernyms."""


def labels_of(
    table: pd.DataFrame, taxonomy: Taxonomy, hypernyms: Sequence[str] | None = None
) -> Bool[np.ndarray, "rows k"]:
    """Whether each row's leaf, as this world calls it, has each hypernym."""
    wanted = taxonomy.hypernyms if hypernyms is None else hypernyms
    if unknown := sorted(set(wanted) - set(taxonomy.hypernyms)):
        raise KeyError(f"hypernyms {unknown} are not in the taxonomy; known: {', '.join(taxonomy.hypernyms)}")
    columns = [taxonomy.hypernyms.index(name) for name in wanted]
    return np.asarray(taxonomy.labels(np.asarray(table["leaf"], dtype=str).tolist()))[:, columns]


def only_scored(
    scores: Float[np.ndarray, "rows k"],
    table: pd.DataFrame,
    taxonomy: Taxonomy,
    scored: Bool[np.ndarray, "leaves k"],
) -> Float[np.ndarray, "rows k"]:
    """The scores, not-a-number where a pair of leaf and hypernym is not to be scored (`Removal.scored`)."""
    place = {leaf: row for row, leaf in enumerate(taxonomy.leaves)}
    rows = np.array([place[leaf] for leaf in np.asarray(table["leaf"], dtype=str)])
    return np.where(scored[rows], np.asarray(scores, np.float64), np.nan)


def only_leaves(
    scores: Float[np.ndarray, "rows k"], table: pd.DataFrame, leaves: Sequence[str]
) -> Float[np.ndarray, "rows k"]:
    """The scores, not-a-number in the rows of other leaves: these stay clusters, so runs stay paired."""
    keep = np.isin(np.asarray(table["leaf"], dtype=str), list(leaves))
    return np.where(keep[:, None], np.asarray(scores, np.float64), np.nan)


def score_table(
    scores: Float[np.ndarray, "rows k"],
    table: pd.DataFrame,
    taxonomy: Taxonomy,
    *,
    hypernyms: Sequence[str] | None = None,
    threshold: float | Float[np.ndarray, " k"] = 0.0,
    single_class: SingleClass = "nan",
    draws: int = DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """A row per hypernym and measure, and their mean: target, measure, value, lower, upper, n.

    Measures: auroc, macro_f1, balanced_accuracy, accuracy, tpr, tnr, and majority_macro_f1, the baseline.
    A single hypernym has an interval over leaves, their mean ("mean") one over leaves and hypernyms. The last
    row is top1: how often the highest-scoring hypernym is one the leaf has. n counts leaves.

    Args:
        scores: read-outs, not-a-number where nothing is to be scored; higher means Yes.
        table: the rows, with the column `leaf` (what the world calls what is shown).
        taxonomy: what is above each leaf.
        hypernyms: the names of the columns; all of the taxonomy unless given.
        threshold: above it a score means Yes; a number, or one per column (`probing.stats.confusion.thresholds`).
        single_class: see `Confusion.macro_f1`.
        draws: bootstrap draws.
        seed: of the draws.

    Raises:
        ValueError: scores, rows and hypernyms do not match.
        KeyError: a leaf or hypernym is not in the taxonomy.
    """
    labels = labels_of(table, taxonomy, hypernyms)
    names = tuple(taxonomy.hypernyms if hypernyms is None else hypernyms)
    scores = np.asarray(scores, np.float64)
    if scores.shape != labels.shape:
        raise ValueError(
            f"scores are {scores.shape}, but there are {labels.shape[0]} rows and {labels.shape[1]} hypernyms"
        )
    leaves = np.asarray(table["leaf"], dtype=str)
    weights = leaf_weights(len(np.unique(leaves)), draws, seed)
    counts, rows = _leaves_counted(scores, leaves), []
    measures = statistics(
        (*MEASURES, "majority_macro_f1"),
        scores,
        labels,
        leaves,
        threshold=threshold,
        single_class=single_class,
    )
    for measure, found in measures.items():
        value, drawn = found.value, found.at(weights)
        lower, upper = interval(drawn)
        for k, name in enumerate(names):
            estimate = Estimate(float(value[k]), float(lower[k]), float(upper[k]), int(counts[k]))
            rows.append(_row(name, measure, estimate))
        rows.append(_row(MEAN, measure, mean_over(value[None], drawn[:, None], len(weights[0]), seed=seed)))
    rows.append(_row(MEAN, "top1", top1(scores, labels, leaves, weights)))
    return pd.DataFrame(rows)


def top1(
    scores: Float[np.ndarray, "rows k"],
    labels: Bool[np.ndarray, "rows k"],
    leaves: Shaped[np.ndarray, " rows"],
    weights: Float[np.ndarray, "draws clusters"],
) -> Estimate:
    """How often the highest-scoring hypernym is one that the leaf has; rows without a score are left out."""
    asked = ~np.isnan(scores).all(axis=1)
    best = np.where(np.isnan(scores), -np.inf, scores).argmax(axis=1)
    right = np.where(asked, labels[np.arange(len(labels)), best], np.nan)
    found = ClusterMean(right[:, None], leaves)
    lower, upper = interval(found.at(weights)[:, 0])
    return Estimate(float(found.value[0]), float(lower), float(upper), len(np.unique(leaves[asked])))


def named_leaves(
    leaves: Sequence[str], correct: Bool[np.ndarray, " rows"], at_least: float = 0.5
) -> tuple[str, ...]:
    """The leaves that the model names correctly on at least this share of their test pictures, sorted.

    Scores of an across-matched shuffle rest on these only (`only_leaves`).
    """
    names, codes = np.unique(np.asarray(leaves, dtype=str), return_inverse=True)
    share = np.bincount(codes, weights=np.asarray(correct, np.float64)) / np.bincount(codes)
    return tuple(str(name) for name in names[share >= at_least])


def _row(target: str, measure: str, estimate: Estimate) -> dict[str, object]:
    return {
        "target": target,
        "measure": measure,
        "value": estimate.value,
        "lower": estimate.lower,
        "upper": estimate.upper,
        "n": estimate.n,
    }


def _leaves_counted(scores: np.ndarray, leaves: np.ndarray) -> np.ndarray:
    """The number of leaves that have a score, per column."""
    names, codes = np.unique(leaves, return_inverse=True)
    seen = np.zeros((len(names), scores.shape[1]), bool)
    np.logical_or.at(seen, codes, ~np.isnan(scores))
    return seen.sum(axis=0)
