"""Effects of erasure and steering on every leaf and hypernym, for pooling, and beyond the mean of each control."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyses.erasure.edits import CONTROLS
from analyses.inputs.effects import Effects
from probing.sites import Site

READ_OUTS = {"target": "hypernym_change", "leaf_margin": "leaf_change"}
"""Columns of read-outs, and what their changes are called."""


def edit_effects(parts: pd.DataFrame, steered: bool) -> Effects:
    """Changes of log-odds, in nats, of each leaf and hypernym by an edit at a place; a unit is a leaf and a hypernym.

    Of erasure the leaves are those under the hypernym, and the change of the hypernym's log-odds is that by which
    it exceeds the mean of leaves off it; of steering they are those off it. The state is empty, or the control whose
    mean change is taken off; NaN where a draw of the control does not equal the edit (`matched`).
    """
    measures = [name for name in READ_OUTS if name in parts]
    places, unit = ["layer", "span", *(["dose"] if steered else [])], ["leaf", "hypernym"]
    parts = parts if steered else parts.assign(beside="")
    clean = parts[parts["edit"] == "none"].groupby(["layer", "span", *unit])[measures].mean()
    edited = parts[parts["edit"] != "none"]
    keys = [*places, "edit", "beside", "matched"]
    change = edited.groupby([*keys, *unit], sort=False)[measures].mean()
    before = pd.MultiIndex.from_frame(change.reset_index()[["layer", "span", *unit]])
    change = change - clean.reindex(before).to_numpy()
    change.loc[~edited.groupby([*keys, *unit], sort=False)["reached"].all().astype(bool)] = np.nan
    if not steered:
        member = edited.groupby([*keys, *unit], sort=False)["member"].first().astype(bool)
        off = change.loc[~member, "target"].groupby([*keys, "hypernym"]).mean()
        change["target"] -= off.reindex(
            pd.MultiIndex.from_frame(change.reset_index()[[*keys, "hypernym"]])
        ).to_numpy()
        change = change[member]
    wide = change.unstack(unit)
    labels, values = [], []
    for row in wide.index.to_frame(index=False).to_dict("records"):
        if row["edit"] in CONTROLS:
            continue
        cell = {
            "target": row["edit"],
            "site": str(Site("hook_resid_post", int(row["layer"]))),
            "span": row["span"],
        }
        cell |= {"layers": str(row["layer"]), "modality": "image"}
        cell |= {"dose": float(row["dose"])} if steered else {}
        at = wide.index.to_frame(index=False)
        beside = (at[places] == [row[name] for name in places]).all(axis=1) & at["edit"].isin(CONTROLS)
        beside &= at["beside"].isin(["", row["edit"]])
        own = wide.loc[tuple(row[name] for name in keys)]
        states = {"": own}
        for control in at[beside].to_dict("records"):
            state = f"{control['edit']}, same {control['matched']}"
            states[state] = own - wide.loc[tuple(control[name] for name in keys)]
        for name in measures:
            for state, numbers in states.items():
                labels.append({**cell, "measure": READ_OUTS[name], "state": state})
                values.append(numbers[name].to_numpy(float))
    return Effects(pd.DataFrame(labels), wide[measures[0]].columns.to_frame(index=False), np.array(values))
