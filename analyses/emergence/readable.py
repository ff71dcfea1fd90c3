"""Curves along the layers of what can be read at them: probes with their draws, and tables that have a null."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analyses.emergence.curves import HALF, ONSET, Curve
from analyses.emergence.seeds import mean_draws
from analyses.frame.analysis import Analysis
from analyses.frame.drawing import panels
from analyses.frame.tables import PICTURES, SHARED, WORDS, Evidence, layer_of
from analyses.inputs.probe_curves import Condition, Draws, error_factor
from probing.probes.evaluate import Series
from probing.sites import EMBED
from probing.stats import OUT_OF_FOLD_BAND, Estimate, curve_over_runs, lower_band
from taxogen.runs.run import Run

PROBES = {
    "image": ("picture probe", PICTURES),
    "text→image": ("transfer probe", SHARED),
    "text": ("text probe", WORDS),
}
"""Modality of probes → kind of evidence, and what it is about."""
CONTROL_TASK = "control task"
LEVEL = 0.05


def probe_curves(rows: pd.DataFrame, members: Sequence[Draws]) -> Iterator[Curve]:
    """Selectivity of probes at each place and step, and the AUROC of their control task above chance.

    `rows` are those of the condition in an emergence table: of its only run, or of the mean over its runs, whose draws
    are `members`.
    """
    for condition in members[0].curves:
        known = condition.modality in PROBES and "," not in condition.probe
        if known and all(condition in one.curves for one in members):
            yield from _probes(rows, members, condition)


def _probes(rows: pd.DataFrame, members: Sequence[Draws], condition: Condition) -> Iterator[Curve]:
    all_sites = [one.curves[condition][0] for one in members]
    sites = [
        site
        for site in all_sites[0]
        if (site.endswith("hook_resid_post") or site == EMBED) and all(site in own for own in all_sites)
    ]
    if len(sites) < 2:
        return
    series = [
        one.curves[condition][1].at(np.array([own.index(site) for site in sites]))
        for one, own in zip(members, all_sites)
    ]
    paired, n = all(one.leaves == members[0].leaves for one in members), len(members[0].leaves)
    kind, about = PROBES[condition.modality]
    labels: dict[str, Any] = {
        "kind": kind,
        "about": about,
        "analysis": "layer_probes",
        "place": condition.span,
        "n": n,
    }
    labels |= {"step": condition.step, "layers": np.array([layer_of(site) for site in sites])}
    labels |= {"seeds": len(members)}
    own = rows[np.logical_and.reduce([rows[name] == value for name, value in condition._asdict().items()])]
    stored = {
        row["measure"]: _estimate(row) for row in own.to_dict("records") if row["measure"] in (ONSET, HALF)
    }
    factor = error_factor(condition)
    above: dict[str, Any] = _above(
        [(one.selectivity, one.selectivity_draws) for one in series], n, factor, paired
    )
    limits = own[own["measure"] == "selectivity"].set_index("site").reindex(sites)[["lower", "upper"]]
    yield Curve(**labels, **above, stored=stored, **{name: limits[name].to_numpy() for name in limits})
    control = [_control(one) for one in series]
    above = _above(control, n, factor, paired)
    half = np.quantile(above["draws"], [0.025, 0.975], axis=0)
    yield Curve(**labels, **above, control=CONTROL_TASK, lower=half[0], upper=half[1])


def _control(one: Series) -> tuple[np.ndarray, np.ndarray]:
    return one.auroc - one.selectivity - 0.5, one.auroc_draws - one.selectivity_draws - 0.5


def _above(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], n: int, factor: float, paired: bool
) -> dict[str, np.ndarray]:
    """The mean curve, its draws, and where both are above the band over layers, as `seeds.seed_rows` has it."""
    each, drawn = np.stack([value for value, _ in pairs]), mean_draws(pairs, paired)
    value = each.mean(axis=0)
    if len(pairs) > 1:
        draws, inflation = curve_over_runs(each, drawn, n, OUT_OF_FOLD_BAND)
        drawn = draws
    else:
        draws, inflation = value + factor * (drawn - value), np.full(len(value), factor)
    width = value - lower_band(value, drawn, inflation=inflation)
    return {"value": value, "draws": draws, "holds": value > width, "held": drawn > width}


def table_curves(evidence: Evidence, analysis: Analysis, runs: Sequence[Run]) -> list[Curve]:
    """A curve for each place and step of a table that has a null, less the limit of it.

    Something holds where p, corrected over layers, is at most .05, in every run. The limits are over leaves; of several
    runs those of the widest: tables have no draws from which they could be told.

    Raises:
        FileNotFoundError: a run has no table; the command that makes it is named.
        DamagedError, MismatchError: it is not as it was written, or does not fit the run.
        KeyError: it has no such rows.
    """
    tables = [_meant(analysis.table(run), evidence) for run in runs]
    keys = [list(dict.fromkeys(zip(table["step"], table["span"]))) for table in tables]
    shared = [key for key in keys[0] if all(key in other for other in keys)]
    return [curve for key in shared for curve in _of_tables(tables, evidence, analysis.name, *key)]


def _meant(table: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    rows = table[table["split"] == ""]
    for column, value in evidence.rows.items():
        rows = rows if column == "measure" else rows[rows[column] == value]
    measures = [evidence.rows["measure"], *(evidence.least or ()), ONSET, HALF]
    rows = rows[rows["measure"].isin(measures)]
    rows = (
        rows[(rows["other_site"] == rows["site"]) | ~rows["layer"].notna()] if "other_site" in rows else rows
    )
    if not len(rows):
        wanted = ", ".join(f"{column} {value!r}" for column, value in evidence.rows.items())
        raise KeyError(f"the table has no {wanted}")
    return rows[rows["treatment"] == panels.treatment_of(rows)]


def _of_tables(
    tables: Sequence[pd.DataFrame], evidence: Evidence, analysis: str, step: int, place: str
) -> Iterator[Curve]:
    assert evidence.least
    measure, (limit, p) = evidence.rows["measure"], evidence.least
    mine = [table[(table["step"] == step) & (table["span"] == place)] for table in tables]
    wide = [
        own[own["layer"].notna()].pivot_table(index="layer", columns="measure", values="value")
        for own in mine
    ]
    known = [one for one in wide if {measure, limit, p} <= set(one)]
    layers = sorted(set.intersection(*(set(one.index) for one in wide)))
    if len(known) < len(wide) or len(layers) < 2:
        return
    above = np.stack([(one[measure] - one[limit]).loc[layers] for one in wide])
    limits = [
        np.stack(
            [
                (own[own["measure"] == measure].set_index("layer")[side] - one[limit]).loc[layers]
                for own, one in zip(mine, wide)
            ]
        )
        for side in ("lower", "upper")
    ]
    stored = {name: _widest([own[own["measure"] == name] for own in mine]) for name in (ONSET, HALF)}
    yield Curve(
        kind=evidence.kind,
        about=evidence.about,
        analysis=analysis,
        place=place,
        step=int(step),
        layers=np.array(layers),
        value=above.mean(axis=0),
        lower=limits[0].min(axis=0),
        upper=limits[1].max(axis=0),
        holds=np.logical_and.reduce([(one[p].loc[layers] <= LEVEL).to_numpy() for one in wide]),
        n=int(min(own["n"].max() for own in mine)),
        seeds=len(tables),
        stored={name: number for name, number in stored.items() if number is not None},
    )


def _widest(rows: Sequence[pd.DataFrame]) -> Estimate | None:
    """A stored place: of several runs the latest, between the outermost limits; none where one run has none."""
    if any(len(one) != 1 for one in rows):
        return None
    every = pd.concat(rows)
    value = every["value"].max() if every["value"].notna().all() else np.nan
    return Estimate(
        float(value), float(every["lower"].min()), float(every["upper"].max()), int(every["n"].min())
    )


def _estimate(row) -> Estimate:
    return Estimate(float(row["value"]), float(row["lower"]), float(row["upper"]), int(row["n"]))
