"""Captures of a run: its activation stores by step of training, that of its text twins, and the places in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analyses.inputs.leaf_rows import span_pairs
from probing.store import ActivationStore
from taxogen.runs.run import Run


@dataclass(frozen=True)
class Captures:
    """Stores of one run.

    Attributes:
        images: of picture rows, by step of training.
        text: of the same prompts with the leaf's name in place of the picture, where they were captured.
    """

    images: Mapping[int, ActivationStore]
    text: ActivationStore | None

    @property
    def last(self) -> ActivationStore:
        """The picture rows of the last of these steps."""
        return self.images[max(self.images)]


def captures(run: Run, steps: Sequence[int] = (), spans: Sequence[str] | None = None) -> Captures:
    """The stores of a run at these steps (none: all that were captured), opened, their activations not read.

    Raises:
        FileNotFoundError: nothing was captured, or not at one of these steps.
        KeyError: one of `spans` is not a place in these stores.
    """
    if not run.steps:
        raise FileNotFoundError(
            f"{run.path} has no captured step; `python -m taxogen train --run {run.path}` captures"
        )
    images = {step: run.store(step) for step in steps or run.steps}
    text = run.store(None, "text") if run.captured(None) else None
    for store in images.values():
        span_pairs(store.spans, text.spans if text else (), spans)
    return Captures(images, text)
