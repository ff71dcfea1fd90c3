"""Activation patching: runs in which the state of one place is replaced by that of another, and the effect of it."""

from probing.patching.alignment import EACH, KINDS, Alignment
from probing.patching.answers import Answers
from probing.patching.attribution import attribute, rank_agreement
from probing.patching.cells import Cell, Patch, grid
from probing.patching.outcomes import contrast, divergence, restored_fraction
from probing.patching.placebos import Excess, excess, same_norm
from probing.patching.restart import Restart
from probing.patching.runs import Kept, Rows, edits_of, forward, keep, patched_by_hooks, span_states

__all__ = [
    "EACH",
    "KINDS",
    "Alignment",
    "Answers",
    "Cell",
    "Excess",
    "Kept",
    "Patch",
    "Restart",
    "Rows",
    "attribute",
    "contrast",
    "divergence",
    "edits_of",
    "excess",
    "forward",
    "grid",
    "keep",
    "patched_by_hooks",
    "rank_agreement",
    "restored_fraction",
    "same_norm",
    "span_states",
]
