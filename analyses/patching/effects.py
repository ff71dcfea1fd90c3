"""Effects of every pair of leaves, for pooling: those of patches, and by how much they exceed each placebo's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.inputs.effects import PAIR, Effects
from analyses.inputs.stimuli.pairs import Pair
from analyses.patching.options import Options
from analyses.patching.outcomes import Outcomes
from analyses.patching.rows import BEATEN, cell_labels, effects_by_state
from probing.patching import Cell


def patching_effects(
    results: Mapping[str, Outcomes],
    pairs: Sequence[Pair],
    cells: Sequence[Cell],
    options: Options,
    random_init: Mapping[str, Outcomes] | None = None,
) -> Effects:
    """Changes of the log-odds in nats: `effect`, and `excess` over each placebo that a cell has to beat."""
    labels: list[dict[str, str]] = []
    values: list[Float[np.ndarray, " pairs"]] = []
    for question, outcomes in results.items():
        effects = effects_by_state(outcomes, options, (random_init or {}).get(question))
        measured = {("effect", "clean"): effects["clean"]}
        measured |= {
            ("excess", kind): effects["clean"] - effect
            for kind, effect in effects.items()
            if kind in BEATEN[question]
        }
        for (measure, state), numbers in measured.items():
            labels += [
                {"target": question, "measure": measure, "state": state, **cell_labels(cell)}
                for cell in cells
            ]
            values += list(numbers)
    units = pd.DataFrame([{name: getattr(pair, name) for name in PAIR} for pair in pairs])
    return Effects(pd.DataFrame(labels), units, np.array(values))
