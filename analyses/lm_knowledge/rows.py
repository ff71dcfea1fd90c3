"""Rows of the `lm_knowledge` analysis: scores in words, and their agreement with the answers about pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from analyses.frame.section import number_text
from analyses.inputs.answers import Answers
from analyses.inputs.conditions import Condition
from analyses.inputs.intervals import DEFAULT, Aligned, Rule, within
from analyses.inputs.measures import decided_alike, fewest, prevalence_matched
from analyses.lm_knowledge.readouts import Knowledge
from probing.stats import ClusterAUROC, ClusterRates, ClusterStatistic, Estimate, bounds_text
from probing.stats.correlations import MEASURES as CORRELATIONS
from probing.stats.correlations import correlation
from probing.stats.hierarchical import leaf_weights, mean_over
from taxogen.answers import READOUTS

RATES = ("macro_f1", "balanced_accuracy", "tpr", "tnr")
PICTURES = ("any", "all")
"""Whether any or all pictures of a leaf must be answered Yes for the model to be said to know a pair."""
Row = dict[str, Any]
TARGETS = ("mean", "auroc")


def knowledge_table(
    known: Sequence[Knowledge], found: Mapping[int, Sequence[Condition]] | None = None, rule: Rule = DEFAULT
) -> pd.DataFrame:
    """The long table: scores of each language model by each read-out, and its conditions' agreement with them.

    Intervals of means resample hypernyms and leaves, of a hypernym leaves; `n` counts leaf concepts (of a height:
    hypernyms). `decision` says when an answer is Yes: for as many leaves as have the hypernym (prevalence), or above
    a read-out of zero. A hypernym's height is the longest way down to a leaf.

    Args:
        known: by language model, list and read-out.
        found: for places in `known` the conditions whose answers about pictures are compared with it.
        rule: how intervals are made.
    """
    rows = [row for one in known for row in knowledge_rows(one, rule)]
    for place, members in (found or {}).items():
        rows += [row for condition in members for row in agreement_rows(known[place], condition, rule)]
    return pd.DataFrame(columns_in_order(rows)).assign(analysis="lm_knowledge", seed=rule.seed)


def knowledge_rows(known: Knowledge, rule: Rule) -> Iterator[Row]:
    """Scores of one language model by one read-out: per template and their mean, per hypernym, by height."""
    labels = np.asarray(known.leaves.taxonomy.labels(known.leaves.taxonomy.leaves))
    several = len(known.scores) > 1
    for prompt, scores in {**known.scores, **({"mean of templates": known.mean} if several else {})}.items():
        common = {**known.about, "leaves": known.leaves.name, "prompt": prompt}
        for measure, decision, made in _statistics(known, scores, labels):
            columns = known.leaves.taxonomy.hypernyms
            one = [Aligned(made, columns, made.clusters, columns)]
            here = {**common, "measure": measure, "decision": decision}
            yield here | _numbers("mean", rule.mean(one, len(labels)))
            yes, no = labels.sum(axis=0), (~labels).sum(axis=0)
            few = np.where(decided_alike(made, measure, yes <= no), 0, fewest(measure, yes, no))
            found = rule.each(one, labels.sum(axis=0), few)
            yield from (here | _numbers(name, number) for name, number in zip(columns, found, strict=True))
            if measure == "auroc":
                yield from (here | row for row in _by_height(known, one[0], rule))


def agreement_rows(known: Knowledge, condition: Condition, rule: Rule) -> Iterator[Row]:
    """Agreement of the answers about pictures with the language model's answers about the same leaves in words.

    agreement: the share of pairs of leaf and hypernym about which both say the same; kappa: that beyond chance;
    yes_if_known and yes_if_unknown: how often a true pair is answered Yes for pictures where words know it and where
    they do not. Means over seeds; intervals over leaves and seeds. pearson and spearman: AUROC of each hypernym in
    words and for pictures, over hypernyms.
    """
    common = {
        **known.about,
        "leaves": known.leaves.name,
        "prompt": " + ".join(known.scores),
        "condition": condition.name,
        "runs": len(condition.answers),
    }
    for pictures in PICTURES:
        counts = [_counts(known, answers, condition, pictures) for answers in condition.answers]
        for measure, found in _agreement(np.stack(counts), rule).items():
            yield (
                common
                | {"measure": measure, "pictures": pictures, "decision": "prevalence"}
                | _numbers("mean", found)
            )
    pair = np.stack([_auroc_in_words(known, condition), _auroc_of_pictures(condition)], axis=1)
    for measure in CORRELATIONS:
        found = correlation(pair, measure, rule.draws, rule.seed)
        yield common | {"measure": measure, "decision": ""} | _numbers("auroc", found)


def _statistics(
    known: Knowledge, scores: np.ndarray, labels: np.ndarray
) -> Iterator[tuple[str, str, ClusterStatistic]]:
    """(measure, decision, statistic); some read-outs have a threshold of their own, 0, besides the prevalence."""
    leaves = np.array(known.leaves.taxonomy.leaves)
    yield "auroc", "", ClusterAUROC(scores.astype(np.float64), labels, leaves)
    given = {"prevalence": prevalence_matched(scores.astype(np.float64), labels) > 0}
    given |= {"zero": scores > 0} if "zero" in READOUTS[known.about["readout"]].decisions else {}
    for decision, decided in given.items():
        for measure in RATES:
            yield measure, decision, ClusterRates(decided, labels, leaves, measure)


def _by_height(known: Knowledge, found: Aligned, rule: Rule) -> Iterator[Row]:
    """Mean AUROC of the hypernyms of each height, and the rank correlation of height with AUROC."""
    names = known.leaves.taxonomy.hypernyms
    heights = np.array([known.leaves.heights[name] for name in names])
    weights = leaf_weights(len(found.clusters), rule.draws, rule.seed)
    value, drawn = found.value, found.at(weights)
    for height in np.unique(heights):
        here = heights == height
        number = mean_over(
            value[None, here],
            drawn[:, None, here],
            int(here.sum()),
            over=("hypernym",),
            leaves=len(found.clusters),
        )
        yield {"measure": "auroc_by_height", **_numbers(f"height {height}", within(number))}
    number = correlation(np.stack([heights, value], axis=1), "spearman", rule.draws, rule.seed)
    yield {"measure": "spearman_height", **_numbers("auroc", number)}


def _counts(
    known: Knowledge, answers: Answers, condition: Condition, pictures: str
) -> Float[np.ndarray, "leaves cells"]:
    """Per leaf of the list the pairs by what words and pictures say: both, words alone, pictures alone, neither;
    then the true pairs in the same order.
    """
    taxonomy, part = known.leaves.taxonomy, condition.headline
    values, labels, leaves = answers.read(part)
    rows_of = [np.flatnonzero(leaves == leaf) for leaf in taxonomy.leaves]
    said = prevalence_matched(values, labels)
    columns = [answers.scores.hypernyms.index(name) for name in taxonomy.hypernyms]
    true = np.asarray(taxonomy.labels(taxonomy.leaves))
    words = prevalence_matched(known.mean.astype(np.float64), true) > 0
    cells = np.zeros((len(taxonomy.leaves), 8))
    for place, rows in enumerate(rows_of):
        if not len(rows):
            continue
        here = said[rows][:, columns]
        asked = ~np.isnan(here).any(axis=0)
        yes = np.asarray((here > 0).any(axis=0) if pictures == "any" else (here > 0).all(axis=0))
        kinds = _four(words[place], yes)
        cells[place] = [*(kinds & asked).sum(axis=1), *(kinds & asked & true[place]).sum(axis=1)]
    return cells


def _four(words: Bool[np.ndarray, " k"], yes: Bool[np.ndarray, " k"]) -> Bool[np.ndarray, "cells k"]:
    return np.stack([words & yes, words & ~yes, ~words & yes, ~words & ~yes])


def _agreement(counts: Float[np.ndarray, "seeds leaves cells"], rule: Rule) -> Mapping[str, Estimate]:
    """Estimates of agreement from the cells of every leaf: the mean over seeds, under resampled leaves and seeds."""
    used = int((counts.sum(axis=(0, 2)) > 0).sum())
    weights = leaf_weights(counts.shape[1], rule.draws, rule.seed)
    drawn = np.einsum("dl,slc->dsc", weights, counts)
    values, samples = _measures(counts.sum(axis=1)), _measures(drawn)
    estimates = {
        name: mean_over(values[name][:, None], samples[name][:, :, None], used, over=("seed",))
        for name in values
    }
    return {name: within(one, -1.0 if name == "kappa" else 0.0) for name, one in estimates.items()}


def _measures(cells: Float[np.ndarray, "*any cells"]) -> dict[str, Float[np.ndarray, "*any"]]:
    both, words, pictures, neither = (cells[..., k] for k in range(4))
    n = both + words + pictures + neither
    agree = _share(both + neither, n)
    chance = _share((both + words) * (both + pictures) + (neither + words) * (neither + pictures), n * n)
    known, missed, guessed, unknown = (cells[..., k] for k in range(4, 8))
    return {
        "agreement": agree,
        "kappa": _share(agree - chance, 1 - chance),
        "yes_if_known": _share(known, known + missed),
        "yes_if_unknown": _share(guessed, guessed + unknown),
    }


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def _auroc_in_words(known: Knowledge, condition: Condition) -> Float[np.ndarray, " hypernyms"]:
    taxonomy = condition.answers[0].taxonomy
    labels = np.asarray(taxonomy.labels(taxonomy.leaves))
    return ClusterAUROC(known.mean.astype(np.float64), labels, np.array(taxonomy.leaves)).value


def _auroc_of_pictures(condition: Condition) -> Float[np.ndarray, " hypernyms"]:
    """AUROC of each hypernym of the taxonomy, mean over seeds."""
    values = []
    for answers in condition.answers:
        columns = [answers.scores.hypernyms.index(name) for name in answers.taxonomy.hypernyms]
        values.append(ClusterAUROC(*answers.read(condition.headline)).value[columns])
    return np.mean(values, axis=0)


def _numbers(target: str, found: Estimate) -> Row:
    return {"target": target, **found.__dict__}


def columns_in_order(rows: Sequence[Row]) -> list[Row]:
    """The rows with every column in each, those that do not apply empty."""
    names = ("lm", "init", "lm_seed", "leaves", "readout", "prompt", "condition", "pictures", "decision")
    return [{**dict.fromkeys(names, ""), **row} for row in rows]


def summary(table: pd.DataFrame) -> str:
    """The means, heights and agreements as lines a person can read."""
    lines = [f"{'':58}{'measure':18}{'value':>7}  95 % interval      n"]
    shown = table[~table["measure"].isin(["auroc", "macro_f1", "balanced_accuracy", "tpr", "tnr"])]
    for row in pd.concat([table[table["target"] == "mean"], shown]).drop_duplicates().to_dict("records"):
        words = [
            row[name] for name in ("lm", "init", "readout", "prompt", "condition", "pictures", "decision")
        ]
        target = [] if row["target"] in TARGETS else [row["target"]]
        name = " ".join(str(word) for word in [*filter(None, words), *target])
        value, limits = number_text(row["value"], 3), bounds_text(row["lower"], row["upper"])
        lines.append(f"{name:57} {row['measure']:18}{value:>7}  {limits:14}{row['n']:7d}")
    return "\n".join(lines)
