"""Erasure tried out: every picture's read-outs with each hypernym erased from a span behind a layer, and controls."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analyses.erasure.edits import EditInputs, SpanAtLayer, States, answers, clean_states, read_outs
from analyses.inputs.span_states import SpanEraser, SpanWhitening

CONTROLS = ("random", "shuffled")


def erase(inputs: EditInputs, place: SpanAtLayer) -> pd.DataFrame:
    """Read-outs of every picture with each hypernym erased at a place, and under controls; a row a picture and edit.

    Controls do not depend on the hypernym: all hypernyms share their draws.
    """
    logits = {
        task: answers(question, place, erased_states(inputs, task, place))
        for task, question in inputs.questions.items()
    }
    edits = pd.DataFrame(_edits(inputs), columns=["edit", "draw", "of"])
    tables = []
    for name in inputs.hypernyms:
        of_name = edits["of"].isin(["", name]).to_numpy()
        table = read_outs(inputs, name, {task: values[of_name] for task, values in logits.items()})
        pictures = len(table) // of_name.sum()
        for column in ("edit", "draw"):
            table[column] = np.repeat(edits.loc[of_name, column].to_numpy(), pictures)
        tables.append(table.assign(hypernym=name))
    return pd.concat(tables, ignore_index=True).assign(layer=place.layer, span=place.span)


def _edits(inputs: EditInputs) -> list[tuple[str, int, str]]:
    """Edit, draw and, where it is of one hypernym only, that one."""
    erased = [("erased", 0, name) for name in inputs.hypernyms]
    return [
        ("none", 0, ""),
        *erased,
        *((edit, draw, "") for edit in CONTROLS for draw in range(inputs.controls)),
    ]


def erased_states(inputs: EditInputs, task: str, place: SpanAtLayer) -> Iterator[States]:
    """The states that are put into the place: untouched, with each hypernym erased, then with each draw of controls.

    Those of a picture are erased by what was fitted on the leaves of other folds; a draw is one set over folds.
    """
    clean = clean_states(inputs.questions[task], place)
    yield clean
    folds = sorted(set(inputs.fold))
    trained = {fold: inputs.states[task].train(fold, place.layer, place.span) for fold in folds}
    whitening = {fold: SpanWhitening.of(states, inputs.shrinkage) for fold, (states, _) in trained.items()}
    for edit, draw, name in _edits(inputs)[1:]:
        edited = clean.copy()
        labels = _labels(inputs, edit, draw, name)
        for fold in folds:
            held_out = inputs.fold == fold
            eraser = _eraser(inputs, whitening[fold], trained[fold][1], labels, place.layer, draw)
            edited[held_out] = eraser(clean[held_out])
        yield edited


def _labels(inputs: EditInputs, edit: str, draw: int, name: str) -> dict[str, bool] | None:
    """Labels of the hypernym, or exchanged ones: as many leaves as of one of the hypernyms, in turn; none if random."""
    if edit == "random":
        return None
    if edit == "erased":
        return inputs.labels(name)
    return inputs.labels(inputs.hypernyms[draw % len(inputs.hypernyms)], draw)


def _eraser(
    inputs: EditInputs,
    whitening: SpanWhitening,
    leaves: np.ndarray,
    labels: dict[str, bool] | None,
    layer: int,
    draw: int,
) -> SpanEraser:
    """The eraser of these labels of the leaves, or of a random direction, which is the same in every fold."""
    if labels is None:
        return whitening.erase_randomly(1, 1_000_003 * inputs.seed + 1_009 * draw + 31 * layer)
    return whitening.erase(np.array([labels[leaf] for leaf in leaves.tolist()]))
