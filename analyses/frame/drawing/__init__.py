"""How every figure looks: its style and width, its colours, and the few kinds of drawing."""

from analyses.frame.drawing.fitting import fit, footnote
from analyses.frame.drawing.marks import (
    auroc_limits,
    caption,
    conditions,
    curve,
    dots,
    heat,
    points,
    readable,
)
from analyses.frame.drawing.palette import CHANCE, COLOURS, INK, MARKER_OF, colour, colours, marker
from analyses.frame.drawing.style import STYLES, WIDTHS, add_style_flags, captioned, lay_out, save, style

__all__ = [
    "CHANCE", "COLOURS", "INK", "MARKER_OF", "STYLES", "WIDTHS", "add_style_flags", "auroc_limits", "caption",
    "captioned", "colour", "colours", "conditions", "curve", "dots", "fit", "footnote", "heat", "lay_out", "marker",
    "points", "readable", "save", "style",
]  # fmt: skip
