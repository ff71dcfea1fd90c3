"""One image that holds small pictures in rows, for a page that needs no other file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, sqrt

from PIL import Image

from analyses.report.samples import data_uri
from taxogen.world.pictures import Pictures

SIDE, MOST = 56, 1_600
"""Pixels of a small picture, and how many there are at most: about 2 MB."""
_QUALITY = 72


@dataclass(frozen=True)
class Sprite:
    """Small pictures, side by side.

    Attributes:
        uri: the image; empty where there is none.
        columns: pictures in a row.
        rows: of pictures.
        places: picture → its place, row by row.
    """

    uri: str = ""
    columns: int = 1
    rows: int = 1
    places: dict[str, int] = field(default_factory=dict)


def sprite(wanted: Sequence[tuple[Pictures, str]], most: int = MOST) -> Sprite:
    """The first pictures of those wanted, each once."""
    collections: dict[str, Pictures] = {}
    for collection, name in wanted:
        collections.setdefault(name, collection)
    names = list(collections)[:most]
    if not names:
        return Sprite()
    columns = ceil(sqrt(len(names)))
    rows = ceil(len(names) / columns)
    sheet = Image.new("RGB", (columns * SIDE, rows * SIDE), "white")
    for place, name in enumerate(names):
        image = collections[name].open_or_blank(name)
        image.thumbnail((SIDE, SIDE))
        row, column = divmod(place, columns)
        inset = ((SIDE - image.width) // 2, (SIDE - image.height) // 2)
        sheet.paste(image, (column * SIDE + inset[0], row * SIDE + inset[1]))
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=_QUALITY)
    places = {name: place for place, name in enumerate(names)}
    return Sprite(data_uri(buffer.getvalue(), "webp"), columns, rows, places)
