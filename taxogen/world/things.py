"""THINGS and THINGSplus: the taxonomy of their concepts, from the files as their authors distribute them."""

from __future__ import annotations

import csv
import logging
import os
from collections import Counter
from pathlib import Path

from taxogen.world.taxonomy import Taxonomy

CATEGORIES = ("category53_longFormat.tsv", "category53_wideFormat.tsv")
CONCEPTS = ("things_concepts.tsv", "concepts-metadata_things.tsv", "_concepts-metadata_things.tsv")
SYNSET = "Wordnet ID4"
"""The column of a concept's WordNet 3.0 id in the form ``aardvark.n.01``."""

log = logging.getLogger(__name__)


def read(folder: str | os.PathLike[str]) -> Taxonomy:
    """The THINGS concepts under the 53 THINGSplus categories.

    Leaves are called by their unique id (``bat1``), as the picture folders are. The files may lie anywhere
    below `folder`: category53_longFormat.tsv (category, uniqueID, Word) or category53_wideFormat.tsv
    (uniqueID, Word, a column of 0 and 1 per category); things_concepts.tsv adds synsets where it is
    present. A concept with the name of a category (bird, tool) cannot be a leaf and is left out, with a line
    in the log.

    Raises:
        FileNotFoundError: no category file below `folder`.
        ValueError: a file has other columns, or the table is no taxonomy.

    Source: Hebart et al. 2019, 2023 (THINGS); Stoinski, Perkuhn & Hebart 2024 (THINGSplus).
    """
    folder = Path(folder)
    path = _find(folder, CATEGORIES)
    if path is None:
        raise FileNotFoundError(
            f"No {' or '.join(CATEGORIES)} below {folder}: download THINGSplus/Metadata from https://osf.io/jum2f."
        )
    pairs = _long(path) if path.name == CATEGORIES[0] else _wide(path)
    categories = {category for _, category in pairs}
    both = sorted({concept for concept, _ in pairs} & categories)
    if both:
        log.warning("Left out, since they are categories too: %s", ", ".join(both))
    edges = tuple(pair for pair in pairs if pair[0] not in categories)
    named = {concept for concept, _ in edges}
    synsets = {concept: synset for concept, synset in _synsets(folder).items() if concept in named}
    return Taxonomy(edges, tuple(synsets.items()))


def _find(folder: Path, names: tuple[str, ...]) -> Path | None:
    for name in names:
        for path in sorted(folder.rglob(name)):
            return path
    return None


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file, delimiter="\t")
        found = table.fieldnames or []
        missing = [name for name in columns if name not in found]
        if missing:
            raise ValueError(
                f"{path} lacks the columns {missing} (found: {', '.join(found)}): is it the original?"
            )
        return list(table)


def _long(path: Path) -> list[tuple[str, str]]:
    return [(row["uniqueID"], row["category"]) for row in _rows(path, ("category", "uniqueID"))]


def _wide(path: Path) -> list[tuple[str, str]]:
    pairs = []
    for row in _rows(path, ("uniqueID",)):
        categories = [name for name in row if name not in ("uniqueID", "Word", "Unnamed: 0", "")]
        pairs += [(row["uniqueID"], name) for name in categories if row[name] == "1"]
    return pairs


def _synsets(folder: Path) -> dict[str, str]:
    """The synset of each concept that has one to itself: THINGS gives some concepts the same."""
    path = _find(folder, CONCEPTS)
    if path is None:
        return {}
    given = {row["uniqueID"]: row[SYNSET].strip() for row in _rows(path, ("uniqueID", SYNSET))}
    users = Counter(given.values())
    return {concept: synset for concept, synset in given.items() if synset and users[synset] == 1}
