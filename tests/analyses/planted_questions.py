"""The planted circuit asked as analyses ask a run: questions about its pictures, and states to fit edits on."""

import numpy as np
import planted as circuit
import torch

from analyses.inputs.span_states import SpanStates
from analyses.inputs.subject import Candidates, Question
from probing.patching.answers import Answers
from probing.patching.restart import Restart
from probing.patching.runs import Rows, keep
from taxogen.world.taxonomy import Taxonomy

TAXONOMY = Taxonomy(
    tuple((leaf, hypernym) for hypernym, leaves in circuit.TAXONOMY.items() for leaf in leaves)
)
LEAVES = np.array(TAXONOMY.leaves)
FOLD = np.array([circuit.TAXONOMY[circuit.hypernym_of(leaf)].index(leaf) % 2 for leaf in LEAVES])
_QUESTION = {"hypernym": "kind", "leaf": "called"}


def rows(model, task, seed=0):
    """One picture of every leaf."""
    embedded = torch.stack([circuit.picture_prompt(model, leaf, _QUESTION[task], seed) for leaf in LEAVES])
    return Rows(lambda: {"inputs_embeds": embedded}, circuit.spans(_QUESTION[task], slot=circuit.PICTURE))


def question(model, task):
    names = TAXONOMY.hypernyms if task == "hypernym" else TAXONOMY.leaves
    own = TAXONOMY.labels(LEAVES.tolist()) if task == "hypernym" else np.eye(len(LEAVES), dtype=bool)
    tokens = np.array([circuit.ID[name] for name in names])
    clean, answers = keep(model, rows(model, task)), Answers.of(model, tokens.tolist())
    return Question(
        task, Candidates(tuple(names), tokens), LEAVES, own, clean, Restart(model, clean), answers
    )


def states(model, task, layers, spans, pictures=3):
    """States of several other pictures of every leaf."""
    found = {(layer, span): [] for layer in layers for span in spans}
    for seed in range(1, 1 + pictures):
        kept = keep(model, rows(model, task, seed))
        for layer, span in found:
            found[layer, span].append(kept.states[layer + 1][:, list(kept.rows.positions(span))].numpy())
    values = {key: np.concatenate(parts) for key, parts in found.items()}
    return SpanStates(values, np.tile(LEAVES, pictures), np.tile(FOLD, pictures))
