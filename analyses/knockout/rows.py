"""Tables of attention knock-out: read-outs with a path blocked, beside placebos: intervals, and ranks among draws."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.frame.tables import estimate_text, row, table
from probing.edits.placebos import FEWEST, over_clusters, over_draws, rank_p
from probing.stats import ClusterMean, Estimate

MEASURES = ("margin", "top1")
BEYOND = "knocked out − placebo"
LEVEL = 0.05
_signed = partial(estimate_text, form="+.2f")


def knockout_table(
    parts: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"], seed: int
) -> pd.DataFrame:
    """Long table: margin (nats) and top-1 of each task clean, with a path blocked, and with random sets of edges.

    `*_change` is relative to the clean pass: with the path blocked, with the edges of each draw ("placebo 7"), in the
    mean of these ("placebo"), and of the path beyond this mean. Limits are over leaves; those of the mean placebo, and
    beyond it, over draws as well. `*_change_p` is the rank of the path's loss among those of the draws, corrected over
    windows in `*_change_p_corrected` (the window of all layers apart); NaN with fewer than 19 draws.
    """
    rows: list[dict[str, Any]] = []
    whole = f"{parts['first'].min()}-{parts['last'].max()}"
    for task, of_task in parts.groupby("task", sort=False):
        clean = of_task[of_task["edit"] == "none"].groupby("leaf")[list(MEASURES)].mean()
        labels: dict[str, Any] = {"modality": "image", "treatment": "", "target": str(task), "span": ""}
        rows += _clean_rows(clean, weights, {**labels, "site": "all", "path": "", "window": ""})
        for path, of_path in of_task[of_task["path"] != ""].groupby("path", sort=False):
            labels |= {"path": str(path)}
            changes: dict[str, dict[str, np.ndarray]] = {measure: {} for measure in MEASURES}
            for (first, last), part in of_path.groupby(["first", "last"]):  # pyright: ignore[reportGeneralTypeIssues]
                window = f"{first}-{last}"
                for measure in MEASURES:
                    levels = _by_set(part, measure, clean)
                    rows += _window_rows(levels, weights, measure, {**labels, **_place(window)})
                    changes[measure][window] = levels[:, 1:].mean(axis=0) - levels[:, 0].mean()
            for measure, of_windows in changes.items():
                rows += _ranks(of_windows, whole, f"{measure}_change", labels)
    return table(rows, "knockout", seed, extra=("path", "window", "edit"))


def _place(window: str) -> dict[str, Any]:
    return {"window": window, "site": f"blocks.{window.split('-')[0]}.hook_attn_out"}


def _possible(measure: str, number: Estimate) -> Estimate:
    """Limits of a share, or of a change of one, within what it can be."""
    ranges = {"top1": (0, 1), "top1_change": (-1, 1)}
    return number.within(*ranges[measure]) if measure in ranges else number


def _clean_rows(
    clean: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"], labels: Mapping[str, Any]
) -> list[dict[str, Any]]:
    rows, n = [], len(clean)
    for measure in clean:
        mean = ClusterMean(clean[measure].to_numpy(), clean.index.to_numpy().astype(str))
        level = _possible(str(measure), over_clusters(mean.value[0], mean.at(weights)[:, 0], n, n))
        rows.append(row(str(measure), level, edit="none", **labels))
    return rows


def _by_set(part: pd.DataFrame, measure: str, clean: pd.DataFrame) -> Float[np.ndarray, "leaves sets"]:
    """A measure of each leaf: clean, with the path blocked, then with the edges of each draw."""
    by_set = part.set_index(["leaf", "edit", "draw"])[measure].unstack(["edit", "draw"]).reindex(clean.index)
    draws = by_set["placebo"].sort_index(axis=1)
    return np.column_stack([clean[measure], by_set["knocked out"], draws])


def _window_rows(
    levels: Float[np.ndarray, "leaves sets"],
    weights: Float[np.ndarray, "draws leaves"],
    measure: str,
    labels: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Levels and changes of the path, of the mean placebo and beyond it, and the change of each placebo."""
    n, change = len(levels), f"{measure}_change"
    mean = ClusterMean(levels, np.arange(n))
    (clean, path), placebos = mean.value[:2], mean.value[2:]
    drawn = mean.at(weights)
    (clean_drawn, path_drawn), placebo_drawn = drawn[:, :2].T, drawn[:, 2:].mean(axis=1)
    numbers = [
        (measure, "knocked out", over_clusters(path, path_drawn, n, n)),
        (measure, "placebo", over_draws(placebos, placebo_drawn, n, n)),
        (change, "knocked out", over_clusters(path - clean, path_drawn - clean_drawn, n, n)),
        (change, "placebo", over_draws(placebos - clean, placebo_drawn - clean_drawn, n, n)),
        (change, BEYOND, over_draws(path - placebos, path_drawn - placebo_drawn, n, n)),
    ]
    rows = [row(name, _possible(name, number), edit=edit, **labels) for name, edit, number in numbers]
    each = [
        row(change, value, n, edit=f"placebo {at}", **labels) for at, value in enumerate(placebos - clean)
    ]
    return rows + each


def _ranks(
    changes: Mapping[str, Float[np.ndarray, " sets"]], whole: str, measure: str, labels: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Rank of the path's loss among those of the draws in each window, and corrected over all narrow windows."""
    losses = -np.column_stack(list(changes.values()))[None]
    alone = dict(zip(changes, rank_p(losses, corrected=False)))
    narrow = [at for at, window in enumerate(changes) if window != whole]
    corrected = dict(zip([list(changes)[at] for at in narrow], rank_p(losses[..., narrow])))
    return [
        row(f"{measure}_{name}", float(p), edit=BEYOND, **labels, **_place(window))
        for name, of_windows in (("p", alone), ("p_corrected", corrected))
        for window, p in of_windows.items()
    ]


def summary(table: pd.DataFrame) -> str:
    """For each path, in a few lines, the windows in which it carries more than random sets of as many edges."""
    clean = table[(table["edit"] == "none") & (table["measure"] == "margin")].set_index("target")
    lines = [f"Paths of an answer, {', '.join(table['run'].unique())} (log-odds of right names, nats):"]
    for task in clean.index:
        level = clean.loc[task]
        lines.append(f"  {task}: clean {_signed(level)}, n = {level['n']}")
        rows = table[(table["target"] == task) & (table["edit"] == BEYOND)]
        lines += [f"    {path}: {_path(of_path)}" for path, of_path in rows.groupby("path", sort=False)]
    return "\n".join([*lines, _ranked_among(table)])


def _ranked_among(table: pd.DataFrame) -> str:
    draws = table["edit"].str.extract(r"^placebo (\d+)$")[0].nunique()
    if draws < FEWEST:
        return f"  no p with {draws} placebo draws: --placebos {FEWEST} gives one"
    return f"  beyond placebo: more lost than with all of {draws} draws, p ≤ .05 (of windows, corrected over them)"


def _path(rows: pd.DataFrame) -> str:
    of_window = rows[rows["measure"] == "margin_change"].set_index("window")
    p, corrected = (
        rows[rows["measure"] == f"margin_change_{name}"].set_index("window")["value"]
        for name in ("p", "p_corrected")
    )
    texts = []
    if corrected.notna().any():
        beyond = corrected.index[corrected <= LEVEL]
        windows = "; ".join(f"{window} {_signed(of_window.loc[window])}" for window in beyond)
        texts.append(f"{windows or 'no window'} beyond placebo")
    for window in of_window.index.difference(corrected.index):
        rank = "" if np.isnan(p[window]) else f" (p = {p[window]:.2g})"
        texts.append(f"all blocks {window} {_signed(of_window.loc[window])}{rank}")
    return "; ".join(texts)
