"""Tables of attention knock-out: read-outs with a path blocked, beside placebos, with intervals over leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.frame.tables import row, table
from probing.stats import ClusterMean, estimate, lower_band

MEASURES = ("margin", "top1")
BEYOND = "knocked out − placebo"

_Drawn = tuple[float, Float[np.ndarray, " draws"]]
"""A value, and the same under bootstrap weights."""


def knockout_table(
    parts: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"], seed: int
) -> pd.DataFrame:
    """Long table: margin (nats) and top-1 of each task clean, with a path blocked, and with as many other edges.

    `*_change` is relative to the clean pass, "knocked out − placebo" beyond the mean of the placebos. What a path
    carries at least beyond them, corrected over the windows (the one of all layers apart), is `*_loss_lower_band`.
    """
    rows: list[dict[str, Any]] = []
    whole = f"{parts['first'].min()}-{parts['last'].max()}"
    for task, of_task in parts.groupby("task", sort=False):
        clean = of_task[of_task["edit"] == "none"].groupby("leaf")[list(MEASURES)].mean()
        labels: dict[str, Any] = {"modality": "image", "treatment": "", "target": str(task), "span": ""}
        rows += _clean_rows(clean, weights, {**labels, "site": "all", "path": "", "window": ""})
        for path, of_path in of_task[of_task["path"] != ""].groupby("path", sort=False):
            changes = {
                f"{first}-{last}": _changes(part, clean, weights)
                for (first, last), part in of_path.groupby(["first", "last"])  # pyright: ignore[reportGeneralTypeIssues]
            }
            labels |= {"path": str(path)}
            for window, drawn in changes.items():
                for (measure, edit), (value, draws) in drawn.items():
                    level = estimate(value, draws, len(clean))
                    rows.append(row(measure, level, **_place(window), edit=edit, **labels))
            rows += _bands({name: drawn for name, drawn in changes.items() if name != whole}, labels)
    return table(rows, "knockout", seed, extra=("path", "window", "edit"))


def _place(window: str) -> dict[str, Any]:
    return {"window": window, "site": f"blocks.{window.split('-')[0]}.hook_attn_out"}


def _clean_rows(
    clean: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"], labels: Mapping[str, Any]
) -> list[dict[str, Any]]:
    rows = []
    for measure in clean:
        mean = ClusterMean(clean[measure].to_numpy(), clean.index.to_numpy().astype(str))
        level = estimate(mean.value[0], mean.at(weights)[:, 0], len(clean))
        rows.append(row(str(measure), level, edit="none", **labels))
    return rows


def _changes(
    part: pd.DataFrame, clean: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"]
) -> dict[tuple[str, str], _Drawn]:
    """(measure, edit) → value and draws: levels and changes of the knock-out and of the mean placebo."""
    changes: dict[tuple[str, str], _Drawn] = {}
    for measure in MEASURES:
        by_edit = part.groupby(["edit", "leaf"])[measure].mean().unstack("edit").reindex(clean.index)
        columns = np.column_stack([clean[measure], by_edit["knocked out"], by_edit["placebo"]])
        means = ClusterMean(columns, clean.index.to_numpy().astype(str))
        value, draws = means.value, means.at(weights)
        changes |= {
            (measure, "knocked out"): (value[1], draws[:, 1]),
            (measure, "placebo"): (value[2], draws[:, 2]),
            (f"{measure}_change", "knocked out"): (value[1] - value[0], draws[:, 1] - draws[:, 0]),
            (f"{measure}_change", "placebo"): (value[2] - value[0], draws[:, 2] - draws[:, 0]),
            (f"{measure}_change", BEYOND): (value[1] - value[2], draws[:, 1] - draws[:, 2]),
        }
    return changes


def _bands(
    changes: Mapping[str, Mapping[tuple[str, str], _Drawn]], labels: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """How much is lost beyond the placebos at least, in all windows at once with 95 %."""
    rows = []
    for measure in MEASURES if changes else ():
        drawn = [of_window[f"{measure}_change", BEYOND] for of_window in changes.values()]
        value, draws = np.array([value for value, _ in drawn]), np.column_stack([draws for _, draws in drawn])
        for window, limit in zip(changes, lower_band(-value, -draws)):
            rows.append(
                row(f"{measure}_loss_lower_band", float(limit), **_place(window), edit=BEYOND, **labels)
            )
    return rows


def summary(table: pd.DataFrame) -> str:
    """For each path, in a few lines, the windows in which it carries something beyond its placebo."""
    clean = table[(table["edit"] == "none") & (table["measure"] == "margin")].set_index("target")
    lines = [f"Paths of an answer, {', '.join(table['run'].unique())} (log-odds of right names, nats):"]
    for task in clean.index:
        level = clean.loc[task]
        lines.append(f"  {task}: clean {_interval(level)}, n = {level['n']}")
        rows = table[(table["target"] == task) & (table["edit"] == BEYOND)]
        lines += [f"    {path}: {_path(of_path)}" for path, of_path in rows.groupby("path", sort=False)]
    return "\n".join(lines)


def _path(rows: pd.DataFrame) -> str:
    changes = rows[rows["measure"] == "margin_change"]
    bands = rows[rows["measure"] == "margin_loss_lower_band"]
    above = changes[changes["window"].isin(bands.loc[bands["value"] > 0, "window"])]
    whole = changes[~changes["window"].isin(bands["window"])]
    text = f"{'; '.join(_windows(above)) or 'no window'} beyond placebo"
    return "; all layers ".join([text, *_windows(whole)])


def _windows(rows: pd.DataFrame) -> Sequence[str]:
    return [f"{one['window']} {_interval(one)}" for one in rows.to_dict("records")]


def _interval(one: Mapping[Any, Any] | pd.Series) -> str:
    return f"{one['value']:+.2f} [{one['lower']:+.2f}, {one['upper']:+.2f}]"
