"""Category exchange: whole categories of leaves get each other's names, leaf by leaf."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations, compress

import numpy as np
from scipy.optimize import LinearConstraint, milp

from probing.stats.seeding import stream
from taxogen.world.taxonomy import Taxonomy


def categories(taxonomy: Taxonomy) -> dict[str, tuple[str, ...]]:
    """The leaves by category, both sorted; the category of a leaf is its largest hypernym (ties: the first by name)."""
    leaves_of: dict[str, list[str]] = defaultdict(list)
    for leaf in taxonomy.leaves:
        leaves_of[_from_largest(taxonomy, leaf)[0][1]].append(leaf)
    return {name: tuple(leaves_of[name]) for name in sorted(leaves_of)}


def exchanged(taxonomy: Taxonomy, seed: int) -> dict[str, str]:
    """For every leaf that stays, sorted, the leaf whose name its pictures get: one that shares no hypernym with it.

    Categories exchange in pairs and rings of three: those that keep most leaves, ties drawn. Leaves of a category that
    share a hypernym with a smaller one of its ring are left out; of the rest a seeded draw stays, about the same share
    of every kind of leaf. The kinds of a category stand in the order of their hypernyms, the largest first, and get
    names in that order: mammals are called mostly fruits and dishes, rather than all kinds of food.

    Raises:
        ValueError: fewer than half of the leaves would stay.
    """
    names: dict[str, str] = {}
    for ring in _rings(taxonomy, stream(seed, "category")):
        size = min(map(len, ring))
        lines = [_in_kinds(taxonomy, members, size, seed) for members in ring]
        for line, named in zip(lines, (*lines[1:], lines[0]), strict=True):
            names |= dict(zip(line, named, strict=True))
    if 2 * len(names) < len(taxonomy.leaves):
        largest, members = max(categories(taxonomy).items(), key=lambda one: len(one[1]))
        raise ValueError(
            f"shuffle 'category' could exchange {len(names)} of {len(taxonomy.leaves)} leaves one to one, fewer than "
            f"half: {largest!r} has {len(members)}, and the others are too small or share hypernyms; use within or "
            "across-plain, or a taxonomy with more categories of about one size"
        )
    return {leaf: names[leaf] for leaf in sorted(names)}


def _rings(taxonomy: Taxonomy, rng: np.random.Generator) -> list[list[tuple[str, ...]]]:
    """The pairs and rings of three categories that keep most leaves; of each category the leaves that it may give."""
    members = sorted(categories(taxonomy).values(), key=len, reverse=True)
    labels = [taxonomy.labels(leaves) for leaves in members]
    shared = [own @ np.array([other.any(axis=0) for other in labels]).T for own in labels]
    places, rings, kept = range(len(members)), [], []
    for ring in (*combinations(places, 2), *combinations(places, 3)):
        free = [~shared[place][:, ring[at + 1 :]].any(axis=1) for at, place in enumerate(ring)]
        if size := min(int(each.sum()) for each in free):
            rings.append(dict(zip(ring, free, strict=True)))
            kept.append(len(ring) * size)
    if not rings:
        return []
    # What is added decides between rings that keep as many leaves, and comes to less than one leaf in all.
    worth = np.array(kept) + rng.random(len(rings)) / len(members)
    inside = np.array([[place in ring for ring in rings] for place in places])
    once = LinearConstraint(inside, ub=1)
    best = milp(-worth, integrality=1, bounds=(0, 1), constraints=once, options={"mip_rel_gap": 0.0})
    chosen = [list(ring.items()) for ring, share in zip(rings, best.x, strict=True) if share > 0.5]
    return [
        [tuple(compress(members[ring[at][0]], ring[at][1])) for at in rng.permutation(len(ring))]
        for ring in chosen
    ]


def _in_kinds(taxonomy: Taxonomy, members: tuple[str, ...], size: int, seed: int) -> list[str]:
    """So many leaves of a category: a seeded draw of about the same share of each kind, kind after kind."""
    kinds: dict[tuple[tuple[int, str], ...], list[str]] = defaultdict(list)
    for leaf in members:
        kinds[_from_largest(taxonomy, leaf)].append(leaf)
    ranked = []
    for kind, leaves in kinds.items():
        order = stream(seed, "category", *leaves).permutation(len(leaves))
        ranked += [((place + 0.5) / len(leaves), kind, place, leaves[at]) for place, at in enumerate(order)]
    return [leaf for _, leaf in sorted((one[1:3], one[3]) for one in sorted(ranked)[:size])]


def _from_largest(taxonomy: Taxonomy, leaf: str) -> tuple[tuple[int, str], ...]:
    """The hypernyms of a leaf, the largest first, each with minus the number of its leaves."""
    return tuple(sorted((-len(taxonomy.leaves_of(name)), name) for name in taxonomy.hypernyms_of(leaf)))
