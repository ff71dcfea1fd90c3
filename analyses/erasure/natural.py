"""How natural edited states are: they are ranked among those of other leaves on their way into the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from analyses.erasure.edits import EditInputs, States
from analyses.inputs.span_states import SpanAtLayer
from analyses.inputs.stimuli.natural import columns
from probing.edits.naturalness import Naturalness

TASK = "hypernym"
"""The question whose states are ranked."""


@dataclass
class Ranked:
    """States that pass are ranked among natural ones of their site and span, leaves of the same fold held out.

    Attributes:
        natural: states of all captured pictures.
        leaves: of the rows that pass.
    """

    natural: Naturalness
    leaves: np.ndarray
    _mean: list[Float[np.ndarray, " rows"]] = field(default_factory=list)
    _neighbour: list[Float[np.ndarray, " rows"]] = field(default_factory=list)

    @classmethod
    def of(cls, inputs: EditInputs, place: SpanAtLayer) -> Ranked:
        """That of the pictures asked about."""
        states = inputs.states[TASK]
        values = states.values[place.layer, place.span].astype(np.float64)
        return cls(Naturalness.fit(values, states.leaves, states.fold), inputs.questions[TASK].leaves)

    def again(self) -> Ranked:
        """The same, of states that are still to come."""
        return Ranked(self.natural, self.leaves)

    def passing(self, states: Iterable[States]) -> Iterator[States]:
        """The same states, each ranked on its way."""
        for value in states:
            self._mean.append(self.natural.percentile(value, self.leaves))
            self._neighbour.append(self.natural.neighbour_percentile(value, self.leaves))
            yield value

    def columns(self) -> dict[str, Float[np.ndarray, "edits rows"]]:
        """Percentiles of all that passed, and whether the larger one is over the 99th."""
        return columns(np.array(self._mean), np.array(self._neighbour))
