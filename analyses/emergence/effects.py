"""Curves along the layers from the effects that causal analyses and lenses stored in the runs of a condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from scipy import stats as distributions

from analyses.emergence.curves import Curve
from analyses.frame.analysis import Analysis
from analyses.frame.tables import CAUSES, NO_STEP, Evidence, layer_of
from analyses.inputs.effects import LEAF, PAIR, Effects, effects_file, read_effects
from probing.stats import (
    ClusterMean,
    DyadMean,
    curve_over_runs,
    divide,
    draw_weights,
    nan_mean,
    studentised_band,
    studentised_interval,
)
from probing.store import MismatchError
from taxogen.runs.run import Run

LEVEL = 0.95
SLOT, LAST = "slot", "last"
CROSSING = "crossing"
"""What evidence is about that compares two places in the prompt."""


class LeafDraws:
    """How often each leaf counts in each bootstrap draw, the same for every kind of evidence.

    The first leaves are those of the probes, drawn as the probes' own draws were; others are drawn beside them.
    """

    def __init__(self, leaves: Sequence[str], draws: int, seed: int):
        self.draws, self.seed = draws, seed
        self._of: dict[str, np.ndarray] = {}
        if leaves:
            self._of |= zip(leaves, draw_weights(len(leaves), draws, seed).T)

    def of(self, units: pd.DataFrame) -> Float[np.ndarray, "draws units"]:
        """How often each unit counts: a pair as often as the product of its two leaves."""
        sides = [units[name] for name in (PAIR[:2] if "clean" in units else LEAF[:1])]
        if others := sorted(set().union(*map(set, sides)) - set(self._of)):
            self._of |= zip(others, draw_weights(len(others), self.draws, self.seed + 1).T)
        return np.prod([np.column_stack([self._of[leaf] for leaf in side]) for side in sides], axis=0)


def effect_curves(
    evidence: Evidence, analysis: Analysis, runs: Sequence[Run], weights: LeafDraws
) -> list[Curve]:
    """A curve for each place in the prompt, and one for each placebo there.

    Something holds at a layer where the lower limits of the effect and of its excess over every placebo are above 0,
    by a band over the layers of each.

    Raises:
        FileNotFoundError: a run has no effects; the command that makes them is named.
        DamagedError, MismatchError: they are not as they were written or do not fit the run; runs share none.
        KeyError: they have no such cells.
    """
    beside = analysis.table_name_of(analysis.options())
    paths = [analysis.table_path(run).with_name(effects_file(analysis.name, beside)) for run in runs]
    effects = [_meant(read_effects(path, run), evidence) for path, run in zip(paths, runs)]
    cells, units = (reduce(pd.merge, [getattr(one, name) for one in effects]) for name in ("cells", "units"))
    if cells.empty or units.empty:
        raise MismatchError(
            f"{', '.join(run.name for run in runs)} share no cells or units of {analysis.name}; ask all of them alike"
        )
    values = np.stack([_at(one, cells, units) for one in effects]) * evidence.sign
    states = _States(values, cells, units, weights.of(units), weights.seed)
    fixed = {"kind": evidence.kind, "about": evidence.about, "analysis": analysis.name}
    places = list(map(str, dict.fromkeys(cells["span"])))
    curves = [curve for place in places for curve in states.curves(place, _along_path(place, fixed))]
    crosses = evidence.about == CAUSES and {SLOT, LAST} <= set(places)
    return [*curves, *states.crossing(SLOT, LAST, fixed)] if crosses else curves


def _along_path(place: str, labels: Mapping[str, str]) -> dict[str, str]:
    """The kind and place of evidence; a path of attention is part of the kind, and where it ends is the place."""
    _, arrow, end = place.partition(" → ")
    if not arrow:
        return {**labels, "place": place}
    return {**labels, "kind": f"{labels['kind']}, {place}", "place": end.split(", ")[-1]}


def _meant(effects: Effects, evidence: Evidence) -> Effects:
    """The cells that are meant, by place, state and block, in the residual stream if any are; a block's are added."""
    cells = effects.cells
    mine = np.ones(len(cells), bool)
    for column, value in evidence.rows.items():
        mine &= (cells[column] == value).to_numpy() if column in cells else value == ""
    stream = cells["site"].str.endswith(("hook_resid_post", "hook_embed")).to_numpy()
    mine &= stream if (mine & stream).any() else True
    if evidence.most and mine.any():
        mine &= (cells[evidence.most] == cells.loc[mine, evidence.most].max()).to_numpy()
    if not mine.any():
        wanted = ", ".join(f"{column} {value!r}" for column, value in evidence.rows.items())
        raise KeyError(f"no stored effect has {wanted}")
    first, last = _ends_of_windows(cells[mine])
    whole = (first == first.min()) & (last == last.max()) & (first < last)
    kept = ~whole if not whole.all() else whole  # a window of all blocks is no place among them
    chosen, values = cells[mine][kept], effects.values[mine][kept]
    keys = [chosen["span"], chosen["state"].replace("clean", ""), first[kept], last[kept]]
    places = chosen.groupby(keys, sort=False).indices
    rows = pd.DataFrame(list(places), columns=["span", "state", "first", "last"])
    rows["at"] = rows[["first", "last"]].mean(axis=1)
    return Effects(rows, effects.units, np.stack([values[at].sum(axis=0) for at in places.values()]))


def _ends_of_windows(cells: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The first and last block of each cell."""
    if "layers" not in cells:
        at = np.array([layer_of(site) for site in cells["site"]])
        return at, at
    numbers = cells["layers"].astype(str).str.extract(r"^(-?\d+)(?:-(\d+))?$").astype(float)
    return numbers[0].to_numpy(), numbers[1].fillna(numbers[0]).to_numpy()


def _at(effects: Effects, cells: pd.DataFrame, units: pd.DataFrame) -> Float[np.ndarray, "cells units"]:
    """The values of some cells and units."""
    rows, columns = (
        wanted.merge(own.assign(position=np.arange(len(own))), how="left")["position"].to_numpy(int)
        for own, wanted in ((effects.cells, cells), (effects.units, units))
    )
    return effects.values[np.ix_(rows, columns)].astype(float)


@dataclass(frozen=True, eq=False)
class _States:
    """The effects of the runs of a condition: values of cells (place, state, layer) and units, and weights of units."""

    values: Float[np.ndarray, "runs cells units"]
    cells: pd.DataFrame
    units: pd.DataFrame
    weights: Float[np.ndarray, "draws units"]
    seed: int

    def curves(self, place: str, labels: Mapping[str, str]) -> Iterator[Curve]:
        """The effect along the layers of a place, and the effect of each placebo."""
        own = self.cells[self.cells["span"] == place]
        at = {str(state): rows.sort_values("at") for state, rows in own.groupby("state", sort=False)}
        layers = at[""]["at"].to_numpy(float)
        of_state = {state: self.values[:, rows.index] for state, rows in at.items()}
        windows = at[""][["first", "last"]].to_numpy(float)
        fixed = {**labels, "step": NO_STEP, "layers": layers, "seeds": len(self.values)}
        fixed |= {"windows": windows if (windows[:, 0] < windows[:, 1]).any() else None}
        yield self._curve(list(of_state.values()), **fixed)
        for state in list(of_state)[1:]:
            yield self._curve([of_state[""] - of_state[state]], control=state, **fixed)

    def crossing(self, first: str, second: str, labels: Mapping[str, str]) -> Iterator[Curve]:
        """By how much more the second place has than the first, along the layers of both."""
        own = self.cells[(self.cells["state"] == "")].assign(position=lambda cells: cells.index)
        both = own[own["span"] == first].merge(own[own["span"] == second], on="at").sort_values("at")
        if len(both):
            apart = self.values[:, both["position_y"]] - self.values[:, both["position_x"]]
            fixed = {**labels, "kind": f"{labels['kind']}: {second} over {first}", "about": CROSSING}
            at = {"place": second, "step": NO_STEP, "layers": both["at"].to_numpy(float)}
            yield self._curve([apart], **{**fixed, **at, "seeds": len(self.values)})

    def _curve(self, states: Sequence[Float[np.ndarray, "runs layers units"]], **labels: Any) -> Curve:
        """The first of some states, which holds where all of them are above 0."""
        value, _, lower, upper = self._limits(states[0])
        holds, held, draws = np.ones(len(value), bool), np.array(True), np.empty(0)
        for number, state in enumerate(states):
            level, width, _, _ = self._limits(state)
            drawn = self._draws(state)
            draws = drawn if number == 0 else draws
            holds, held = holds & (level > width), held & (drawn > width)
        n = int((~np.isnan(states[0]).any(axis=(0, 1))).sum())
        return Curve(
            value=value, lower=lower, upper=upper, holds=holds, held=held, draws=draws, n=n, **labels
        )

    def _limits(self, state: Float[np.ndarray, "runs layers units"]) -> tuple[np.ndarray, ...]:
        """Value, half-width of the lower band over layers, and limits of each layer; over hypernyms and runs."""
        ends = _ends(self.units)
        mean = (ClusterMean if ends.ndim == 1 else DyadMean)(state.mean(axis=0).T, ends)
        clusters, runs = len(mean.clusters), len(state)
        weights = draw_weights(clusters, len(self.weights), self.seed)
        numbers = mean.value, mean.error, mean.at(weights), mean.errors(weights)
        width = mean.value - studentised_band(*numbers, clusters, LEVEL)
        limits = np.abs(np.stack(studentised_interval(*numbers, clusters, LEVEL)) - mean.value)
        if runs > 1:
            between = nan_mean(state).var(axis=0, ddof=1) / runs
            t = [distributions.t.ppf(level, runs - 1) for level in (LEVEL, (1 + LEVEL) / 2)]
            at_once = max(t[0], distributions.norm.ppf(1 - (1 - LEVEL) / len(between)))
            width = np.sqrt(width**2 + at_once**2 * np.maximum(between, between.mean()))
            limits = np.sqrt(limits**2 + t[1] ** 2 * between)
        return mean.value, width, mean.value - limits[0], mean.value + limits[1]

    def _draws(self, state: Float[np.ndarray, "runs layers units"]) -> Float[np.ndarray, "draws layers"]:
        """Means under the weights of leaves, which vary as runs do where there are several."""
        mean = state.mean(axis=0).T
        defined = ~np.isnan(mean)
        drawn = divide(self.weights @ np.where(defined, mean, 0), self.weights @ defined.astype(float))
        return drawn if len(state) == 1 else curve_over_runs(nan_mean(state), drawn, len(mean))[0]


def _ends(units: pd.DataFrame) -> Shaped[np.ndarray, "units *two"]:
    """The clusters of each unit, as pooling has them: hypernyms; also leaves, where one stands under several."""
    if "clean" in units:
        return units[["up", "down"]].to_numpy(str)
    if not units["leaf"].duplicated().any():
        return units["hypernym"].to_numpy(str)
    return np.column_stack(["leaf " + units["leaf"], "hypernym " + units["hypernym"]]).astype(str)
