"""Rows of a patching table: effects of patches and placebos in every cell, restored fractions, cells that count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analyses.frame import tables
from analyses.patching.grid import Options, Parts
from analyses.patching.pairs import Pair
from probing.patching import Cell, excess, rank_agreement
from probing.stats import DRAWS, ClusterMean, Estimate, draw_weights, estimate, interval

EXTRA = ("direction", "mode", "layers", "head", "state", "note")
RANDOM_INIT = "random_init"
PLACEBOS = {
    "hypernym": ("stranger", "random", RANDOM_INIT),
    "leaf": ("sibling", "stranger", "random", RANDOM_INIT),
}
"""What a cell must beat to count, for each question. A sibling shares the hypernym: it bears on the leaf alone."""

CHANGES = ("kl", "up", "down", "shared", "other")
FRACTION = {"denoising": "restored_fraction", "noising": "lost_fraction"}
Row = dict[str, Any]


def joined(parts: Sequence[Parts]) -> Parts:
    """The numbers of all pairs from those of their chunks."""
    first = parts[0]
    return {
        name: first[name] if name == "own" else np.concatenate([p[name] for p in parts], -1) for name in first
    }


def compute(
    results: Mapping[str, Parts],
    pairs: Sequence[Pair],
    cells: Sequence[Cell],
    options: Options,
    random_init: Mapping[str, Parts] | None = None,
    draws: int = DRAWS,
) -> pd.DataFrame:
    """The long table of a grid: question (target) × cell × state, with intervals over leaf pairs.

    `effect` is the change, in nats, of the log-odds of the answer that the state comes with against that of the
    run it is put into; `restored_fraction` the mean effect over the mean difference of the two runs (for noising
    `lost_fraction`), not-a-number with a note where they do not differ. `excess` is the effect over that of a
    placebo, `excess_band` its lower limit for all cells at once, `counts` is 1 where that is above 0 for every
    placebo and for the own state. `kl` is the divergence of the answers over the candidates, `up`, `down`,
    `shared` and `other` are changes of the log-probability of the state's own hypernym, of the patched run's,
    of those both have and of those neither has. `own_by_hooks` and `own_restarted` are the largest changes of
    any answer by a run's own state.
    """
    clusters = np.array([pair.clean for pair in pairs])
    near = np.array([pair.near for pair in pairs])
    weights = draw_weights(len(np.unique(clusters)), draws, options.seed)
    made: list[Row] = []
    for question, found in results.items():
        effects = {kind: found["log_odds"][k] - found["base"] for k, kind in enumerate(options.kinds)}
        if random_init and question in random_init:
            other = random_init[question]
            effects[RANDOM_INIT] = other["log_odds"][0] - other["base"]
        here = {"target": question, "split": "all"}
        made += _run_rows(found, clusters, weights, here)
        for kind, effect in effects.items():
            gap = found["donor"] - found["base"]
            if kind == RANDOM_INIT and random_init:
                gap = random_init[question]["donor"] - random_init[question]["base"]
            made += _effect_rows(effect, gap, clusters, weights, cells, options, {**here, "state": kind})
        for name, some in (("near", near), ("far", ~near)):
            if some.any():
                made += _mean_rows(
                    "effect",
                    effects["clean"][:, some],
                    clusters[some],
                    cells,
                    {**here, "split": name, "state": "clean"},
                    options,
                    draws,
                )
        for name in CHANGES:
            for k, kind in enumerate(options.kinds if name in found else ()):
                labels = {**here, "state": kind}
                made += _mean_rows(name, found[name][k], clusters, cells, labels, options, draws)
        made += _counting_rows(question, effects, clusters, cells, here, options, draws)
        for way, values in zip(("own_by_hooks", "own_restarted"), found.get("own", ())):
            made += [
                _row(way, float(v), cell, {**here, "state": "own"}, n=2) for v, cell in zip(values, cells)
            ]
    return _table(made, options)


def _run_rows(found: Parts, clusters: np.ndarray, weights: np.ndarray, here: Row) -> list[Row]:
    """The log-odds of the two runs of each pair, for the answer that the state comes with."""
    rows = []
    for measure, values in (
        ("log_odds_of_source", found["donor"]),
        ("log_odds_of_patched_run", found["base"]),
        ("gap", found["donor"] - found["base"]),
    ):
        statistic = ClusterMean(values, clusters)
        known = estimate(statistic.value[0], statistic.at(weights)[:, 0], len(statistic.clusters))
        rows.append(tables.row(measure, known, site="all", **here))
    return rows


def _effect_rows(
    effect: np.ndarray,
    gap: np.ndarray,
    clusters: np.ndarray,
    weights: np.ndarray,
    cells: Sequence[Cell],
    options: Options,
    labels: Row,
) -> list[Row]:
    """Effects and their fractions of the difference of the two runs."""
    statistic, whole = ClusterMean(effect.T, clusters), ClusterMean(gap, clusters)
    n, value, drawn = len(statistic.clusters), statistic.value, statistic.at(weights)
    width, widths = whole.value[0], whole.at(weights)[:, 0]
    low, high = interval(widths)
    note = (
        f"clean and corrupted do not differ: {width:.3g} [{low:.3g}, {high:.3g}] nats"
        if low <= 0 <= high
        else ""
    )
    rows = []
    for c, cell in enumerate(cells):
        rows.append(_row("effect", estimate(value[c], drawn[:, c], n), cell, labels))
        share = (
            Estimate(np.nan, np.nan, np.nan, n)
            if note
            else estimate(value[c] / width, drawn[:, c] / widths, n)
        )
        rows.append(_row(FRACTION[options.mode], share, cell, {**labels, "note": note}))
    return rows


def _mean_rows(
    measure: str,
    values: np.ndarray,
    clusters: np.ndarray,
    cells: Sequence[Cell],
    labels: Row,
    options: Options,
    draws: int,
) -> list[Row]:
    """Means over pairs; pairs for which a number is not defined are left out, and not counted."""
    defined = ~np.isnan(values).all(0)
    if not defined.any():
        return []
    statistic = ClusterMean(values[:, defined].T, clusters[defined])
    n = len(statistic.clusters)
    drawn = statistic.at(draw_weights(n, draws, options.seed))
    return [
        _row(measure, estimate(statistic.value[c], drawn[:, c], n), cell, labels)
        for c, cell in enumerate(cells)
    ]


def _counting_rows(
    question: str,
    effects: Mapping[str, np.ndarray],
    clusters: np.ndarray,
    cells: Sequence[Cell],
    here: Row,
    options: Options,
    draws: int,
) -> list[Row]:
    """The excess of effects over each placebo, and which cells count."""
    rows: list[Row] = []
    counts = np.ones(len(cells), bool)
    placebos = {"own": 0.0, **{kind: effects[kind] for kind in effects if kind != "clean"}}
    for kind, placebo in placebos.items():
        found = excess(effects["clean"], placebo, clusters, draws, options.seed)
        if kind in ("own", *PLACEBOS[question]):
            counts &= found.beats
        for c, cell in enumerate(cells):
            labels = {**here, "state": kind}
            known = Estimate(found.value[c], found.lower[c], found.upper[c], found.n)
            rows.append(_row("excess", known, cell, labels))
            rows.append(_row("excess_band", float(found.band[c]), cell, labels, n=found.n))
    labels = {
        **here,
        "state": "clean",
        "note": "beats " + ", ".join(k for k in placebos if k in ("own", *PLACEBOS[question])),
    }
    return rows + [
        _row("counts", float(c), cell, labels, n=len(np.unique(clusters))) for c, cell in zip(counts, cells)
    ]


def screen_rows(
    attribution: np.ndarray,
    effect: np.ndarray,
    sample: Sequence[int],
    pairs: Sequence[Pair],
    cells: Sequence[Cell],
    options: Options,
    draws: int = DRAWS,
) -> pd.DataFrame:
    """Attributions of every cell, and how they rank beside true effects [sample, pairs] of a sample of cells."""
    clusters = np.array([pair.clean for pair in pairs])
    labels: Row = {"target": options.questions[0], "split": "all", "state": "clean"}
    rows = _mean_rows("attribution", attribution, clusters, cells, labels, options, draws)
    known = rank_agreement(attribution[list(sample)], effect, options.seed)
    note = f"Spearman over {len(sample)} cells drawn at random; {options.integrated or 'no'} steps of integration"
    rows.append(tables.row("rank_agreement", known, site="all", **{**labels, "note": note}))
    return _table(rows, options)


def _table(rows: Sequence[Row], options: Options) -> pd.DataFrame:
    fixed = {"direction": options.direction, "mode": options.mode}
    blank = {name: "" for name in (*EXTRA, "span")}
    return tables.table([{**blank, **row, **fixed} for row in rows], "patching", options.seed, EXTRA)


def _row(measure: str, found: Estimate | float, cell: Cell, labels: Row, n: int = 0) -> Row:
    layers = cell.layers
    return tables.row(
        measure,
        found,
        n,
        **labels,
        site=str(cell.sites[-1]),
        span=cell.span,
        layers=str(layers[0]) if len(layers) == 1 else f"{layers[0]}-{layers[-1]}",
        head="" if cell.head is None else str(cell.head),
    )
