"""The summary of a table of circuits: effect, curves and areas of each modality, what they share, strongest paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analyses.circuits.halves import MODALITIES, WORDS
from analyses.circuits.rows import FOUND
from analyses.circuits.search import RANDOM
from analyses.frame.tables import estimate_text


def summary(table: pd.DataFrame) -> str:
    """The table in some twenty lines."""
    runs = ", ".join(table["run"].unique())
    lines = [
        f"Heads and MLPs that carry the hypernym, {runs} (sets of one half of the leaves, tested on the other):"
    ]
    for modality in MODALITIES:
        lines += _modality(table[table["modality"] == modality], WORDS[modality])
    return "\n".join([*lines, *_sharing(table)])


def _modality(rows: pd.DataFrame, name: str) -> list[str]:
    effect, ranks = (rows[rows["measure"] == measure].iloc[0] for measure in ("effect", "rank_agreement"))
    lines = [
        f"  {name}: all parts together {estimate_text(effect)} nats, n = {effect['n']} leaves; contributions "
        f"rank parts as their ablation alone does: {estimate_text(ranks)}"
    ]
    if rows.loc[rows["measure"] == "faithfulness", "value"].isna().all():
        return [*lines, "    which may be 0 or less: no share of it is taken", *_paths(rows)]
    for order in (*FOUND, *RANDOM):
        curve = rows[(rows["order"] == order) & (rows["measure"] == "faithfulness")]
        area = rows[(rows["order"] == order) & (rows["measure"] == "faithfulness_area")].iloc[0]
        at = ", ".join(f"{row['size']}: {row['value']:.2f}" for row in curve.to_dict("records"))
        lines.append(f"    {order:15} faithful at {at}; area {estimate_text(area)}")
    beyond = rows[rows["measure"] == "faithfulness_area_excess"].to_dict("records")
    for random in RANDOM:
        (number,) = (row for row in beyond if row["order"] == f"attribution − {random}")
        lines.append(f"    attribution beyond {random} sets: area {estimate_text(number)}")
    return lines + _paths(rows)


def _paths(rows: pd.DataFrame) -> list[str]:
    """The strongest route of each path that counts."""
    losses = rows[rows["measure"] == "loss"]
    counted = rows[(rows["measure"] == "counts") & (rows["value"] > 0)]
    lines = []
    for path, of_path in losses.groupby("path", sort=False):
        one: Mapping[Any, Any] = max(of_path.to_dict("records"), key=lambda row: row["value"])
        number = int((counted["path"] == path).sum())
        lines.append(
            f"    path {path}: most from {one['sender']} to {one['receiver']}, {estimate_text(one)} nats; "
            f"{number} of {len(of_path)} routes count"
        )
    return lines


def _sharing(table: pd.DataFrame) -> list[str]:
    rows = table[table["target"] == "sets"]
    lines = []
    for size in sorted(rows["size"].unique()):
        of_size = rows[rows["size"] == size]
        value = of_size.set_index(["measure", "order"])["value"]
        jaccard = {name: value["jaccard", name] for name in ("words and pictures", "words", "pictures")}
        chance = "; ".join(
            f"{value['shared_expected', null]:.1f} by chance of {null}, p = {value['shared_p_corrected', null]:.2g}"
            for null in ("any parts", "same layers")
        )
        lines.append(
            f"  sets of {size}: words' and pictures' share {value['shared', 'any parts']:.1f} ({chance}); Jaccard "
            f"across halves {jaccard['words and pictures']:.2f}, within words {jaccard['words']:.2f}, within pictures "
            f"{jaccard['pictures']:.2f}"
        )
    return lines
