"""Which hypernyms a run saw evidence of, and rows of long tables about those that were seen and those held out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from analyses.frame.stores import RunOrStores, Stores
from taxogen.world.taxonomy import Taxonomy

MEAN, SEEN, HELD_OUT = "mean", "mean of seen", "mean of held-out"
"""Targets of rows that are means over hypernyms: over all, with evidence in training, and without."""
SEEN_MINUS_HELD_OUT = "seen minus held-out"


def held_out_hypernyms(source: RunOrStores, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """Those that are asked for; else the hypernyms whose evidence the run's training data lacks altogether.

    Raises:
        KeyError: one that is asked for is no hypernym of the taxonomy.
    """
    if unknown := [name for name in asked if name not in source.taxonomy.hypernyms]:
        raise KeyError(
            f"--held-out {unknown[0]!r} is no hypernym of these leaves; known: {', '.join(source.taxonomy.hypernyms)}"
        )
    if asked or isinstance(source, Stores):
        return tuple(asked)
    notes = [step for step in source.manifest("train").provenance if "held_out" in step]
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


@dataclass(frozen=True, eq=False)
class Categories:
    """Hypernyms with enough leaves.

    Attributes:
        names: of the hypernyms.
        leaves: the leaf concepts.
        members: which leaves are under which hypernym.
        subsets: target of a row that is a mean → the hypernyms that it goes over.
    """

    names: tuple[str, ...]
    leaves: tuple[str, ...]
    members: Bool[np.ndarray, "leaves categories"]
    subsets: Mapping[str, tuple[int, ...]]


def categories_of(
    taxonomy: Taxonomy, leaves: Sequence[str], least_leaves: int, held_out: Collection[str] = ()
) -> Categories:
    """The hypernyms with at least `least_leaves` of these leaves, and at least one leaf outside.

    Raises:
        ValueError: no hypernym has.
    """
    members = taxonomy.labels(leaves)
    sizes = members.sum(axis=0)
    enough = np.flatnonzero((sizes >= least_leaves) & (sizes < len(leaves)))
    if not len(enough):
        raise ValueError(
            f"no hypernym has {least_leaves} of these {len(leaves)} leaves and one outside it; capture more leaves, or "
            "group them under larger hypernyms"
        )
    names = tuple(taxonomy.hypernyms[k] for k in enough)
    return Categories(names, tuple(leaves), members[:, enough], subsets(names, held_out))
