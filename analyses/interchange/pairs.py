"""Pairs of leaves to exchange states between: a base and a source that differ in a hypernym."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from probing.stats.seeding import stream


@dataclass(frozen=True)
class Exchange:
    """Two leaves and hypernyms in which they differ.

    Attributes:
        base: the leaf whose run gets a part of the other's state.
        source: the leaf that the part comes from.
        up: a hypernym of the source alone, its most special one that can be read.
        down: one of the base alone.
    """

    base: str
    source: str
    up: str
    down: str


def exchanges(
    leaves: Sequence[str],
    labels: Bool[np.ndarray, "leaves hypernyms"],
    names: Sequence[str],
    tokens: Int[np.ndarray, " leaves"],
    count: int,
    seed: int,
    *drawn: str,
) -> list[Exchange]:
    """At most `count` pairs of different first tokens, a seeded draw; every other one shares a hypernym, if any does.

    No leaf is base, or source, of more than its share of pairs by more than one.

    Args:
        leaves: between which.
        labels: what is above each.
        names: of the columns of `labels`, those that can be read.
        tokens: by which each leaf's name is read.
        count: how many pairs at most.
        seed: of the draw.
        drawn: names of the draw.
    """
    differ = (labels.astype(int) @ ~labels.T) > 0  # the row has a hypernym that the column lacks
    base, source = np.nonzero(differ & differ.T & (tokens[:, None] != tokens))
    near = np.asarray((labels[base] & labels[source]).any(1))
    order = stream(seed, "exchanged pairs", *drawn).permutation(len(base))
    queues: list[list[int]] = [order[near[order]].tolist(), order[~near[order]].tolist()]
    uses, most = np.zeros((2, len(leaves)), int), -(-count // max(len(leaves), 1)) + 1
    chosen: list[int] = []
    while len(chosen) < count and any(queues):
        queue = queues[len(chosen) % 2] or queues[1 - len(chosen) % 2]
        at = queue.pop()
        if uses[0, base[at]] < most and uses[1, source[at]] < most:
            uses[[0, 1], [base[at], source[at]]] += 1
            chosen.append(at)
    size = np.asarray(labels.sum(0))

    def special(row: int, other: int) -> str:
        own = np.flatnonzero(labels[row] & ~labels[other])
        return names[int(own[size[own].argmin()])]

    return [
        Exchange(leaves[i], leaves[j], special(j, i), special(i, j))
        for i, j in ((int(base[at]), int(source[at])) for at in chosen)
    ]
