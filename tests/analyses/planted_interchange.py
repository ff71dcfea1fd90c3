"""The planted circuit as a world of exchanges, and long outcomes of exchanges in a linear world."""

import numpy as np
import pandas as pd
import planted as circuit

from analyses.inputs.span_states import SpanAtLayer
from analyses.inputs.stimuli import Stimuli
from analyses.interchange.grid import ExchangeGrid
from analyses.interchange.options import Options
from probing.patching import EACH, Alignment
from probing.patching.subspaces import Subspace, read_space, split
from tests.analyses.patching.planted_subject import PlantedSubject
from tests.analyses.planted_questions import FOLD, TAXONOMY

BEHIND = SpanAtLayer(circuit.LAYER, "last")
_NAME_HEAD = 2
HYPERNYMS = ("bird", "fish", "fruit", "gem", "tool", "tree")


def planted_grid(**options):
    """Two folds of the planted leaves; the first is tested, at the last token behind the planted layer."""
    subject, leaves = PlantedSubject.new(), TAXONOMY.leaves
    _write_names(subject.bench.vlm.model)
    wanted = Options(**{"pairs": 8, "folds": 2, "training_pairs": 16, "rate": 0.5, "steps": 25} | options)
    stimuli = Stimuli(
        subject, {leaf: f"{leaf}.png" for leaf in leaves}, {"slot": Alignment("mean"), "last": EACH}
    )
    grid = ExchangeGrid(
        stimuli, wanted, leaves, TAXONOMY.hypernyms, np.asarray(TAXONOMY.labels(list(leaves))),
        np.array([circuit.ID[leaf] for leaf in leaves]), FOLD, {}, [BEHIND],
    )  # fmt: skip
    return grid.prepared()


def _write_names(model):
    """The last token also gets the leaf's name, half as long and read by nobody: states vary in more than hypernyms."""
    attention = model.model.layers[circuit.LAYER].self_attn
    circuit._look(attention, _NAME_HEAD, "of")
    for number, leaf in enumerate(circuit.LEAVES):
        to = int(circuit.name_direction(leaf).argmax())
        circuit._carry(attention, _NAME_HEAD, circuit.ID[leaf], number, to)
        attention.o_proj.weight[to, _NAME_HEAD * circuit.HEAD_WIDTH + number] = 0.5


def outcomes(edits, rng, pairs=60):
    """Long outcomes of pairs between six hypernyms; `edits`: (method, edit, draw) → effect of every pair."""
    ends = np.array([rng.permutation(HYPERNYMS)[:2] for _ in range(pairs)])
    parts = []
    for (method, edit, draw), effect in {("", "none", 0): np.zeros(pairs), **edits}.items():
        own = (
            {"rank": 0, "trained": ""}
            if edit == "none"
            else {"rank": 1, "trained": "words" if method else ""}
        )
        parts.append(
            pd.DataFrame({"base": np.arange(pairs).astype(str), "source": "other", "up": ends[:, 0], "down": ends[:, 1],
                          "log_odds": effect - 3, "accuracy": (effect > 3) * 1.0, "top_1": 0.0, "other": 0.5,
                          "leaf": 1.0, "moved": 0.1, "method": method, "edit": edit, "draw": draw, **own})
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True).assign(layer=3, span="last", fold=0)


def linear_effects(direction, difference, read):
    """Effects in a model that reads the sum of the first two dimensions, of a direction and of its parts."""
    own = Subspace.spanned(direction[:, None])
    inside, outside = split(own, read)
    return {
        ("made", edit, 0): one.part(difference)[:, :2].sum(1)
        for edit, one in (("swap", own), ("read", inside), ("unread", outside))
    }


def read_by_gradients(rng):
    """What that model reads, as gradients of many rows show it."""
    return read_space(rng.standard_normal((20, 2)) @ np.eye(6)[:2])
