"""Taxonomy: leaf concepts, the hypernyms above them, and the distances between nodes."""

from __future__ import annotations

import csv
import difflib
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from probing.store import files, notebook
from taxogen.world import edges as checks

COLUMNS = ("leaf", "hypernym", "synset", "hypernym_synset")
_SHOWN = 8  # hypernyms that a notebook shows before the reader asks for more


@dataclass(frozen=True)
class Taxonomy:
    """Leaf concepts under hypernyms: an immutable acyclic graph of named nodes.

    A leaf is a node with nothing below it; every other node is a hypernym and has a leaf somewhere below it.
    A node's hypernyms are all nodes above it, not only those one step away.

    Attributes:
        edges: (node, node directly above it), sorted.
        node_synsets: (node, WordNet synset id such as ``crow.n.01``) for the nodes that have one, sorted.
    """

    edges: tuple[tuple[str, str], ...]
    node_synsets: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        edges = [(str(node), str(above)) for node, above in self.edges]
        checks.refuse_bad_edges(
            edges, [f"edge {number}" for number in range(1, len(edges) + 1)], "this taxonomy"
        )
        object.__setattr__(self, "edges", tuple(sorted(edges)))
        synsets = dict(self.node_synsets)
        strangers = sorted(set(synsets) - set(self.nodes))
        if strangers:
            raise ValueError(
                f"Synsets were given for {strangers}, which no edge names: add the edges or drop them."
            )
        object.__setattr__(self, "node_synsets", tuple(sorted(synsets.items())))

    def __repr__(self) -> str:
        first = ", ".join(self.leaves[:3]) + (", …" if len(self.leaves) > 3 else "")
        return f"Taxonomy({len(self.leaves)} leaves ({first}) under {len(self.hypernyms)} hypernyms)"

    def _repr_html_(self) -> str:
        rows = [
            (name, ", ".join(self.above(name)), len(self.leaves_of(name)), ", ".join(self.leaves_of(name)))
            for name in sorted(self.hypernyms, key=lambda name: (-len(self.leaves_of(name)), name))
        ]
        header = ["hypernym", "directly under", "leaves", "such as"]
        caption = f"Taxonomy: {len(self.leaves)} leaves under {len(self.hypernyms)} hypernyms"
        first, rest = notebook.grid(caption, header, rows[:_SHOWN]), rows[_SHOWN:]
        return first + (notebook.folded(f"{len(rest)} more", notebook.grid("", header, rest)) if rest else "")

    # -- nodes ---------------------------------------------------------------------------------------------

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """Every leaf and hypernym, sorted."""
        return tuple(sorted({node for edge in self.edges for node in edge}))

    @cached_property
    def hypernyms(self) -> tuple[str, ...]:
        """The superordinate nodes, sorted; the column order of :meth:`labels`."""
        return tuple(sorted({above for _, above in self.edges}))

    @cached_property
    def leaves(self) -> tuple[str, ...]:
        """The nodes with nothing below them, sorted."""
        return tuple(sorted(set(self.nodes) - set(self.hypernyms)))

    @property
    def synsets(self) -> dict[str, str]:
        """The WordNet synset id of each node that has one (a copy: changing it changes nothing here)."""
        return dict(self.node_synsets)

    def hypernyms_of(self, leaf: str) -> tuple[str, ...]:
        """All hypernyms of a leaf, at any distance, sorted.

        Raises:
            KeyError: `leaf` is not a leaf of this taxonomy.
        """
        self._known(leaf, self.leaves, "leaf")
        return tuple(sorted(set(self._upward[leaf]) - {leaf}))

    def leaves_of(self, hypernym: str) -> tuple[str, ...]:
        """All leaves below a hypernym, at any distance, sorted.

        Raises:
            KeyError: `hypernym` is not a hypernym of this taxonomy.
        """
        self._known(hypernym, self.hypernyms, "hypernym")
        return self._below[hypernym]

    def above(self, node: str) -> tuple[str, ...]:
        """The nodes one step above `node`, sorted."""
        self._known(node, self.nodes, "node")
        return self._parents[node]

    def labels(self, leaves: Sequence[str]) -> Bool[np.ndarray, "n hypernyms"]:
        """Whether each of `leaves` lies under each hypernym; columns as in :attr:`hypernyms`."""
        column = {name: position for position, name in enumerate(self.hypernyms)}
        table = np.zeros((len(leaves), len(column)), dtype=bool)
        for row, leaf in enumerate(leaves):
            table[row, [column[name] for name in self.hypernyms_of(leaf)]] = True
        return table

    def restrict(self, leaves: Iterable[str]) -> Taxonomy:
        """The same taxonomy over fewer leaves; hypernyms left without a leaf are gone."""
        wanted = sorted(set(leaves))
        if not wanted:
            raise ValueError(
                f"restrict() was given no leaf: name at least one of the {len(self.leaves)} leaves."
            )
        for leaf in wanted:
            self._known(leaf, self.leaves, "leaf")
        nodes = set().union(*(self._upward[leaf] for leaf in wanted))
        edges = tuple(edge for edge in self.edges if nodes.issuperset(edge))
        return Taxonomy(edges, tuple(pair for pair in self.node_synsets if pair[0] in nodes))

    # -- distances -----------------------------------------------------------------------------------------

    def height(self, node: str) -> int:
        """The number of steps on the longest way down from `node`: 0 for a leaf."""
        self._known(node, self.nodes, "node")
        return self._heights[node]

    def depth(self, node: str) -> int:
        """The number of steps on the shortest way up from `node` to a node with nothing above it: 0 there."""
        self._known(node, self.nodes, "node")
        return min(steps for top, steps in self._upward[node].items() if not self._parents[top])

    def path_distance(self, first: str, second: str) -> float:
        """The number of steps on the shortest way between two nodes through a node above (or equal to) both.

        Zero for equal nodes, infinite where nothing stands above both. Not a metric: the way must go up and
        then down, so it may be longer than a detour over a leaf that has two hypernyms.

        Source: Rada et al. 1989, "Development and application of a metric on semantic nets".
        """
        self._known(first, self.nodes, "node")
        self._known(second, self.nodes, "node")
        one, other = self._upward[first], self._upward[second]
        return min((one[node] + other[node] for node in one.keys() & other.keys()), default=math.inf)

    # -- tables --------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Taxonomy:
        """The taxonomy in a CSV table of direct edges: columns leaf, hypernym[, synset, hypernym_synset].

        The column is called leaf, but a row may also put one hypernym under another (``bird,animal``).

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a column is missing, or rows are empty, repeated, circular or contradict each other.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"No taxonomy table at {path}: give a CSV file with columns leaf, hypernym."
            )
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS[:2] if name not in (reader.fieldnames or [])]
            if missing:
                found = ", ".join(reader.fieldnames or []) or "none"
                raise ValueError(
                    f"{path} lacks the columns {missing} (found: {found}): name them in its first line."
                )
            rows = [[(row.get(name) or "").strip() for name in COLUMNS] for row in reader]
        where = [f"row {number}" for number in range(2, len(rows) + 2)]
        checks.refuse_bad_edges([(row[0], row[1]) for row in rows], where, str(path))
        return cls(
            tuple((row[0], row[1]) for row in rows),
            tuple(checks.one_synset_each(rows, where, str(path)).items()),
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the table that :meth:`read` reads, whole or not at all."""
        files.write_whole(Path(path), self._write)

    def _write(self, part: Path) -> None:
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            synsets = self.synsets
            for node, above in self.edges:
                writer.writerow([node, above, synsets.get(node, ""), synsets.get(above, "")])

    # -- the graph -----------------------------------------------------------------------------------------

    @cached_property
    def _parents(self) -> dict[str, tuple[str, ...]]:
        parents: dict[str, tuple[str, ...]] = {node: () for node in self.nodes}
        for node, above in self.edges:
            parents[node] += (above,)
        return parents

    @cached_property
    def _upward(self) -> dict[str, dict[str, int]]:
        """Per node, the fewest steps to itself and to each node above it."""
        upward: dict[str, dict[str, int]] = {}
        for node in TopologicalSorter(self._parents).static_order():
            steps = {node: 0}
            for above in self._parents[node]:
                for top, far in upward[above].items():
                    steps[top] = min(steps.get(top, far + 1), far + 1)
            upward[node] = steps
        return upward

    @cached_property
    def _below(self) -> dict[str, tuple[str, ...]]:
        below: dict[str, list[str]] = defaultdict(list)
        for leaf in self.leaves:
            for above in self._upward[leaf]:
                below[above].append(leaf)
        return {node: tuple(names) for node, names in below.items()}

    @cached_property
    def _heights(self) -> dict[str, int]:
        heights = dict.fromkeys(self.nodes, 0)
        for node in reversed(tuple(TopologicalSorter(self._parents).static_order())):
            for above in self._parents[node]:
                heights[above] = max(heights[above], heights[node] + 1)
        return heights

    def _known(self, name: str, known: Sequence[str], kind: str) -> None:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or known[:10]
            raise KeyError(
                f"No {kind} {name!r} among the {len(known)} of this taxonomy; the nearest: {', '.join(near)}."
            )
