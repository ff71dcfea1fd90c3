"""Effects of every pair, for pooling: of exchanged subspaces, and by how much they exceed each control's."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd

from analyses.inputs.effects import PAIR, Effects
from analyses.inputs.span_states import post
from analyses.interchange.measured import At
from analyses.interchange.options import Options
from analyses.interchange.rows import CONTROLS

_STAYS = ("other", "leaf")


def interchange_effects(parts: pd.DataFrame, options: Options) -> Effects:
    """Changes of the log-odds in nats and their excesses; changes of the accuracies that should stay as they are.

    The clean leaf of a pair is the source, the corrupted one the base. Of a control it is the mean over its draws.
    """
    labels: list[dict[str, Any]] = []
    values: list[np.ndarray] = []
    units = pd.DataFrame()
    for (layer, span), part in parts[parts["base"].notna()].groupby(["layer", "span"], sort=False):  # pyright: ignore
        at = At.of(part, options.draws, options.seed)
        units = at.wide.index.to_frame(index=False).rename(columns={"source": "clean", "base": "corrupted"})
        effect = at.wide["effect"]
        for own in at.subspaces:
            swap = (*own, "swap", 0)
            numbers = {("hypernym", "effect", "clean"): effect[swap]}
            for control in CONTROLS:
                drawn = cast(pd.DataFrame, effect[at.draws_of(own, control)]).mean(axis=1)
                numbers["hypernym", "excess", control] = effect[swap] - drawn
            for name in _STAYS:
                outcome = at.wide[name]
                numbers[name, "accuracy_change", "clean"] = outcome[swap] - outcome["", "", 0, "none", 0]
            for (target, measure, state), number in numbers.items():
                labels.append(
                    {"target": target, "measure": measure, "state": state, "modality": options.modalities[1]}
                    | {"site": post(cast(int, layer)), "span": span}
                    | dict(zip(("method", "trained", "rank"), own))
                )
                values.append(number.to_numpy(float))
    return Effects(pd.DataFrame(labels), units[list(PAIR)], np.array(values))
