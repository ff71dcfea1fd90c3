"""One circuit or two: what sets found on words and on pictures share, and how stable each is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from analyses.circuits.halves import MODALITIES
from analyses.frame.tables import row
from probing.patching.circuits import jaccard, nested, order_of, overlap, redrawn
from probing.stats import draw_weights, interval
from probing.stats.estimates import Estimate

NULLS = ("any parts", "same layers")
Contributions = Mapping[tuple[str, int], Float[np.ndarray, "parts leaves"]]
"""(modality, half) → contributions of every part to every leaf."""


def sharing_rows(
    contributions: Contributions, sizes: Sequence[int], strata: Sequence[str], draws: int, seed: int
) -> list[dict[str, Any]]:
    """Overlaps of the sets of both modalities with their chance and p, Jaccard indices, and those of drawn leaves.

    What is shared is counted between the words of one half and the pictures of the other, so that leaves with a way of
    their own do not count as one circuit. The p of a size is the larger of both pairs, so that it holds in each, and is
    corrected by the number of sizes (Bonferroni). Jaccard indices between modalities are of sets found on *different*
    halves, as are those within one modality, which say how alike two sets of one circuit would be.
    """
    records: list[dict[str, Any]] = []
    for size in sizes:
        sets = {key: nested(order_of(of.mean(1)), [size])[0] for key, of in contributions.items()}
        labels = {"target": "sets", "site": "all", "size": size}
        for null in NULLS:
            both = [
                overlap(
                    sets["text", half], sets["image", 1 - half], strata if null == "same layers" else None
                )
                for half in (0, 1)
            ]
            p = max(one.p for one in both)
            numbers = {
                "shared": np.mean([one.shared for one in both]),
                "shared_expected": np.mean([one.expected for one in both]),
                "shared_p": p,
                "shared_p_corrected": min(1.0, p * len(sizes)),
            }
            records += [row(name, float(number), 2, **labels, order=null) for name, number in numbers.items()]
        pairs = {
            "words and pictures": [(("text", 0), ("image", 1)), (("text", 1), ("image", 0))],
            "words": [(("text", 0), ("text", 1))],
            "pictures": [(("image", 0), ("image", 1))],
        }
        for name, of_pairs in pairs.items():
            value = np.mean([jaccard(sets[first], sets[second]) for first, second in of_pairs])
            records.append(row("jaccard", float(value), len(of_pairs), **labels, order=name))
        records += _stability(contributions, sets, size, draws, seed, labels)
    return records


def _stability(
    contributions: Contributions,
    sets: Mapping[tuple[str, int], np.ndarray],
    size: int,
    draws: int,
    seed: int,
    labels: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Jaccard indices of a set with those of leaves drawn again: mean, and where 95 % of draws lie."""
    records = []
    for modality in MODALITIES:
        of_halves = []
        for half in (0, 1):
            own = contributions[modality, half]
            drawn = redrawn(own, size, draw_weights(own.shape[1], draws, seed))
            of_halves.append(jaccard(drawn, sets[modality, half]))
        every = np.concatenate(of_halves)
        number = Estimate(float(every.mean()), *map(float, interval(every)), n=own.shape[1])
        records.append(row("jaccard_redrawn", number, **labels, modality=modality))
    return records
