"""Checks of numbers over several runs: contrasts of probed runs, means over seeds, the first layer detected in them."""

from __future__ import annotations

from functools import cache, partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from analyses.emergence.seeds import seed_rows
from analyses.inputs.probe_curves import Draws
from analyses.layer_probes.contrasts import contrasts
from analyses.layer_probes.layers import LayerProbes
from analyses.layer_probes.table import Condition
from probing.probes import PROBES
from probing.probes.controls import control_task
from probing.probes.evaluate import Series
from probing.probes.held_out import LabelledRows, held_out_scores
from probing.probes.splits import grouped_folds
from probing.stats import ClusterAUROC, draw_weights, nan_mean
from tests.calibration.check import Check, Limits
from tests.calibration.worlds import members, pictures, spectrum

WIDTH, DRAWS, TRIALS = 24, 100, 150
SITES = ("blocks.0.hook_resid_post",)
STRONG, WEAK = 0.5, 0.3
"""How far a hypernym moves its leaves, on both sides of a contrast: mean AUROC of .8 and .65."""
_PER_ERROR = 0.027
"""How much more of it moves AUROC by one standard error over leaves (.02)."""


class Probed(NamedTuple):
    """Curves of the runs of one world: three seeds on each side."""

    first: tuple[LayerProbes, ...]
    second: tuple[LayerProbes, ...]


@cache
def _plan() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The direction of each hypernym, the fold of each leaf, and its labels in the control task."""
    labels, names = members(), np.arange(len(members())).astype(str)
    folds = grouped_folds(names, labels, 5, 0)
    directions = np.random.default_rng(0).normal(size=(labels.shape[1], WIDTH)) / np.sqrt(WIDTH)
    return directions, folds, control_task(labels, names, folds, 1, 0)[0]


def _rows(leaf: np.ndarray) -> LabelledRows:
    _, folds, control = _plan()
    return LabelledRows(members()[leaf], leaf, folds[leaf], control[None][:, leaf])


@cache
def _probed(seed: int, ratio: float, effects: tuple[float, float] = (STRONG, WEAK)) -> Probed:
    """Three probed runs on each side, whose seeds differ by `ratio` standard errors over leaves.

    The leaves are drawn anew in every world; hypernyms stay. Runs share their leaves, and add noise of their own.
    """
    rng = np.random.default_rng([seed, round(10 * ratio), round(100 * effects[0])])
    directions, _, _ = _plan()
    labels, n = members(), len(members())
    own = rng.normal(size=(n, WIDTH)) * spectrum(WIDTH)
    words = rng.normal(size=(n, WIDTH)) * spectrum(WIDTH) + 0.8 * labels @ directions
    counts, weights = rng.integers(1, 4, n), draw_weights(n, DRAWS, 0)
    sides = []
    for side, effect in enumerate(effects):
        runs = []
        for _ in range(3):
            moved = effect + ratio * _PER_ERROR * rng.normal() * (effect > 0)
            states = own + moved * labels @ directions + 0.3 * rng.normal(size=(n, WIDTH)) * spectrum(WIDTH)
            rows, leaf = pictures(rng, states, counts, 0.7)
            runs.append(_run(rows, leaf, words, weights, controlled=side == 0 or not effect))
        sides.append(tuple(runs))
    return Probed(*sides)


def _run(
    rows: np.ndarray, leaf: np.ndarray, words: np.ndarray, weights: np.ndarray, controlled: bool
) -> LayerProbes:
    """Probes of one site; picture probes are compared with their control where that is asked for."""
    features = {"image": rows, "text": words}
    labelled = {"image": _rows(leaf), "text": _rows(np.arange(len(words)))}
    curves = {}
    for train, modality in (("image", "image"), ("text", "text→image")):
        held, _ = held_out_scores(
            PROBES["ridge"], features, labelled, train, [("image", "raw")], (10.0, 100.0, 1000.0)
        )
        scores, at = held["image", "raw"].scores, labelled["image"]
        real = ClusterAUROC(scores[:, 0], at.labels, at.groups, at.folds)
        auroc, drawn = nan_mean(real.value)[None], nan_mean(real.at(weights))[:, None]
        above = auroc - 0.5, drawn - 0.5
        if controlled and train == "image":
            floor = ClusterAUROC(scores[:, 1], at.controls[0], at.groups, at.folds)
            above = auroc - nan_mean(floor.value), drawn - nan_mean(floor.at(weights))[:, None]
        series = Series(auroc, drawn, *above, np.empty((0, 1)))
        curves[Condition(10, "cue", modality, "ridge")] = (SITES, {"mean": series})
    return LayerProbes(pd.DataFrame(), curves, {}, ("mean",), tuple(map(str, range(len(words)))))


def _limits(table: pd.DataFrame) -> Limits:
    return Limits(*(table[name].to_numpy(float) for name in ("value", "lower", "upper")))


def _contrast(seed: int, ratio: float, pairs: int) -> Limits:
    """Pictures, and words tested on pictures."""
    probed = _probed(seed, ratio)
    return _limits(contrasts(probed.first[:pairs], probed.second[:pairs]))


def _mean(seed: int, ratio: float, modality: str) -> Limits:
    runs = _probed(seed, ratio).first
    draws = [
        Draws(run.leaves, {one: (sites, series["mean"]) for one, (sites, series) in run.curves.items()})
        for run in runs
    ]
    rows = seed_rows({"pretrained": draws})
    rows = rows[rows["modality"] == modality]
    return _limits(rows if modality == "image" else rows[rows["measure"] == "auroc"])


def _detected(seed: int) -> bool:
    """Whether a layer is detected in the mean of three seeds where nothing is to be found in either of two."""
    probed = _probed(seed, 0.0, (0.0, 0.0))
    draws = []
    for run, other in zip(*probed):
        ((condition, (_, one)),) = [item for item in run.curves.items() if item[0].modality == "image"]
        both = one["mean"], other.curves[condition][1]["mean"]
        parts = ("auroc", "auroc_draws", "selectivity", "selectivity_draws", "null")
        series = Series(*(np.concatenate([getattr(one, part) for one in both], axis=-1) for part in parts))
        draws.append(Draws(run.leaves, {condition: (("hook_embed", *SITES), series)}))
    rows = seed_rows({"random": draws}).set_index("measure")
    return bool(rows["value"].notna()["onset"])


_WORLD = (
    "351 leaves under 34 overlapping hypernyms, ridge probes of 1–3 pictures a leaf; seeds differ by {} standard "
    "errors over leaves"
)
_ASSUMES = "leaves and seeds are draws of those that could have been; hypernyms are fixed"
_TWICE = "what pictures and projectors add is counted among leaves and again among runs"
_RATIOS = (0.0, 1.0, 3.0)

CHECKS: tuple[Check, ...] = (
    *(
        Check(
            name=f"contrast_of_three_pairs_{ratio:g}".replace(".", "_"),
            of=("layer_probes.auroc_difference",),
            says="difference of mean AUROC of three pairs of runs",
            world=_WORLD.format(f"{ratio:g}"),
            assumes=_ASSUMES,
            kind="coverage",
            trial=partial(_contrast, ratio=ratio, pairs=3),
            trials=TRIALS,
            conservative=_TWICE,
        )
        for ratio in _RATIOS
    ),
    Check(
        name="contrast_of_one_pair",
        of=("layer_probes.auroc_difference",),
        says="difference of mean AUROC of one pair of runs, whose seeds do not differ",
        world=_WORLD.format("0"),
        assumes="seeds do not differ: what they do is not included",
        kind="coverage",
        trial=partial(_contrast, ratio=0.0, pairs=1),
        trials=TRIALS,
        conservative="text probes: their leaves are not those that they score",
    ),
    *(
        Check(
            name=f"mean_over_seeds_{modality.replace('→', '_')}_{ratio:g}".replace(".", "_"),
            of=("emergence.auroc", "emergence.control_auroc", "emergence.selectivity"),
            says="AUROC of picture probes, its control and the difference, mean of three seeds"
            if modality == "image"
            else "AUROC of text probes on pictures, mean of three seeds",
            world=_WORLD.format(f"{ratio:g}"),
            assumes=_ASSUMES,
            kind="coverage",
            trial=partial(_mean, ratio=ratio, modality=modality),
            trials=TRIALS,
            conservative=_TWICE,
        )
        for modality in ("image", "text→image")
        for ratio in _RATIOS
    ),
    Check(
        name="first_layer_detected_in_a_mean",
        of=("emergence.onset", "layer_probes.onset"),
        says="a first layer detected in the mean of three seeds",
        world="351 leaves, nothing is to be found in either of two layers",
        assumes=_ASSUMES,
        kind="false positives",
        trial=_detected,
        trials=TRIALS,
        conservative=_TWICE,
    ),
)
