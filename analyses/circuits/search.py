"""The search: contributions of every part on one half of the leaves, and the orders in which sets grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import nn

from analyses.circuits.halves import Half
from probing.patching.circuits import drawn_order, greedy_order, nested, order_of, parts_of
from probing.stats.seeding import stream

ORDERS = ("attribution", "greedy")
RANDOM = {"random": False, "random by layer": True}
"""Random sets of equal size, and those with as many heads and MLPs in each layer as the set by attribution."""
Arrays = dict[str, np.ndarray]


def sizes_of(parts: int, shares: Sequence[float]) -> list[int]:
    """The sizes of sets that are shares of all parts, each once; none is empty, and none has all parts."""
    return sorted({min(max(1, round(share * parts)), parts - 1) for share in shares})


def strata_of(model: nn.Module) -> list[str]:
    """Layer and kind of each part."""
    return [f"{part.layer} {part.kind}" for part in parts_of(model)]


def search_on(half: Half, how: str, steps: int, sizes: Sequence[int], tested: int, seed: int) -> Arrays:
    """Contributions [parts, leaves] and greedy order on the leaves of a half, and true losses of a sample of parts.

    Args:
        half: the leaves on which sets are found.
        how: parts are ablated.
        steps: of integrated gradients.
        sizes: of sets, after each of which the greedy search takes contributions again.
        tested: parts, drawn at random, that are truly ablated, each alone.
        seed: of the draws.
    """
    ablations = half.ablations(half, how, seed)
    contributions = half.contributions(ablations, steps)
    parts = len(contributions)

    def given(intact: Bool[np.ndarray, " parts"]) -> Float[np.ndarray, " parts"]:
        return (half.contributions(ablations, steps, intact) if intact.any() else contributions).mean(1)

    sample = np.sort(stream(seed, "parts ablated alone").permutation(parts)[:tested])
    alone = np.vstack([np.zeros((1, parts), bool), np.eye(parts, dtype=bool)[sample]])
    levels = half.margins(lambda at, group: ablations[at].run(alone, group.read))
    return {
        "contributions": contributions,
        "greedy": greedy_order(given, parts, sizes),
        "sample": sample,
        "losses": levels[0] - levels[1:],
    }


@dataclass(frozen=True)
class Sets:
    """Every set that is tested on a half, by a label: (order, draw, size, what is ablated)."""

    labels: list[tuple[str, int, int, str]]
    ablated: Bool[np.ndarray, "sets parts"]


def sets_of(
    found: Arrays,
    other: Arrays,
    sizes: Sequence[int],
    draws: int,
    members: int,
    strata: Sequence[str],
    seed: int,
) -> Sets:
    """The sets that are ablated in a test, and with them everything but each set.

    Args:
        found: the search on the other half of the leaves, in the same modality.
        other: that in the other modality.
        sizes: of sets.
        draws: random orders of each kind.
        members: of a set that are taken out, one at a time, for minimality; all where there are no more.
        strata: layer and kind of each part.
        seed: of the draws.
    """
    own = order_of(found["contributions"].mean(1))
    orders: dict[tuple[str, int], Int[np.ndarray, " parts"]] = {
        ("attribution", 0): own,
        ("greedy", 0): found["greedy"],
        ("other modality", 0): order_of(other["contributions"].mean(1)),
    }
    for name, by_layer in RANDOM.items():
        for draw in range(draws):
            rng = stream(seed, name, str(draw))
            orders[name, draw] = drawn_order(rng, own, strata if by_layer else None)
    none = np.zeros(len(own), bool)
    labels: list[tuple[str, int, int, str]] = [("whole", 0, 0, "set"), ("none", 0, len(own), "set")]
    ablated = [none, ~none]
    for (name, draw), order in orders.items():
        for size, chosen in zip(sizes, nested(order, sizes)):
            labels += [(name, draw, size, "others"), (name, draw, size, "set")]
            ablated += [~chosen, chosen]
    for size, chosen in zip(sizes, nested(own, sizes)):
        taken = stream(seed, "members", str(size)).permutation(np.flatnonzero(chosen))[:members]
        for at, part in enumerate(taken):
            labels.append(("attribution", at, size, "others and a member"))
            ablated.append(~chosen | (np.arange(len(own)) == part))
    return Sets(labels, np.array(ablated))


def tested_on(half: Half, source: Half, how: str, sets: Sets, seed: int) -> Float[np.ndarray, "sets leaves"]:
    """The log-odds of each leaf of a half with each set ablated, by means over the leaves of the other half."""
    ablations = half.ablations(source, how, seed)
    return half.margins(lambda at, group: ablations[at].run(sets.ablated, group.read))
