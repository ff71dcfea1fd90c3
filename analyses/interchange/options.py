"""Options of interchange: which subspaces are exchanged, what they are made from, and what they are compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from analyses.frame.command_line import EXTENT, PARTNER, TABLE, Resampling, option

DIRECTIONS = {
    "picture-to-picture": ("image", "image"),
    "word-to-picture": ("text", "image"),
    "picture-to-word": ("image", "text"),
    "word-to-word": ("text", "text"),
}
"""Direction → modality of the source, whose part of the state is put into the base, and modality of the base."""
TRAINED = {"pictures": "image", "words": "text"}
METHODS = ("means", "probe", "leace", "das")
SPANS = ("slot", "cue", "last")
RANKS, PAIRS = (1, 4), 60
"""The default ranks and number of pairs, where hypernyms span as many dimensions and leaves make as many pairs."""


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """What is exchanged where. The defaults are cheap: three layers, one span, two methods, one fold of three.

    Attributes:
        direction: source to base
        layers: layers behind which states are exchanged; by default three of the upper half. Time grows with them
        spans: where in the prompt; every token of a span costs as much as "last", and a picture has many in "slot"
        ranks: dimensions of a subspace; by default 1 and 4, or as many as hypernyms span
        methods: means (differences of class means), probe (ridge), leace, or das (learnt by gradient: nearly all of the
            time)
        trained: what subspaces are made from; with both they are also compared
        pairs: pairs of leaves that are tested, over all folds; by default 60, or as many as there are
        folds: what is tested on the leaves of one is made from those of all others
        tested: folds that are tested; 0 for all. Time grows with their number
        training_pairs: pairs that das is trained on, in each fold
        steps: gradient steps of das
        rate: step length of das, about that many radians
        shrinkage: share in [0, 1) by which covariances are shrunk for leace
        controls: draws of each control; 19 or more give a p
        trained_controls: draws of arbitrary labels for das, each a training as long as its own
        placebo_run: a run of a random-init language model, in which the same is done
    """

    direction: str = option("picture-to-picture", choices=tuple(DIRECTIONS), role=TABLE)
    layers: tuple[int, ...] = option((), flag="--layer", role=EXTENT)
    spans: tuple[str, ...] = option(("last",), flag="--span", choices=SPANS, role=EXTENT)
    ranks: tuple[int, ...] = option((), flag="--rank", role=EXTENT)
    methods: tuple[str, ...] = option(("means", "das"), flag="--method", choices=METHODS, role=EXTENT)
    trained: tuple[str, ...] = option(
        ("pictures", "words"), flag="--trained-on", choices=tuple(TRAINED), role=EXTENT
    )
    pairs: int | None = option(None, role=EXTENT)
    folds: int = option(3, role=EXTENT)
    tested: int = option(1, flag="--tested-folds", role=EXTENT)
    training_pairs: int = option(96, role=EXTENT)
    steps: int = option(40, role=EXTENT)
    rate: float = option(0.1)
    shrinkage: float = option(0.1)
    controls: int = option(19, role=EXTENT)
    trained_controls: int = option(1, role=EXTENT)
    placebo_run: Path | None = option(None, metavar="DIR", role=PARTNER)

    @property
    def modalities(self) -> tuple[str, str]:
        """Modality of the source and of the base."""
        return DIRECTIONS[self.direction]

    def draws_of(self, method: str) -> int:
        """Draws of arbitrary labels for a method."""
        return self.trained_controls if method == "das" else self.controls


def largest_rank(
    labels: Bool[np.ndarray, "leaves h"], fold: Int[np.ndarray, " leaves"], options: Options, width: int
) -> int:
    """The largest rank that the subspaces of every tested fold and method can have.

    All but a search have at most as many dimensions as the labels of the leaves that they are made from, about their
    mean; a search, and random subspaces, one less than there are leaves; and none more than a state.
    """
    others = [labels[fold != one].astype(float) for one in range(options.tested or options.folds)]
    if set(options.methods) == {"das"}:
        return min(width, *(len(one) - 1 for one in others))
    return min(width, *(int(np.linalg.matrix_rank(one - one.mean(0))) for one in others))


def with_ranks(options: Options, most: int) -> Options:
    """The options with the ranks that are asked for or, where none is, the default ones as far as subspaces go.

    Raises:
        ValueError: a larger rank was asked for, or no subspace can be made.
    """
    if most < 1:
        raise ValueError(
            "no subspace can be made: the leaves of other folds differ in no hypernym that can be read; ask for more "
            "--folds, or of a run whose taxonomy has more leaves"
        )
    if max(options.ranks, default=0) > most:
        raise ValueError(
            f"--rank {max(options.ranks)} was asked for; subspaces by {', '.join(options.methods)} made from the "
            f"leaves of other folds have rank {most} at most: give that or less"
        )
    return replace(options, ranks=options.ranks or tuple(sorted({min(rank, most) for rank in RANKS})))


def lowered(asked: Options, ranks: tuple[int, ...], pairs: int) -> str:
    """Which defaults could not be kept, in words."""
    notes = []
    if not asked.ranks and ranks != RANKS:
        notes.append(f"rank {max(ranks)} in place of {max(RANKS)}, as hypernyms span no more")
    if asked.pairs is None and pairs < PAIRS:
        notes.append(f"{pairs} pairs in place of {PAIRS}, as leaves of the tested folds make no more")
    return "; ".join(notes)
