"""Contrasts between probed runs: differences of mean AUROC, paired by leaf and by pair of runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analyses.frame.tables import NO_STEP
from analyses.inputs.categories import HELD_OUT, MEAN, SEEN, SEEN_MINUS_HELD_OUT
from analyses.layer_probes.layers import LayerProbes
from analyses.layer_probes.rows import number_text, place_text
from analyses.layer_probes.table import COLUMNS, Curves, difference_rows
from probing.stats import draw_weights
from probing.store import MismatchError


def contrast_table(
    first: Sequence[LayerProbes], second: Sequence[LayerProbes], name: str, split: str, seed: int
) -> pd.DataFrame:
    """The long table of `contrasts`, its rows named by the runs on both sides."""
    table = contrasts(first, second, seed)
    return table.assign(run=name, analysis="layer_probes", seed=seed, split=split)[list(COLUMNS)]


def contrasts(first: Sequence[LayerProbes], second: Sequence[LayerProbes], seed: int = 0) -> pd.DataFrame:
    """Mean AUROC of the `first` runs minus that of the `second`, paired by leaf, averaged over pairs (seeds).

    The bootstrap draws leaves and, where there are several pairs, pairs. Where hypernyms are seen and held out, the
    difference of their difference is there too.

    Raises:
        MismatchError: the runs were probed on different leaves, targets or sites.
        ValueError: the numbers of runs differ, or no condition is in all of them.
    """
    if len(first) != len(second):
        raise ValueError(
            f"asked to contrast {len(first)} runs with {len(second)}; name a partner for each run"
        )
    everyone = (*first, *second)
    if any(other.leaves != first[0].leaves for other in everyone):
        raise MismatchError("runs with different leaves cannot be paired; probe runs that share their leaves")
    if any(other.targets != first[0].targets for other in everyone):
        raise MismatchError("runs with different targets cannot be contrasted; probe runs of one taxonomy")
    weights = _pair_weights(len(first), first[0].curves, seed)
    tables = []
    for condition, (sites, _) in first[0].curves.items():
        if not all(condition in run.curves for run in everyone):
            continue
        if any(run.curves[condition][0] != sites for run in everyone):
            raise MismatchError(
                f"runs with different sites at {condition.span} cannot be contrasted; name sites that all have with "
                "--site"
            )
        sides = [[run.curves[condition][1] for run in runs] for runs in (first, second)]
        differences = {}
        for subset in sides[0][0]:
            if all(subset in series for series in (*sides[0], *sides[1])):
                pairs = [(a[subset], b[subset]) for a, b in zip(*sides)]
                each = np.stack([a.auroc_draws - b.auroc_draws for a, b in pairs], axis=1)
                value = np.mean([a.auroc - b.auroc for a, b in pairs], axis=0)
                differences[subset] = value, np.einsum("dp,dps->ds", weights, each)
        if SEEN in differences and HELD_OUT in differences:
            both = zip(differences[SEEN], differences[HELD_OUT])
            differences[SEEN_MINUS_HELD_OUT] = tuple(a - b for a, b in both)
        tables += [
            difference_rows(condition, sites, subset, *pair).assign(n=len(first[0].leaves))
            for subset, pair in differences.items()
        ]
    if not tables:
        raise ValueError("the runs share no step, span and modality, so there is nothing to contrast")
    return pd.concat(tables, ignore_index=True)


def contrast_summary(table: pd.DataFrame) -> str:
    """The largest difference of each place and modality between runs, at the last step."""
    means = table[(table["target"] == MEAN) & table["step"].isin([table["step"].max(), NO_STEP])]
    lines = [f"Mean AUROC, {table.iloc[0]['run']} (paired by leaf)"]
    for (span, modality, probe), rows in means.groupby(["span", "modality", "probe"], sort=True):
        largest = rows.iloc[int(rows["value"].abs().argmax())]
        lines.append(f"  {span:5} {modality:11} {probe}: {number_text(largest)} at {place_text(largest)}")
    return "\n".join(lines)


def _pair_weights(pairs: int, curves: Curves, seed: int) -> np.ndarray:
    """The weight of each pair of runs in each bootstrap draw, [draws, pairs]."""
    _, series = next(iter(curves.values()))
    draws = len(next(iter(series.values())).auroc_draws)
    return draw_weights(pairs, draws, seed + 1) / pairs
