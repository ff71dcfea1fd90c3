"""Effects of knock-out on every leaf, for pooling: of each path in each window, and beyond the mean placebo."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyses.inputs.effects import Effects, leaf_units
from analyses.knockout.rows import MEASURES
from taxogen.world.taxonomy import Taxonomy

KEYS = ["task", "path", "first", "last"]


def knockout_effects(parts: pd.DataFrame, taxonomy: Taxonomy) -> Effects:
    """Changes of each leaf's margin (nats) and top-1 by a blocked path, which stands in the place of the span.

    The state is empty, or `placebo` where the change by as many edges at random is taken off.
    """
    leaves = sorted(set(parts["leaf"].astype(str)))
    clean = parts[parts["edit"] == "none"].groupby(["task", "leaf"])[list(MEASURES)].mean()
    edited = parts[parts["edit"] != "none"].groupby([*KEYS, "edit", "leaf"], sort=False)
    means = edited[list(MEASURES)].mean().reset_index()
    labels: list[dict[str, str]] = []
    values: list[np.ndarray] = []
    for keys, of_place in means.groupby(KEYS, sort=False):  # pyright: ignore[reportGeneralTypeIssues]
        task, path, first, last = map(str, keys)
        place = {"target": task, "site": f"blocks.{first}.hook_attn_out", "span": path, "modality": "image"}
        place["layers"] = first if first == last else f"{first}-{last}"
        of_edit = of_place.set_index(["edit", "leaf"])[list(MEASURES)]
        blocked, placebo = (
            of_edit.xs(edit).reindex(leaves).to_numpy() for edit in ("knocked out", "placebo")
        )
        change = blocked - clean.loc[task].reindex(leaves).to_numpy()
        for at, measure in enumerate(MEASURES):
            for state, numbers in (("", change), ("placebo", blocked - placebo)):
                labels.append({**place, "measure": f"{measure}_change", "state": state})
                values.append(numbers[:, at])
    return Effects(pd.DataFrame(labels), leaf_units(leaves, taxonomy), np.array(values))
