"""Evidence of every leaf, for pooling: for its own words less that for other leaves' words, through each lens."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analyses.inputs.effects import Effects, leaf_units
from analyses.lens.rows import COSINES, OTHER, OWN
from taxogen.world.taxonomy import Taxonomy


def lens_effects(parts: pd.DataFrame, taxonomy: Taxonomy) -> Effects:
    """Log-probability in nats (or cosine) of own words less that of others', of each leaf that has both."""
    keys = ["lens", "target", "modality", "span", "site"]
    wide = parts.pivot_table(index=[*keys, "leaf"], columns="words", values="evidence", sort=False)
    beyond = (wide[OWN] - wide[OTHER]).unstack("leaf")
    leaves = beyond.columns.astype(str).tolist()
    cells = beyond.index.to_frame(index=False)
    cells["measure"] = np.where(cells["lens"].isin(COSINES), "cosine", "log_prob")
    return Effects(cells, leaf_units(leaves, taxonomy), beyond.to_numpy(float))
