"""Pilot runs as contrasts with variance components: of answers, or of layer probes at one site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.frame import registry
from analyses.frame.tables import layer_of
from analyses.inputs.conditions import (
    Condition,
    conditions,
    contrasted,
    described,
    grouped_by_condition,
)
from analyses.inputs.intervals import Aligned
from analyses.inputs.measures import MEASURES, Frame, measured
from analyses.inputs.probe_curves import ENCODER_LAYER, FILE, Draws, error_factor, read_draws
from analyses.inputs.probe_curves import Condition as Curve
from analyses.power.components import Components, components
from probing.stats import DRAWS, ClusterStatistic, Estimate, over_runs
from probing.stats.hierarchical import hierarchical_contrast, leaf_weights
from probing.store import MismatchError
from taxogen.runs.run import Run
from taxogen.stages.sweeping.plan_file import known

PROBES = "layer_probes"
"""The measure whose pilots are the stored draws of layer probes; all others are measures of answers."""
ALIKE = "a condition that is alike and shares nothing"


_Group = TypeVar("_Group", Condition, "_ProbedCondition")


@dataclass(frozen=True)
class Pilot:
    """A contrast of pilot runs.

    Attributes:
        name: of the contrast.
        estimate: as the tool prints it; NaN of a single condition.
        components: its variances.
    """

    name: str
    estimate: Estimate
    components: Components


def pilots(
    runs: Sequence[Run], measure: str, place: tuple[str, str, int | None] = ("", "", None), seed: int = 0
) -> list[Pilot]:
    """The contrasts of some runs; of runs of one condition, that with a condition which is alike and shares nothing.

    Args:
        runs: evaluated, and for layer probes probed.
        measure: of answers (`analyses.inputs.measures.MEASURES`) or `PROBES`.
        place: modality, span and layer of layer probes; empty for the first there is, and the layer that varies most.
        seed: of bootstrap draws.

    Raises:
        KeyError: an unknown measure or place; the nearest is named.
        FileNotFoundError: a run was not evaluated, or not probed; the command is named.
        MismatchError: no two conditions differ in one thing.
    """
    known(f"measure {measure!r} was asked for", measure, (*MEASURES, PROBES))
    if measure == PROBES:
        return _of_probes(runs, place)
    of = conditions(runs)
    frame = Frame.of(of)
    if len(of) == 1:
        first = _statistics(of[0], measure, frame)
        values, drawn = _values(first, None, seed)
        alone = components(values, drawn, first[0].clusters.size)
        return [Pilot(f"{of[0].name} against {ALIKE}", _undefined(first[0].clusters.size), alone.doubled())]
    contrasts = []
    for one, other in _pairs(of):
        first, second = (_statistics(side, measure, frame) for side in (one, other))
        over = ("leaf", "hypernym", "seed") if len(first[0].value) > 1 else ("leaf", "seed")
        estimate = hierarchical_contrast(first, second, over=over, seed=seed)
        values, drawn = _values(first, second, seed)
        of_pair = components(values, drawn, first[0].clusters.size)
        contrasts.append(Pilot(f"{one.name} − {other.name}", estimate, of_pair))
    return contrasts


def _pairs(of: Sequence[_Group]) -> list[tuple[_Group, _Group]]:
    pairs = contrasted(of)
    if not pairs:
        names = ", ".join(f"{one.name} (seeds {', '.join(map(str, one.seeds))})" for one in of)
        raise MismatchError(
            f"the pilot runs are of {names}: no two differ in one thing and share a seed; give such runs"
        )
    return pairs


def _statistics(condition: Condition, measure: str, frame: Frame) -> list[Aligned]:
    scores = measured(condition, condition.headline, measure, frame)
    if scores is None:
        raise FileNotFoundError(
            f"{condition.name} has no {measure}: the runs were evaluated without baselines; "
            "`taxoprobe evaluate --run R` writes them"
        )
    return scores.statistics


def _values(
    first: Sequence[Aligned | ClusterStatistic],
    second: Sequence[Aligned | ClusterStatistic] | None,
    seed: int,
) -> tuple[Float[np.ndarray, "seeds k"], Float[np.ndarray, "draws seeds k"]]:
    """The difference of each seed and hypernym, and the same under resampled leaves."""
    weights = leaf_weights(first[0].clusters.size, DRAWS, seed)
    sides = [
        (np.stack([one.value for one in side]), np.stack([one.at(weights) for one in side], axis=1))
        for side in (first, second)
        if side is not None
    ]
    if second is None:
        return sides[0]
    return sides[0][0] - sides[1][0], sides[0][1] - sides[1][1]


def _undefined(n: int) -> Estimate:
    return Estimate(float("nan"), float("nan"), float("nan"), n)


@dataclass(frozen=True, eq=False)
class _ProbedCondition:
    """A condition of probed runs: its name, its description (`described`), and the stored draws of each seed."""

    name: str
    about: Mapping[str, Any]
    of_seed: Mapping[int, Draws]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs."""
        return tuple(self.of_seed)

    def of_seeds(self, seeds: Sequence[int]) -> _ProbedCondition:
        """The same with the runs of these seeds only, in this order."""
        return replace(self, of_seed={seed: self.of_seed[seed] for seed in seeds})


def _of_probes(runs: Sequence[Run], place: tuple[str, str, int | None]) -> list[Pilot]:
    """Contrasts of conditions, seed by seed, in mean AUROC over all hypernyms at one site, at the last step."""
    of = [
        _ProbedCondition(name, described(members[0], runs), {run.config.seed: _draws(run) for run in members})
        for name, members in grouped_by_condition(runs).items()
    ]
    if len(of) == 1:
        return [_probed(f"{of[0].name} against {ALIKE}", list(of[0].of_seed.values()), None, place)]
    return [
        _probed(f"{one.name} − {other.name}", list(one.of_seed.values()), list(other.of_seed.values()), place)
        for one, other in _pairs(of)
    ]


def _draws(run: Run) -> Draws:
    path = registry.load(PROBES).table_path(run).with_name(FILE)
    if not path.is_file():
        raise FileNotFoundError(
            f"{run.path} was not probed; `taxoprobe analyse layer-probes --run {run.path}` does"
        )
    return read_draws(path)


def _probed(
    name: str, first: Sequence[Draws], second: Sequence[Draws] | None, place: tuple[str, str, int | None]
) -> Pilot:
    every = [*first, *(second or ())]
    if any(other.leaves != every[0].leaves for other in every):
        raise MismatchError("runs with different leaves cannot be paired; probe runs that share their leaves")
    curve, sites = _curve(every, place)
    values, drawn = (
        np.stack([of(run.curves[curve][1]) for run in first], axis=axis)
        - (0 if second is None else np.stack([of(run.curves[curve][1]) for run in second], axis=axis))
        for of, axis in ((lambda one: one.auroc, 0), (lambda one: one.auroc_draws, 1))
    )
    n, factor = len(every[0].leaves), error_factor(curve)
    each = [components(values[:, [k]], drawn[:, :, [k]], n, factor) for k in range(len(sites))]
    at = _site(sites, each, place[2])
    where = f"{name}, probes {curve.modality} at {curve.span}, {sites[at]}"
    if second is None:
        return Pilot(where, _undefined(n), each[at].doubled())
    lower, upper = over_runs(values[:, at], drawn[:, :, at].mean(axis=1), n, factor)
    return Pilot(where, Estimate(float(values[:, at].mean()), float(lower), float(upper), n), each[at])


def _curve(every: Sequence[Draws], place: tuple[str, str, int | None]) -> tuple[Curve, Sequence[str]]:
    """The curve of a modality and span at the last step."""
    shared = [curve for curve in every[0].curves if all(curve in run.curves for run in every)]
    for name, wanted in zip(("modality", "span"), place):
        values = list(dict.fromkeys(getattr(curve, name) for curve in shared))
        wanted = str(wanted) or next((one for one in ("text→image", "cue") if one in values), values[0])
        known(f"{name} {wanted!r} was asked for", wanted, values)
        shared = [curve for curve in shared if getattr(curve, name) == wanted]
    curve = max(shared, key=lambda one: (one.step, -len(one.probe)))
    return curve, every[0].curves[curve][0]


def _site(sites: Sequence[str], each: Sequence[Components], layer: int | None) -> int:
    """The place of a layer; of none the one where the mean over leaves and seeds varies most."""
    if layer is not None:
        layers = pd.Series([layer_of(site, encoder=ENCODER_LAYER) for site in sites])
        known(f"layer {layer} was asked for", str(layer), [f"{one:g}" for one in layers])
        return int((layers == layer).to_numpy().argmax())
    return int(np.argmax([one.pilot_variance for one in each]))
