"""The long table of pooled effects: each run, each condition, each contrast, and how much runs differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analyses.frame import tables
from analyses.frame.parts import Progress
from analyses.inputs.intervals import ONE_SEED
from analyses.pooling.crossed import CrossedMean, crossed_mean
from analyses.pooling.groups import Group
from analyses.pooling.heterogeneity import heterogeneity
from probing import stats
from probing.stats import Estimate

RUN, CONDITION, CONTRAST = "run", "condition", "contrast"
EXTRA = (
    "kind",
    "condition",
    "statistic",
    "state",
    "layers",
    "head",
    "band_lower",
    "band_upper",
    "passes",
    "stands",
)
EXTRA += ("seeds", "hypernyms")
SHOWN = {"layer": "block", "layers": "blocks"}
"""What figures and summaries call a column."""
MEAN = "mean"
Record = dict[str, Any]


def pooled_table(
    groups: Sequence[Group], contrasts: Sequence[Group], of: str, draws: int, seed: int
) -> pd.DataFrame:
    """The long table, a row a number; the column `kind` is `run`, `condition` or `contrast`.

    `statistic` is `mean` (an effect, with the measure's own unit), or how much the runs of a condition differ:
    `spread` (standard deviation of their means), `tau` (of their true means), `i2` (its share, in [0, 1]), `q` and
    `q_p`. Of a mean, `band_lower` and `band_upper` are limits for all cells of the condition or contrast at once,
    `passes` is whether 0 is outside of them, and `stands` whether it is so for the effect and its excess over every
    placebo at the place, on one side. A run's own limits are over hypernyms alone, and it has no band.
    """
    rows: list[Record] = []
    means = sum(1 + len(group.runs) for group in groups) + len(contrasts)
    with Progress(f"pooling of {of}", "means", means=means) as progress:
        for kind, chosen in ((CONDITION, groups), (CONTRAST, contrasts)):
            for group in chosen:
                rows += _of_group(group, kind, draws, seed, progress)
    labels = [name for group in (*groups, *contrasts) for name in group.cells.columns]
    extra = list(dict.fromkeys([*EXTRA, *labels]))
    extra = [name for name in extra if name not in (*tables.COLUMNS, "layer")]
    table = tables.table(rows, "pooling", seed, extra)
    return table.assign(run=[row["of_run"] for row in rows], split=of)


def _of_group(group: Group, kind: str, draws: int, seed: int, progress: Progress) -> Iterator[Record]:
    ends, scales = group.ends, group.cells["measure"].to_numpy(str)
    common = {"condition": group.name, "treatment": ""}
    places = group.cells.drop(columns=[name for name in ("layer",) if name in group.cells])
    cells: list[Record] = places.to_dict("records")  # pyright: ignore[reportAssignmentType]
    if kind == CONDITION:
        for run, values in zip(group.runs, group.values):
            alone = crossed_mean(values[None], ends, scales, draws, seed)
            yield from _means(alone, cells, {**common, "kind": RUN, "of_run": run, "seeds": 1}, None)
            progress.done()
    pooled = crossed_mean(group.values, ends, scales, draws, seed)
    common |= {"kind": kind, "of_run": "", "seeds": len(group.runs)}
    yield from _means(pooled, cells, common, _standing(group.cells, pooled))
    if len(group.runs) > 1:
        yield from _differences(group, pooled, cells, common)
    progress.done()


def _means(
    pooled: CrossedMean, cells: Sequence[Record], common: Mapping[str, Any], standing: np.ndarray | None
) -> Iterator[Record]:
    limits = zip(pooled.value, pooled.lower, pooled.upper, pooled.n, pooled.clusters)
    for at, (value, lower, upper, n, clusters) in enumerate(limits):
        number = Estimate(float(value), float(lower), float(upper), int(n))
        labels: Record = {**cells[at], **common, "statistic": MEAN, "hypernyms": int(clusters)}
        labels |= {"band_lower": np.nan, "band_upper": np.nan, "passes": False, "stands": False}
        if standing is not None:
            band = float(pooled.band_lower[at]), float(pooled.band_upper[at])
            labels |= {"band_lower": band[0], "band_upper": band[1], "stands": bool(standing[at])}
            labels["passes"] = bool(band[0] > 0 or band[1] < 0)
        yield tables.row(labels.pop("measure"), number, **labels)


def _standing(cells: pd.DataFrame, pooled: CrossedMean) -> np.ndarray:
    """Whether 0 is outside the band for all numbers at the place of each cell, on one side."""
    sides = (pooled.band_lower > 0).astype(int) - (pooled.band_upper < 0).astype(int)
    others = [name for name in cells.columns if name not in ("measure", "state", "layer")]
    measures = cells["measure"].where(cells["measure"] != "excess", "effect")
    keys = [*(cells[name].to_numpy() for name in others), measures.to_numpy()]
    each = pd.Series(sides).groupby(keys, sort=False, dropna=False)
    return (each.transform("min") * each.transform("max") > 0).to_numpy(bool)


def _differences(
    group: Group, pooled: CrossedMean, cells: Sequence[Record], common: Mapping[str, Any]
) -> Iterator[Record]:
    differ = heterogeneity(group.values, group.ends)
    blank = np.full_like(differ.spread, np.nan)
    numbers = {"tau": differ.tau, "i2": differ.i2}
    numbers |= {
        name: np.stack([values, blank, blank])
        for name, values in (("spread", differ.spread), ("q", differ.q), ("q_p", differ.p))
    }
    for name, limits in numbers.items():
        for at, (value, lower, upper) in enumerate(limits.T.tolist()):
            labels: Record = {**cells[at], **common, "statistic": name, "hypernyms": int(pooled.clusters[at])}
            labels |= {"band_lower": np.nan, "band_upper": np.nan, "passes": False, "stands": False}
            yield tables.row(
                labels.pop("measure"), Estimate(value, lower, upper, int(pooled.n[at])), **labels
            )


def _labels(table: pd.DataFrame) -> list[str]:
    """The columns that tell the cells of one measure and target apart."""
    known = {*EXTRA, *tables.COLUMNS, "layer"} - {"modality", "site", "span", "layers", "head"}
    return [name for name in table.columns if name not in known]


def main_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Means that are no excess over a placebo."""
    return table[(table["statistic"] == MEAN) & table["state"].isin(["", "clean"])]


def summary(table: pd.DataFrame) -> str:
    """Each condition and contrast in a few lines: the largest cell, the cells that stand, how much runs differ."""
    lines = [f"Pooled effects of {table['split'].iloc[0]} (95 %, over hypernyms and seeds):"]
    pooled = main_rows(table[table["kind"] != RUN])
    for keys, rows in pooled.groupby(["condition", "target", "measure"], sort=False):  # pyright: ignore[reportGeneralTypeIssues]
        name, target, measure = map(str, keys)
        if not rows["value"].notna().any():
            continue
        best = rows.iloc[int(rows["value"].abs().argmax())]
        which = [
            f"{SHOWN.get(label, label)} {best[label]}"
            for label in _labels(table)
            if rows[label].nunique() > 1
        ]
        seeds = f"one seed: {ONE_SEED}" if best["seeds"] == 1 else f"{best['seeds']} seeds"
        lines.append(
            f"  {name}, {target} {measure.replace('_', ' ')}: most at {', '.join(which) or 'the one cell'}: "
            f"{band_text(best)}, {seeds}, n = {best['n']} between {best['hypernyms']} hypernyms; stands at "
            f"{int(rows['stands'].sum())} of {len(rows)} cells"
        )
        if best["seeds"] > 1:
            lines.append(f"    {heterogeneity_text(table, best)}")
    return "\n".join(lines)


def band_text(row: pd.Series) -> str:
    """The largest of many cells with its limits in the band of all."""
    number = stats.estimate_text(row["value"], row["band_lower"], row["band_upper"], "+.2f")
    return f"{number} in the band of all cells"


def heterogeneity_text(table: pd.DataFrame, cell: pd.Series) -> str:
    """How much the runs differ in one cell, and what so few of them allow."""
    labels = [*_labels(table), "condition", "kind", "measure", "state", "target"]
    alike = [(table[name] == cell[name]) | (table[name].isna() & pd.isna(cell[name])) for name in labels]
    own = table[np.logical_and.reduce(alike)].set_index("statistic")
    if own.loc["spread", "value"] == 0:
        return "between seeds: no difference"
    tau, i2 = own.loc["tau"], own.loc["i2"]
    text = (
        f"between seeds: sd {own.loc['spread', 'value']:.2f}, Q({int(cell['seeds']) - 1}) = "
        f"{own.loc['q', 'value']:.1f} (p = {own.loc['q_p', 'value']:.2g}), tau "
        f"{tables.estimate_text(tau)}, I² {tables.estimate_text(i2, '.0%')}"
    )
    return f"{text}; few seeds: the upper limit says little" if cell["seeds"] < 5 else text
