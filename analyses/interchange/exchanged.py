"""Exchanges tried out: what every pair of one fold answers when each subspace, and each control, is exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.inputs.span_states import SpanAtLayer
from analyses.inputs.stimuli.natural import ranked
from analyses.interchange.fitted import Made, read_at, subspaces, training_rows
from analyses.interchange.grid import HYPERNYM, ExchangeGrid
from analyses.interchange.options import TRAINED
from analyses.interchange.outcomes import hypernym_outcomes, leaf_outcomes, moved
from analyses.interchange.pairs import Exchange
from analyses.interchange.sides import Change
from probing.patching.subspaces import Subspace, cosines, overlap, random, random_in, root_of, split
from probing.stats.seeding import stream

ANGLES, SPECTRUM, ARBITRARY_ANGLES = "angles", "angles_random", "angles_arbitrary"
NULL_ANGLES = 199
"""Random subspaces that the angles of two are compared with: the smallest p is .005."""


@dataclass(frozen=True)
class Edit:
    """A change of the base's state: of which subspace, as what, and which draw of a control."""

    edit: str
    change: Change
    method: str = ""
    trained: str = ""
    rank: int = 0
    draw: int = 0


def exchanged(grid: ExchangeGrid, place: SpanAtLayer, fold: int) -> pd.DataFrame:
    """Outcomes of every pair of a fold under every edit, a row each; and rows of angles, which have no pair."""
    made = subspaces(grid, place, fold)
    pairs, edits = grid.pairs[fold], edits_of(grid, place, fold, made)
    frame = outcomes_of(grid, place, fold, edits, pairs)
    frame = pd.concat([frame, angles(grid, place, fold, made)], ignore_index=True)
    return frame.assign(layer=place.layer, span=place.span, fold=fold)


def exchanged_alone(grid: ExchangeGrid, place: SpanAtLayer, fold: int) -> pd.DataFrame:
    """The same without controls, for a run that is itself one."""
    made = subspaces(grid, place, fold, draws=False)
    edits = [Edit("none", _nothing), Edit("whole", _everything)]
    edits += [Edit("swap", one.part, *key[:3]) for key, one in made.items()]
    frame = outcomes_of(grid, place, fold, edits, grid.pairs[fold])
    return frame.assign(layer=place.layer, span=place.span, fold=fold)


def outcomes_of(
    grid: ExchangeGrid, place: SpanAtLayer, fold: int, edits: Sequence[Edit], pairs: Sequence[Exchange]
) -> pd.DataFrame:
    """Outcomes of pairs under edits, a row each; the name of the leaf is asked for under edits that are no draws."""
    source, base = grid.options.modalities
    once = [edit for edit in edits if not edit.draw]
    measured: dict[str, np.ndarray] = {}
    for task, chosen in ((HYPERNYM, edits), ("leaf", once)):
        bases = grid.bases(task, base, pairs, fold)
        difference = grid.difference(task, source, bases, pairs, place)
        logits = bases.answers(place, difference, [edit.change for edit in chosen])
        if task == HYPERNYM:
            measured |= hypernym_outcomes(grid.stimuli, pairs, logits)
            measured["moved"] = moved(difference, [edit.change for edit in edits])
            base_states = bases.states(place)
            edited = (base_states + edit.change(difference) for edit in edits)
            measured |= ranked(grid.natural(place), edited, np.array([pair.base for pair in pairs]))
        else:
            of_leaf = np.full((len(edits), len(pairs)), np.nan)
            of_leaf[[not edit.draw for edit in edits]] = leaf_outcomes(grid.stimuli, pairs, logits)
            measured["leaf"] = of_leaf
    labels = pd.DataFrame([{k: v for k, v in vars(edit).items() if k != "change"} for edit in edits])
    frame = labels.loc[np.repeat(labels.index, len(pairs))].reset_index(drop=True)
    for name in ("base", "source", "up", "down"):
        frame[name] = [getattr(pair, name) for pair in pairs] * len(edits)
    return frame.assign(**{name: values.ravel() for name, values in measured.items()})


def edits_of(grid: ExchangeGrid, place: SpanAtLayer, fold: int, made: dict[Made, Subspace]) -> list[Edit]:
    """Nothing and everything exchanged; each subspace, its complement and its parts; and the draws of each control."""
    options, read = grid.options, read_at(grid, place, fold)
    edits = [Edit("none", _nothing), Edit("whole", _everything)]
    root = root_of(training_rows(grid, place, fold, options.modalities[1])[0])
    for rank in options.ranks:
        for draw in range(1, options.controls + 1):
            drawn = random_in(root, rank, _rng(grid, place, "spectrum", rank, draw))
            edits.append(Edit("random", drawn.part, rank=rank, draw=draw))
    for (method, trained, rank, draw), one in made.items():
        own = {"method": method, "trained": trained, "rank": rank}
        if draw:
            edits.append(Edit("arbitrary", one.part, **own, draw=draw))
            continue
        inside, outside = split(one, read)
        edits += [
            Edit("swap", one.part, **own),
            Edit("complement", partial(_complement, one), **own),
            Edit("read", inside.part, **own),
            Edit("unread", outside.part, **own),
        ]
        for number in range(1, options.controls + 1):
            other = random(one.width, rank, _rng(grid, place, "norm", rank, number))
            edits.append(Edit("random_norm", partial(_as_long, one, other), **own, draw=number))
    return edits


def angles(grid: ExchangeGrid, place: SpanAtLayer, fold: int, made: dict[Made, Subspace]) -> pd.DataFrame:
    """Overlap of the subspaces that were made from words and from pictures, and that of null subspaces."""
    if set(grid.options.trained) != set(TRAINED):
        return pd.DataFrame()
    root = root_of(training_rows(grid, place, fold, TRAINED["pictures"])[0])
    records = []
    for rank in grid.options.ranks:
        drawn = [
            random_in(root, rank, _rng(grid, place, "angles", rank, draw))
            for draw in range(1, NULL_ANGLES + 1)
        ]
        for method in grid.options.methods:
            own = {"method": method, "rank": rank}
            words = made[method, "words", rank, 0]
            for draw in range(grid.options.draws_of(method) + 1):
                pair = made[method, "words", rank, draw], made[method, "pictures", rank, draw]
                records.append({**own, "edit": ARBITRARY_ANGLES if draw else ANGLES, "draw": draw})
                records[-1] |= {"overlap": overlap(*pair), "nearest": float(cosines(*pair)[0])}
            records += [
                {**own, "edit": SPECTRUM, "draw": draw, "overlap": overlap(words, one)}
                for draw, one in enumerate(drawn, start=1)
            ]
    return pd.DataFrame(records).assign(trained="words and pictures")


def _rng(grid: ExchangeGrid, place: SpanAtLayer, name: str, rank: int, draw: int) -> np.random.Generator:
    """A generator for each; the same for every method, and for every fold.

    A draw is one over the folds, as the subspaces that it stands beside are much the same in all of them: means over
    folds of draws that are not vary less than one draw does, and a p by them is too small (angles of nothing planted,
    three folds: p ≤ .05 in .16 of worlds).
    """
    at = (place.span, str(place.layer), str(rank), str(draw))
    return stream(grid.options.seed, "random subspace", name, *at)


def _nothing(difference: np.ndarray) -> np.ndarray:
    return np.zeros_like(difference)


def _everything(difference: np.ndarray) -> np.ndarray:
    return difference


def _complement(subspace: Subspace, difference: np.ndarray) -> np.ndarray:
    return difference - subspace.part(difference)


def _as_long(subspace: Subspace, other: Subspace, difference: np.ndarray) -> Float[np.ndarray, "pairs n d"]:
    """The change along another subspace, as long as that along the first, token by token."""
    wanted, drawn = subspace.part(difference), other.part(difference)
    length = np.linalg.norm(drawn, axis=-1, keepdims=True)
    return drawn * (np.linalg.norm(wanted, axis=-1, keepdims=True) / np.where(length > 0, length, 1))
