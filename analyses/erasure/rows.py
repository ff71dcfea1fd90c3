"""Tables of erasure and steering: what every edit changes beside its controls: intervals, and ranks among draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.erasure.measured import CONTROLS, MEAN, Measured, erasure_measures, steering_measures
from analyses.frame.tables import row, table
from analyses.inputs.span_states import post
from probing.edits.placebos import FEWEST, rank_p

BEYOND = "erased − controls"
LEVEL = 0.05
_IMAGE = {"modality": "image", "treatment": ""}

_Cell = tuple[Mapping[str, Any], Measured, float]
"""The labels of a place, the changes there, and the sign of a change that is compared with those of controls."""


def erasure_table(parts: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"], seed: int) -> pd.DataFrame:
    """Long table of erasure: each measure under each edit, its change, and its change beyond the mean of the controls.

    Rows of target "mean" average over hypernyms. Limits are over leaves; those of controls, and beyond them, over their
    draws as well, and NaN with a single one. `*_change_p` is the rank of the loss among those under the draws of a
    control, the larger p of both controls; `*_change_p_corrected` is corrected over layers. NaN with fewer than 19
    draws. All hypernyms share the draws, which are also single rows ("shuffled 7") of the mean.
    """
    rows: list[dict[str, Any]] = []
    for span, of_span in parts.groupby("span", sort=False):
        along: dict[str, list[_Cell]] = {}
        for layer, part in of_span.groupby("layer"):
            labels = {"site": post(cast(int, layer)), "span": span, **_IMAGE}
            for measure, values in erasure_measures(part, weights).items():
                rows += _rows(values, measure, labels)
                rows += _change_rows(values.change, measure, "erased", labels)
                along.setdefault(measure, []).append((labels, values.change, -1.0))
        for measure, cells in along.items():
            for at, _ in enumerate(cells[0][1].targets):
                rows += _ranks(cells, measure, "erased", at, [at], seed)
    return table(rows, "erasure", seed, extra=("edit",))


def steering_table(
    parts: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"], seed: int
) -> pd.DataFrame:
    """Long table of steering: change of each read-out of pictures off the hypernym by direction and dose, in nats.

    Rows of target "mean" average over hypernyms. The first direction, whose length its controls have, is also shown
    beyond their mean, and `target_change_p` is the rank of how far it moves the hypernym with the dose among the draws
    of a control, the larger p of both; `target_change_p_corrected` is corrected over doses and layers. Each hypernym
    has draws of its own, so that few of them give a p of the mean. n counts all leaves; those under a hypernym have no
    part in its row.
    """
    rows: list[dict[str, Any]] = []
    leaves = np.unique(parts["leaf"].to_numpy().astype(str))
    first = next(edit for edit in parts["edit"] if edit not in ("none", *CONTROLS))
    for span, of_span in parts.groupby("span", sort=False):
        cells: list[_Cell] = []
        for layer, part in of_span.groupby("layer", sort=False):
            for dose, measures in steering_measures(part, weights, leaves).items():
                labels = {"site": post(cast(int, layer)), "span": span, "dose": dose, **_IMAGE}
                for measure, changes in measures.items():
                    rows += _change_rows(changes, measure, first, labels)
                cells.append((labels, measures["target"], float(np.sign(dose))))
        *hypernyms, mean = range(len(cells[0][1].targets))
        for at, groups in [*((at, [at]) for at in hypernyms), (mean, hypernyms)]:
            rows += _ranks(cells, "target", first, at, groups, seed)
    return table(rows, "steering", seed, extra=("edit", "dose"))


def _rows(values: Measured, measure: str, labels: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each edit of each hypernym and of their mean."""
    return [
        row(measure, values.estimate(edit, at), target=target, edit=edit, **labels)
        for edit in values.kinds
        for at, target in enumerate(values.targets)
    ]


def _change_rows(
    changes: Measured, measure: str, compared: str, labels: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Changes by each edit, by one beyond the mean of the controls, and of the mean by each draw of them."""
    name = f"{measure}_change"
    rows = _rows(changes, name, labels)
    rows += [
        row(name, changes.beyond(compared, at), target=target, edit=f"{compared} − controls", **labels)
        for at, target in enumerate(changes.targets)
    ]
    return rows + [
        row(name, float(value), changes.n, target=MEAN, edit=f"{edit} {draw}", **labels)
        for (edit, draw), value in zip(changes.edits, changes.value[:, -1])
        if edit in CONTROLS
    ]


def _ranks(
    cells: Sequence[_Cell], measure: str, compared: str, target: int, groups: Sequence[int], seed: int
) -> list[dict[str, Any]]:
    """Ranks of a change among those by draws of each control, alone and among the largest of all cells."""
    rows = []
    for name, corrected in (("p", False), ("p_corrected", True)):
        of_controls = []
        for control in CONTROLS:
            sets = [sign * changes.sets(compared, control, groups) for _, changes, sign in cells]
            of_controls.append(rank_p(np.stack(sets, axis=-1), seed, corrected))
        for (labels, changes, _), p in zip(cells, np.max(of_controls, axis=0)):
            labels = {**labels, "target": changes.targets[target], "edit": f"{compared} − controls"}
            rows.append(row(f"{measure}_change_{name}", float(p), **labels))
    return rows


def summary(table: pd.DataFrame) -> str:
    """Where erasing takes most, or how far steering raises, in a few lines; the mean over hypernyms."""
    rows = table[table["target"] == MEAN]
    return _steering_lines(rows) if (table["analysis"] == "steering").all() else _erasure_lines(rows)


def _erasure_lines(rows: pd.DataFrame) -> str:
    lines = [f"Erasing a hypernym, {', '.join(rows['run'].unique())} (nats, mean over hypernyms):"]
    for span, of_span in rows.groupby("span", sort=False):
        beyond = of_span[(of_span["measure"] == "gap_change") & (of_span["edit"] == BEYOND)]
        p = of_span.loc[of_span["measure"] == "gap_change_p_corrected", "value"]
        most = min(beyond.to_dict("records"), key=lambda one: one["value"])
        at = of_span[of_span["layer"] == most["layer"]].set_index(["measure", "edit"])
        lines.append(
            f"  {span:5} most behind layer {most['layer']:.0f}: gap {_interval(at.loc[('gap', 'none')])} to "
            f"{_interval(at.loc[('gap', 'erased')])}; beyond controls {_interval(most)}, n = {most['n']}; "
            f"{_beyond(p)}"
        )
        for measure, words in (("other_off", "other hypernyms"), ("leaf_under", "name of the leaf")):
            if (f"{measure}_change", "erased") in at.index:
                lines.append(f"        {words} there: {_interval(at.loc[(f'{measure}_change', 'erased')])}")
    return "\n".join(lines)


def _beyond(p: pd.Series) -> str:
    """At how many layers there is a loss beyond controls, or why that cannot be said."""
    if p.isna().any():
        return f"no p with fewer than {FEWEST} draws of each control (--controls {FEWEST} gives one)"
    return f"beyond each draw of them at {(p <= LEVEL).sum()} of {len(p)} layers (p ≤ .05, corrected)"


def _steering_lines(rows: pd.DataFrame) -> str:
    lines = [
        f"Steering towards a hypernym, {', '.join(rows['run'].unique())} (change of its log-odds, nats):"
    ]
    rows = rows[rows["dose"] == rows["dose"].max()]
    most = rows[(rows["measure"] == "target_change") & ~rows["edit"].str.contains(r" \d+$")]
    ranks = rows[rows["measure"] == "target_change_p_corrected"]
    for (span, layer), at in most.groupby(["span", "layer"], sort=False):  # pyright: ignore[reportGeneralTypeIssues]
        each = ", ".join(f"{one['edit']} {_interval(one)}" for one in at.to_dict("records"))
        lines.append(
            f"  {span:5} behind layer {layer:.0f}, {at['dose'].iloc[0]:g} sd: {each}, n = {at['n'].iloc[0]}; "
            f"{_corrected(ranks[(ranks['span'] == span) & (ranks['layer'] == layer)]['value'].iloc[0])}"
        )
    return "\n".join(lines)


def _corrected(p: float) -> str:
    if np.isnan(p):
        return f"no p with fewer than {FEWEST} draws of each control for one hypernym (--controls {FEWEST})"
    return f"beyond controls p = {p:.2g} (corrected)"


def _interval(one: Any) -> str:
    return f"{one['value']:+.2f} [{one['lower']:+.2f}, {one['upper']:+.2f}]"
