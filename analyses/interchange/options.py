"""Options of interchange: which subspaces are exchanged, what they are made from, and what they are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """What is exchanged where. The defaults are cheap: three layers, one span, two methods, one fold of three.

    Attributes:
        direction: source to base
        layers: behind which; by default three of the upper half. Time grows with their number
        spans: where in the prompt; every token of a span costs as much as "last", and a picture has many in "slot"
        ranks: of the subspace
        methods: means (differences of class means), probe (ridge), leace, or das (learnt by gradient: nearly all of the
            time)
        trained: what subspaces are made from; with both they are also compared
        pairs: of leaves that are tested, over all folds
        folds: what is tested on the leaves of one is made from those of all others
        tested: folds that are tested; 0 for all. Time grows with their number
        training_pairs: for das, in each fold
        steps: of das
        rate: of das, in radians a step, about
        shrinkage: of covariances for leace, a share in [0, 1)
        controls: draws of each control; 19 or more give a p
        trained_controls: draws of arbitrary labels for das, each a training as long as its own
        placebo_run: a run of a random-init language model, in which the same is done
    """

    direction: str = option("picture-to-picture", choices=tuple(DIRECTIONS), role=TABLE)
    layers: tuple[int, ...] = option((), flag="--layer", role=EXTENT)
    spans: tuple[str, ...] = option(("last",), flag="--span", choices=SPANS, role=EXTENT)
    ranks: tuple[int, ...] = option((1, 4), flag="--rank", role=EXTENT)
    methods: tuple[str, ...] = option(("means", "das"), flag="--method", choices=METHODS, role=EXTENT)
    trained: tuple[str, ...] = option(
        ("pictures", "words"), flag="--trained-on", choices=tuple(TRAINED), role=EXTENT
    )
    pairs: int = option(60, role=EXTENT)
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
