"""A fixed number of threads: it decides how sums are split, and thereby the last bits of every result."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def threads(count: int) -> Iterator[None]:
    """A block in which torch computes with `count` threads, whatever the machine has; afterwards with those it had.

    In float32, MKL's products of some sizes, sums over a whole tensor, and the ends of the pieces in which SiLU is
    computed differ in their last bits between numbers of threads, and training makes the differences larger. More
    threads than the machine has cores give the same bytes more slowly.

    Raises:
        ValueError: `count` is not at least 1.
    """
    if count < 1:
        raise ValueError(f"{count} threads were asked for; a computation needs at least 1")
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
