"""Counts: a world that is not on this disk, by the numbers of its leaves, hypernyms and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import pandas as pd

from taxogen.world.pictures import COLUMNS
from taxogen.world.taxonomy import Taxonomy


@dataclass(frozen=True)
class Counts:
    """How large a world is, where its pictures and taxonomy are not at hand.

    Attributes:
        leaves: leaf concepts.
        hypernyms: above them.
        pairs: of a leaf and a hypernym of it, over all leaves.
        pictures: spread evenly over the leaves.

    Raises:
        ValueError: no such world can be.
    """

    leaves: int
    hypernyms: int
    pairs: int
    pictures: int

    def __post_init__(self) -> None:
        said = ", ".join(f"{name}={value}" for name, value in asdict(self).items())
        if not 1 <= self.hypernyms <= self.leaves:
            raise ValueError(f"a world of {said} was stated; it has at least 1 hypernym, and a leaf for each")
        if not self.leaves <= self.pairs <= self.leaves * self.hypernyms:
            raise ValueError(
                f"a world of {said} was stated; each leaf has from 1 to all hypernyms: pairs lie between "
                f"{self.leaves} and {self.leaves * self.hypernyms}"
            )
        if self.pictures < 2 * self.leaves:
            raise ValueError(f"a world of {said} was stated; each leaf has at least 2 pictures")

    def __str__(self) -> str:
        return (
            f"{self.leaves:,} leaves under {self.hypernyms:,} hypernyms ({self.pairs:,} pairs), "
            f"{self.pictures:,} pictures"
        )

    def taxonomy(self) -> Taxonomy:
        """A taxonomy of this size, of invented names; hypernyms have leaves in about equal number."""
        kinds = [f"kind{number:04d}" for number in range(self.hypernyms)]
        places = (
            (leaf, (leaf + shift) % self.hypernyms)
            for shift in range(self.hypernyms)
            for leaf in range(self.leaves)
        )
        edges = ((_leaf(leaf), kinds[kind]) for (leaf, kind), _ in zip(places, range(self.pairs)))
        return Taxonomy(tuple(edges))

    def table(self) -> pd.DataFrame:
        """A table of pictures of this size, as `taxogen.world.pictures` has them; no file is behind it."""
        rows = [
            (f"{_leaf(number % self.leaves)}/{number // self.leaves:06d}.jpg", _leaf(number % self.leaves))
            for number in range(self.pictures)
        ]
        table = pd.DataFrame(rows, columns=["picture", "leaf"])
        table = table.assign(source="stated", style_group="stated", licence="", content_hash=table["picture"])
        return table.sort_values("picture", ignore_index=True)[list(COLUMNS)]


NAMES = tuple(field.name for field in fields(Counts))


def from_numbers(numbers: Mapping[str, float], where: str) -> Counts:
    """The counts of a table or a flag, which gives all of them as whole numbers.

    Raises:
        ValueError: one is missing, unknown or no whole number, or no such world can be.
    """
    whole = {name: int(value) for name, value in numbers.items() if value == int(value)}
    if set(numbers) != set(NAMES) or len(whole) < len(numbers):
        given = ", ".join(f"{name}={value:g}" for name, value in numbers.items())
        raise ValueError(f"{where} states {', '.join(NAMES)} as whole numbers, found {given or 'nothing'}")
    return Counts(**whole)


def _leaf(number: int) -> str:
    return f"leaf{number:06d}"
