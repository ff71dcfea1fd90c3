"""Edges (node, node directly above it): refused, naming the rows at fault, unless they make a taxonomy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise


def refuse_bad_edges(edges: Sequence[tuple[str, str]], where: Sequence[str], source: str) -> None:
    """Refuses edges that make no taxonomy, naming every row at fault.

    Raises:
        ValueError: no edge, an empty name, a node that is its own hypernym, an edge given twice, a cycle.
    """
    if not edges:
        raise ValueError(
            f"There is no edge in {source}: a taxonomy needs at least one leaf under one hypernym."
        )
    empty = [place for (node, above), place in zip(edges, where) if not node or not above]
    if empty:
        raise ValueError(
            f"A name is empty in {source}, {', '.join(empty)}: every row needs a leaf and a hypernym."
        )
    own = [f"{place} ({node})" for (node, above), place in zip(edges, where) if node == above]
    if own:
        raise ValueError(f"A node is its own hypernym in {source}, {', '.join(own)}: remove these rows.")
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for edge, place in zip(edges, where):
        places[edge].append(place)
    twice = [f"{node} → {above} ({', '.join(p)})" for (node, above), p in places.items() if len(p) > 1]
    if twice:
        raise ValueError(f"Duplicate rows in {source}: {'; '.join(twice)}. Keep one of each.")
    parents: dict[str, list[str]] = defaultdict(list)
    for node, above in edges:
        parents[node].append(above)
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        circle = error.args[1][::-1]
        steps = [f"{a} → {b} ({places[a, b][0]})" for a, b in pairwise(circle)]
        raise ValueError(f"A cycle in {source}: {', '.join(steps)}. Remove one of these rows.") from error


def one_synset_each(rows: Sequence[Sequence[str]], where: Sequence[str], source: str) -> dict[str, str]:
    """The synset of each node named in rows (node, node above, synset, synset above).

    Raises:
        ValueError: a node has two synsets, or two nodes have one.
    """
    of: dict[str, tuple[str, str]] = {}
    by: dict[str, tuple[str, str]] = {}
    for row, place in zip(rows, where):
        for node, synset in ((row[0], row[2]), (row[1], row[3])):
            if not synset:
                continue
            known, earlier = of.setdefault(node, (synset, place))
            if known != synset:
                raise ValueError(
                    f"{node!r} is {known} in {earlier} but {synset} in {place} of {source}: keep one."
                )
            other, earlier = by.setdefault(synset, (node, place))
            if other != node:
                raise ValueError(
                    f"{synset} is {other!r} in {earlier} but {node!r} in {place} of {source}: keep one name."
                )
    return {node: synset for node, (synset, _) in of.items()}
