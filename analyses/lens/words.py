"""Words that lenses look for: those of each leaf, and those of other leaves, drawn so that frequencies cancel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analyses.inputs.subject import Subject
from probing.stats.seeding import stream

OTHERS = 4  # leaves whose words a row is compared with
TARGETS = ("leaf", "hypernym")


@dataclass(frozen=True)
class Words:
    """Which tokens of the vocabulary stand for a leaf: its own words, and those of other leaves.

    Attributes:
        ids: tokens of each leaf's words and of the others'.
        own: weights of its own words, which sum to 1; NaN where it has none that can be read.
        other: weights of others' words, likewise.
    """

    ids: Int[Tensor, "leaves k"]
    own: Float[np.ndarray, "leaves k"]
    other: Float[np.ndarray, "leaves k"]


def words_of(
    subject: Subject,
    target: str,
    leaves: Sequence[str],
    seed: int,
    number_of: Mapping[str, int] | None = None,
) -> Words:
    """The words of each leaf by the first of their tokens, and those of `OTHERS` other leaves, drawn by exchange.

    Each word is somebody's own as often as it is another's (but for words that both leaves have, which are left out),
    so that how frequent words are cancels. `number_of`: the number of each name in another vocabulary than the model's.
    """
    token = subject.candidates(target).token_of if number_of is None else number_of
    hypernyms_of = subject.run.taxonomy.hypernyms_of

    def tokens(leaf: str) -> set[int]:
        names = (leaf,) if target == "leaf" else hypernyms_of(leaf)
        return {token[name] for name in names if name in token}

    partners = _partners(len(leaves), seed)
    own = [tokens(leaf) for leaf in leaves]
    other = [[word for p in partners[:, i] for word in sorted(own[p] - own[i])] for i in range(len(leaves))]
    width = max(len(a) + len(b) for a, b in zip(own, other))
    ids = np.zeros((len(leaves), width), dtype=np.int64)
    weights = np.zeros((2, len(leaves), width))
    for i, (mine, theirs) in enumerate(zip(own, other)):
        ids[i, : len(mine) + len(theirs)] = [*sorted(mine), *theirs]
        for side, first, count in ((0, 0, len(mine)), (1, len(mine), len(theirs))):
            weights[side, i, first : first + count] = 1 / max(count, 1)
            weights[side, i, 0] += 0 if count else np.nan
    return Words(torch.tensor(ids), weights[0], weights[1])


def _partners(count: int, seed: int) -> Int[np.ndarray, "draws leaves"]:
    """For each leaf some other leaves: each draw is a shift of one seeded order, so that all serve equally often."""
    order = stream(seed, "words of other leaves").permutation(count)
    shifts = [1 + (draw * (count - 1)) // OTHERS for draw in range(min(OTHERS, count - 1))]
    partners = np.empty((len(shifts), count), dtype=np.int64)
    for draw, shift in enumerate(shifts):
        partners[draw, order] = np.roll(order, shift)
    return partners
