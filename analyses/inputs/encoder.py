"""Encoder features of a run's pictures: as the encoder gives them, as the projector sees them, and the leaf of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from taxogen.models.features import FeatureRows
from taxogen.runs import closed
from taxogen.runs.bench import projector_inputs, raw_features
from taxogen.runs.run import Run

ENCODER = "encoder"
"""The entry of the site column in rows about encoder features."""


@dataclass(frozen=True, eq=False)
class EncoderRows:
    """Features of pictures, one row a picture; those of a large world are read when they are needed.

    Attributes:
        pictures: their names, sorted.
        leaves: the name of each in the run's world.
        raw: as the encoder gives them.
        standardised: what enters the projector: by default mean 0 and standard deviation 1 over the training pictures,
            which alone are fitted on, whichever pictures these are.
    """

    pictures: Shaped[np.ndarray, " n"]
    leaves: Shaped[np.ndarray, " n"]
    raw: FeatureRows
    standardised: FeatureRows

    @property
    def pooled(self) -> Float[np.ndarray, "n width"]:
        """The encoder's features, mean over tokens."""
        return np.concatenate([part.mean(axis=1) for part in self.raw.parts()])

    def of(self, pictures: Iterable[str]) -> EncoderRows:
        """The rows of these pictures.

        Raises:
            KeyError: the run's world has no such picture.
        """
        wanted = set(map(str, pictures))
        if unknown := sorted(wanted - set(self.pictures.tolist())):
            raise KeyError(
                f"encoder features of {len(wanted)} pictures were asked for; the run's world lacks "
                f"{len(unknown)} of them, first {unknown[0]!r}: capture again"
            )
        rows = np.flatnonzero(np.isin(self.pictures, sorted(wanted)))
        raw, standardised = self.raw.take(rows), self.standardised.take(rows)
        return EncoderRows(self.pictures[rows], self.leaves[rows], raw, standardised)


def encoder_rows(run: Run) -> EncoderRows:
    """The features of all pictures of a run's world, from the cache where they are in it."""
    world = closed.read(run)
    pictures, leaves = (world.table[name].to_numpy(str) for name in ("picture", "leaf"))
    raw = raw_features(run, world)
    return EncoderRows(pictures, leaves, raw, projector_inputs(run, world, raw))
