"""A kind of evidence along the layers, and where it begins, is half as large as at its most, and ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from analyses.frame.tables import CAUSES
from probing.stats import Estimate

ONSET, HALF, END = "onset", "half_rise", "end"


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Numbers of one kind along the layers, at one place in the prompt: 0 is its null, more is more evidence.

    Attributes:
        kind: its name.
        about: see `analyses.frame.tables.Evidence`.
        analysis: that it is of.
        place: in the prompt.
        step: of training, or `NO_STEP`.
        control: the placebo or control task whose numbers these are; empty of the evidence itself.
        layers: blocks that were looked at, in order; of a window of blocks its middle.
        value: at each layer.
        lower: of a 95 % interval of each layer alone; NaN where there is none.
        upper: likewise.
        holds: whether the evidence is beyond its null, corrected over layers.
        n: leaves, or pairs of leaves.
        seeds: runs.
        draws: the values under bootstrap weights of leaves that all kinds share; None where no draws are stored.
        held: what holds in each draw.
        stored: onset and half-rise with the limits that the table of the analysis has.
        windows: first and last block of each window; none where single blocks were looked at.
    """

    kind: str
    about: str
    analysis: str
    place: str
    step: int
    layers: Float[np.ndarray, " layers"]
    value: Float[np.ndarray, " layers"]
    lower: Float[np.ndarray, " layers"]
    upper: Float[np.ndarray, " layers"]
    holds: Bool[np.ndarray, " layers"]
    n: int
    seeds: int
    control: str = ""
    draws: Float[np.ndarray, "draws layers"] | None = None
    held: Bool[np.ndarray, "draws layers"] | None = None
    stored: Mapping[str, Estimate] = field(default_factory=dict)
    windows: Float[np.ndarray, "layers 2"] | None = None

    @property
    def unbroken(self) -> bool:
        """Whether it counts by its unbroken stretch of layers, rather than from a layer to the last."""
        return self.about == CAUSES

    def places(self) -> dict[str, Estimate]:
        """Where the evidence begins and is half as large as at its most, in blocks; of causes also where it ends.

        The onset is the first layer from which the evidence holds to the last layer; the half-rise that from which
        at least half of the largest value is kept. A cause comes and goes: its onset and end are those of the unbroken
        stretch of layers that holds and has the largest value, its half-rise the first of those around the largest
        value with at least half of it. NaN where there is none, of the limits infinite.
        """
        return {name: self._place(name) for name in (ONSET, HALF, *((END,) if self.unbroken else ()))}

    def draws_of(self, name: str) -> Float[np.ndarray, " draws"] | None:
        """A place in each draw, in blocks; infinite where there is none."""
        if self.draws is None or self.held is None:
            return None
        return self._layers(self._index(name, self.draws, self.held))

    def blocks_of(self, place: Float[np.ndarray, " draws"]) -> Float[np.ndarray, "2 draws"]:
        """The earliest and the latest block at which something begins that is first seen at a layer.

        Between layers that were looked at nothing is known: what is seen at one, and not at the one before, begins
        behind that one. At the first it may have begun at the input, and in a window anywhere in it.
        """
        since, until = np.append([-1.0], self.layers[:-1] + 1), self.layers
        if self.windows is not None:
            since, until = self.windows.T
        index = np.minimum(np.searchsorted(self.layers, place), len(self.layers) - 1)
        return np.where(np.isfinite(place), [since[index], until[index]], np.inf)

    def _place(self, name: str) -> Estimate:
        if name in self.stored:
            return self.stored[name]
        value = float(self._layers(self._index(name, self.value[None], self.holds[None]))[0])
        drawn = self.draws_of(name)
        lower, upper = (np.nan, np.nan)
        if drawn is not None:
            lower, upper = np.quantile(drawn, [0.025, 0.975], method="inverted_cdf")
        elif name == ONSET and not self.unbroken:
            lower, upper = (self._layers(_from(side[None] > 0))[0] for side in (self.upper, self.lower))
        return Estimate(value if np.isfinite(value) else np.nan, float(lower), float(upper), self.n)

    def _index(self, name: str, curves: np.ndarray, held: np.ndarray) -> Float[np.ndarray, " draws"]:
        half = curves >= curves.max(axis=1, keepdims=True) / 2
        if not self.unbroken:
            return _from(held if name == ONSET else half)
        first, last = _stretch(curves, half & (curves > 0) if name == HALF else held)
        return last if name == END else first

    def _layers(self, index: Float[np.ndarray, " draws"]) -> Float[np.ndarray, " draws"]:
        known = np.append(self.layers, np.inf)
        return known[np.where(np.isfinite(index), index, len(self.layers)).astype(int)]


def _from(holds: Bool[np.ndarray, "draws layers"]) -> Float[np.ndarray, " draws"]:
    """The first index from which all hold; infinite where the last does not."""
    until = np.logical_and.accumulate(holds[:, ::-1], axis=1).sum(axis=1)
    return np.where(until > 0, holds.shape[1] - until, np.inf)


def _stretch(
    curves: Float[np.ndarray, "draws layers"], holds: Bool[np.ndarray, "draws layers"]
) -> tuple[Float[np.ndarray, " draws"], Float[np.ndarray, " draws"]]:
    """First and last index of the unbroken stretch that holds and has the largest value; infinite where none does."""
    peak = np.where(holds, curves, -np.inf).argmax(axis=1)
    index, broken = np.arange(curves.shape[1]), ~holds
    before = np.where(broken & (index < peak[:, None]), index, -1).max(axis=1) + 1
    behind = np.where(broken & (index > peak[:, None]), index, curves.shape[1]).min(axis=1) - 1
    none = ~holds.any(axis=1)
    return np.where(none, np.inf, before), np.where(none, np.inf, behind)
