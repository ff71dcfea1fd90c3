"""Pairs of leaves to patch between: a clean and a corrupted leaf that differ in a hypernym, and leaves for placebos."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from probing.stats.seeding import stream
from taxogen.world.taxonomy import Taxonomy

PAIRS = 200
"""Pairs that are drawn where none are asked for, and the leaves make so many."""


@dataclass(frozen=True)
class Pair:
    """Two leaves, hypernyms in which they differ, and leaves for placebos.

    Attributes:
        clean: the leaf whose answer a patch is to bring back.
        corrupted: the leaf whose run falls short of it.
        up: a hypernym of the clean leaf alone, its most special one that can be read.
        down: one of the corrupted leaf alone.
        near: whether they share another hypernym, as crow and trout share animal.
        sibling: another leaf under the hypernym of the one that states come from, not under that of the other.
        stranger: a leaf that shares no hypernym with either.
    """

    clean: str
    corrupted: str
    up: str
    down: str
    near: bool
    sibling: str
    stranger: str


def pairs_of(
    taxonomy: Taxonomy,
    first_tokens: Mapping[str, int],
    hypernyms: Collection[str],
    count: int | None,
    seed: int = 0,
    *,
    noising: bool = False,
) -> list[Pair]:
    """A seeded draw of pairs in which no leaf is clean twice or corrupted twice; every other one is near.

    Args:
        taxonomy: what is above each leaf.
        first_tokens: by which each leaf is read that there are pictures of; those of a pair differ.
        hypernyms: those that can be read.
        count: how many pairs; without one as many as there are, up to `PAIRS`.
        seed: of the draw.
        noising: states come from the corrupted leaf, so that its hypernym is what a sibling shares.

    Raises:
        ValueError: there are fewer pairs, or none.
    """
    leaves, starts = list(first_tokens), list(first_tokens.values())
    labels = np.asarray(taxonomy.labels(leaves))
    rank = labels.sum(0)
    askable = np.array([name in hypernyms for name in taxonomy.hypernyms]) & (rank >= 2)
    rng = stream(seed, "patching pairs")
    order, free = rng.permutation(len(leaves)), list(rng.permutation(len(leaves)))
    pairs: list[Pair] = []
    for clean in order:
        if len(pairs) == (count or PAIRS):
            break
        others = [row for row in free if starts[row] != starts[clean]]
        partner = _partner(clean, others, labels, askable, rank, near=len(pairs) % 2 == 0)
        if partner is None:
            continue
        corrupted, up, down = partner
        giver, own, other = (corrupted, down, up) if noising else (clean, up, down)
        sibling = _draw(rng, labels[:, own] & ~labels[:, other], giver)
        related = (labels & (labels[clean] | labels[corrupted])).any(1)
        stranger = _draw(rng, ~related, giver)
        if sibling is None or stranger is None:
            continue
        free.remove(corrupted)
        names = [leaves[row] for row in (int(clean), corrupted, sibling, stranger)]
        near = bool((labels[clean] & labels[corrupted]).any())
        up_name, down_name = taxonomy.hypernyms[up], taxonomy.hypernyms[down]
        pairs.append(Pair(names[0], names[1], up_name, down_name, near, *names[2:]))
    if len(pairs) < (count or 1):
        raise ValueError(
            f"{count or PAIRS} pairs of leaves were asked for; {len(leaves)} leaves make {len(pairs)} that differ in a "
            "hypernym that can be read, beside a leaf that shares none with either: ask for fewer with --pairs, or "
            "give a taxonomy of three hypernyms or more"
        )
    return pairs


def _partner(
    clean: int,
    others: Sequence[int],
    labels: Bool[np.ndarray, "leaves k"],
    askable: Bool[np.ndarray, " k"],
    rank: np.ndarray,
    near: bool,
) -> tuple[int, int, int] | None:
    """The first other leaf that differs, related or not as wanted if there is one; and the two hypernyms."""
    second = None
    for other in others:
        ups = np.flatnonzero(labels[clean] & ~labels[other] & askable)
        downs = np.flatnonzero(labels[other] & ~labels[clean] & askable)
        if not len(ups) or not len(downs):
            continue
        partner = int(other), int(ups[rank[ups].argmin()]), int(downs[rank[downs].argmin()])
        if bool((labels[clean] & labels[other]).any()) == near:
            return partner
        second = second or partner
    return second


def _draw(rng: np.random.Generator, allowed: Bool[np.ndarray, " leaves"], but: int) -> int | None:
    rows = [row for row in np.flatnonzero(allowed) if row != but]
    return int(rng.choice(rows)) if rows else None
