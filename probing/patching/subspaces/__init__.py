"""Subspaces of states: made from labels or learnt by gradient, exchanged, compared, and tested for illusions."""

from probing.patching.subspaces.angles import cosines, overlap
from probing.patching.subspaces.illusion import read_space, split
from probing.patching.subspaces.learned import Batch, Exchanges, learn
from probing.patching.subspaces.makers import of_erasure, of_means, of_probes, random, random_in, root_of
from probing.patching.subspaces.subspace import Subspace

__all__ = [
    "Batch",
    "Exchanges",
    "Subspace",
    "cosines",
    "learn",
    "of_erasure",
    "of_means",
    "of_probes",
    "overlap",
    "random",
    "random_in",
    "read_space",
    "root_of",
    "split",
]
