"""Colours, each with a marker of its own: distinct to colour-blind eyes, and without colour by the marker."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from matplotlib.colors import to_hex

# Seven of them: Okabe & Ito 2008, "Color universal design". The others are those of a grid of sRGB that lie farthest
# from all before them in CIELAB, for all eyes and under each of three colour blindnesses, and are dark enough on white.
MARKER_OF = {
    "#0072B2": "o",
    "#595959": "s",
    "#009E73": "^",
    "#D55E00": "D",
    "#CC79A7": "v",
    "#56B4E9": "p",
    "#E69F00": "X",
    "#9E00FF": "P",
    "#6D2400": "<",
    "#000000": "*",
    "#AAB661": ">",
}
"""Every colour that stands for something → its marker."""
COLOURS = {
    "pretrained": "#0072B2",
    "none": "#0072B2",  # nothing exchanged: the runs that are called pretrained elsewhere
    "random init": "#595959",
    "pretrained embeddings": "#56B4E9",
    "within": "#009E73",
    "across": "#D55E00",
    "category": "#6D2400",
    "graded .25": "#E69F00",
    "graded .5": "#AAB661",
    "graded .75": "#CC79A7",
    "pretrained − random init": "#000000",
    "within − across": "#9E00FF",
    "within − category": "#E69F00",
    "category − across": "#AAB661",
    "none − category": "#CC79A7",
    "image": "#0072B2",
    "text": "#009E73",
    "text→image": "#D55E00",
    "image→text": "#CC79A7",
}
"""Conditions, their contrasts and modalities → the colour that they have in every figure."""
_MINUS = re.compile("_minus_| − ?")
CHANCE: dict[str, Any] = {"color": "0.55", "linestyle": (0, (4, 3)), "linewidth": 0.8, "zorder": 0.5}
"""How a line at chance, or at no difference, is drawn."""
INK = "0.25"
OTHERS = ("#E69F00", "#56B4E9", "#6D2400", "#CC79A7", "#9E00FF", "#000000", "#AAB661")
"""Colours of names that have none, in the order in which they are given out."""


def colour(name: str) -> str:
    """The colour of a condition, contrast or modality; one without a fixed colour gets one by its name."""
    if (known := _known_as(name)) in COLOURS:
        return COLOURS[known]
    return OTHERS[int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % len(OTHERS)]


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name, fixed where the name has one, different for all others as long as there are any.

    Of names that differ only in what follows " · " the shortest has the fixed colour.
    """
    names, fixed = list(dict.fromkeys(names)), {}
    for name in sorted(names, key=len, reverse=True):
        fixed[_known_as(name)] = name
    palette = {name: COLOURS[known] for known, name in fixed.items() if known in COLOURS}
    free = [tint for tint in (*OTHERS, *MARKER_OF) if tint not in palette.values()]
    free = list(dict.fromkeys(free)) or list(OTHERS)
    others = [name for name in names if name not in palette]
    return {name: palette.get(name) or free[others.index(name) % len(free)] for name in names}


def _known_as(name: str) -> str:
    """What `COLOURS` calls a condition or contrast: without what else varies in it, in one spelling."""
    parts = [part.partition(" · ")[0] for part in _MINUS.split(name)]
    words = " − ".join(re.sub("[_-]", " ", part).strip() for part in parts)
    return re.sub(r"^graded ?0?\.", "graded .", words)


def marker(colour: str) -> str:
    """The marker of a colour of the palette; of another one, such as a grey, a point."""
    return MARKER_OF.get(to_hex(colour).upper(), ".")
