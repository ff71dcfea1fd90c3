"""Means over the seeds of a condition: curves of probes, the first layer detected and the half-rise, with limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
import pandas as pd

from analyses.frame import registry
from analyses.frame.provenance import Stored
from analyses.frame.tables import layer_of
from analyses.inputs.categories import MEAN
from analyses.inputs.conditions import condition_of
from analyses.inputs.probe_curves import ENCODER_LAYER, FILE, Condition, Draws, error_factor, read_draws
from probing.probes.evaluate import Series
from probing.sites import EMBED
from probing.stats import (
    OUT_OF_FOLD_BAND,
    Estimate,
    curve_over_runs,
    half_rise,
    onset,
    over_runs,
)
from probing.store import MismatchError
from taxogen.runs.run import Run


def stored_draws(runs: Sequence[Run]) -> dict[str, list[Draws]]:
    """The bootstrap draws of the runs of each condition, sorted by seed; none of a condition of one run without them.

    Raises:
        FileNotFoundError: one of several runs has none; the command that makes them is named.
        DamagedError, MismatchError: they are not as they were written, or of another table than the run has now.
    """
    grouped: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.config.seed):
        grouped.setdefault(condition_of(run, runs), []).append(run)
    stored: dict[str, list[Draws]] = {}
    for name, members in grouped.items():
        with nullcontext() if len(members) > 1 else suppress(FileNotFoundError):
            stored[name] = [_of(run) for run in members]
    return stored


def _of(run: Run) -> Draws:
    layer_probes = registry.load("layer_probes")
    table = Stored(layer_probes, layer_probes.table_path(run), [run])
    draws = Stored(layer_probes, table.path.with_name(FILE), [run])
    if not table.path.is_file():
        layer_probes.table(run)  # says what is missing
    made_from = table.require()
    remedy = draws.remedy({} if made_from is None else made_from["options"])
    if not draws.path.is_file():
        raise FileNotFoundError(
            f"a mean over seeds needs the draws of every run, and {run.path} has a table of layer probes of an "
            f"earlier version, without {FILE}; {remedy}"
        )
    if draws.require() != made_from:
        raise MismatchError(f"{draws.path} was not made with the table beside it; {remedy}")
    return read_draws(draws.path)


def seed_rows(draws: Mapping[str, Sequence[Draws]]) -> pd.DataFrame:
    """Rows of means over the seeds of each condition, such as those of one run, with the number of `seeds`.

    Limits of AUROC, control_auroc and selectivity add the variance over leaves and that between seeds
    (`probing.stats.over_runs`); onset (the first layer detected) and half_rise are those of the mean curve, with draws
    that vary as leaves and seeds do. Leaves are paired; where the seeds show different ones, their errors are taken to
    be the same, which is the widest.

    Raises:
        MismatchError: the seeds of a condition share no curve of pictures.
    """
    rows = [row for name, members in draws.items() for row in _of_condition(name, members)]
    return pd.DataFrame(rows)


def _of_condition(name: str, members: Sequence[Draws]) -> Iterator[dict[str, Any]]:
    shared = [one for one in members[0].curves if all(one in other.curves for other in members)]
    if not any(one.step >= 0 for one in shared):
        raise MismatchError(
            f"the seeds of {name} were probed at no common step and span; `python -m analyses.layer_probes --run …` "
            "probes them anew"
        )
    paired = all(one.leaves == members[0].leaves for one in members)
    n = min(len(one.leaves) for one in members)
    about = {"run": f"{name}, mean of {len(members)} seeds", "condition": name, "n": n, "seeds": len(members)}
    for condition in shared:
        all_sites = [one.curves[condition][0] for one in members]
        sites = [site for site in all_sites[0] if all(site in other for other in all_sites)]
        series = [
            one.curves[condition][1].at(np.array([own.index(site) for site in sites], dtype=int))
            for one, own in zip(members, all_sites)
        ]
        common = {**about, **condition._asdict(), "target": MEAN}
        for row in _of_curve(condition, sites, series, n, paired):
            yield common | row


def _of_curve(
    condition: Condition, sites: Sequence[str], series: Sequence[Series], n: int, paired: bool
) -> Iterator[dict[str, Any]]:
    """Rows at each site, and of the curve along the residual stream."""
    layers = np.array([layer_of(site, encoder=ENCODER_LAYER) for site in sites])
    curves = {
        "auroc": [(one.auroc, one.auroc_draws) for one in series],
        "control_auroc": [
            (one.auroc - one.selectivity, one.auroc_draws - one.selectivity_draws) for one in series
        ],
        "selectivity": [(one.selectivity, one.selectivity_draws) for one in series],
    }
    for measure, pairs in curves.items():
        each, drawn = np.stack([value for value, _ in pairs]), mean_draws(pairs, paired)
        limits = over_runs(each, drawn, n, error_factor(condition))
        for place, numbers in enumerate(zip(each.mean(axis=0), *limits)):
            at = {"measure": measure, "site": sites[place], "layer": layers[place]}
            yield at | dict(zip(("value", "lower", "upper"), numbers))
    stream = [k for k, site in enumerate(sites) if site.endswith("hook_resid_post") or site == EMBED]
    if len(stream) > 1:
        pairs = [(value[stream], draws[:, stream]) for value, draws in curves["selectivity"]]
        each, drawn = np.stack([value for value, _ in pairs]), mean_draws(pairs, paired)
        value = each.mean(axis=0)
        draws, inflation = curve_over_runs(each, drawn, n, OUT_OF_FOLD_BAND)
        yield _in_layers("onset", onset(value, draws, n, inflation=inflation), layers[stream])
        yield _in_layers("half_rise", half_rise(value, draws, n), layers[stream])


def mean_draws(pairs: Sequence[tuple[np.ndarray, np.ndarray]], paired: bool) -> np.ndarray:
    """Draws of the mean over runs; of other leaves, those of the first run with the mean of all standard errors."""
    if paired:
        return np.mean([draws for _, draws in pairs], axis=0)
    value, first = np.mean([value for value, _ in pairs], axis=0), pairs[0][1] - pairs[0][0]
    errors = np.stack([np.nanstd(draws, axis=0) for _, draws in pairs])
    return value + first * errors.mean(axis=0) / np.where(errors[0] > 0, errors[0], 1)


def _in_layers(measure: str, found: Estimate, layers: np.ndarray) -> dict[str, Any]:
    """A place along the residual stream as a layer; infinite stays infinite."""
    numbers = {"value": found.value, "lower": found.lower, "upper": found.upper}
    places = {name: float(layers[round(at)]) if np.isfinite(at) else at for name, at in numbers.items()}
    return {"measure": measure, "site": "", "layer": np.nan, **places}
