"""Pairs of leaves to patch between: a clean and a corrupted leaf that differ in a hypernym, and leaves for placebos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from probing.stats.seeding import stream
from taxogen.world.taxonomy import Taxonomy


@dataclass(frozen=True)
class Pair:
    """Two leaves and what sets them apart.

    Attributes:
        clean: the leaf whose answer a patch is to bring back.
        corrupted: the leaf whose run falls short of it.
        up: a hypernym of the clean leaf alone, its most special one whose name is one token.
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
    leaves: Sequence[str],
    first_tokens: Mapping[str, int],
    count: int,
    seed: int = 0,
    *,
    noising: bool = False,
) -> list[Pair]:
    """A seeded draw of pairs in which no leaf is clean twice or corrupted twice; every other one is near.

    Args:
        taxonomy: what is above each leaf.
        leaves: those that there are pictures of.
        first_tokens: of the names of leaves, and of hypernyms that have a name of one token.
        count: how many pairs.
        seed: of the draw.
        noising: states come from the corrupted leaf, so that its hypernym is what a sibling shares.

    Raises:
        ValueError: there are not so many pairs.
    """
    places = {leaf: row for row, leaf in enumerate(leaves)}
    labels = np.asarray(taxonomy.labels(list(leaves)))
    askable = np.array([name in first_tokens for name in taxonomy.hypernyms]) & (labels.sum(0) >= 2)
    rank = labels.sum(0)
    rng = stream(seed, "patching pairs")
    starts = [first_tokens[leaf] for leaf in leaves]
    order, free = rng.permutation(len(leaves)), list(rng.permutation(len(leaves)))
    made: list[Pair] = []
    for clean in order:
        if len(made) == count:
            break
        others = [row for row in free if starts[row] != starts[clean]]
        found = _partner(clean, others, labels, askable, rank, near=len(made) % 2 == 0)
        if found is None:
            continue
        corrupted, up, down = found
        giver, own, other = (corrupted, down, up) if noising else (clean, up, down)
        sibling = _draw(rng, labels[:, own] & ~labels[:, other], giver)
        related = (labels & (labels[clean] | labels[corrupted])).any(1)
        stranger = _draw(rng, ~related, giver)
        if sibling is None or stranger is None:
            continue
        free.remove(corrupted)
        names = [leaves[row] for row in (int(clean), corrupted, sibling, stranger)]
        near = bool((labels[clean] & labels[corrupted]).any())
        made.append(
            Pair(names[0], names[1], taxonomy.hypernyms[up], taxonomy.hypernyms[down], near, *names[2:])
        )
    if len(made) < count:
        raise ValueError(
            f"{count} pairs of leaves were asked for; {len(places)} leaves make {len(made)} that differ in a hypernym "
            "with a name of one token: ask for fewer with --pairs"
        )
    return made


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
        found = int(other), int(ups[rank[ups].argmin()]), int(downs[rank[downs].argmin()])
        if bool((labels[clean] & labels[other]).any()) == near:
            return found
        second = second or found
    return second


def _draw(rng: np.random.Generator, allowed: Bool[np.ndarray, " leaves"], but: int) -> int | None:
    rows = [row for row in np.flatnonzero(allowed) if row != but]
    return int(rng.choice(rows)) if rows else None


def first_tokens(vlm: Any, leaves: Sequence[str], hypernyms: Sequence[str]) -> dict[str, int]:
    """The first token of every leaf's name, and of every hypernym whose name is one token that no other begins with."""
    words = {name: vlm.tokens(f" {name}") for name in hypernyms}
    starts = [tokens[0] for tokens in words.values()]
    found = {name: t[0] for name, t in words.items() if len(t) == 1 and starts.count(t[0]) == 1}
    return {leaf: vlm.tokens(f" {leaf}")[0] for leaf in leaves} | found


def table_of(pairs: Sequence[Pair]) -> pd.DataFrame:
    """The pairs as a table, one row each."""
    return pd.DataFrame([vars(pair) for pair in pairs])
