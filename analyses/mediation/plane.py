"""The naming × taxonomy plane: hypernym AUROC against naming through training, one curve a condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analyses.inputs.answers import Answers, Part
from analyses.inputs.conditions import Condition
from analyses.inputs.measures import Frame
from analyses.mediation.intervals import Intervals
from analyses.mediation.naming import HYPERNYM, Naming, scored_parts
from analyses.mediation.sides import Side
from probing.stats.mediation import CurveGap, Point
from taxogen.runs.run import Run

LEVELS = 4
"""Naming levels that two curves are compared at, the highest that both reach the last."""
Snapshots = Mapping[tuple[str, int], Mapping[int, pd.DataFrame]]
"""By condition and seed: step → what `scored_parts` scored."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A run's way through training: a side after each step of which the projector was saved."""

    sides: Mapping[int, Side]

    @classmethod
    def of(cls, answers: Answers, parts: Mapping[int, pd.DataFrame], part: Part, frame: Frame) -> Curve:
        """The curve of a run from its scored snapshots."""
        return cls({step: _side(answers, table, part, frame) for step, table in parts.items()})

    @property
    def points(self) -> dict[int, Point]:
        """After each step the share of pictures whose likeliest name is right, and the AUROC of each hypernym."""
        return {
            step: (side.over_leaves(side.naming.best == side.leaves), side.auroc(side.values))
            for step, side in self.sides.items()
        }


def _side(answers: Answers, table: pd.DataFrame, part: Part, frame: Frame) -> Side:
    """The answers of a snapshot, as those of the run's last step."""
    scores = answers.scores
    place = {picture: row for row, picture in enumerate(scores.image["picture"])}
    rows = [place[picture] for picture in table["picture"]]
    read = table[[HYPERNYM + name for name in scores.hypernyms]].to_numpy(np.float64)
    few = replace(
        scores,
        image=scores.image.iloc[rows].reset_index(drop=True),
        image_scores=read,
        leaf_correct=scores.leaf_correct[rows],
        counted=None if scores.counted is None else scores.counted[rows],
    )
    return Side.of(replace(answers, scores=few), Naming.of_part(table), part, frame)


def check_snapshots(runs: Sequence[Run]) -> None:
    """Refuses runs of which no course of training was saved.

    Raises:
        FileNotFoundError: a run has one projector only.
    """
    for run in runs:
        if len(run.snapshots) < 2:
            raise FileNotFoundError(
                f"{run.path} has projectors of {len(run.snapshots)} steps ({', '.join(map(str, run.snapshots))}), and "
                "--snapshots draws a curve through training; train with --set train.snapshots=0,50,last, or leave "
                "--snapshots out"
            )


def score_snapshots(runs: Mapping[tuple[str, int], Run], pictures: int) -> Snapshots:
    """Every saved step of every run scored on a few pictures of each leaf; parts that are there are read."""
    return {key: scored_parts(run, run.snapshots, pictures) for key, run in runs.items()}


def plane_rows(
    conditions: Sequence[Condition],
    pairs: Sequence[tuple[Condition, Condition]],
    snapshots: Snapshots,
    frame: Frame,
    intervals: Intervals,
) -> Iterator[dict[str, Any]]:
    """Naming and AUROC of each condition at each step, and the gap of two conditions at equal naming."""
    for condition in conditions:
        curves = _curves(condition, condition.headline, snapshots, frame)
        steps = sorted(set.intersection(*(set(one) for one in curves)))
        for step in steps:
            for at, measure in enumerate(("naming", "auroc")):
                statistics = [one[step][at] for one in curves]
                yield {"condition": condition.name, "measure": measure, "step": step} | intervals.mean(
                    statistics
                )
    for first, second in pairs:
        yield from _gaps(first, second, snapshots, frame, intervals)


def _curves(condition: Condition, part: Part, snapshots: Snapshots, frame: Frame) -> list[dict[int, Point]]:
    return [
        Curve.of(one, snapshots[condition.name, one.seed], part, frame).points for one in condition.answers
    ]


def _gaps(
    first: Condition, second: Condition, snapshots: Snapshots, frame: Frame, intervals: Intervals
) -> Iterator[dict[str, Any]]:
    """First minus second in AUROC where both name equally well; nothing where their naming does not overlap."""
    sides = [_curves(one, first.headline, snapshots, frame) for one in (first, second)]
    naming = [[point[0].value[0] for point in curve.values()] for side in sides for curve in side]
    low, high = max(map(min, naming)), min(map(max, naming))
    if not low < high:
        return
    about = {"contrast": f"{first.name}_minus_{second.name}", "measure": "gap at equal naming"}
    for level in np.linspace(low, high, LEVELS + 1)[1:]:
        gaps = [
            CurveGap(list(one.values()), list(other.values()), np.array([level]))
            for one, other in zip(*sides, strict=True)
        ]
        yield about | {"at": float(level)} | intervals.mean(gaps, -1.0)
