"""Options of patching: which states go where, in how many pairs of leaves, and what they are compared with."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from analyses.frame.command_line import EXTENT, NAME, PARTNER, TABLE, Resampling, option
from probing.patching.alignment import KINDS as ALIGNMENTS

DIRECTIONS = {
    "text-to-image": ("text", "image"),
    "image-to-text": ("image", "text"),
    "picture-to-picture": ("image", "image"),
    "text-to-text": ("text", "text"),
}
"""Direction → modality of the clean run and of the corrupted one; states go from clean to corrupted, unless noising."""

MODES = ("denoising", "noising")
QUESTIONS = ("hypernym", "leaf")
SPANS = ("slot", "cue", "last")
SITES = ("blocks.*.hook_resid_post",)
PLACEBOS = ("sibling", "stranger", "random")
KINDS = ("clean", *PLACEBOS)
"""Where a patch's state comes from: the other run of the pair, or a placebo."""

_IDLE = ("draws", "pairs", "placebo_run", "screen", "sampled", "dtype", "name", "natural")
"""Options on which the numbers of a part do not depend, or that stand in its name in another way."""


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """What is patched, in how many pairs; the defaults are those of the report.

    Attributes:
        direction: clean to corrupted run
        mode: noising puts the corrupted run's states into the clean run
        sites: such as blocks.*.hook_attn_out
        spans: where in the prompt
        slot: how a slot is put into another
        heads: each head of attn.hook_z on its own
        window: layers that are patched at once
        cumulative: each layer with all below it
        questions: which names are asked for
        kinds: states to compare with; without a value, none
        placebo_run: a run of a random-init language model, patched in the same way
        pairs: of leaves; by default 200, or as many as the leaves make
        screen: patch only this many cells, those of the largest attribution (without a value: 30)
        sampled: cells on which attributions are compared with patches
        integrated: steps of integrated gradients; 0 for the plain gradient
        natural: also how far patched states lie from natural ones of their site
        dtype: of the language model; that of the run, or float32
        name: of table and figures (default: direction and mode)
        chunk: pairs that are one part on disk
    """

    direction: str = option("text-to-image", choices=tuple(DIRECTIONS), role=TABLE)
    mode: str = option("denoising", choices=MODES, role=TABLE)
    sites: tuple[str, ...] = option(SITES)
    spans: tuple[str, ...] = option(SPANS, flag="--span", choices=SPANS, role=EXTENT)
    slot: str = option("mean", choices=tuple(ALIGNMENTS))
    heads: bool = option(False)
    window: int = option(1)
    cumulative: bool = option(False)
    questions: tuple[str, ...] = option(QUESTIONS, flag="--question", choices=QUESTIONS, role=EXTENT)
    kinds: tuple[str, ...] = option(PLACEBOS, flag="--placebo", choices=PLACEBOS, empty=True, role=EXTENT)
    placebo_run: Path | None = option(None, metavar="DIR", role=PARTNER)
    pairs: int | None = option(None, role=EXTENT)
    screen: int = option(0, const=30, metavar="CELLS")
    sampled: int = option(30, role=EXTENT)
    integrated: int = option(0)
    natural: bool = option(False, role=EXTENT)
    dtype: str = option("float32", choices=("run", "float32"))
    name: str = option("", role=NAME)
    chunk: int = 25

    def __post_init__(self) -> None:
        # The clean state is always patched, and first; the command line names placebos only.
        object.__setattr__(self, "kinds", ("clean", *(kind for kind in self.kinds if kind != "clean")))

    @property
    def modalities(self) -> tuple[str, str]:
        """Modality of the run that states come from, and of the run that is patched."""
        clean, corrupted = DIRECTIONS[self.direction]
        return (clean, corrupted) if self.mode == "denoising" else (corrupted, clean)

    @property
    def table(self) -> str:
        """Name of the table, with which figures begin."""
        return self.name or f"{self.direction}-{self.mode}"

    def of_part(self, question: str) -> dict[str, Any]:
        """The settings that a part's numbers depend on; they stand in the name of its file."""
        settings = asdict(replace(self, questions=(question,)))
        return {name: value for name, value in settings.items() if name not in _IDLE}
