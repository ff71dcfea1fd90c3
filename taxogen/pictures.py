"""Pictures of leaf concepts: the bundled pictograms, THINGS, or any folder of leaf/*.jpg."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

COLUMNS = ("picture", "leaf", "source", "style_group", "licence", "content_hash")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
BUNDLED = ("pictograms",)
MAX_PIXELS = 50_000_000
"""Larger pictures are refused before they are decoded: a small file can unpack to gigabytes."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """A collection of pictures, each of one leaf concept.

    Attributes:
        name: what the collection was loaded as.
        table: picture (its path inside the collection), leaf, source, style_group, licence, content_hash (SHA-256
            of the file's bytes); sorted by picture, which is unique.
        folder: where the files lie, or None for a bundled collection, which is read from the package.
    """

    name: str
    table: pd.DataFrame
    folder: Path | None = None

    @cached_property
    def leaves(self) -> tuple[str, ...]:
        """The leaf concepts that have pictures, sorted."""
        return tuple(sorted(set(self.table["leaf"])))

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.table["picture"])

    def read(self, picture: str) -> bytes:
        """The bytes of a picture's file.

        Raises:
            KeyError: no such picture in this collection.
        """
        if picture not in self._known:
            raise KeyError(
                f"No picture {picture!r} among the {len(self.table)} of {self.name!r}; see .table['picture']."
            )
        return _bundled_bytes(picture) if self.folder is None else (self.folder / picture).read_bytes()

    def open(self, picture: str) -> Image.Image:
        """The picture as RGB, upright, transparency shown over white.

        Raises:
            KeyError: no such picture in this collection.
            ValueError: the file is no readable picture, or has more than MAX_PIXELS.
        """
        return decode(self.read(picture), picture)

    def select(self, leaves: list[str]) -> Pictures:
        """The same collection with the pictures of `leaves` only.

        Raises:
            ValueError: some of `leaves` have no picture.
        """
        missing = sorted(set(leaves) - set(self.leaves))
        if missing:
            raise ValueError(
                f"No pictures of {', '.join(missing)} in {self.name!r}: it has {len(self.leaves)} leaves, see .leaves."
            )
        return Pictures(
            self.name, self.table[self.table["leaf"].isin(leaves)].reset_index(drop=True), self.folder
        )

    def duplicates(self) -> pd.DataFrame:
        """The rows of `table` whose content occurs more than once, same content side by side; empty if none."""
        table = self.table
        return table[table.duplicated("content_hash", keep=False)].sort_values(["content_hash", "picture"])


def load(name_or_folder: str | os.PathLike[str]) -> Pictures:
    """The bundled collection of that name, or the pictures of a folder.

    A folder holds ``<leaf>/<file>`` or, as THINGS is distributed, ``images/<leaf>/<file>``; files are
    .jpg, .jpeg, .png or .webp. Every picture of a folder is decoded once here, so that a broken one is found
    before anything is trained; bundled pictures are compared with their content hashes instead.

    Raises:
        FileNotFoundError: neither a bundled name nor a folder.
        ValueError: a leaf has fewer than 2 pictures, or pictures cannot be read (all are listed).
    """
    if str(name_or_folder) in BUNDLED:
        return _load_bundled(str(name_or_folder))
    folder = Path(name_or_folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"No pictures called {str(name_or_folder)!r}: neither bundled ({', '.join(BUNDLED)}) nor a folder; "
            "give a folder of <leaf>/<file>.jpg."
        )
    return _load_folder(folder)


def decode(data: bytes, name: str = "picture") -> Image.Image:
    """The picture in `data` as RGB, upright by its EXIF orientation, transparency shown over white.

    Raises:
        ValueError: `data` is no readable picture, or it has more than MAX_PIXELS.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} × {image.height} pixels, more than {MAX_PIXELS:,}")
            image.load()
            return _flatten(ImageOps.exif_transpose(image))
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise ValueError(f"{name} cannot be read as a picture: {error}. Replace or remove it.") from error


def credits() -> pd.DataFrame:
    """Who made the bundled pictures: source, licence, credit; to be shown wherever they are shown."""
    return _read_csv("sources.csv")


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow clips 16-bit grey to 255 instead of scaling it
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _data(name: str) -> bytes:
    return (resources.files("taxogen") / "data" / name).read_bytes()


def _read_csv(name: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(_data(name)), dtype=str, keep_default_na=False)


@lru_cache(maxsize=1)
def _archive() -> zipfile.ZipFile:
    """The bundled pictures, held in memory: no file handle that forked workers would share."""
    return zipfile.ZipFile(io.BytesIO(_data("pictograms.zip")))


def _bundled_bytes(picture: str) -> bytes:
    return _archive().read(picture)


def _load_bundled(name: str) -> Pictures:
    table = _read_csv(f"{name}.csv")
    found = set(_archive().namelist())
    table["content_hash"] = [
        _hash(_bundled_bytes(picture)) for picture in table["picture"] if picture in found
    ]
    return _checked(name, table, None)


def _load_folder(folder: Path) -> Pictures:
    inside = folder / "images"
    things = inside.is_dir() and any(entry.is_dir() for entry in inside.iterdir())
    root = inside if things else folder
    leaves = sorted(
        entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    files = {leaf: _pictures_in(root / leaf) for leaf in leaves}
    if not files:
        raise ValueError(f"{root} holds no leaf folders: put pictures into <leaf>/<file>.jpg.")
    names = sorted(f"{leaf}/{file}" for leaf, found in files.items() for file in found)
    _refuse_small(root, {leaf: len(found) for leaf, found in files.items()})
    table = pd.DataFrame({"picture": names})
    table["leaf"] = [name.split("/", 1)[0] for name in names]
    table["source"] = "things" if things else folder.resolve().name
    table["style_group"] = table["source"]
    table["licence"] = ""
    table["content_hash"] = _verified_hashes(root, names)
    return _checked(str(folder), table, root)


def _pictures_in(folder: Path) -> list[str]:
    return [
        entry.name
        for entry in folder.iterdir()
        if entry.is_file() and entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".")
    ]


def _refuse_small(where: object, counts: dict[str, int]) -> None:
    small = [f"{leaf} ({count})" for leaf, count in sorted(counts.items()) if count < 2]
    if small:
        raise ValueError(
            f"Leaves of {where} with fewer than 2 pictures: {', '.join(small)}. A leaf needs one picture to learn "
            f"from and one to be tested on: add pictures ({', '.join(SUFFIXES)}) or remove the leaf."
        )


def _verified_hashes(root: Path, names: list[str]) -> list[str]:
    """The content hash of every file, each decoded once; refuses all unreadable ones together."""

    def visit(name: str) -> tuple[str, str]:
        data = (root / name).read_bytes()
        try:
            decode(data, name)
        except ValueError as error:
            return "", f"{name}: {error.__cause__}"
        return _hash(data), ""

    return _all_or_refuse(root, names, visit)


def _all_or_refuse(root: Path, names: list[str], visit: Callable[[str], tuple[str, str]]) -> list[str]:
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(visit, names))
    broken = [problem for _, problem in results if problem]
    if broken:
        listed = "\n  ".join(broken)
        raise ValueError(
            f"{len(broken)} of {len(names)} pictures in {root} cannot be read; replace them:\n  {listed}"
        )
    return [digest for digest, _ in results]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _checked(name: str, table: pd.DataFrame, folder: Path | None) -> Pictures:
    table = table.sort_values("picture", ignore_index=True)[list(COLUMNS)]
    return Pictures(name, table, folder)
