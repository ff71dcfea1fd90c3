"""Subspaces of one fold at a place, made from the leaves of all other folds: each method, modality, rank, and draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch.nn.functional import softplus

from analyses.inputs.span_states import SpanAtLayer
from analyses.interchange.grid import HYPERNYM, ExchangeGrid
from analyses.interchange.options import TRAINED
from analyses.interchange.pairs import Exchange
from analyses.interchange.sides import Bases
from probing.patching.subspaces import (
    Batch,
    Exchanges,
    Subspace,
    learn,
    of_erasure,
    of_means,
    of_probes,
    random_in,
    read_space,
    root_of,
)
from probing.patching.subspaces.subspace import INDEPENDENT
from probing.probes.means import mass_mean
from probing.stats.seeding import stream

Made = tuple[str, str, int, int]
"""Method, what it was trained on, rank, and draw of arbitrary labels (0: the labels themselves)."""
_BATCH = 32


def subspaces(grid: ExchangeGrid, place: SpanAtLayer, fold: int, draws: bool = True) -> dict[Made, Subspace]:
    """Every subspace for the leaves of a fold; without draws, none of arbitrary labels.

    Raises:
        ValueError: a rank is larger than what the hypernyms span.
    """
    return {
        (method, trained, rank, draw): _subspace(grid, place, fold, method, trained, rank, draw)
        for trained in grid.options.trained
        for method in grid.options.methods
        for rank in grid.options.ranks
        for draw in range(grid.options.draws_of(method) + 1 if draws else 1)
    }


def training_rows(
    grid: ExchangeGrid, place: SpanAtLayer, fold: int, modality: str
) -> tuple[Float[np.ndarray, "n d"], np.ndarray]:
    """States of the leaves of all other folds, each token about its own mean, and which leaf each is of."""
    others = np.flatnonzero(grid.fold != fold)
    states = grid.states(HYPERNYM, modality)[place][others]
    return (states - states.mean(0)).reshape(-1, states.shape[-1]), np.repeat(others, states.shape[1])


def _subspace(
    grid: ExchangeGrid, place: SpanAtLayer, fold: int, method: str, trained: str, rank: int, draw: int
) -> Subspace:
    labels, modality = grid.trained_on(fold, draw), TRAINED[trained]
    rows, leaf = training_rows(grid, place, fold, modality)
    if method == "das":
        rng = stream(grid.options.seed, "start of a search", str(fold), trained, str(rank), str(draw))
        objectives = list(_objectives(grid, place, fold, modality, labels, draw))
        return learn(objectives, random_in(root_of(rows), rank, rng), grid.options.steps, grid.options.rate)[
            0
        ]
    known = labels[leaf][:, _varies(labels[leaf])].astype(float)
    if draw:  # arbitrary labels of few leaves may span less
        rank = min(rank, int(np.linalg.matrix_rank(mass_mean(rows, known)[0], rtol=INDEPENDENT)))
    if method == "means":
        return of_means(rows, known, rank)
    if method == "probe":
        return of_probes(rows, known, np.array(grid.leaves)[leaf], rank)
    return of_erasure(rows, known, rank, grid.options.shrinkage)


def _varies(labels: Bool[np.ndarray, "n h"]) -> Bool[np.ndarray, " h"]:
    return np.asarray(labels.any(0) & ~labels.all(0))


def _objectives(
    grid: ExchangeGrid,
    place: SpanAtLayer,
    fold: int,
    modality: str,
    labels: Bool[np.ndarray, "leaves h"],
    draw: int,
) -> Iterator[Batch]:
    """Batches of training pairs within one modality, with the log-loss of the source's hypernym against the base's.

    Words of a batch that have more tokens than others are run apart; every pair counts the same for all that.
    """
    drawn = ("training", str(fold), str(draw))
    pairs = grid.draw(grid.fold != fold, labels, grid.options.training_pairs, *drawn)
    batches = [rows for rows in np.array_split(np.arange(len(pairs)), -(-len(pairs) // _BATCH)) if len(rows)]
    for rows in batches:
        batch = [pairs[row] for row in rows]
        # Arbitrary labels have pairs of their own, whose passes would fill the memory.
        bases = (
            Bases.of(grid.stimuli, HYPERNYM, modality, [pair.base for pair in batch])
            if draw
            else grid.bases(HYPERNYM, modality, batch, fold)
        )
        yield Batch(list(_of_lengths(grid, place, modality, bases, batch)), len(pairs) / len(batches))


def _of_lengths(
    grid: ExchangeGrid, place: SpanAtLayer, modality: str, bases: Bases, batch: Sequence[Exchange]
) -> Iterator[Exchanges]:
    """The pairs of a batch whose bases have one length, for each length."""
    read = grid.stimuli.read(HYPERNYM)
    difference = torch.tensor(grid.difference(HYPERNYM, modality, bases, batch, place))
    for places, restart in bases.groups:
        state = bases.tokens(place, restart)
        up, down = (
            torch.tensor([grid.names.index(getattr(batch[at], end)) for at in places])[:, None]
            for end in ("up", "down")
        )

        def loss(logits: torch.Tensor, up: torch.Tensor = up, down: torch.Tensor = down) -> torch.Tensor:
            chosen = [logits.gather(1, end.to(logits.device)) for end in (down, up)]
            return softplus(chosen[0] - chosen[1])

        yield Exchanges(restart, place.cell, state, difference[places].to(state), read, loss)


def read_at(grid: ExchangeGrid, place: SpanAtLayer, fold: int) -> Subspace:
    """The directions of the base's state that its answers are read from, by gradients on leaves of other folds."""
    base = grid.options.modalities[1]
    gradients = [one.gradients() for one in _objectives(grid, place, fold, base, grid.trained_on(fold), 0)]
    return read_space(np.concatenate(gradients))
