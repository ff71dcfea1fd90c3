"""Effects of knock-out on every leaf, for pooling: of each path in each window, and beyond the mean placebo."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyses.inputs.effects import Effects, leaf_units
from analyses.knockout.rows import MEASURES
from taxogen.world.taxonomy import Taxonomy


def knockout_effects(parts: pd.DataFrame, taxonomy: Taxonomy) -> Effects:
    """Changes of each leaf's margin (nats) and top-1 by a blocked path, which stands in the place of the span.

    The state is empty, or `placebo` where the change by as many edges at random is taken off.
    """
    leaves = sorted(set(parts["leaf"]))
    clean = parts[parts["edit"] == "none"].groupby(["task", "leaf"])[list(MEASURES)].mean()
    means = parts[parts["edit"] != "none"].groupby(
        ["task", "path", "first", "last", "edit", "leaf"], sort=False
    )
    wide = means[list(MEASURES)].mean().unstack("leaf")
    labels, values = [], []
    for task, path, first, last in wide.index.droplevel(4).unique():
        place = {"target": task, "site": f"blocks.{first}.hook_attn_out", "span": path, "modality": "image"}
        place["layers"] = str(first) if first == last else f"{first}-{last}"
        for measure in MEASURES:
            blocked, placebo = (
                wide.loc[[(task, path, first, last, edit)], measure]
                .reindex(columns=leaves)
                .to_numpy(float)[0]
                for edit in ("knocked out", "placebo")
            )
            change = blocked - clean.loc[task, measure].reindex(leaves).to_numpy(float)
            for state, numbers in (("", change), ("placebo", blocked - placebo)):
                labels.append({**place, "measure": f"{measure}_change", "state": state})
                values.append(numbers)
    return Effects(pd.DataFrame(labels), leaf_units(leaves, taxonomy), np.array(values))
