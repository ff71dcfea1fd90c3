"""Which hypernyms a run saw evidence of, and rows of long tables about those that were seen and those held out."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from taxogen.runs.run import Run
from taxogen.world.taxonomy import Taxonomy

MEAN, SEEN, HELD_OUT = "mean", "mean of seen", "mean of held-out"
"""Targets of rows that are means over hypernyms: over all, with evidence in training, and without."""
SEEN_MINUS_HELD_OUT = "seen minus held-out"


def held_out_hypernyms(run: Run) -> tuple[str, ...]:
    """The hypernyms whose evidence the run's training data lacks altogether."""
    notes = [step for step in run.manifest("train").provenance if "held_out" in step]
    return tuple(notes[-1]["held_out"]) if notes else ()


def leaves_under(taxonomy: Taxonomy, hypernyms: Collection[str]) -> tuple[str, ...]:
    """The leaves that have at least one of these hypernyms, in the order of the taxonomy."""
    return tuple(leaf for leaf in taxonomy.leaves if set(hypernyms) & set(taxonomy.hypernyms_of(leaf)))


def subsets(names: Sequence[str], held_out: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Target of a row that is a mean → the places in `names` that it goes over.

    Seen and held-out hypernyms are subsets only where both exist.
    """
    places = {MEAN: tuple(range(len(names)))}
    out = tuple(k for k in places[MEAN] if names[k] in held_out)
    if out and len(out) < len(names):
        places |= {SEEN: tuple(k for k in places[MEAN] if k not in out), HELD_OUT: out}
    return places
