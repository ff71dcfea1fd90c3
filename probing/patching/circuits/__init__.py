"""Circuits: which heads and MLPs carry an answer. Ablation, attribution and path patching of sets of parts."""

from probing.patching.circuits.ablation import Ablation, ablated_by_hooks
from probing.patching.circuits.curves import area, distance_area, drawn_order, nested, shares
from probing.patching.circuits.gates import attribute_parts, greedy_order, order_of
from probing.patching.circuits.overlap import Overlap, jaccard, overlap, redrawn
from probing.patching.circuits.parts import HeadOrMLP, choose, means, outputs, parts_of, resampled
from probing.patching.circuits.paths import Paths

__all__ = [
    "Ablation",
    "HeadOrMLP",
    "Overlap",
    "Paths",
    "ablated_by_hooks",
    "area",
    "attribute_parts",
    "choose",
    "distance_area",
    "drawn_order",
    "greedy_order",
    "jaccard",
    "means",
    "nested",
    "order_of",
    "outputs",
    "overlap",
    "parts_of",
    "redrawn",
    "resampled",
    "shares",
]
