"""Timing of several pieces of work in turn, so that a drifting machine is fair to all."""

import time
from collections.abc import Callable, Mapping
from typing import Any


def interleaved(work: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """The seconds of each piece of work in each round, after one that does not count."""
    for do in work.values():
        do()
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, do in work.items():
            start = time.perf_counter()
            do()
            taken[name].append(time.perf_counter() - start)
    return taken
