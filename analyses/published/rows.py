"""Rows of the `published` analysis: the study's tables of scores, re-computed from its released files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analyses.inputs.released import CONDITION, HEIGHTS, Released, condition_key, counts_file
from probing.stats import Estimate
from probing.stats.confusion import Confusion
from probing.stats.correlations import correlation
from probing.stats.hierarchical import bootstrap_table, t_interval

DRAWS = 1_000
MEAN = "mean"
Row = dict[str, Any]


def row(section: str, key: str, target: str, measure: str, found: Estimate | float, **more: Any) -> Row:
    """A row of the result table; a bare number is a count or share, without a sampling error."""
    if not isinstance(found, Estimate):
        found = Estimate(float(found), float("nan"), float("nan"), int(more.pop("n", 1)))
    numbers = {"value": found.value, "lower": found.lower, "upper": found.upper, "n": found.n}
    return {"section": section, "key": key, "target": target, "measure": measure, **numbers, **more}


def conditions(data: Released) -> list[Row]:
    """Every condition on held-out hypernyms: mean over hypernym × seed, its parts, and its baseline."""
    counts, majority = _counts(data), data.table("majority_macro_f1.csv").set_index("run_name")
    lists, rows = data.mapping("systematic_lists.json"), []
    for _, group in data.held_out().groupby(list(CONDITION), sort=True):
        about = {name: group[name].iloc[0] for name in CONDITION}
        test = counts_file(about["ablation"], about["amount"], about["shuffle"])
        table = group.pivot(index="seed", columns="hypernym", values="macro_f1")
        share = counts[test]["N"].sum() / counts["test_hyp"]["N"].sum()
        mean = {
            "macro_f1_bootstrap": bootstrap_table(table.to_numpy(), draws=DRAWS),
            "majority_macro_f1": t_interval(majority.loc[test].to_numpy(np.float64)),
            "sd_of_seed_means": _exact(table.mean(axis=1).std(ddof=1), len(table)),
            "share_of_questions": _exact(share, int(counts["test_hyp"]["N"].sum())),
        }
        both = counts[test].index[(counts[test]["P"] > 0) & (counts[test]["neg"] > 0)]
        parts = {MEAN: table.columns, "two_classes": both, **{name: [name] for name in table.columns}}
        if about["ablation"] == "systematic":
            listed = lists[str(about["amount"])]
            parts |= {"listed": listed, "unlisted": table.columns.difference(listed)}
        key = condition_key(about)
        rows += [row("conditions", key, MEAN, name, found, **about) for name, found in mean.items()]
        rows += [
            _macro_f1("conditions", key, part, table[list(names)], about) for part, names in parts.items()
        ]
    return rows


def runs(data: Released) -> list[Row]:
    """Every run of a condition: mean over hypernyms."""
    rows = []
    for name, group in data.held_out().groupby("run_name", sort=True):
        about = {column: group[column].iloc[0] for column in (*CONDITION, "seed")}
        rows.append(_macro_f1("runs", str(name), MEAN, group[["macro_f1"]], about))
    return rows


def as_printed(data: Released) -> list[Row]:
    """The released summary of all conditions, leaves and seen hypernyms included: no raw data, no check."""
    rows = []
    for line in data.published().to_dict("records"):
        about = {name: line[name] for name in CONDITION}
        half = line["ci95_half"]
        found = Estimate(line["mean"], line["mean"] - half, line["mean"] + half, int(line["n"]))
        target = line["experiment"].lower()
        rows.append(
            row("as_printed", condition_key(about), target, "macro_f1", found, sd=line["sd"], **about)
        )
    return rows


def majority(data: Released) -> list[Row]:
    """The majority baseline of every test file, under both policies for hypernyms with one class only."""
    rows, counts = [], _counts(data)
    for name, line in data.table("majority_macro_f1.csv").set_index("run_name").iterrows():
        rows.append(row("majority_macro_f1", str(name), MEAN, "study", t_interval(line.to_numpy(np.float64))))
        if str(name) not in counts:
            continue
        baseline = majority_of(counts[str(name)])
        recomputed, honest = baseline.macro_f1("study"), baseline.macro_f1("nan")
        rows.append(row("majority_macro_f1", str(name), MEAN, "from_counts", t_interval(recomputed)))
        rows.append(row("majority_macro_f1", str(name), MEAN, "two_classes", t_interval(honest)))
        rows.append(
            row(
                "majority_macro_f1",
                str(name),
                MEAN,
                "single_class",
                int(np.isnan(honest).sum()),
                n=len(honest),
            )
        )
    return rows


def majority_of(counts: pd.DataFrame) -> Confusion:
    """The answers of the majority baseline, from questions P (Yes) and neg (No) per hypernym."""
    yes, no = counts["P"].to_numpy(np.float64), counts["neg"].to_numpy(np.float64)
    return Confusion(yes, np.zeros_like(yes), np.zeros_like(no), no).majority()


def coherence(data: Released) -> list[Row]:
    """Mean visual coherence of each shuffle; what goes with macro-F1 where all evidence was removed.

    Beside visual coherence (avg_cosine) stands what the LM knows in text (backbone_acc, backbone_f1).
    """
    table, rows = data.coherence(), []
    for name, group in table.groupby("shuffle_type", sort=True):
        rows.append(
            row("visual_coherence", str(name), MEAN, "avg_cosine", t_interval(group["avg_cosine"].to_numpy()))
        )
    full = data.held_out().query("ablation == 'full' and encoder == 'dinov2'")
    joined = full.merge(
        table[["shuffle", "hypernym", "avg_cosine"]], on=["shuffle", "hypernym"], validate="m:1"
    )
    joined = joined.merge(_backbone(data), on=["lm", "hypernym"], how="left", validate="m:1")
    for _, group in joined.groupby(["lm", "init", "shuffle", "seed"], sort=True):
        about = {column: group[column].iloc[0] for column in (*CONDITION, "seed")}
        parts = [about["lm"], *([about["shuffle"]] if about["shuffle"] != "original" else [])]
        parts += [*(["random-init"] if about["init"] == "random" else []), f"seed{about['seed']}"]
        for cause in ("avg_cosine", "backbone_acc", "backbone_f1"):
            pair = group[[cause, "macro_f1"]].to_numpy(np.float64)
            if np.isnan(pair).any():
                continue
            for measure in ("pearson", "spearman"):
                found = correlation(pair, measure, DRAWS)
                rows.append(row("coherence_vs_f1", "_".join(parts), cause, measure, found, **about))
    return rows


def heights(data: Released) -> list[Row]:
    """Macro-F1 by the height of the hypernym, where all evidence was removed (DINOv2, names not shuffled)."""
    full = data.held_out().query("ablation == 'full' and encoder == 'dinov2' and shuffle == 'original'")
    full = full.assign(height=[HEIGHTS.get(name, 1) for name in full["hypernym"]])
    rows = []
    for _, group in full.groupby(["lm", "init", "height"], sort=True):
        about = {name: group[name].iloc[0] for name in CONDITION}
        key = about["lm"] + ("_random-init" if about["init"] == "random" else "")
        rows.append(_macro_f1("height", key, f"height{group['height'].iloc[0]}", group[["macro_f1"]], about))
    return rows


def _backbone(data: Released) -> pd.DataFrame:
    """The LMs' own text-only accuracy and macro-F1 per hypernym: lm, hypernym, backbone_acc, backbone_f1."""
    table = data.table("coherence_backbone.csv").drop_duplicates(["model", "hypernym"])
    names = data.lm_names()
    table = table.assign(lm=table["model"].str.lower(), hypernym=[names[name] for name in table["hypernym"]])
    return table[["lm", "hypernym", "backbone_acc", "backbone_f1"]]


def _counts(data: Released) -> dict[str, pd.DataFrame]:
    """Questions per hypernym (N, P, neg) of each test file."""
    return {
        str(name): group.set_index("hypernym") for name, group in data.table("test_counts.csv").groupby("ds")
    }


def _exact(value: float, n: int) -> Estimate:
    """A number of `n` cases that has no sampling error of its own."""
    return Estimate(float(value), float("nan"), float("nan"), n)


def _macro_f1(section: str, key: str, target: str, values: pd.DataFrame, about: Row) -> Row:
    numbers = values.to_numpy(np.float64).ravel()
    sd = float(numbers[~np.isnan(numbers)].std(ddof=1))
    return row(section, key, target, "macro_f1", t_interval(numbers), sd=sd, **about)
