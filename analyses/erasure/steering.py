"""Steering tried out: read-outs of pictures that are pushed along a hypernym's direction, by dose, and controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.erasure.edits import EditInputs, SpanAtLayer, answers, clean_states, read_outs
from probing.edits.steering import projection_std
from probing.stats.seeding import stream

DIRECTIONS = ("mass_mean", "probe", "text")
"""Difference of class means of pictures, the layer probes' direction of pictures, and that of words."""

Direction = Float[np.ndarray, " d"]


@dataclass(frozen=True)
class Steering:
    """How pictures are steered.

    Attributes:
        doses: in standard deviations of the pictures' projection on the direction.
        kinds: of directions, the first of which decides how long the controls are.
        given: (kind, layer, span) → hypernym → direction of any length; those of mass_mean are fitted here.
    """

    doses: tuple[float, ...]
    kinds: tuple[str, ...] = DIRECTIONS[:1]
    given: Mapping[tuple[str, int, str], Mapping[str, Direction]] | None = None


def steer(inputs: EditInputs, place: SpanAtLayer, steering: Steering) -> pd.DataFrame:
    """Read-outs of pictures that are not under a hypernym when they are steered towards it; one row a picture."""
    tables, doses = [], [dose for dose in steering.doses if dose]
    for name in inputs.hypernyms:
        logits, edits = {}, []
        for task, question in inputs.questions.items():
            clean, step = clean_states(question, place), steps(inputs, task, place, name, steering)
            edits = [(*kind, dose) for kind in step for dose in doses]
            states = [clean] + [clean + dose * step[kind, draw][:, None] for kind, draw, dose in edits]
            logits[task] = answers(question, place, states)
        table = read_outs(inputs, name, logits)
        labels = pd.DataFrame([("none", 0, 0.0), *edits], columns=["edit", "draw", "dose"])
        repeated = labels.loc[labels.index.repeat(len(table) // len(labels))].reset_index(drop=True)
        tables.append(pd.concat([table, repeated], axis=1).assign(hypernym=name))
    table = pd.concat(tables, ignore_index=True).assign(layer=place.layer, span=place.span)
    return table[~table["member"]].reset_index(drop=True)


def steps(
    inputs: EditInputs, task: str, place: SpanAtLayer, hypernym: str, steering: Steering
) -> dict[tuple[str, int], Float[np.ndarray, "rows d"]]:
    """One dose along each direction (kind, draw) for each picture asked about, fitted on the leaves of other folds."""
    of_fold = {
        fold: _steps_for(inputs, task, place, hypernym, steering, fold) for fold in set(inputs.fold.tolist())
    }
    kinds = next(iter(of_fold.values()))
    return {kind: np.stack([of_fold[fold][kind] for fold in inputs.fold.tolist()]) for kind in kinds}


def _steps_for(
    inputs: EditInputs, task: str, place: SpanAtLayer, hypernym: str, steering: Steering, fold: int
) -> dict[tuple[str, int], Direction]:
    """One standard deviation along each direction; the controls are as long as the first of them."""
    states, leaves = inputs.states[task].train(fold, place.layer, place.span)
    centred = (states - states.mean(0)).mean(1)
    directions = {
        kind: _difference(centred, leaves, inputs.labels(hypernym))
        if kind == "mass_mean"
        else (steering.given or {})[kind, place.layer, place.span][hypernym]
        for kind in steering.kinds
    }
    step = {
        (kind, 0): projection_std(centred, direction) * direction / np.linalg.norm(direction)
        for kind, direction in directions.items()
    }
    length = float(np.linalg.norm(step[steering.kinds[0], 0]))
    controls = {("random", draw): _random(inputs, place, hypernym, draw) for draw in range(inputs.controls)}
    controls |= {
        ("shuffled", draw): _difference(centred, leaves, inputs.labels(hypernym, draw))
        for draw in range(inputs.controls)
    }
    return step | {kind: vector * length / np.linalg.norm(vector) for kind, vector in controls.items()}


def _random(inputs: EditInputs, place: SpanAtLayer, hypernym: str, draw: int) -> Direction:
    """A random direction, the same for all folds."""
    width = next(iter(inputs.states.values())).values[place.layer, place.span].shape[-1]
    names = ("steering control", hypernym, place.name, str(draw))
    return stream(inputs.seed, *names).standard_normal(width)


def _difference(rows: Float[np.ndarray, "n d"], leaves: np.ndarray, labels: Mapping[str, bool]) -> Direction:
    """Difference of class means (Marks & Tegmark 2023, arXiv:2310.06824, section 5.1).

    Raises:
        ValueError: one of the classes has no leaf.
    """
    member = np.array([labels[leaf] for leaf in leaves.tolist()])
    if member.all() or not member.any():
        raise ValueError(
            f"a direction is fitted on leaves under a hypernym and others; of these {len(labels)} "
            f"{'all' if member.all() else 'none'} are under it: choose a larger hypernym, or more --folds"
        )
    return rows[member].mean(0) - rows[~member].mean(0)
