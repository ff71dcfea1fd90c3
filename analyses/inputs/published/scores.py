"""Scores of the published study by condition, re-computed from its released files; its curves by removed evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyses.inputs.published.released import CONDITION, Released, condition_key, counts_file
from probing.stats import Estimate
from probing.stats.hierarchical import t_interval, table_interval

COUNTS, LISTS = "test_counts.csv", "systematic_lists.json"
DRAWS = 1_000
MEAN = "mean"
Row = dict[str, Any]


def curves(folder: Path) -> pd.DataFrame:
    """The study's curves (DINOv2, random ablation): macro-F1 by share of questions removed, for each LM, init, shuffle.

    Raises:
        FileNotFoundError: the folder does not hold the released files.
    """
    data = Released(folder)
    data.table(COUNTS)
    table = pd.DataFrame(conditions(data))
    kept = (table["target"] == "mean") & (table["encoder"] == "dinov2")
    table = table[kept & table["ablation"].isin(["random", "full"])]
    index = ["lm", "init", "shuffle", "ablation", "amount"]
    shares = table[table["measure"] == "share_of_questions"].set_index(index)["value"]
    means = table[table["measure"] == "macro_f1_crossed"].set_index(index)
    return means.assign(effective=shares).reset_index()


def row(section: str, key: str, target: str, measure: str, found: Estimate | float, **more: Any) -> Row:
    """A row of the result table; a bare number is a count or share, without a sampling error."""
    if not isinstance(found, Estimate):
        found = Estimate(float(found), float("nan"), float("nan"), int(more.pop("n", 1)))
    numbers = {"value": found.value, "lower": found.lower, "upper": found.upper, "n": found.n}
    return {"section": section, "key": key, "target": target, "measure": measure, **numbers, **more}


def conditions(data: Released) -> list[Row]:
    """Every condition on held-out hypernyms: mean over hypernym × seed, its parts, and its baseline.

    Without the counts of questions there is no share and no part of two classes, without the lists of systematic
    ablation none that is listed.
    """
    counts, majority = counts_of(data), data.table("majority_macro_f1.csv").set_index("run_name")
    lists, rows = data.mapping(LISTS) if data.has(LISTS) else {}, []
    for _, group in data.held_out().groupby(list(CONDITION), sort=True):
        about = {name: group[name].iloc[0] for name in CONDITION}
        test = counts_file(about["ablation"], about["amount"], about["shuffle"])
        table = group.pivot(index="seed", columns="hypernym", values="macro_f1")
        mean = {
            "macro_f1_crossed": table_interval(table.to_numpy()),
            "majority_macro_f1": t_interval(majority.loc[test].to_numpy(np.float64)),
            "sd_of_seed_means": exact(table.mean(axis=1).std(ddof=1), len(table)),
        }
        parts = {MEAN: table.columns, **{name: [name] for name in table.columns}}
        if counts:
            asked = int(counts["test_hyp"]["N"].sum())
            mean["share_of_questions"] = exact(counts[test]["N"].sum() / asked, asked)
            parts["two_classes"] = counts[test].index[(counts[test]["P"] > 0) & (counts[test]["neg"] > 0)]
        if lists and about["ablation"] == "systematic":
            listed = lists[str(about["amount"])]
            parts |= {"listed": listed, "unlisted": table.columns.difference(listed)}
        key = condition_key(about)
        rows += [row("conditions", key, MEAN, name, found, **about) for name, found in mean.items()]
        rows += [
            macro_f1("conditions", key, part, table[list(names)], about) for part, names in parts.items()
        ]
    return rows


def counts_of(data: Released) -> dict[str, pd.DataFrame]:
    """Questions per hypernym (N, P, neg) of each test file; none where the file is not there."""
    if not data.has(COUNTS):
        return {}
    return {str(name): group.set_index("hypernym") for name, group in data.table(COUNTS).groupby("ds")}


def exact(value: float, n: int) -> Estimate:
    """A number of `n` cases that has no sampling error of its own."""
    return Estimate(float(value), float("nan"), float("nan"), n)


def macro_f1(section: str, key: str, target: str, values: pd.DataFrame, about: Row) -> Row:
    """The row of a mean macro-F1 with the study's t-interval and the standard deviation of its values."""
    numbers = values.to_numpy(np.float64).ravel()
    sd = float(numbers[~np.isnan(numbers)].std(ddof=1))
    return row(section, key, target, "macro_f1", t_interval(numbers), sd=sd, **about)
