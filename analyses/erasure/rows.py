"""Tables of erasure and steering: what every edit changes, with intervals over leaves, beside its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from analyses.frame.tables import row, table
from analyses.inputs.span_states import post
from probing.stats import ClusterAUROC, ClusterMean, estimate, lower_band, nan_mean

MEAN = "mean"
CONTROLS = ("random", "shuffled")
BEYOND = "erased − controls"


@dataclass(frozen=True)
class _Measured:
    """A measure of some hypernyms under one edit, and under bootstrap weights."""

    value: Float[np.ndarray, " k"]
    draws: Float[np.ndarray, "draws k"]

    def minus(self, other: _Measured) -> _Measured:
        return _Measured(self.value - other.value, self.draws - other.draws)


def erasure_table(parts: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"], seed: int) -> pd.DataFrame:
    """Long table of erasure: each measure under each edit, its change, and its change beyond the mean of the controls.

    Rows of target "mean" average over hypernyms; their `lower_band` rows are one-sided limits corrected over layers.
    """
    rows: list[dict[str, Any]] = []
    for span, of_span in parts.groupby("span", sort=False):
        along: dict[str, dict[int, _Measured]] = {}
        for layer, part in of_span.groupby("layer"):
            names = list(dict.fromkeys(part["hypernym"]))
            labels = {"site": post(cast(int, layer)), "span": span, "modality": "image", "treatment": ""}
            measures = {
                edit: _measure(edited, names, weights) for edit, edited in part.groupby("edit", sort=False)
            }
            for measure in measures["none"]:
                levels = {str(edit): of_edit[measure] for edit, of_edit in measures.items()}
                changes = {edit: levels[edit].minus(levels["none"]) for edit in levels if edit != "none"}
                changes[BEYOND] = changes["erased"].minus(_mean([changes[control] for control in CONTROLS]))
                for name, of_edits in ((measure, levels), (f"{measure}_change", changes)):
                    for edit, values in of_edits.items():
                        rows += _rows(values, names, name, weights.shape[1], edit=edit, **labels)
                along.setdefault(measure, {})[cast(int, layer)] = changes[BEYOND]
        for measure, beyond in along.items():
            rows += _bands(beyond, measure, str(span))
    return table(rows, "erasure", seed, extra=("edit",))


def _bands(beyond: Mapping[int, _Measured], measure: str, span: str) -> list[dict[str, Any]]:
    """How much is lost beyond the controls at least, at all layers at once with 95 %."""
    value = np.array([nan_mean(one.value) for one in beyond.values()])
    draws = np.column_stack([nan_mean(one.draws) for one in beyond.values()])
    labels: dict[str, Any] = {
        "span": span,
        "modality": "image",
        "target": MEAN,
        "treatment": "",
        "edit": BEYOND,
    }
    return [
        row(f"{measure}_loss_lower_band", float(limit), site=post(layer), **labels)
        for layer, limit in zip(beyond, lower_band(-value, -draws))
    ]


def _measure(
    part: pd.DataFrame, names: Sequence[str], weights: Float[np.ndarray, "draws leaves"]
) -> dict[str, _Measured]:
    """Every measure of each hypernym under one edit.

    The gap is how much higher the hypernym's log-odds are in pictures under it than in others (nats), the AUROC how
    well they separate the two (chance .5); other hypernyms and the leaf are read (nats) off and under the hypernym.
    """
    leaves = part.loc[part["hypernym"] == names[0], "leaf"].to_numpy().astype(str)

    def columns(name: str) -> np.ndarray:
        return np.column_stack([part.loc[part["hypernym"] == one, name] for one in names])

    member = columns("member").astype(bool)
    target = columns("target")
    auroc = ClusterAUROC(target, member, leaves)
    measures = {
        "gap": _means(target, member, leaves, weights).minus(_means(target, ~member, leaves, weights)),
        "auroc": _Measured(auroc.value, auroc.at(weights)),
    }
    read_outs = {"other": "other", "leaf": "leaf_margin"}
    for name, column in ((name, column) for name, column in read_outs.items() if column in part):
        for side, chosen in (("off", ~member), ("under", member)):
            measures[f"{name}_{side}"] = _means(columns(column), chosen, leaves, weights)
    return measures


def _means(
    values: Float[np.ndarray, "n k"], chosen: Bool[np.ndarray, "n k"], leaves: np.ndarray, weights: np.ndarray
) -> _Measured:
    means = ClusterMean(np.where(chosen, values, np.nan), leaves)
    return _Measured(means.value, means.at(weights))


def _mean(controls: Sequence[_Measured]) -> _Measured:
    return _Measured(
        np.mean([one.value for one in controls], axis=0), np.mean([one.draws for one in controls], axis=0)
    )


def _rows(
    values: _Measured, names: Sequence[str], measure: str, n: int, **labels: Any
) -> list[dict[str, Any]]:
    """A row for each hypernym and one for their mean."""
    rows = [
        row(measure, estimate(values.value[k], values.draws[:, k], n), target=name, **labels)
        for k, name in enumerate(names)
    ]
    mean = estimate(float(nan_mean(values.value)), nan_mean(values.draws), n)
    return [*rows, row(measure, mean, target=MEAN, **labels)]


def steering_table(
    parts: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"], seed: int
) -> pd.DataFrame:
    """Long table of steering: change of each read-out of pictures off the hypernym by direction and dose, in nats.

    Rows of target "mean" average over hypernyms. n counts all leaves; those under a hypernym have no part in its row.
    """
    rows: list[dict[str, Any]] = []
    everyone = np.unique(parts["leaf"].to_numpy().astype(str))
    for place, of_place in parts.groupby(["span", "layer"], sort=False):
        span, layer = cast(tuple[str, int], place)
        labels = {"site": post(layer), "span": span, "modality": "image", "treatment": ""}
        clean = of_place[of_place["edit"] == "none"].set_index(["hypernym", "leaf"])
        edited = of_place[of_place["edit"] != "none"]
        for (edit, dose), part in edited.groupby(["edit", "dose"], sort=False):
            steered = part.set_index(["hypernym", "leaf"])
            for measure in (name for name in ("target", "other", "leaf_margin") if name in steered):
                change = (steered[measure] - clean[measure]).unstack("hypernym").reindex(everyone)
                means = ClusterMean(change.to_numpy(dtype=float), everyone)
                rows += _rows(
                    _Measured(means.value, means.at(weights)),
                    [str(name) for name in change.columns],
                    f"{measure}_change",
                    len(everyone),
                    edit=edit,
                    dose=dose,
                    **labels,
                )
    return table(rows, "steering", seed, extra=("edit", "dose"))


def summary(table: pd.DataFrame) -> str:
    """Where erasing takes most, or how far steering raises, in a few lines; the mean over hypernyms."""
    rows = table[table["target"] == MEAN]
    return _steering_lines(rows) if (table["analysis"] == "steering").all() else _erasure_lines(rows)


def _erasure_lines(rows: pd.DataFrame) -> str:
    lines = [f"Erasing a hypernym, {', '.join(rows['run'].unique())} (nats, mean over hypernyms):"]
    for span, of_span in rows.groupby("span", sort=False):
        beyond = of_span[(of_span["measure"] == "gap_change") & (of_span["edit"] == BEYOND)]
        bands = of_span.loc[of_span["measure"] == "gap_loss_lower_band", "value"]
        most = min(beyond.to_dict("records"), key=lambda one: one["value"])
        at = of_span[of_span["layer"] == most["layer"]].set_index(["measure", "edit"])
        lines.append(
            f"  {span:5} most behind layer {most['layer']:.0f}: gap {_interval(at.loc[('gap', 'none')])} to "
            f"{_interval(at.loc[('gap', 'erased')])}; beyond controls {_interval(most)}, n = {most['n']}; "
            f"beyond them at {(bands > 0).sum()} of {len(bands)} layers (corrected)"
        )
        for measure, words in (("other_off", "other hypernyms"), ("leaf_under", "name of the leaf")):
            if (f"{measure}_change", "erased") in at.index:
                lines.append(f"        {words} there: {_interval(at.loc[(f'{measure}_change', 'erased')])}")
    return "\n".join(lines)


def _steering_lines(rows: pd.DataFrame) -> str:
    lines = [
        f"Steering towards a hypernym, {', '.join(rows['run'].unique())} (change of its log-odds, nats):"
    ]
    most = rows[(rows["measure"] == "target_change") & (rows["dose"] == rows["dose"].max())]
    for (span, layer), at in most.groupby(["span", "layer"], sort=False):  # pyright: ignore[reportGeneralTypeIssues]
        each = ", ".join(f"{one['edit']} {_interval(one)}" for one in at.to_dict("records"))
        lines.append(
            f"  {span:5} behind layer {layer:.0f}, {at['dose'].iloc[0]:g} sd: {each}, n = {at['n'].iloc[0]}"
        )
    return "\n".join(lines)


def _interval(one: Any) -> str:
    return f"{one['value']:+.2f} [{one['lower']:+.2f}, {one['upper']:+.2f}]"
