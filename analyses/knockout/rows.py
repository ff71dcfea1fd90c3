"""Tables of attention knock-out: read-outs with a path blocked, beside placebos, with intervals over leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.frame.tables import row, table
from probing.stats import ClusterMean, estimate, lower_band

MEASURES = ("margin", "top1")
BEYOND = "knocked out − placebo"


def knockout_table(
    parts: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"], seed: int
) -> pd.DataFrame:
    """Long table: margin (nats) and top-1 of each task clean, with a path blocked, and with as many other edges.

    `*_change` is relative to the clean pass, "knocked out − placebo" beyond the mean of the placebos. What a path
    carries at least beyond them, corrected over the windows (the one of all layers apart), is `*_loss_lower_band`.
    """
    rows: list[dict[str, Any]] = []
    whole = (int(parts["first"].min()), int(parts["last"].max()))
    for task, here in parts.groupby("task", sort=False):
        clean = here[here["edit"] == "none"].groupby("leaf")[list(MEASURES)].mean()
        leaves = clean.index.to_numpy().astype(str)
        labels: dict[str, Any] = {"modality": "image", "treatment": "", "target": str(task)}
        for measure in MEASURES:
            found = ClusterMean(clean[measure].to_numpy(), leaves)
            level = estimate(found.value[0], found.at(weights)[:, 0], len(leaves))
            rows.append(row(measure, level, site="all", span="", path="", window="", edit="none", **labels))
        for path, on in here[here["path"] != ""].groupby("path", sort=False):
            beyond: dict[str, list[tuple[str, float, np.ndarray]]] = {}
            for (first, last), part in on.groupby(["first", "last"]):  # pyright: ignore[reportGeneralTypeIssues]
                window = f"{first}-{last}"
                places: dict[str, Any] = {
                    "site": f"blocks.{first}.hook_attn_out",
                    "window": window,
                    "path": path,
                    "span": "",
                }
                for measure in MEASURES:
                    made = _changes(part, clean, measure, weights)
                    for (name, edit), (value, draws) in made.items():
                        rows.append(
                            row(name, estimate(value, draws, len(leaves)), **places, edit=edit, **labels)
                        )
                    if (first, last) != whole:
                        beyond.setdefault(measure, []).append((window, *made[f"{measure}_change", BEYOND]))
            rows += _bands(beyond, {"path": path, "span": "", "edit": BEYOND, **labels})
    return table(rows, "knockout", seed, extra=("path", "window", "edit"))


def _changes(
    part: pd.DataFrame, clean: pd.DataFrame, measure: str, weights: Float[np.ndarray, "draws leaves"]
) -> dict[tuple[str, str], tuple[float, Float[np.ndarray, " draws"]]]:
    """(measure, edit) → value and draws: levels and changes of the knock-out and of the mean placebo."""
    by_edit = part.groupby(["edit", "leaf"])[measure].mean().unstack("edit").reindex(clean.index)
    columns = np.column_stack([clean[measure], by_edit["knocked out"], by_edit["placebo"]])
    found = ClusterMean(columns, clean.index.to_numpy().astype(str))
    value, draws = found.value, found.at(weights)
    return {
        (measure, "knocked out"): (value[1], draws[:, 1]),
        (measure, "placebo"): (value[2], draws[:, 2]),
        (f"{measure}_change", "knocked out"): (value[1] - value[0], draws[:, 1] - draws[:, 0]),
        (f"{measure}_change", "placebo"): (value[2] - value[0], draws[:, 2] - draws[:, 0]),
        (f"{measure}_change", BEYOND): (value[1] - value[2], draws[:, 1] - draws[:, 2]),
    }


def _bands(
    beyond: dict[str, list[tuple[str, float, np.ndarray]]], labels: dict[str, Any]
) -> list[dict[str, Any]]:
    """How much is lost beyond the placebos at least, in all windows at once with 95 %."""
    rows = []
    for measure, found in beyond.items():
        limits = lower_band(
            -np.array([value for _, value, _ in found]), -np.column_stack([draws for *_, draws in found])
        )
        for (window, *_), limit in zip(found, limits):
            site = f"blocks.{window.split('-')[0]}.hook_attn_out"
            rows.append(row(f"{measure}_loss_lower_band", float(limit), site=site, window=window, **labels))
    return rows


def summary(table: pd.DataFrame) -> str:
    """What the table says: for each path, the windows in which it carries something beyond its placebo."""
    clean = table[(table["edit"] == "none") & (table["measure"] == "margin")].set_index("target")
    lines = [f"Paths of an answer, {', '.join(table['run'].unique())} (log-odds of right names, nats):"]
    for task in clean.index:
        level = clean.loc[task]
        lines.append(f"  {task}: clean {_estimate(level)}, n = {level['n']}")
        rows = table[(table["target"] == task) & (table["edit"] == BEYOND)]
        for path, here in rows.groupby("path", sort=False):
            changes = here[here["measure"] == "margin_change"]
            bands = here[here["measure"] == "margin_loss_lower_band"]
            said = changes[changes["window"].isin(bands.loc[bands["value"] > 0, "window"])]
            found = "; ".join(_said(one) for one in said.to_dict("records")) or "no window"
            whole = changes[~changes["window"].isin(bands["window"])].to_dict("records")
            lines.append(
                f"    {path}: {found} beyond placebo{''.join(f'; all layers {_said(one)}' for one in whole)}"
            )
    return "\n".join(lines)


def _said(one: dict) -> str:
    return f"{one['window']} {_estimate(one)}"


def _estimate(one: Any) -> str:
    return f"{one['value']:+.2f} [{one['lower']:+.2f}, {one['upper']:+.2f}]"
