"""Tables of circuits: curves and areas beside random sets, what two sets share, stability, and paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from analyses.circuits.routes import Route
from analyses.circuits.search import RANDOM, Sets
from analyses.frame.tables import row
from probing.edits.placebos import over_clusters, over_draws, rank_p
from probing.patching import excess, rank_agreement
from probing.patching.circuits import area, distance_area, shares
from probing.stats import Estimate

Row = dict[str, Any]
EXTRA = ("order", "size", "path", "sender", "receiver", "note")
FOUND = ("attribution", "greedy", "other modality")
_MEMBER = "others and a member"
AREAS = {
    "faithfulness": "faithfulness_area",
    "distance": "distance_area",
    "completeness": "completeness_area",
}


@dataclass(frozen=True)
class SetTest:
    """The log-odds of every leaf with every set ablated, both halves together.

    Attributes:
        sets: by label, the same in both halves (their parts differ: each half is tested by the set of the other).
        levels: in nats.
        sizes: of sets.
        parts: how many there are.
        weights: bootstrap draws of the leaves.
        labels: of every row of the table.
    """

    sets: Sets
    levels: Float[np.ndarray, "sets leaves"]
    sizes: Sequence[int]
    parts: int
    weights: Float[np.ndarray, "draws leaves"]
    labels: Mapping[str, Any]

    def rows(self) -> list[Row]:
        """The effect, all curves, areas, and areas beyond random sets; NaN where the effect may be 0 or less."""
        records = [self._row("effect", self._effect)]
        note = "" if self._defined else "the effect of all parts may be 0 or less"
        curves = {order: self._curves(order) for order in (*FOUND, *RANDOM)}
        for order, of_order in curves.items():
            for side in ("faithfulness", "completeness"):
                for at, size in enumerate(self.sizes):
                    number = self._number(of_order[side][..., at])
                    records.append(self._row(side, number, order=order, size=size, note=note))
            for side, measure in AREAS.items():
                records.append(self._row(measure, self._number(self._areas(of_order, side)), order=order))
        for order in FOUND:
            for random in RANDOM:
                records += self._beyond(curves[order], curves[random], order, random)
        return records + self._minimality()

    def _curves(self, order: str) -> dict[str, Float[np.ndarray, "sets weights sizes"]]:
        """Faithfulness and completeness of each draw of an order: of all leaves, then of each bootstrap draw."""
        draws = sorted(
            {draw for name, draw, _, what in self.sets.labels if name == order and what != _MEMBER}
        )
        left = {
            what: np.stack([self._shares(self._levels(order, draw, what)) for draw in draws])
            for what in ("others", "set")
        }
        return {"faithfulness": left["others"], "completeness": 1 - left["set"]}

    def _areas(self, curves: Mapping[str, np.ndarray], side: str) -> Float[np.ndarray, "sets weights"]:
        of = curves["faithfulness" if side == "distance" else side]
        return (distance_area if side == "distance" else area)(of, self.sizes, self.parts)

    def _beyond(
        self, curves: Mapping[str, np.ndarray], random: Mapping[str, np.ndarray], order: str, name: str
    ) -> list[Row]:
        """The area of an order beyond that of random orders, and its rank among them."""
        records = []
        for side in ("faithfulness", "completeness"):
            own, drawn = self._areas(curves, side), self._areas(random, side)
            difference, n = own - drawn, self.levels.shape[1]
            number, p = Estimate(float("nan"), float("nan"), float("nan"), n), float("nan")
            if self._defined:
                number = over_draws(difference[:, 0], difference[:, 1:].mean(0), n, n)
                (p,) = rank_p(np.concatenate([own[:, 0], drawn[:, 0]])[None, :, None], corrected=False)
            label = f"{order} − {name}"
            records.append(self._row(f"{AREAS[side]}_excess", number, order=label))
            records.append(self._row(f"{AREAS[side]}_p", float(p), order=label))
        return records

    def _minimality(self) -> list[Row]:
        """The mean share of the effect that is lost when one member leaves the set by attribution."""
        records = []
        whole = self._curves("attribution")["faithfulness"][0]
        for at, size in enumerate(self.sizes):
            places = [
                place
                for place, label in enumerate(self.sets.labels)
                if label[2] == size and label[3] == _MEMBER
            ]
            without = np.stack([self._shares(self.levels[[place]])[:, 0] for place in places])
            lost = whole[:, at] - without
            note = f"mean of {len(places)} members"
            number = self._number(lost.mean(0)[None])
            records.append(self._row("minimality", number, order="attribution", size=size, note=note))
        return records

    def _levels(self, order: str, draw: int, what: str) -> Float[np.ndarray, "sizes leaves"]:
        places = [
            at
            for at, (name, one, _, side) in enumerate(self.sets.labels)
            if (name, one, side) == (order, draw, what)
        ]
        return self.levels[places]

    def _shares(self, levels: Float[np.ndarray, "sizes leaves"]) -> Float[np.ndarray, "weights sizes"]:
        none, whole = (self._levels(end, 0, "set")[0] for end in ("none", "whole"))
        weights = np.vstack([np.ones((1, levels.shape[1])), self.weights])
        return shares(levels, none, whole, weights)

    @cached_property
    def _effect(self) -> Estimate:
        """How far the log-odds fall with all parts ablated."""
        fall = self._levels("whole", 0, "set")[0] - self._levels("none", 0, "set")[0]
        return over_clusters(fall.mean(), self.weights @ fall / len(fall), len(fall), len(fall))

    @property
    def _defined(self) -> bool:
        return self._effect.lower > 0

    def _number(self, values: Float[np.ndarray, "sets weights"]) -> Estimate:
        """The mean over draws of sets, with limits over leaves, and over draws where there are several."""
        n = self.levels.shape[1]
        if not self._defined:
            return Estimate(float("nan"), float("nan"), float("nan"), n)
        if len(values) == 1:
            return over_clusters(values[0, 0], values[0, 1:], n, n)
        return over_draws(values[:, 0], values[:, 1:].mean(0), n, n)

    def _row(self, measure: str, number: Estimate | float, **labels: Any) -> Row:
        return row(measure, number, self.levels.shape[1], **{**self.labels, "site": "all", **labels})


def part_rows(
    contributions: Float[np.ndarray, "parts leaves"],
    names: Sequence[str],
    weights: Float[np.ndarray, "draws leaves"],
    labels: Mapping[str, Any],
) -> list[Row]:
    """The contribution of every part, each on the half of the leaves that sets are found on; in nats."""
    n, drawn = contributions.shape[1], contributions @ weights.T / contributions.shape[1]
    return [
        row("contribution", over_clusters(own.mean(), of_draws, n, n), **labels, site=name)
        for name, own, of_draws in zip(names, contributions, drawn)
    ]


def agreement_row(
    contributions: Float[np.ndarray, "sample leaves"],
    losses: Float[np.ndarray, "sample leaves"],
    draws: int,
    seed: int,
    labels: Mapping[str, Any],
) -> Row:
    """How contributions rank a random sample of parts beside the true loss by the ablation of each alone."""
    if len(losses) < 3:
        number = Estimate(float("nan"), float("nan"), float("nan"), len(losses))
    else:
        number = rank_agreement(contributions, losses, draws, seed)
    return row(
        "rank_agreement", number, **labels, site="all", note=f"over {len(losses)} parts drawn at random"
    )


def path_rows(
    losses: Float[np.ndarray, "routes leaves"],
    routes: Sequence[Route],
    leaves: np.ndarray,
    draws: int,
    seed: int,
    labels: Mapping[str, Any],
) -> list[Row]:
    """The loss by each route with its interval; `counts` where it is above 0 by one band over all routes."""
    over, records = excess(losses, 0.0, leaves, draws, seed), []
    for at, route in enumerate(routes):
        place = {**labels, "site": "all", "span": route.receiver, "path": route.path}
        place |= {"sender": route.of, "receiver": route.to}
        number = Estimate(over.value[at], over.lower[at], over.upper[at], over.clusters)
        records.append(row("loss", number, **place))
        records.append(row("loss_band", float(over.band[at]), over.clusters, **place))
        records.append(row("counts", float(over.beats[at]), over.clusters, **place))
    return records
