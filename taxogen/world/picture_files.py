"""Picture files: found below a folder, proven readable, decoded to upright RGB over white."""

from __future__ import annotations

import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from probing.store import cache

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MAX_PIXELS = 50_000_000
"""Larger pictures are refused before they are decoded: a small file can unpack to gigabytes."""


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
    except UnidentifiedImageError as error:  # its text names a memory address
        raise ValueError(
            f"{name} cannot be read as a picture: no known format. Replace or remove it."
        ) from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise ValueError(f"{name} cannot be read as a picture: {error}. Replace or remove it.") from error


def content_hash(data: bytes) -> str:
    """SHA-256 of a file's bytes, as hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def find(root: Path) -> list[str]:
    """The sorted paths ``<leaf>/<file>`` of all pictures below `root`, hidden files and folders aside.

    Raises:
        ValueError: no leaf folder, or leaves with fewer than 2 pictures (all are listed).
    """
    files = {
        entry.name: [
            file.name
            for file in entry.iterdir()
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
        ]
        for entry in root.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    }
    if not files:
        raise ValueError(f"{root} holds no leaf folders: put pictures into <leaf>/<file>.jpg.")
    small = [f"{leaf} ({len(names)})" for leaf, names in sorted(files.items()) if len(names) < 2]
    if small:
        raise ValueError(
            f"Leaves of {root} with fewer than 2 pictures: {', '.join(small)}. A leaf needs one to learn "
            f"from and one to be tested on: add pictures ({', '.join(SUFFIXES)}) or remove the leaf."
        )
    return sorted(f"{leaf}/{name}" for leaf, names in files.items() for name in names)


def verified_hashes(root: Path, names: list[str]) -> list[str]:
    """The content hash of every file, each of which has been decoded once, now or before.

    The result is cached until a file's size or time of change differs.

    Raises:
        ValueError: files that cannot be read as pictures, all of them listed.
    """
    stats = [(root / name).stat() for name in names]
    listing = [str(root.resolve()), *((name, at.st_size, at.st_mtime_ns) for name, at in zip(names, stats))]

    def make(part: Path) -> None:
        part.write_text(json.dumps(_verify(root, names)))

    key = content_hash(json.dumps(listing).encode())
    return json.loads(cache.build_once(f"pictures/{key}.json", make).read_text())


def _verify(root: Path, names: list[str]) -> list[str]:
    def visit(name: str) -> tuple[str, str]:
        try:
            data = (root / name).read_bytes()
            decode(data, name)
        except (OSError, ValueError) as error:
            return "", str(error)
        return content_hash(data), ""

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(visit, names))
    broken = [problem for _, problem in results if problem]
    if broken:
        raise ValueError(
            f"{len(broken)} of {len(names)} pictures in {root} cannot be read; replace or remove them:\n  "
            + "\n  ".join(broken)
        )
    return [digest for digest, _ in results]


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow clips 16-bit grey to 255 instead of scaling it
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
