"""Long-table rows and curves from held-out scores of layer probes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from analyses.frame import tables
from analyses.frame.tables import NO_STEP, layer_of
from analyses.inputs.categories import HELD_OUT, SEEN, SEEN_MINUS_HELD_OUT
from analyses.inputs.probe_curves import ENCODER_LAYER, Condition, Curves
from analyses.layer_probes.design import Design
from probing.probes.description_length import compression
from probing.probes.evaluate import Series, estimates, widening
from probing.probes.held_out import HeldOut
from probing.sites import EMBED
from probing.stats import Estimate, expanded, half_rise, interval, onset, permutation_p

COLUMNS = tuple("probe" if name == "treatment" else name for name in tables.COLUMNS)
Key = tuple[str, str, str]
"""Source that was trained on, source that was tested on, transform between them."""
_ENOUGH_FOR_P = 19  # control tasks that make p = .05 reachable


def rows_and_curves(
    plan: Design,
    scores: Mapping[str, Mapping[Key, HeldOut]],
    span: str,
    modality: str,
    weights: np.ndarray,
    probe: str,
) -> tuple[pd.DataFrame, Curves]:
    """Rows and curves of one place and tested modality; one bootstrap for all conditions on the same rows.

    `scores` maps a site to what was scored there.
    """
    places = [(key, site) for site in scores for key in scores[site] if key[1].split("@")[0] == modality]
    places.sort(key=lambda place: place[0])  # stable: sites stay in forward order
    if not places:
        return pd.DataFrame(columns=COLUMNS), {}
    held = [scores[site][key] for key, site in places]
    rows = plan.rows[places[0][0][1]]
    table, series = estimates(held, rows, plan.targets, plan.subsets, weights)
    conditions = [_condition(key, span, probe) for key, _ in places]
    labels = pd.DataFrame(conditions, columns=Condition._fields).assign(site=[site for _, site in places])
    labels["layer"] = [_layer(site) for site in labels["site"]]
    table = pd.concat(
        [labels.iloc[table["index"]].reset_index(drop=True), table.drop(columns="index")], axis=1
    )
    tables, curves = [table], {}
    for condition in dict.fromkeys(conditions):
        members = np.array([k for k, other in enumerate(conditions) if other == condition])
        sites = tuple(places[k][1] for k in members)
        along = {subset: whole.at(members) for subset, whole in series.items()}
        curves[condition] = (sites, along)
        factor = {
            subset: float(widening(rows, columns, held[members[0]].within))
            for subset, columns in plan.subsets.items()
        }
        tables += [part.assign(n=weights.shape[1]) for part in _along(condition, sites, along, factor)]
    return pd.concat(tables, ignore_index=True), curves


def _along(
    condition: Condition, sites: Sequence[str], along: Mapping[str, Series], factor: Mapping[str, float]
) -> Iterator[pd.DataFrame]:
    """Rows about whole curves: onset and half-rise, p corrected for the maximum over sites, seen minus held-out.

    `factor` is by how much limits are wider than their bootstrap: those of each subset of targets.
    """
    places = [k for k, site in enumerate(sites) if site.endswith("hook_resid_post") or site == EMBED]
    stream = np.array(places, dtype=int)
    layers = np.array([_layer(site) for site in sites])
    for subset, series in along.items():
        if len(stream) > 1:
            for measure, first in _firsts(series.at(stream), factor[subset]).items():
                numbers = _in_layers(first, layers[stream])
                yield _labels(condition, [""]).assign(target=subset, measure=measure, **numbers)
        if len(series.null) >= _ENOUGH_FOR_P:
            p = permutation_p(series.auroc, series.null)
            yield _labels(condition, sites).assign(target=subset, measure="p_corrected", value=p)
    if {SEEN, HELD_OUT} <= set(along):
        seen, unseen = along[SEEN], along[HELD_OUT]
        value, draws = seen.auroc - unseen.auroc, seen.auroc_draws - unseen.auroc_draws
        wider = expanded(value, *interval(draws), max(factor[SEEN], factor[HELD_OUT]))
        lower, upper = np.clip(wider, -1, 1)
        yield _labels(condition, sites).assign(
            target=SEEN_MINUS_HELD_OUT, measure="auroc_difference", value=value, lower=lower, upper=upper
        )


def _firsts(series: Series, factor: float) -> dict[str, Estimate]:
    """The first layer detected (`onset`) and the half-rise of a curve above control, counted in sites."""
    value, draws = series.selectivity, series.selectivity_draws
    return {
        "onset": onset(value, draws, 0, inflation=factor),
        "half_rise": half_rise(value, value + factor * (draws - value), 0),
    }


def _layer(site: str) -> float:
    return layer_of(site, encoder=ENCODER_LAYER)


def _labels(condition: Condition, sites: Sequence[str]) -> pd.DataFrame:
    layers = [_layer(site) if site else np.nan for site in sites]
    return pd.DataFrame({**condition._asdict(), "site": list(sites), "layer": layers})


def _condition(key: tuple[str, str, str], span: str, probe: str) -> Condition:
    train, test, transform = key
    steps = [int(name.split("@")[1]) for name in (train, test) if "@" in name]
    kinds = [name.split("@")[0] for name in (train, test)]
    modality = kinds[0] if kinds[0] == kinds[1] else "→".join(kinds)
    return Condition(
        max(steps, default=NO_STEP), span, modality, probe if transform == "raw" else f"{probe}, {transform}"
    )


def _in_layers(first: Estimate, layers: np.ndarray) -> dict[str, float]:
    """A place counted in sites as one counted in layers; infinite stays infinite."""
    limits = {"value": first.value, "lower": first.lower, "upper": first.upper}
    return {name: float(layers[int(at)]) if np.isfinite(at) else at for name, at in limits.items()}


def code_rows(
    plan: Design,
    bits: Mapping[str, Mapping[str, Sequence[np.ndarray]]],
    span: str,
    weights: np.ndarray,
    probe: str,
) -> tuple[pd.DataFrame, Curves]:
    """Rows of how much shorter than the uniform code the labels are coded, given a site, and the control's."""
    tables = []
    for site, lengths in bits.items():
        for name, pair in lengths.items():
            labels = _labels(_condition((name, name, "raw"), span, probe), [site])
            for measure, values in zip(("compression", "control_compression"), pair):
                number = compression(values, plan.rows[name].groups, weights)
                tables.append(labels.assign(target="mean", measure=measure, **asdict(number)))
    return pd.concat(tables, ignore_index=True), {}
