"""Machines to plan for: how many, of which cards, and how they die."""

from __future__ import annotations

import re
from dataclasses import dataclass

from taxogen.models.threads import cores
from taxogen.stages import cards
from taxogen.stages.cards import Card

SPELLING = re.compile(r"(?:(\d+)x)?(?:(\d+)x)?([a-z][a-z0-9]*)")
SAVED = 80e6
"""Bytes of a checkpoint that are saved in a second: 46 MB took .4 to .8 s beside other work (docs/clusters.md)."""

LOADED = 0.4e9
"""Bytes of weights that are loaded in a second, as SmolLM2's 270 MB took .7 s (docs/runs.md)."""


@dataclass(frozen=True)
class Machines:
    """Machines that are alike.

    Attributes:
        count: how many.
        each: cards (or cores) in one.
        card: which.
        between: mean seconds from one death of a machine to its next (exponential).
        repair: seconds until another is there in its place.
        start: seconds that a task takes before its work begins or goes on; None: what loading weights takes.
        price: of a card-hour; None: not known.
    """

    count: int
    each: int
    card: Card
    between: float
    repair: float
    start: float | None
    price: float | None

    def __str__(self) -> str:
        return f"{self.count} × {self.each} {self.card.name}"

    @property
    def unit(self) -> str:
        """What a task takes one of."""
        return "core" if self.card.name == "cpu" else "card"

    def memory(self, gpus: float) -> float:
        """Bytes for each task: a share of its card, or of what all cores share."""
        return self.card.memory / self.slots(gpus) if self.unit == "core" else self.card.memory * min(1, gpus)

    def slots(self, gpus: float) -> int:
        """Tasks that a machine does at once where each takes so many cards, or such a share of one.

        Raises:
            ValueError: a task takes more than a machine has.
        """
        slots = int(self.each / gpus + 1e-6)
        if not slots:
            raise ValueError(
                f"a task takes {gpus:g} cards ([resources] of the plan); a machine has {self.each}"
            )
        return slots


def parse(text: str) -> tuple[int, int, Card]:
    """How many machines, of how many cards, and which: `8xh100` is one machine, `4x8xh100` are four.

    Of `cpu`, this machine, the cards are cores: all that it has, unless their number is given.

    Raises:
        ValueError: it is spelled otherwise, or a number is 0.
        KeyError: the card is not known.
    """
    found = SPELLING.fullmatch(text.strip().lower())
    numbers = [int(one) for one in found.groups()[:2] if one] if found else []
    if found is None or 0 in numbers:
        raise ValueError(
            f"--machines {text!r}: write 8xh100 for a machine of eight cards, 4x8xh100 for four such machines"
        )
    card = cards.card(found[3])
    each = numbers.pop() if numbers else cores() if card.name == "cpu" else 1
    return (numbers or [1])[0], each, card
