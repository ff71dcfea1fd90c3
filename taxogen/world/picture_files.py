"""Picture files: found below a folder, proven readable, decoded to upright RGB over white."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from probing.store import cache
from taxogen.world.remote import RemoteFolder

Folder = Path | RemoteFolder
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
FORMATS = ("JPEG", "PNG", "WEBP")
"""No other decoder sees a file, whatever its name: Pillow would hand an EPS to Ghostscript."""
MAX_PIXELS = 50_000_000
"""Larger pictures are refused before they are decoded: a small file can unpack to gigabytes."""
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Characters that no name may have: it goes into tables and messages, a line each."""


def decode(data: bytes, name: str = "picture") -> Image.Image:
    """The picture in `data` as RGB, upright by its EXIF orientation, transparency shown over white.

    Of an animated picture it is the one that viewers without animation show: the first, or a PNG's default image.

    Raises:
        ValueError: `data` is no readable picture of FORMATS, or it has more than MAX_PIXELS.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} × {image.height} pixels, more than {MAX_PIXELS:,}")
            _scale_transparent_value(image)
            image.load()
            return _flatten(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:  # its text names a memory address
        raise ValueError(
            f"{name} cannot be read as a picture: it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]}. "
            "Replace or remove it."
        ) from error
    except Exception as error:  # decoders raise errors of any kind over bytes that they did not expect
        raise ValueError(f"{name} cannot be read as a picture: {error}. Replace or remove it.") from error


def opacity(data: bytes) -> Float[np.ndarray, "height width"] | None:
    """How much of each pixel of the upright picture is there, in [0, 1]: its alpha; None where all of it is.

    Raises:
        ValueError: `data` is no readable picture of FORMATS.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _scale_transparent_value(image)
            image.load()
            if "A" not in image.getbands() and "transparency" not in image.info:
                return None
            alpha = np.asarray(ImageOps.exif_transpose(image).convert("RGBA").getchannel("A"))
    except UnidentifiedImageError as error:
        raise ValueError(f"a picture cannot be read: it is none of {', '.join(FORMATS)}") from error
    return None if (alpha == 255).all() else alpha / 255


def content_hash(data: bytes) -> str:
    """SHA-256 of a file's bytes, as hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def find(root: Folder) -> list[str]:
    """The sorted paths ``<leaf>/<file>`` of all pictures below `root`, hidden files and folders aside.

    Links to files and folders are followed, wherever they lead.

    Raises:
        ValueError: no leaf folder, leaves with fewer than 2 pictures, entries with a picture's name that are no files
            (links that lead nowhere), or names with line breaks and the like (all are listed).
    """
    names, lost = _leaves(root)
    if not names and not lost:
        raise ValueError(f"{root} holds no leaf folders: put pictures into <leaf>/<file>.jpg.")
    entries = sorted(f"{leaf}/{name}" for leaf, inside in names.items() for name in inside)
    if isinstance(root, Path):
        lost += [name for name in entries if not (root / name).is_file()]
    if lost:
        raise ValueError(
            f"{len(lost)} entries of {root} are no files and no leaf folders, or links that lead nowhere: "
            f"{_some(lost)}. Restore or remove them."
        )
    if odd := [name for name in entries if UNPRINTABLE.search(name)]:
        raise ValueError(
            f"{len(odd)} pictures of {root} have line breaks or other control characters in their names: "
            f"{_some(odd)}. Rename them."
        )
    if small := [f"{leaf} ({len(inside)})" for leaf, inside in names.items() if len(inside) < 2]:
        raise ValueError(
            f"Leaves of {root} with fewer than 2 pictures: {', '.join(small)}. A leaf needs one to learn "
            f"from and one to be tested on: add pictures ({', '.join(SUFFIXES)}) or remove the leaf."
        )
    return entries


def listed(root: Folder) -> list[str]:
    """The names that `find` gives, unchecked; none where there is no such folder."""
    try:
        names, _ = _leaves(root)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(f"{leaf}/{name}" for leaf, inside in names.items() for name in inside)


def _leaves(root: Folder) -> tuple[dict[str, list[str]], list[str]]:
    """The names of pictures in each folder of a leaf, and links that lead nowhere in place of one."""
    if isinstance(root, Path):
        leaves = sorted(entry for entry in root.iterdir() if not entry.name.startswith("."))
        lost = [entry.name for entry in leaves if entry.is_symlink() and not entry.exists()]
        inside = {leaf.name: [entry.name for entry in leaf.iterdir()] for leaf in leaves if leaf.is_dir()}
    else:
        lost, inside = [], {}
        for path in root.files():
            leaf, _, name = path.partition("/")
            if name and "/" not in name and not leaf.startswith("."):
                inside.setdefault(leaf, []).append(name)
    return {leaf: [name for name in names if _is_picture(name)] for leaf, names in inside.items()}, lost


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")


def _some(names: Sequence[str]) -> str:
    """Up to 5 names, each on its line whatever it holds."""
    shown = ", ".join(UNPRINTABLE.sub(lambda odd: ascii(odd[0])[1:-1], name) for name in names[:5])
    return shown + (", …" if len(names) > 5 else "")


def verified_hashes(root: Folder, names: list[str]) -> list[str]:
    """The content hash of every file, each of which has been decoded once, now or before.

    The result is cached until a file's size, time of change or time of its inode's change differs; of a remote one its
    size or version.

    Raises:
        ValueError: files that cannot be read as pictures, all of them listed.
    """
    if (versions := _versions(root, names)) is None:
        return _verify(root, names)
    where = str(root.resolve()) if isinstance(root, Path) else root.url
    key = content_hash(json.dumps([where, *versions]).encode())

    def make(part: Path) -> None:
        text = "\n".join(_verify(root, names))
        part.write_text(f"{content_hash(text.encode())}\n{text}")

    path = cache.build_once(f"pictures/{key}.txt", make)
    digest, _, text = path.read_bytes().partition(b"\n")
    if content_hash(text).encode() != digest:
        path.unlink(missing_ok=True)
        return verified_hashes(root, names)
    return text.decode().splitlines()


def _versions(root: Folder, names: list[str]) -> list[tuple[object, ...]] | None:
    """What tells whether a file is still the same; None where a remote folder does not say."""
    if isinstance(root, Path):
        stats = [(root / name).stat() for name in names]
        return [(name, at.st_size, at.st_mtime_ns, at.st_ctime_ns) for name, at in zip(names, stats)]
    versions = root.files()
    return [(name, versions[name]) for name in names] if all(versions[name] for name in names) else None


def _verify(root: Folder, names: list[str]) -> list[str]:
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


def _scale_transparent_value(image: ImageFile.ImageFile) -> None:
    """Bring the transparent value of a PNG, which counts in the file's bits, to the 8 bits that Pillow decodes to."""
    value, raw = image.info.get("transparency"), image.tile[0].args if image.tile else None
    if raw == "RGB;16B" and isinstance(value, tuple):
        image.info["transparency"] = tuple(part >> 8 for part in value)
    elif raw in ("L;2", "L;4") and isinstance(value, int):
        image.info["transparency"] = value * {"L;2": 85, "L;4": 17}[raw]


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow clips 16-bit grey to 255 instead of scaling it
        values = np.asarray(image).astype(np.uint32)
        opaque = values != image.info.get("transparency", -1)
        return Image.fromarray(np.where(opaque, values >> 8, 255).astype(np.uint8)).convert("RGB")
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
