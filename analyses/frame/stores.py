"""Stores in place of a run: activations that no run made, and a taxonomy of their leaves."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

from analyses.frame.tables import NO_STEP
from probing.store import INDEX_FILE, ActivationStore, MismatchError, records
from probing.store.shard_files import HEADER_FILE
from taxogen.runs.run import Run
from taxogen.world.taxonomy import Taxonomy

LEAF = "leaf"
"""The column of a store that names the leaf of each row, unless another one is named."""


@dataclass(frozen=True, eq=False)
class Stores:
    """Activations of pictures and of words, and a taxonomy of their leaves; see `open`.

    Attributes:
        images: step of training → picture rows; `NO_STEP` where a store says of none.
        text: rows of words, if there are any.
        taxonomy: of the leaves that all stores have.
        table: the file that it was read from.
        leaf: the column that names the leaf of a row.
        notes: lines about what is in some of the stores only.
    """

    images: Mapping[int, ActivationStore]
    text: ActivationStore | None
    taxonomy: Taxonomy
    table: Path
    leaf: str = LEAF
    notes: tuple[str, ...] = ()

    @classmethod
    def open(
        cls,
        images: str | Path | Sequence[str | Path] = (),
        text: str | Path | None = None,
        *,
        taxonomy: str | Path,
        leaf: str = LEAF,
    ) -> Stores:
        """The stores in some folders with a taxonomy; their activations are not read.

        Sites and leaves that only some of the stores have are left out, with a note.

        Args:
            images: the folder of a store of picture rows; or several, each with another attribute `step`.
            text: the folder of a store of rows of words.
            taxonomy: the CSV table of a taxonomy, with all leaves of the stores (see `Taxonomy.read`).
            leaf: the column that names the leaf of a row. A column `picture` names the picture of a row; without
                one, each row of `images` counts as a picture of its own, and rows of `text` about one leaf as one.

        Raises:
            FileNotFoundError: there is no store or no table, or a capture did not end.
            KeyError: a store has no such column.
            MismatchError: the stores share no site or no leaf, differ in spans or width, or are the same one.
            ValueError: no store was named, a row has no leaf, or leaves are none of the taxonomy.
        """
        folders = [images] if isinstance(images, str | Path) else list(images)
        pictures = [_opened(folder, leaf, "image") for folder in folders]
        words = None if text is None else _opened(text, leaf, "text")
        every = [*pictures, *([words] if words else [])]
        _refuse_unlike(every, pictures)
        leaves = set.intersection(*(set(store.columns["leaf"]) for store in every))
        known = _taxonomy(Path(taxonomy), leaves, every)
        notes = [*_left_out("leaves", [set(store.columns["leaf"]) for store in every])]
        notes += [*_left_out("sites", [set(store.sites) for store in every]), *_other_weights(every)]
        sites = tuple(site for site in every[0].sites if all(site in store.sites for store in every))
        for store in every:
            store.sites = sites
        by_step = {_step(store): store for store in pictures}
        return cls(by_step, words, known, Path(taxonomy), leaf, tuple(notes))

    @property
    def stores(self) -> tuple[ActivationStore, ...]:
        """All of them, the picture rows by step first."""
        return (*(self.images[step] for step in self.steps), *([self.text] if self.text else []))

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of the picture rows, sorted."""
        return tuple(sorted(self.images))

    @property
    def name(self) -> str:
        """The names of the folders of the last step and of the words, such as `pictures+words`."""
        return "+".join(store.path.name for store in self.stores[-2 if self.text and self.images else -1 :])

    @property
    def results(self) -> Path:
        """Where results about these stores lie: beside the folder of the last step, or of the words."""
        beside = self.images[self.steps[-1]] if self.images else self.stores[0]
        return beside.path.parent / "analyses" / self.name

    @property
    def flags(self) -> list[str]:
        """The part of a command line that names the stores and the taxonomy."""
        words = [part for step in self.steps for part in ("--images", str(self.images[step].path))]
        words += ["--text", str(self.text.path)] if self.text else []
        words += ["--taxonomy", str(self.table)]
        return words if self.leaf == LEAF else [*words, "--leaf-column", self.leaf]

    @cached_property
    def makers(self) -> dict[str, str]:
        """What results are made from: digests of the stores and of the taxonomy, by name."""
        images = {f"images of step {step}": store for step, store in self.images.items() if step != NO_STEP}
        images |= {"images": self.images[NO_STEP]} if NO_STEP in self.images else {}
        every = images | ({"text": self.text} if self.text else {})
        digests = {name: digest_of_store(store.path) for name, store in every.items()}
        edges = records.digest_of([list(edge) for edge in self.taxonomy.edges])
        code = importlib.metadata.version("taxoprobe")
        return {**digests, "taxonomy": edges, "leaf column": self.leaf, "code": code}

    def at(self, steps: Sequence[int]) -> dict[int, ActivationStore]:
        """The picture rows of these steps; of all steps if none is named.

        Raises:
            KeyError: there are none of one of these steps.
        """
        if missing := [step for step in steps if step not in self.images]:
            known = ", ".join(map(str, self.steps)) or "none, there are no pictures"
            raise KeyError(f"no picture rows of step {missing[0]} were given; steps of --images: {known}")
        return {step: self.images[step] for step in steps or self.steps}


RunOrStores = Run | Stores
"""What an analysis of activations is about."""


def digest_of_store(path: Path) -> str:
    """A digest of the header and the index of a store; the index has the checksum of every shard."""
    files = [path / name for name in (HEADER_FILE, INDEX_FILE)]
    return records.digest_of({file.name: records.sha256(file) for file in files if file.is_file()})


def _opened(folder: str | Path, leaf: str, modality: str) -> ActivationStore:
    """A store whose columns `leaf` and `picture` are texts."""
    path = Path(folder)
    store = ActivationStore.open(path if path.name not in ("", "..") else path.resolve())
    columns = store.columns
    if not len(columns):
        raise ValueError(f"{folder} holds no row; give a store with captured rows")
    if leaf not in columns:
        raise KeyError(
            f"{folder} has no column {leaf!r} that names the leaf of each row; its columns are "
            f"{', '.join(map(str, columns)) or 'none'}: name one with --leaf-column"
        )
    blank = columns[leaf].isna() | (columns[leaf].astype(str).str.strip() == "")
    if blank.any():
        raise ValueError(
            f"{blank.sum()} of {len(columns)} rows of {folder} have no leaf in the column {leaf!r}; capture rows of "
            "leaves only"
        )
    columns = columns.assign(leaf=columns[leaf].astype(str))
    if "picture" not in columns:
        columns = columns.assign(picture=columns.index.astype(str) if modality == "image" else "")
    store.columns = columns
    return store


def _step(store: ActivationStore) -> int:
    step = store.attributes.get("step", NO_STEP)
    return step if type(step) is int else NO_STEP


def _refuse_unlike(every: Sequence[ActivationStore], pictures: Sequence[ActivationStore]) -> None:
    """Refuses stores that cannot be read together."""
    if not every:
        raise ValueError("no store was given; give one of pictures, one of words, or both")
    for other, store in combinations(every, 2):
        both = f"{other.path} and {store.path}"
        if store.path.resolve() == other.path.resolve():
            raise MismatchError(f"one store was given twice, as {both}; give each once")
        if store in pictures:
            _refuse_other_pictures(other, store, both)
        if not (shared := [site for site in other.sites if site in store.sites]):
            raise MismatchError(
                f"{both} share no site: {_some(other.sites)}, and {_some(store.sites)}; capture the same sites"
            )
        sizes = [
            "×".join(map(str, one.read(shared[0], one.spans[0], [0]).shape[1:])) for one in (other, store)
        ]
        if sizes[0] != sizes[1]:
            raise MismatchError(
                f"{both} are of different models: {shared[0]} is {sizes[0]} and {sizes[1]} wide; capture with one"
            )


def _refuse_other_pictures(other: ActivationStore, store: ActivationStore, both: str) -> None:
    """Refuses picture rows that are not those of another step."""
    if _step(store) == _step(other):
        raise MismatchError(
            f"{both} are both of step {_step(store)}; picture rows of several steps need an attribute `step`, as in "
            "capture(…, attributes={'step': 100})"
        )
    if store.pooling != other.pooling:
        raise MismatchError(
            f"{both} differ in spans: {other.pooling}, and {store.pooling}; capture them alike"
        )


def _taxonomy(table: Path, leaves: set[str], every: Sequence[ActivationStore]) -> Taxonomy:
    """The taxonomy of these leaves, which all stores have."""
    if not leaves:
        named = "; ".join(f"{store.path} names {_some(set(store.columns['leaf']))}" for store in every)
        raise MismatchError(f"the stores share no leaf: {named}; name leaves alike in all of them")
    taxonomy = Taxonomy.read(table)
    if missing := sorted(leaves - set(taxonomy.leaves)):
        raise ValueError(
            f"{len(missing)} of {len(leaves)} leaves of the stores are no leaves of {table}: {_some(missing)}; add a "
            "row leaf,hypernym for each"
        )
    return taxonomy.restrict(leaves)


def _left_out(what: str, sets: Sequence[set[str]]) -> list[str]:
    """A line on what only some of the stores have."""
    rest = set.union(*sets) - set.intersection(*sets)
    return [f"{len(rest)} {what} are not in every store, and left out: {_some(rest)}"] if rest else []


def _other_weights(every: Sequence[ActivationStore]) -> list[str]:
    """A line where the stores say that they were captured with different weights."""
    hashes = {store.attributes.get("weight_hash") for store in every} - {None}
    return ["the stores were captured with different weights"] if len(hashes) > 1 else []


def _some(names: Iterable[str]) -> str:
    """Up to three names."""
    every = sorted(names)
    return ", ".join(every[:3]) + (" …" if len(every) > 3 else "")
