"""Pictures of a run as they are shown beside its numbers."""

from __future__ import annotations

from PIL import Image

from probing.store import MismatchError
from taxogen.world.pictures import Pictures


def picture_or_blank(collection: Pictures, name: str) -> Image.Image:
    """A picture as the run had it; a white one where the file is gone or holds something else since."""
    try:
        return collection.open(name)
    except (FileNotFoundError, MismatchError):
        return Image.new("RGB", (96, 96), "white")
