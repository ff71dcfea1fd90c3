"""Rows of the `published` analysis: the study's tables of scores, re-computed from its released files."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyses.inputs.published.released import CONDITION, HEIGHTS, Released, condition_key
from analyses.inputs.published.scores import DRAWS, MEAN, Row, counts_of, macro_f1, row
from probing.stats import Estimate
from probing.stats.confusion import Confusion
from probing.stats.correlations import correlation
from probing.stats.hierarchical import t_interval


def runs(data: Released) -> list[Row]:
    """Every run of a condition: mean over hypernyms."""
    rows = []
    for name, group in data.held_out().groupby("run_name", sort=True):
        about = {column: group[column].iloc[0] for column in (*CONDITION, "seed")}
        rows.append(macro_f1("runs", str(name), MEAN, group[["macro_f1"]], about))
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
    rows, counts = [], counts_of(data)
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
    """Mean visual coherence of each shuffle; correlates of macro-F1 where all evidence was removed.

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
        rows.append(macro_f1("height", key, f"height{group['height'].iloc[0]}", group[["macro_f1"]], about))
    return rows


def _backbone(data: Released) -> pd.DataFrame:
    """The LMs' own text-only accuracy and macro-F1 per hypernym: lm, hypernym, backbone_acc, backbone_f1."""
    table = data.table("coherence_backbone.csv").drop_duplicates(["model", "hypernym"])
    names = data.lm_names()
    table = table.assign(lm=table["model"].str.lower(), hypernym=[names[name] for name in table["hypernym"]])
    return table[["lm", "hypernym", "backbone_acc", "backbone_f1"]]
