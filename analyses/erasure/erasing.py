"""Erasure tried out: every picture's read-outs with each hypernym erased from a span behind a layer, and controls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from analyses.erasure.edits import (
    CONTROLS,
    EditInputs,
    States,
    answers,
    clean_states,
    read_outs,
)
from analyses.erasure.natural import TASK, Ranked
from analyses.inputs.span_states import SpanAtLayer, SpanEraser, SpanWhitening
from probing.edits.matching import match_effect
from probing.patching.outcomes import divergence


class Erasure(NamedTuple):
    """An erasure of a hypernym, or of what a draw of a control is fitted on.

    Attributes:
        edit: "erased" or a control.
        draw: of the control.
        of: the hypernym that it is of, or that it is a control of; empty where it is one of all.
        matched: in what it equals the erasure of the hypernym: "rank", "length" or "kl".
        factor: times the change that erases.
        reached: whether it equals that erasure.
    """

    edit: str
    draw: int
    of: str
    matched: str
    factor: float = 1.0
    reached: bool = True


_NONE = Erasure("none", 0, "", "")


def erase(inputs: EditInputs, place: SpanAtLayer) -> pd.DataFrame:
    """Read-outs of every picture with each hypernym erased at a place, and under controls; a row a picture and edit.

    Controls of equal rank do not depend on the hypernym: all share their draws. Those that are as long, or change the
    answers as much, are the same draws, scaled for each hypernym.
    """
    ranked = Ranked.of(inputs, place)
    erasers = {task: Erasers.of(inputs, task, place) for task in inputs.questions}
    shared = shared_erasures(inputs)
    logits = {}
    for task, question in inputs.questions.items():
        states = erased_states(inputs, task, place, erasers[task])
        logits[task] = answers(question, place, ranked.passing(states) if task == TASK else states)
    tables = [_table(inputs, name, [_NONE, *shared], logits, ranked.columns()) for name in inputs.hypernyms]
    tables += [
        _scaled(inputs, place, name, matched, erasers, ranked.again())
        for matched in inputs.matches
        if matched != "rank"
        for name in inputs.hypernyms
    ]
    return pd.concat(tables, ignore_index=True).assign(layer=place.layer, span=place.span)


def shared_erasures(inputs: EditInputs) -> list[Erasure]:
    """That of each hypernym, then the controls of equal rank, which all hypernyms share."""
    erased = [Erasure("erased", 0, name, "") for name in inputs.hypernyms]
    return [*erased, *(_controls(inputs, "", "rank") if "rank" in inputs.matches else [])]


def _controls(inputs: EditInputs, name: str, matched: str) -> list[Erasure]:
    return [Erasure(edit, draw, name, matched) for edit in CONTROLS for draw in range(inputs.controls)]


def erased_states(inputs: EditInputs, task: str, place: SpanAtLayer, erasers: Erasers) -> Iterator[States]:
    """The states that are put into the place: untouched, with each hypernym erased, then with each draw of controls.

    Those of a picture are erased by what was fitted on the leaves of other folds; a draw is one set over folds.
    """
    clean = clean_states(inputs.questions[task], place)
    yield clean
    for erasure in shared_erasures(inputs):
        yield erasers(clean, inputs.fold, erasure)


@dataclass(frozen=True)
class Erasers:
    """Erasers of a task's states at a place by (edit, draw, hypernym) and fold, with the length of what they change.

    Attributes:
        of_fold: (edit, draw, hypernym or nothing) → fold → the eraser and the root mean square of its change.
    """

    of_fold: Mapping[tuple[str, int, str], Mapping[int, tuple[SpanEraser, float]]]

    @classmethod
    def of(cls, inputs: EditInputs, task: str, place: SpanAtLayer) -> Erasers:
        """Those of every hypernym and draw, each fitted on the states of all folds but one."""
        keys = [("erased", 0, name) for name in inputs.hypernyms]
        keys += [(one.edit, one.draw, "") for one in _controls(inputs, "", "rank")]
        of_fold: dict[tuple[str, int, str], dict[int, tuple[SpanEraser, float]]] = {key: {} for key in keys}
        for fold in sorted(set(inputs.fold.tolist())):
            states, leaves = inputs.states[task].train(fold, place.layer, place.span)
            whitening = SpanWhitening.of(states, inputs.shrinkage)
            for edit, draw, name in keys:
                labels = _labels(inputs, edit, draw, name)
                eraser = _eraser(inputs, whitening, leaves, labels, place.layer, draw)
                length = float(np.sqrt(((eraser(states) - states) ** 2).sum(-1).mean()))
                of_fold[edit, draw, name][fold] = eraser, length
        return cls(of_fold)

    def __call__(self, clean: States, fold: Int[np.ndarray, " rows"], erasure: Erasure) -> States:
        """The states under an erasure, each row by what was fitted on the other folds."""
        edited, control = clean.copy(), erasure.edit in CONTROLS
        key = erasure.edit, erasure.draw, "" if control else erasure.of
        for at, (eraser, length) in self.of_fold[key].items():
            rows, times = fold == at, erasure.factor
            if erasure.matched == "length":
                times *= self.of_fold["erased", 0, erasure.of][at][1] / max(length, 1e-30)
            changed = eraser(clean[rows])
            edited[rows] = changed if times == 1 else clean[rows] + times * (changed - clean[rows])
        return edited


def _scaled(
    inputs: EditInputs,
    place: SpanAtLayer,
    name: str,
    matched: str,
    erasers: Mapping[str, Erasers],
    ranked: Ranked,
) -> pd.DataFrame:
    """Read-outs under the controls of one hypernym that equal its erasure in length, or in what it does to answers."""
    controls = _controls(inputs, name, matched)
    if matched == "kl":
        controls = _alike_in_answers(inputs, place, name, controls, erasers[TASK])
    logits = {}
    for task, question in inputs.questions.items():
        clean = clean_states(question, place)
        states = [clean, *(erasers[task](clean, inputs.fold, one) for one in controls)]
        logits[task] = answers(question, place, ranked.passing(states) if task == TASK else states)
    table = _table(inputs, name, [_NONE, *controls], logits, ranked.columns())
    return table[table["edit"] != "none"]


def _alike_in_answers(
    inputs: EditInputs, place: SpanAtLayer, name: str, controls: list[Erasure], erasers: Erasers
) -> list[Erasure]:
    """Controls scaled until they change the answers about hypernyms as much as the erasure does, in mean divergence."""
    question = inputs.questions[TASK]
    clean = clean_states(question, place)

    def divergences(given: Iterable[Erasure]) -> Float[np.ndarray, " erasures"]:
        logits = answers(question, place, [clean, *(erasers(clean, inputs.fold, one) for one in given)])
        return divergence(logits[0], logits[1:]).mean(-1)

    def effect(chosen: Int[np.ndarray, " k"], factor: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        return divergences([controls[at]._replace(factor=float(f)) for at, f in zip(chosen, factor)])

    (wanted,) = divergences([Erasure("erased", 0, name, "")])
    scales = match_effect(effect, np.full(len(controls), wanted))
    return [
        one._replace(factor=float(factor), reached=bool(reached))
        for one, factor, reached in zip(controls, scales.factor, scales.reached)
    ]


def _table(
    inputs: EditInputs,
    name: str,
    erasures: list[Erasure],
    logits: Mapping[str, Float[np.ndarray, "edits rows names"]],
    ranks: Mapping[str, Float[np.ndarray, "edits rows"]],
) -> pd.DataFrame:
    """The read-outs of a hypernym under the erasures that are of it or of all."""
    edits = pd.DataFrame(erasures, columns=Erasure._fields)
    of_name = edits["of"].isin(["", name]).to_numpy()
    table = read_outs(inputs, name, {task: values[of_name] for task, values in logits.items()})
    table = table.assign(**{column: values[of_name].ravel() for column, values in ranks.items()})
    repeated = edits[of_name].loc[lambda rows: rows.index.repeat(len(table) // len(rows))]
    labels = repeated.drop(columns="of").reset_index(drop=True)
    return pd.concat([table, labels], axis=1).assign(hypernym=name)


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
