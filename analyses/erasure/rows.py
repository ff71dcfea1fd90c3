"""Tables of erasure and steering: what every edit changes beside its controls: intervals, and ranks among draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, cast

import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.erasure.edits import CONTROLS
from analyses.erasure.measured import LEVELS, MEAN, Measured, erasure_measures, steering_measures
from analyses.frame.tables import row, table
from analyses.inputs.span_states import post
from probing.edits.placebos import rank_p
from probing.stats import Estimate, q_values

BEYOND = "erased − controls"
LEVEL = 0.05
_IMAGE = {"modality": "image", "treatment": ""}

_Cell = tuple[Mapping[str, Any], Measured, float, bool]
"""The labels of a place, the changes there, the sign of a change that is compared with those of controls, and whether
all controls equal what they were to equal."""


def erasure_table(parts: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"], seed: int) -> pd.DataFrame:
    """Long table of erasure: each measure under each edit, its change, and its change beyond the mean of the controls.

    Rows of target "mean" average over hypernyms. `matched` says in what the controls of a row equal the erasure: rank,
    length or divergence of the answers (kl). Limits are over leaves; those of controls, and beyond them, over their
    draws as well, and NaN with a single one. `*_change_p` is the rank of the loss among those under the draws of a
    control, the larger p of both controls; `*_change_p_corrected` is corrected over layers, `*_change_q` (of single
    hypernyms) over hypernyms and layers by Benjamini & Hochberg. NaN with fewer than 19 draws, or where a draw could
    not equal the erasure (`unreached` counts these, `factor` is by what draws were scaled). All hypernyms share the
    draws, which are also single rows ("shuffled 7") of the mean. `kl` is the mean divergence of the answers about
    hypernyms, percentiles are those of the edited states among natural ones, `unnatural` the share of them beyond the
    99th.
    """
    rows: list[dict[str, Any]] = []
    for span, of_span in parts.groupby("span", sort=False):
        for nth, matched in enumerate(_matches(parts)):
            along: dict[str, list[_Cell]] = {}
            for layer, part in _among(of_span, ("erased",), matched).groupby("layer"):
                labels = {"site": post(cast(int, layer)), "span": span, "matched": matched, **_IMAGE}
                for measure, values in erasure_measures(part, weights).items():
                    rows += _rows(values, measure, labels, nth == 0)
                    if measure not in LEVELS:
                        rows += _change_rows(
                            values.change, measure, "erased", labels, nth == 0, _reached(part)
                        )
                        along.setdefault(measure, []).append((labels, values.change, -1.0, _reached(part)))
                rows += _matching(part, labels)
            for measure, cells in along.items():
                *hypernyms, mean = range(len(cells[0][1].targets))
                for at in (*hypernyms, mean):
                    rows += _ranks(cells, measure, "erased", at, [at], seed)
                rows += _discoveries(rows, f"{measure}_change", span, "erased", matched)
    return table(rows, "erasure", seed, extra=("edit", "matched"))


def steering_table(
    parts: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"], seed: int
) -> pd.DataFrame:
    """Long table of steering: change of each read-out of pictures off the hypernym by direction and dose, in nats.

    Rows of target "mean" average over hypernyms. Controls stand `beside` the direction whose own step they equal, in
    length or in divergence of the answers (`matched`), and each direction is also shown beyond their mean;
    `target_change_p` is the rank of how far it moves the hypernym with the dose among the draws of a control, the
    larger p of both; `target_change_p_corrected` is corrected over doses and layers, `target_change_q` (of single
    hypernyms) over hypernyms, doses and layers. Each hypernym has draws of its own, so that few of them give a p of the
    mean. n counts all leaves; those under a hypernym have no part in its row.
    """
    rows: list[dict[str, Any]] = []
    leaves = np.unique(parts["leaf"].to_numpy().astype(str))
    kinds = [edit for edit in parts["edit"].unique() if edit not in ("none", *CONTROLS)]
    for span, of_span in parts.groupby("span", sort=False):
        for kind, (nth, matched) in product(kinds, enumerate(_matches(parts))):
            among, cells = _among(of_span, (kind,), matched, kind), []
            for layer, part in among.groupby("layer", sort=False):
                for dose, measures in steering_measures(part, weights, leaves).items():
                    labels = {"site": post(cast(int, layer)), "span": span, "dose": dose}
                    labels |= {"beside": kind, "matched": matched, **_IMAGE}
                    of_dose = part[part["dose"] == dose]
                    for measure, values in measures.items():
                        levels = measure in LEVELS
                        beyond = partial(_change_rows, compared=kind, reached=_reached(of_dose))
                        rows += (_rows if levels else beyond)(
                            values, measure, labels=labels, with_edits=nth == 0
                        )
                    rows += _matching(of_dose, labels)
                    cells.append((labels, measures["target"], float(np.sign(dose)), _reached(of_dose)))
            *hypernyms, mean = range(len(cells[0][1].targets))
            for at, groups in [*((at, [at]) for at in hypernyms), (mean, hypernyms)]:
                rows += _ranks(cells, "target", kind, at, groups, seed)
            rows += _discoveries(rows, "target_change", span, kind, matched)
    return table(rows, "steering", seed, extra=("edit", "beside", "matched", "dose"))


def _matches(parts: pd.DataFrame) -> list[str]:
    """In what controls equal an edit, each kind once."""
    return [matched for matched in parts["matched"].unique() if matched]


def _among(parts: pd.DataFrame, edits: Sequence[str], matched: str, beside: str = "") -> pd.DataFrame:
    """Rows without an edit, of these edits, and of their controls of one kind."""
    controls = parts["edit"].isin(CONTROLS) & (parts["matched"] == matched)
    if beside:
        controls &= parts["beside"] == beside
    return parts[(parts["edit"] == "none") | parts["edit"].isin(list(edits)) | controls]


def _reached(part: pd.DataFrame) -> bool:
    """Whether every control equals what it was to equal."""
    return bool(part["reached"].all())


def _matching(part: pd.DataFrame, labels: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each control, over draws and hypernyms: its median factor, and how many could not equal the edit."""
    if labels["matched"] != "kl":
        return []
    draws = part[part["edit"].isin(CONTROLS)].drop_duplicates(["edit", "draw", "hypernym"])
    of_control = draws.assign(unreached=~draws["reached"].astype(bool)).groupby("edit")
    numbers = {"factor": of_control["factor"].median(), "unreached": of_control["unreached"].sum()}
    return [
        row(name, float(of_edit[edit]), int(of_control.size()[edit]), target=MEAN, edit=edit, **labels)
        for name, of_edit in numbers.items()
        for edit in CONTROLS
    ]


def _rows(
    values: Measured, measure: str, labels: Mapping[str, Any], with_edits: bool = True
) -> list[dict[str, Any]]:
    """Each edit of each hypernym and of their mean; controls alone where the edits are in the table already."""
    return [
        row(measure, values.estimate(edit, at), target=target, edit=edit, **_own(labels, edit))
        for edit in values.kinds
        if with_edits or edit in CONTROLS
        for at, target in enumerate(values.targets)
    ]


def _own(labels: Mapping[str, Any], edit: str) -> dict[str, Any]:
    """The labels of a row: an edit that is no control equals nothing."""
    if edit in CONTROLS:
        return dict(labels)
    return {name: "" if name in ("beside", "matched") else value for name, value in labels.items()}


def _change_rows(
    changes: Measured,
    measure: str,
    compared: str,
    labels: Mapping[str, Any],
    with_edits: bool = True,
    reached: bool = True,
) -> list[dict[str, Any]]:
    """Changes by each edit, by one beyond the mean of the controls, and of the mean by each draw of them.

    Where a draw does not equal the edit (`reached`), what is beyond the controls is NaN, as its p is.
    """
    name = f"{measure}_change"
    rows = _rows(changes, name, labels, with_edits)
    rows += [
        row(
            name,
            changes.beyond(compared, at) if reached else Estimate(np.nan, np.nan, np.nan, changes.n),
            target=target,
            edit=f"{compared} − controls",
            **labels,
        )
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
            sets = [
                sign * changes.sets(compared, control, groups) * (1 if reached else np.nan)
                for _, changes, sign, reached in cells
            ]
            of_controls.append(rank_p(np.stack(sets, axis=-1), seed, corrected))
        for (labels, changes, _, _), p in zip(cells, np.max(of_controls, axis=0)):
            labels = {**labels, "target": changes.targets[target], "edit": f"{compared} − controls"}
            rows.append(row(f"{measure}_change_{name}", float(p), **labels))
    return rows


def _discoveries(
    rows: Sequence[Mapping[str, Any]], change: str, span: object, compared: str, matched: str
) -> list[dict[str, Any]]:
    """Q of the p of single hypernyms among these rows, one family over hypernyms, layers and doses."""
    family = [
        one
        for one in rows
        if (one["measure"], one["span"], one["matched"]) == (f"{change}_p", span, matched)
        and one["edit"] == f"{compared} − controls"
        and one["target"] != MEAN
    ]
    q = q_values(np.array([one["value"] for one in family]))
    return [{**one, "measure": f"{change}_q", "value": float(value)} for one, value in zip(family, q)]
