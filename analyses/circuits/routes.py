"""Routes: path patching from slot over cue to the last token, between windows of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analyses.circuits.halves import Half
from analyses.inputs.subject import Question
from probing.patching.circuits import HeadOrMLP, Paths, parts_of
from probing.patching.circuits.parts import States

PATHS = (("slot", "cue"), ("slot", "last"), ("cue", "last"))
EMBEDDING, ANSWER = "embedding", "answer"


@dataclass(frozen=True)
class Route:
    """A path from senders in some layers at one span to receivers in some layers at another.

    Attributes:
        sender: span of the senders.
        receiver: span of the receivers; `ANSWER` for the last norm.
        of: layers of the senders, such as "5-9", or `EMBEDDING`.
        to: layers of the receivers, or `ANSWER`.
    """

    sender: str
    receiver: str
    of: str
    to: str

    @property
    def path(self) -> str:
        """The two spans."""
        return f"{self.sender} → {self.receiver}"


def windows(depth: int, width: int) -> list[str]:
    """Windows of `width` layers that follow each other."""
    return [f"{first}-{min(first + width, depth) - 1}" for first in range(0, depth, width)]


def routes_of(half: Half, width: int) -> list[Route]:
    """Every path between windows of layers that a change can take, and from the last token straight to the answer."""
    every = windows(parts_of(half.model)[-1].layer + 1, width)
    has_cue = bool(half.groups[0].clean.rows.spans["cue"])
    spans = [path for path in PATHS if has_cue or "cue" not in path]
    between = [
        Route(*path, of, to)
        for path in spans
        for of in ([EMBEDDING] if path[0] == "slot" else []) + every
        for to in every
        if of == EMBEDDING or _first(of) <= _first(to)
    ]
    return between + [Route("last", ANSWER, of, ANSWER) for of in every]


def lost(
    half: Half, source: Half, how: str, routes: list[Route], seed: int
) -> Float[np.ndarray, "routes leaves"]:
    """By how much a change that takes a route alone lowers the log-odds of each leaf's right names, in nats."""
    ablations = half.ablations(source, how, seed)

    def answers_of(at: int, group: Question) -> Tensor:
        by_route = _answers(group, ablations[at].reference, routes)
        return torch.stack([group.read(group.clean.hidden[:, -1]), *(by_route[route] for route in routes)])

    levels = half.margins(answers_of)
    return levels[0] - levels[1:]


def _answers(group: Question, reference: States, routes: list[Route]) -> dict[Route, Tensor]:
    """The answers where the change of the senders of each route reaches its receivers alone."""
    parts, found = parts_of(group.restart.model), {}

    @cache
    def paths_between(sender: str, receiver: str) -> Paths:
        return Paths(group.restart, reference, sender, receiver)

    for start in dict.fromkeys((route.sender, route.receiver, route.of) for route in routes):
        same = [route for route in routes if (route.sender, route.receiver, route.of) == start]
        sender, receiver, of = start
        embedded, senders = of == EMBEDDING, _members(parts, of)
        if receiver == ANSWER:
            found[same[0]] = paths_between(sender, sender).direct(senders, group.read)
            continue
        receivers = np.array([_members(parts, route.to) for route in same])
        answers = paths_between(sender, receiver).through(senders, receivers, group.read, embedded=embedded)
        found |= dict(zip(same, answers))
    return found


def _members(parts: Sequence[HeadOrMLP], layers: str) -> Bool[np.ndarray, " parts"]:
    if layers == EMBEDDING:
        return np.zeros(len(parts), bool)
    first, last = map(int, layers.split("-"))
    return np.array([first <= part.layer <= last for part in parts])


def _first(layers: str) -> int:
    return int(layers.split("-")[0])
