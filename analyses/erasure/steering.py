"""Steering tried out: read-outs of pictures that are pushed along a hypernym's direction, by dose, and controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from analyses.erasure.edits import (
    CONTROLS,
    EditInputs,
    States,
    answers,
    clean_states,
    read_outs,
)
from analyses.erasure.natural import TASK, Ranked
from analyses.inputs.span_states import SpanAtLayer
from probing.edits.matching import match_effect
from probing.edits.steering import projection_std
from probing.patching.outcomes import divergence
from probing.stats.seeding import stream

DIRECTIONS = ("mass_mean", "probe", "text")
"""Difference of class means of pictures, the layer probes' direction of pictures, and that of words."""

Direction = Float[np.ndarray, " d"]


@dataclass(frozen=True)
class Steering:
    """How pictures are steered.

    Attributes:
        doses: in standard deviations of the pictures' projection on the direction.
        kinds: of directions.
        given: (kind, layer, span) → hypernym → direction of any length; those of mass_mean are fitted here.
    """

    doses: tuple[float, ...]
    kinds: tuple[str, ...] = DIRECTIONS[:1]
    given: Mapping[tuple[str, int, str], Mapping[str, Direction]] | None = None


class Push(NamedTuple):
    """A push along a direction, or along that of a control.

    Attributes:
        edit: kind of direction or of control.
        draw: of the control.
        beside: the direction whose control it is; empty for a direction itself.
        matched: in what it equals the push along that direction: "length" or "kl".
        dose: in standard deviations along the direction.
        factor: times as long as that push.
        reached: whether it equals that push.
    """

    edit: str
    draw: int
    beside: str
    matched: str
    dose: float
    factor: float = 1.0
    reached: bool = True


Steps = Mapping[tuple[str, int, str], Float[np.ndarray, "rows d"]]
"""(kind, draw, the direction that it is a control of) → one dose for each row."""


def steer(inputs: EditInputs, place: SpanAtLayer, steering: Steering) -> pd.DataFrame:
    """Read-outs of pictures that are not under a hypernym when they are steered towards it; one row a picture."""
    ranked = Ranked.of(inputs, place)
    tables = [_steered(inputs, place, name, steering, ranked.again()) for name in inputs.hypernyms]
    table = pd.concat(tables, ignore_index=True).assign(layer=place.layer, span=place.span)
    return table[~table["member"]].reset_index(drop=True)


def _steered(
    inputs: EditInputs, place: SpanAtLayer, name: str, steering: Steering, ranked: Ranked
) -> pd.DataFrame:
    """Read-outs of all pictures, steered towards one hypernym."""
    step = {task: steps(inputs, task, place, name, steering) for task in inputs.questions}
    pushes = _pushes(inputs, steering)
    if "kl" in inputs.matches:
        off = ~inputs.members(inputs.questions[TASK].leaves, name)
        pushes += _alike_in_answers(inputs, place, step[TASK], pushes, off)
    logits = {}
    for task, question in inputs.questions.items():
        clean = clean_states(question, place)
        states = [clean, *(_pushed(clean, step[task], push) for push in pushes)]
        logits[task] = answers(question, place, states)
        if task == TASK:
            list(ranked.passing(states))
    table = read_outs(inputs, name, logits)
    labels = pd.DataFrame([Push("none", 0, "", "", 0.0), *pushes], columns=Push._fields)
    repeated = labels.loc[labels.index.repeat(len(table) // len(labels))].reset_index(drop=True)
    ranks = {column: values.ravel() for column, values in ranked.columns().items()}
    return pd.concat([table.assign(**ranks), repeated], axis=1).assign(hypernym=name)


def _pushes(inputs: EditInputs, steering: Steering) -> list[Push]:
    """Every direction at every dose, then the controls of each that are as long."""
    doses = [dose for dose in steering.doses if dose]
    pushes = [Push(kind, 0, "", "", dose) for kind in steering.kinds for dose in doses]
    if "length" in inputs.matches:
        pushes += _controls(inputs, steering.kinds, "length", doses)
    return pushes


def _controls(inputs: EditInputs, kinds: Sequence[str], matched: str, doses: Sequence[float]) -> list[Push]:
    return [
        Push(control, draw, kind, matched, dose)
        for kind in kinds
        for control in CONTROLS
        for draw in range(inputs.controls)
        for dose in doses
    ]


def _pushed(clean: States, step: Steps, push: Push) -> States:
    return clean + push.factor * push.dose * step[push.edit, push.draw, push.beside][:, None]


def _alike_in_answers(
    inputs: EditInputs,
    place: SpanAtLayer,
    step: Steps,
    pushes: Sequence[Push],
    off: Bool[np.ndarray, " rows"],
) -> list[Push]:
    """Controls at the length at which they change the answers of these pictures as much as the direction does.

    That is the mean divergence of the answers about hypernyms from those without a push, of pictures off the hypernym.
    """
    question = inputs.questions[TASK]
    clean = clean_states(question, place)

    def divergences(given: Sequence[Push]) -> Float[np.ndarray, " pushes"]:
        logits = answers(question, place, [clean, *(_pushed(clean, step, push) for push in given)])
        return divergence(logits[0], logits[1:])[:, off].mean(-1)

    directions = [push for push in pushes if not push.beside]
    wanted = {(push.edit, push.dose): kl for push, kl in zip(directions, divergences(directions))}
    controls = [one for push in directions for one in _controls(inputs, (push.edit,), "kl", (push.dose,))]

    def effect(chosen: Int[np.ndarray, " k"], factor: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        return divergences([controls[at]._replace(factor=times) for at, times in zip(chosen, factor)])

    scales = match_effect(effect, np.array([wanted[one.beside, one.dose] for one in controls]))
    return [
        one._replace(factor=float(factor), reached=bool(reached))
        for one, factor, reached in zip(controls, scales.factor, scales.reached)
    ]


def steps(inputs: EditInputs, task: str, place: SpanAtLayer, hypernym: str, steering: Steering) -> Steps:
    """One dose along each direction for each picture asked about, fitted on the leaves of other folds."""
    of_fold = {
        fold: _steps_for(inputs, task, place, hypernym, steering, fold) for fold in set(inputs.fold.tolist())
    }
    kinds = next(iter(of_fold.values()))
    return {kind: np.stack([of_fold[fold][kind] for fold in inputs.fold.tolist()]) for kind in kinds}


def _steps_for(
    inputs: EditInputs, task: str, place: SpanAtLayer, hypernym: str, steering: Steering, fold: int
) -> dict[tuple[str, int, str], Direction]:
    """One standard deviation along each direction, and steps as long along its controls.

    All directions have the same draws of controls, each as long as its own step.
    """
    states, leaves = inputs.states[task].train(fold, place.layer, place.span)
    centred = (states - states.mean(0)).mean(1)
    directions = {
        kind: _difference(centred, leaves, inputs.labels(hypernym))
        if kind == "mass_mean"
        else (steering.given or {})[kind, place.layer, place.span][hypernym]
        for kind in steering.kinds
    }
    step = {
        (kind, 0, ""): projection_std(centred, direction) * direction / np.linalg.norm(direction)
        for kind, direction in directions.items()
    }
    controls = {("random", draw): _random(inputs, place, hypernym, draw) for draw in range(inputs.controls)}
    controls |= {
        ("shuffled", draw): _difference(centred, leaves, inputs.labels(hypernym, draw))
        for draw in range(inputs.controls)
    }
    for beside in steering.kinds:
        length = float(np.linalg.norm(step[beside, 0, ""]))
        step |= {
            (*kind, beside): vector * length / np.linalg.norm(vector) for kind, vector in controls.items()
        }
    return step


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
