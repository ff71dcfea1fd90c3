"""The planted circuit as edits are tried on it, with garbage for held-out leaves; parts with a planted loss."""

from dataclasses import replace

import numpy as np
import pandas as pd
import planted as circuit

from analyses.erasure.edits import (
    EditInputs,
)
from analyses.erasure.measured import CONTROLS
from analyses.inputs.span_states import SpanAtLayer, SpanStates
from tests.analyses import planted_questions as planted

BEHIND, BEFORE = SpanAtLayer(circuit.LAYER, "last"), SpanAtLayer(circuit.LAYER - 1, "last")


def edit_inputs(controls=19, matches=("rank",)):
    """The planted circuit with two hypernyms to erase or to steer towards, at the last token."""
    model = circuit.planted()
    layers, spans = (BEFORE.layer, BEHIND.layer), ("last",)
    return EditInputs(
        {task: planted.question(model, task) for task in ("hypernym", "leaf")},
        {task: planted.states(model, task, layers, spans) for task in ("hypernym", "leaf")},
        planted.TAXONOMY,
        ("bird", "tool"),
        planted.FOLD,
        0.1,
        0,
        controls,
        matches,
    )


def planted_parts(drop, n=40, seed=0, controls=19):
    """Parts in which erasure lowers the read-out of pictures under the hypernym by `drop` nats, at two layers."""
    rng = np.random.default_rng(seed)
    member, own = np.arange(n) < n // 2, rng.standard_normal(n)
    edits = [("none", 0), ("erased", 0), *((edit, draw) for edit in CONTROLS for draw in range(controls))]
    parts = []
    for layer in (3, 5):
        for edit, draw in edits:
            lost = drop * member * (edit == "erased")
            noise = 0.2 * rng.standard_normal((2, n)) * (edit != "none")
            parts.append(
                pd.DataFrame({"leaf": [f"leaf {k:02d}" for k in range(n)], "member": member, "edit": edit,
                              "draw": draw, "target": 3.0 * member + own - lost + noise[0], "other": own + noise[1],
                              "hypernym": "bird", "layer": layer, "span": "slot",
                              "matched": "rank" if edit in CONTROLS else "", "reached": True})
            )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def spoilt(inputs, fold, seed=0):
    """The same inputs, with garbage in all states of the leaves of a fold, that nothing for them may be fitted on."""
    rng = np.random.default_rng(seed)

    def garbage(states):
        held_out = (states.fold == fold)[:, None, None]
        values = {
            place: np.where(held_out, 50 * rng.standard_normal(value.shape), value)
            for place, value in states.values.items()
        }
        return SpanStates(values, states.leaves, states.fold)

    return replace(inputs, states={task: garbage(states) for task, states in inputs.states.items()})
