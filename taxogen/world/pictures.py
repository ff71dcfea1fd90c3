"""Pictures of leaf concepts: the bundled pictograms, THINGS, a folder of leaf/*.jpg or its URL, or a data set."""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path

import pandas as pd
from PIL import Image

from probing.store import MismatchError
from taxogen.world import dataset_pictures, picture_files
from taxogen.world.picture_files import Folder, decode
from taxogen.world.remote import MARK, RemoteFolder

COLUMNS = ("picture", "leaf", "source", "style_group", "licence", "content_hash")
BUNDLED = ("pictograms",)


@dataclass(frozen=True, eq=False)
class Pictures:
    """A collection of pictures, each of one leaf concept.

    Attributes:
        name: the name by which the collection was loaded.
        table: picture (its path inside the collection), leaf, source, style_group (sources that redraw each
            other), licence, content_hash (SHA-256 of the file); sorted by picture, which is unique.
        folder: of the files, maybe a remote one; None for a bundled collection, which is read from the package.
    """

    name: str
    table: pd.DataFrame
    folder: Folder | None = None

    @cached_property
    def leaves(self) -> tuple[str, ...]:
        """The leaf concepts that have pictures, sorted."""
        return tuple(sorted(set(self.table["leaf"])))

    @cached_property
    def _hashes(self) -> dict[str, str]:
        return dict(zip(self.table["picture"], self.table["content_hash"], strict=True))

    def read(self, picture: str) -> bytes:
        """The bytes of a picture's file, which are those that its content hash is of.

        Raises:
            KeyError: no such picture in this collection.
            FileNotFoundError: its file is gone.
            MismatchError: its file has changed.
        """
        if picture not in self._hashes:
            raise KeyError(
                f"No picture {picture!r} among the {len(self.table)} of {self.name!r}: see .table['picture']."
            )
        data = _bytes(self.name, self.folder, picture)
        if picture_files.content_hash(data) != self._hashes[picture]:
            raise MismatchError(f"{picture} of {self.name!r} has changed since its content hash was taken")
        return data

    def faults(self, names: Sequence[str]) -> dict[str, list[str]]:
        """The pictures that are `missing`, and those that have `changed` since their content hashes were taken."""

        def fault(name: str) -> str:
            try:
                self.read(name)
            except (FileNotFoundError, NotADirectoryError):
                return "missing"
            except MismatchError:
                return "changed"
            return ""

        with ThreadPoolExecutor() as pool:
            kinds = list(pool.map(fault, names))
        return {
            kind: [name for name, own in zip(names, kinds) if own == kind] for kind in ("missing", "changed")
        }

    def open(self, picture: str) -> Image.Image:
        """The picture as RGB, upright, transparency shown over white.

        Raises:
            KeyError: no such picture in this collection.
            FileNotFoundError: its file is gone.
            ValueError: the file has changed, is no readable picture, or a too large one.
        """
        return decode(self.read(picture), picture)

    def open_or_blank(self, picture: str) -> Image.Image:
        """The picture to be shown to a person; a white one where its file is gone or holds something else since."""
        try:
            return self.open(picture)
        except (FileNotFoundError, MismatchError):
            return Image.new("RGB", (96, 96), "white")

    def select(self, leaves: Iterable[str]) -> Pictures:
        """The same collection with the pictures of `leaves` only.

        Raises:
            KeyError: some of `leaves` have no picture.
        """
        wanted = set(leaves)
        missing = sorted(wanted - set(self.leaves))
        if missing:
            raise KeyError(
                f"No pictures of {', '.join(missing)} in {self.name!r}: .leaves names its {len(self.leaves)}"
            )
        kept = self.table.loc[self.table["leaf"].isin(sorted(wanted))].reset_index(drop=True)
        return Pictures(self.name, kept, self.folder)

    def duplicates(self) -> pd.DataFrame:
        """The rows of `table` whose content occurs more than once, equal ones side by side; empty if none."""
        repeated = self.table.loc[self.table.duplicated("content_hash", keep=False)]
        return repeated.sort_values(["content_hash", "picture"])


def load(name_or_folder: str | os.PathLike[str]) -> Pictures:
    """The bundled collection of that name, or the pictures of a folder, a URL that fsspec reads, or a data set.

    A data set is spelled `datasets:NAME?…` (`taxogen.world.dataset_pictures`) and laid into the cache as a folder. A
    folder holds ``<leaf>/<file>`` or, as THINGS is distributed, ``images/<leaf>/<file>``; files are .jpg, .jpeg, .png
    or .webp. Every picture of a folder is decoded once here, so that a broken one is found before
    anything is trained; bundled pictures are compared with their content hashes instead.

    Raises:
        FileNotFoundError: neither a bundled name nor a folder, no such data set, or nothing is at the URL.
        OSError: the URL cannot be read.
        ModuleNotFoundError: what reads such a URL, or a data set, is not installed.
        ValueError: a data set's columns are not told, leaves have fewer than 2 pictures, or pictures cannot be read
            (all are listed).
    """
    if str(name_or_folder) in BUNDLED:
        return _load_bundled(str(name_or_folder))
    if dataset_pictures.is_spelled(str(name_or_folder)):
        found = dataset_pictures.extracted(str(name_or_folder))
        return _load_folder(str(name_or_folder), found.folder, found.source, found.licence)
    folder = _place(name_or_folder)
    if isinstance(folder, Path) and not folder.is_dir():
        raise FileNotFoundError(
            f"No pictures called {str(name_or_folder)!r}: neither bundled ({', '.join(BUNDLED)}) nor a "
            "folder. Give a folder of <leaf>/<file>.jpg."
        )
    root = _root(folder)
    named = folder.resolve().name if isinstance(folder, Path) else folder.name
    return _load_folder(str(folder), root, named if root == folder else "things")


def of_table(name_or_folder: str | os.PathLike[str], table: pd.DataFrame) -> Pictures:
    """The collection that a recorded table is of; no picture is looked at before it is read.

    Raises:
        ValueError: the table lacks one of COLUMNS or holds something other than text in it, repeats a picture, or
            names one that is not `<leaf>/<file>`.
    """
    if lacking := [column for column in COLUMNS if column not in table.columns]:
        raise ValueError(
            f"A table of pictures was given without {', '.join(lacking)}; found {list(table.columns)}"
        )
    texts = table.loc[:, list(COLUMNS)]
    if mixed := [name for name in COLUMNS if not all(isinstance(value, str) for value in texts[name])]:
        raise ValueError(f"A table of pictures holds something other than text in {', '.join(mixed)}")
    unfit = texts["picture"].duplicated() | ~texts["picture"].map(_is_inside).astype(bool)
    if odd := texts.loc[unfit, "picture"].tolist():
        raise ValueError(
            f"A table of pictures names each once as <leaf>/<file>; found {odd[0]!r} and {len(odd) - 1} more"
        )
    bundled = str(name_or_folder) in BUNDLED
    folder = None if bundled else _root_of(os.fspath(name_or_folder))
    return _sorted(str(name_or_folder), texts, folder)


def compare(recorded: pd.DataFrame, name_or_folder: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Names of the pictures that are `missing` now, have `changed`, or are `new`, against a recorded table.

    Every byte of the recorded pictures is read; a folder that is gone has all of them missing.

    Raises:
        ValueError: the table is none of pictures.
    """
    collection = of_table(name_or_folder, recorded)
    names = collection.table["picture"].tolist()
    if collection.folder is None:
        present = _read_csv(f"{collection.name}.csv")["picture"].tolist()
    else:
        present = picture_files.listed(collection.folder)
    return {**collection.faults(names), "new": sorted(set(present) - set(names))}


def credits() -> pd.DataFrame:
    """Who made the bundled pictures: source, licence, credit; to be shown wherever they are shown."""
    return _read_csv("sources.csv")


def _data(name: str) -> bytes:
    return (resources.files("taxogen") / "data" / name).read_bytes()


def _read_csv(name: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(_data(name)), dtype=str, keep_default_na=False)


@lru_cache(maxsize=1)
def _bundled(name: str) -> zipfile.ZipFile:
    """The archive of a bundled collection, held in memory: no file handle that forked workers would share."""
    return zipfile.ZipFile(io.BytesIO(_data(f"{name}.zip")))


def _place(name_or_folder: str | os.PathLike[str]) -> Folder:
    text = os.fspath(name_or_folder)
    return RemoteFolder(text) if MARK in text else Path(text)


def _bytes(name: str, folder: Folder | None, picture: str) -> bytes:
    if folder is not None:
        return (folder / picture).read_bytes()
    try:
        return _bundled(name).read(picture)
    except (KeyError, zipfile.BadZipFile) as error:
        raise FileNotFoundError(
            f"No picture {picture} in the bundled {name!r}: reinstall taxoprobe."
        ) from error


def _is_inside(name: str) -> bool:
    """Whether a picture's name is `<leaf>/<file>`, which cannot leave its collection."""
    parts = name.split("/")
    unfit = [part for part in parts if part in ("", "..") or Path(part).name != part]
    return len(parts) == 2 and not unfit and not picture_files.UNPRINTABLE.search(name)


def _load_bundled(name: str) -> Pictures:
    table = _read_csv(f"{name}.csv")
    archive = _bundled(name)
    inside = set(archive.namelist())
    damaged = [
        picture
        for picture, digest in zip(table["picture"], table["content_hash"])
        if picture not in inside or picture_files.content_hash(archive.read(picture)) != digest
    ]
    if damaged:
        raise ValueError(
            f"{len(damaged)} bundled pictures are missing or altered (as {damaged[0]}): reinstall taxoprobe."
        )
    return _sorted(name, table, None)


def _load_folder(name: str, root: Folder, source: str, licence: str = "") -> Pictures:
    names = picture_files.find(root)
    table = pd.DataFrame({"picture": names, "leaf": [name.split("/", 1)[0] for name in names]})
    table["source"] = table["style_group"] = source
    table["licence"] = licence
    table["content_hash"] = picture_files.verified_hashes(root, names)
    return _sorted(name, table, root)


def _root_of(name: str) -> Folder:
    """The folder of the leaves of a folder, URL or data set, which need not be there."""
    if not dataset_pictures.is_spelled(name):
        return _root(_place(name))
    try:
        return dataset_pictures.extracted(name).folder
    except FileNotFoundError:
        return Path(name)  # nothing is there: each picture is missing when it is read


def _root(folder: Folder) -> Folder:
    """The folder of the leaves: as THINGS is distributed, that is `images`."""
    if isinstance(folder, Path):
        inside = folder / "images"
        return inside if inside.is_dir() and any(entry.is_dir() for entry in inside.iterdir()) else folder
    with contextlib.suppress(FileNotFoundError):
        if any(name.startswith("images/") and name.count("/") > 1 for name in folder.files()):
            return folder.below("images")
    return folder


def _sorted(name: str, table: pd.DataFrame, folder: Folder | None) -> Pictures:
    ordered = table.sort_values("picture", ignore_index=True)
    return Pictures(name, ordered.loc[:, list(COLUMNS)], folder)
