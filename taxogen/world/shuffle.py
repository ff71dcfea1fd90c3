"""Counterfactual shuffles: what each leaf's pictures are called in a world where names were exchanged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from probing.stats.seeding import stream
from taxogen.world import categories
from taxogen.world.taxonomy import Taxonomy

KINDS = (
    *("none", "within", "category", "graded"),
    *("across", "across-matched", "across-plain", "across-plain-matched"),
)


def leaf_map(
    taxonomy: Taxonomy, kind: str = "none", seed: int = 0, *, coherence: float = 0.5
) -> dict[str, str]:
    """For every leaf, sorted, the leaf that its pictures are called: one-to-one, no leaf keeps its name.

    Kinds:
        none: the exception: every leaf keeps its name.
        within: leaves change names inside their group (`groups`), so that all or most hypernyms stay true.
        category: whole categories change names with each other, leaf by leaf (`taxogen.world.categories`): leaves of
            one category look alike as before, and none is what it is called. Leaves that find no partner are left out.
        graded: the share `coherence` of the leaves change names as in within, the others as in across.
        across: over all leaves, never to a leaf that shares a hypernym.
        across-plain: over all leaves, any of them, as in the study.
        across-matched, across-plain-matched: the same maps. Because a wrong name also costs leaf accuracy, their runs
            are scored only on leaves that the model names correctly (`taxogen.answers.rows.named_leaves`).

    Raises:
        KeyError: unknown kind.
        ValueError: no such map exists; names the leaves, the hypernym or the dose that stand in the way.
    """
    if kind not in KINDS:
        raise KeyError(f"shuffle {kind!r} was asked for; known: {', '.join(KINDS)}")
    leaves = taxonomy.leaves
    if kind == "none":
        return {leaf: leaf for leaf in leaves}
    if kind == "category":
        return categories.exchanged(taxonomy, seed)
    if kind.startswith("across-plain"):
        return _derange(leaves, stream(seed, "across"))
    if kind.startswith("across"):
        return _disjoint(taxonomy, leaves, stream(seed, "across"), "use across-plain, or drop it")
    inside = groups(taxonomy) if kind == "within" else _inside(taxonomy, coherence, seed)
    names: dict[str, str] = {}
    for members in inside.values():
        names |= _derange(members, stream(seed, kind, *members))
    if others := tuple(leaf for leaf in leaves if leaf not in names):
        remedy = (
            f"they are the share that data.coherence={coherence:g} puts across: give another, or use within"
        )
        names |= _disjoint(taxonomy, others, stream(seed, "graded across"), remedy)
    return {leaf: names[leaf] for leaf in leaves}


def exact_groups(taxonomy: Taxonomy) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The leaves that have exactly the same hypernyms, by that set; both sorted."""
    leaves_of: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for leaf in taxonomy.leaves:
        leaves_of[taxonomy.hypernyms_of(leaf)].append(leaf)
    return {key: tuple(leaves_of[key]) for key in sorted(leaves_of)}


def orphans(taxonomy: Taxonomy) -> tuple[str, ...]:
    """The leaves that are alone with their hypernyms and have all hypernyms of no larger group."""
    exact = exact_groups(taxonomy)
    homes = [key for key, members in exact.items() if len(members) > 1]
    return tuple(
        members[0]
        for key, members in exact.items()
        if len(members) == 1 and not any(set(home) <= set(key) for home in homes)
    )


def groups(taxonomy: Taxonomy) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The groups inside which `within` exchanges names, by their hypernyms.

    Leaves with exactly the same hypernyms form a group. A leaf that is alone joins the group of two or more
    whose hypernyms are the largest subset of its own (ties: the smaller group, then the name). An orphan, for
    which there is none, joins the group it shares most hypernyms with (same ties). Sizes are those before
    anyone joined, so the result depends on no order.

    Source: the study's `mislabel.py`, where the outcome depends on the order of joining, and an orphan is put
    into a cycle with an arbitrary leaf.

    Raises:
        ValueError: a leaf shares no hypernym with any group.
    """
    exact = exact_groups(taxonomy)
    homes = {key: len(members) for key, members in exact.items() if len(members) > 1}
    joined = {key: list(members) for key, members in exact.items() if key in homes}
    without_home = []
    for key, members in exact.items():
        if key in homes:
            continue
        subsets = [home for home in homes if set(home) <= set(key)]
        near = subsets or [home for home in homes if set(home) & set(key)]
        if not near:
            without_home.append(members[0])
            continue
        joined[min(near, key=lambda home: (-len(set(home) & set(key)), homes[home], home))].append(members[0])
    if without_home:
        raise ValueError(
            f"shuffle 'within' finds no group that shares a hypernym with {without_home[:10]}; drop these "
            "leaves from the taxonomy (Taxonomy.restrict), give them a hypernym, or use 'across'"
        )
    return {key: tuple(sorted(members)) for key, members in joined.items()}


def _inside(taxonomy: Taxonomy, share: float, seed: int) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The leaves that change names inside their group at a dose, by group: about that share of each group.

    Nested: one seeded ranking of all leaves, of which a dose takes the first. The first two of a group come together:
    one alone has no partner.
    """
    ranked = []
    for group, members in groups(taxonomy).items():
        rng = stream(seed, "graded", *members)
        tie = rng.random()
        for place, at in enumerate(rng.permutation(len(members))):
            rank = (1 if place < 2 else place + 0.5) / len(members)
            ranked.append((rank, tie, group, members[at]))
    chosen: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for *_, group, leaf in sorted(ranked)[: round(share * len(ranked))]:
        chosen[group].append(leaf)
    inside = {group: tuple(sorted(members)) for group, members in chosen.items() if len(members) > 1}
    count = sum(map(len, inside.values()))
    if count in (0, len(ranked)):
        raise ValueError(
            f"data.coherence={share:g} leaves {count} of {len(ranked)} leaves inside their category: give another "
            f"dose, or use data.shuffle={'within' if count else 'across'}"
        )
    return inside


def relabel(table: pd.DataFrame, mapping: Mapping[str, str]) -> pd.DataFrame:
    """The table of pictures in the shuffled world: shown_leaf is the content of the picture, leaf its new name.

    Raises:
        ValueError: the mapping is not one-to-one.
        KeyError: a leaf of the table is not in the mapping.
    """
    if len(set(mapping.values())) != len(mapping):
        raise ValueError("a shuffle must be one-to-one, but two leaves get the same name; use leaf_map()")
    if unknown := sorted(set(table["leaf"]) - set(mapping)):
        raise KeyError(f"{len(unknown)} leaves of the pictures are not in the shuffle: {unknown[:10]}")
    return table.assign(shown_leaf=table["leaf"], leaf=[mapping[leaf] for leaf in table["leaf"]])


def _derange(members: tuple[str, ...], rng: np.random.Generator) -> dict[str, str]:
    """A uniform draw among the permutations without fixed point: drawn until there is none (1 in e)."""
    if len(members) < 2:
        raise ValueError(f"a shuffle needs at least 2 leaves, found {list(members)}")
    while True:
        order = rng.permutation(len(members))
        if (order != np.arange(len(members))).all():
            return {leaf: members[place] for leaf, place in zip(members, order, strict=True)}


def _disjoint(
    taxonomy: Taxonomy, leaves: tuple[str, ...], rng: np.random.Generator, remedy: str
) -> dict[str, str]:
    """The cheapest one-to-one map of leaves at random costs in which none goes to one that shares a hypernym."""
    labels = taxonomy.labels(leaves).astype(np.int64)
    shared = labels @ labels.T > 0
    cost = rng.random(shared.shape) + shared * (2.0 * len(labels))
    rows, columns = linear_sum_assignment(cost)
    if shared[rows, columns].any():
        largest = taxonomy.hypernyms[int(labels.sum(0).argmax())]
        raise ValueError(
            f"every exchange of names leaves some leaf under a hypernym it had: {largest!r} alone has "
            f"{labels.sum(0).max()} of {len(labels)} leaves; {remedy}"
        )
    return {leaves[row]: leaves[column] for row, column in zip(rows, columns, strict=True)}
