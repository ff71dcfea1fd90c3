"""The published study re-computed from its released data, with its faults beside the values.

    python -m analyses.published --data FOLDER [--out artifacts/published]

Reads: the released CSV and JSON files (docs/published.md says which); no run is needed.
Writes: published.json (every number, unrounded), published.parquet and .csv (the same, long), published.md (a
table to read), published.png and .svg (macro-F1 against the share of questions that was really removed).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from analyses.frame.tables import save
from analyses.inputs.released import Released
from analyses.published import rows
from analyses.published.answers import lm_answers, questions
from analyses.published.design import design
from analyses.published.text import faults, to_markdown
from probing.store.files import write_json, write_whole

SECTIONS: tuple[Callable[[Released], list[rows.Row]], ...] = (
    rows.conditions,
    rows.runs,
    rows.as_printed,
    questions,
    lm_answers,
    rows.majority,
    rows.coherence,
    rows.heights,
    design,
)
SHUFFLE_COLOURS = {"original": "#1b9e77", "within": "#d95f02", "across": "#7570b3"}


def compute(data: Released) -> pd.DataFrame:
    """A row per number: section, key (a condition, run or file), target, measure, value, lower, upper, n, sd.

    Intervals of macro_f1 are the study's t-intervals over hypernym × seed; those of macro_f1_bootstrap
    resample hypernyms and seeds; those of single questions resample leaves.
    """
    table = pd.DataFrame([row for section in SECTIONS for row in section(data)])
    return table.assign(analysis="published")


def nested(table: pd.DataFrame) -> dict[str, Any]:
    """The table as section → key → target → measure → {value, lower, upper, n, sd}, limits where defined."""
    result: dict[str, Any] = {}
    for line in table.to_dict("records"):
        numbers = {
            name: line[name] for name in ("value", "lower", "upper", "sd") if not _undefined(line[name])
        }
        place = result.setdefault(line["section"], {}).setdefault(line["key"], {})
        place.setdefault(line["target"], {})[line["measure"]] = {**numbers, "n": int(line["n"])}
    return result


def draw(table: pd.DataFrame) -> Figure:
    """Macro-F1 on held-out hypernyms against the share of questions removed, by LM and kind of ablation."""
    mean = table[
        (table["section"] == "conditions") & (table["target"] == "mean") & (table["encoder"] == "dinov2")
    ]
    index = ["lm", "init", "shuffle", "ablation", "amount"]
    wide = mean.pivot(index=index, columns="measure", values=["value", "lower", "upper"]).reset_index()
    lms = sorted(set(wide["lm"]))
    figure = plt.figure(figsize=(3.1 * len(lms), 5.8), layout="constrained")
    axes = figure.subplots(2, len(lms), sharex=True, sharey=True, squeeze=False)
    for line, kind in enumerate(("random", "systematic")):
        for panel, lm in zip(axes[line], lms, strict=True):
            part = wide[(wide["lm"] == lm) & wide["ablation"].isin([kind, "full"])]
            for (init, shuffle), curve in part.groupby(["init", "shuffle"]):
                _curve(panel, curve.sort_values(("value", "share_of_questions")), str(init), str(shuffle))
            panel.set_title(f"{lm}, {kind}" if line == 0 else kind, fontsize=9)
    axes[0][0].set_ylim(0, 1)
    figure.supxlabel(
        "share of hypernym questions removed (bands: 95 % bootstrap over 53 hypernyms × 3 seeds)", fontsize=9
    )
    figure.supylabel("macro-F1 on held-out hypernyms", fontsize=9)
    handles, labels = axes[0][-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, fontsize=8, frameon=False)
    return figure


def main(argv: list[str] | None = None) -> None:
    """Parses the command line, computes, saves and says where."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the released files")
    parser.add_argument("--out", type=Path, default=Path("artifacts/published"))
    options = parser.parse_args(argv)
    table = compute(Released(options.data))
    save(table, options.out, "published")
    found = faults(table)
    write_json(options.out / "published.json", {**nested(table), "faults": found})
    text = to_markdown(table, found)
    write_whole(options.out / "published.md", lambda part: part.write_text(text, encoding="utf-8"))
    figure = draw(table)
    for kind in ("png", "svg"):
        write_whole(
            options.out / f"published.{kind}",
            lambda part, kind=kind: figure.savefig(part, format=kind, dpi=150),
        )
    plt.close(figure)
    print(text.split("## Other tables")[0])
    print(text[text.index("## Faults") :])
    print(f"written: {options.out}/published.json, .parquet, .csv, .md, .png, .svg")


def _curve(panel: Any, curve: pd.DataFrame, init: str, shuffle: str) -> None:
    colour = SHUFFLE_COLOURS[shuffle] if init == "pretrained" else "#666666"
    label = shuffle if init == "pretrained" else "random-init"
    share, measure = curve[("value", "share_of_questions")].astype(float), "macro_f1_bootstrap"
    panel.plot(
        share, curve[("value", measure)].astype(float), color=colour, marker="o", ms=3, lw=1, label=label
    )
    limits = (curve[(limit, measure)].astype(float) for limit in ("lower", "upper"))
    panel.fill_between(share, *limits, color=colour, alpha=0.2, lw=0)
    if shuffle == "original" and init == "pretrained":
        baseline = curve[("value", "majority_macro_f1")].astype(float)
        panel.plot(share, baseline, color="black", ls=":", lw=1, label="majority answer")


def _undefined(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
