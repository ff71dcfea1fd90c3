"""Erasure tried out: every picture's read-outs with each hypernym erased from a span behind a layer, and controls."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analyses.erasure.edits import EditInputs, SpanAtLayer, States, answers, clean_states, read_outs
from analyses.inputs.span_states import SpanEraser, SpanWhitening, exchanged

EDITS = ("none", "erased", "random", "shuffled")


def erase(inputs: EditInputs, place: SpanAtLayer) -> pd.DataFrame:
    """Read-outs of every picture with each hypernym erased at a place, and under the controls; one row a picture."""
    logits = {
        task: answers(question, place, list(erased_states(inputs, task, place)))
        for task, question in inputs.questions.items()
    }
    edits = [("none", inputs.hypernyms[0])]
    edits += [(edit, name) for name in inputs.hypernyms for edit in EDITS[1:]]
    tables = []
    for name in inputs.hypernyms:
        for at, (edit, of) in enumerate(edits):
            if edit == "none" or of == name:
                of_edit = {task: values[at] for task, values in logits.items()}
                tables.append(read_outs(inputs, name, of_edit).assign(hypernym=name, edit=edit))
    return pd.concat(tables, ignore_index=True).assign(layer=place.layer, span=place.span)


def erased_states(inputs: EditInputs, task: str, place: SpanAtLayer) -> Iterator[States]:
    """The states that are put into the place: untouched, then for each hypernym erased and its controls.

    Those of a picture are erased by what was fitted on the leaves of other folds.
    """
    clean = clean_states(inputs.questions[task], place)
    yield clean
    folds = sorted(set(inputs.fold))
    trained = {fold: inputs.states[task].train(fold, place.layer, place.span) for fold in folds}
    whitening = {fold: SpanWhitening.of(states, inputs.shrinkage) for fold, (states, _) in trained.items()}
    for number, name in enumerate(inputs.hypernyms):
        edited = {edit: clean.copy() for edit in EDITS[1:]}
        for fold in folds:
            held_out = inputs.fold == fold
            seed = 1_000_003 * inputs.seed + 1_009 * number + 31 * place.layer + fold
            for edit, eraser in _erasers(inputs, whitening[fold], trained[fold][1], name, seed).items():
                edited[edit][held_out] = eraser(clean[held_out])
        yield from edited.values()


def _erasers(
    inputs: EditInputs, whitening: SpanWhitening, leaves: np.ndarray, hypernym: str, seed: int
) -> dict[str, SpanEraser]:
    """The eraser of a hypernym and its controls of the same rank, fitted on the states of these leaves."""
    labels = dict(zip(leaves.tolist(), inputs.members(leaves, hypernym).tolist()))
    other = exchanged(labels, hypernym, seed=inputs.seed)
    return {
        "erased": whitening.erase(np.array([labels[leaf] for leaf in leaves])),
        "random": whitening.erase_randomly(1, seed),
        "shuffled": whitening.erase(np.array([other[leaf] for leaf in leaves])),
    }
