"""Rows of the `published` analysis that rest on single answers, of the VLMs and of the LMs alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from analyses.inputs.published.released import Released
from analyses.inputs.published.scores import DRAWS, MEAN, Row, row
from probing.stats import Estimate, draw_weights, estimate, interval, nan_mean
from probing.stats.confusion import RATES
from probing.stats.rates import statistics

POOLED = "pooled"
PARTS = ("selected", "all", "phrasing1", "phrasing2", "phrasing3", "phrasing4")


def questions(data: Released) -> list[Row]:
    """The single questions of an earlier data version, with intervals over leaves."""
    rows = []
    for name in data.question_files():
        table = data.table(name)
        given = _is_yes(table["predicted_answer"])
        key = name.removesuffix(".csv.gz")
        rows += answers("per_question", key, given, table[["hypernym", "concept", "answer"]])
    return rows


def lm_answers(data: Released, parts: Sequence[str] = PARTS) -> list[Row]:
    """The text questions to the LMs alone: by phrasing, all phrasings, and the one selected for each."""
    table = data.table("lm_yes_no.csv.gz")
    table = table.assign(concept=table["hyponym"], answer=table["label"])
    table["hypernym"] = table["pos_hypernym"].map(data.lm_names().__getitem__)
    chosen = {"selected": table["selected"], "all": table["selected"] | True}
    chosen |= {f"phrasing{number}": table["phrasing_id"] == number for number in (1, 2, 3, 4)}
    rows = []
    for lm in ("qwen3-0.6b", "qwen3-1.7b"):
        for name in parts:
            part = table[chosen[name]]
            score = part[f"{lm}_p_yes"].to_numpy()
            given = (part[f"{lm}_rank_yes"] < part[f"{lm}_rank_no"]).to_numpy()
            asked = part[["hypernym", "concept", "answer"]]
            rows += answers("lm_yes_no", f"{name}_{lm}", given, asked, score)
    return rows


def answers(
    section: str,
    key: str,
    given: Bool[np.ndarray, " rows"],
    asked: pd.DataFrame,
    score: Float[np.ndarray, " rows"] | None = None,
) -> list[Row]:
    """Scores of yes/no answers: all pooled, per hypernym, and the mean over hypernyms; intervals over leaves.

    `asked` has hypernym, concept and answer; with a graded score there is an AUROC as well.
    """
    truth, leaf = _is_yes(asked["answer"])[:, None], asked["concept"].to_numpy(str)
    names = sorted(set(asked["hypernym"]))
    about = np.where(asked["hypernym"].to_numpy()[:, None] == names, 1.0, np.nan)
    weights = draw_weights(len(np.unique(leaf)), DRAWS)
    rows = [row(section, key, POOLED, "n", len(truth)), row(section, key, POOLED, "n_pos", int(truth.sum()))]
    for targets, columns in (([POOLED], np.ones_like(truth, float)), (names, about)):
        labels = np.broadcast_to(truth, columns.shape)
        counted = (~np.isnan(columns)).sum(0)
        found = statistics(RATES, (given - 0.5)[:, None] * columns, labels, leaf, single_class="study")
        if score is not None:
            found |= statistics(["auroc"], score[:, None] * columns, labels, leaf)
        for measure, one in found.items():
            value, drawn = one.value, one.at(weights)
            lower, upper = interval(drawn)
            for k, target in enumerate(targets):
                number = Estimate(float(value[k]), float(lower[k]), float(upper[k]), int(counted[k]))
                rows.append(row(section, key, target, measure, number))
            if targets is names:
                mean = estimate(float(nan_mean(value)), nan_mean(drawn), len(names))
                rows.append(row(section, key, MEAN, measure, mean))
    return rows


def _is_yes(column: pd.Series) -> Bool[np.ndarray, " rows"]:
    return (column.str.lower() == "yes").to_numpy(bool)
