"""Contrasts between probed runs: differences of mean AUROC, paired by leaf and by pair of runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analyses.frame.tables import NO_STEP, estimate_text, layer_of
from analyses.inputs.categories import HELD_OUT, MEAN, SEEN, SEEN_MINUS_HELD_OUT
from analyses.inputs.intervals import ONE_SEED
from analyses.inputs.probe_curves import ENCODER_LAYER, Condition, error_factor
from analyses.layer_probes.layers import LayerProbes
from analyses.layer_probes.rows import place_text
from analyses.layer_probes.table import COLUMNS
from probing.stats import over_runs
from probing.store import MismatchError

ONE_PAIR = f"one pair of runs: {ONE_SEED}"
"""What limits of a single pair leave out."""


def contrast_table(
    first: Sequence[LayerProbes], second: Sequence[LayerProbes], name: str, split: str, seed: int
) -> pd.DataFrame:
    """The long table of `contrasts`, its rows named by the runs on both sides."""
    table = contrasts(first, second)
    return table.assign(run=name, analysis="layer_probes", seed=seed, split=split)[[*COLUMNS, "pairs"]]


def contrasts(first: Sequence[LayerProbes], second: Sequence[LayerProbes]) -> pd.DataFrame:
    """Mean AUROC of the `first` runs minus that of the `second`, paired by leaf, averaged over pairs (seeds).

    The 95 % limits of several `pairs` add the variance over leaves and that between pairs (`probing.stats.over_runs`);
    those of one pair are over leaves alone: differences between seeds are not included. The error over leaves is
    widened by `error_factor`. Where hypernyms are seen and held out, the difference of their difference is there too.

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
                each = np.stack([a.auroc - b.auroc for a, b in pairs])
                drawn = np.mean([a.auroc_draws - b.auroc_draws for a, b in pairs], axis=0)
                differences[subset] = each, drawn
        if SEEN in differences and HELD_OUT in differences:
            both = zip(differences[SEEN], differences[HELD_OUT])
            differences[SEEN_MINUS_HELD_OUT] = tuple(a - b for a, b in both)
        tables += [
            _rows(condition, sites, subset, each, drawn, len(first[0].leaves))
            for subset, (each, drawn) in differences.items()
        ]
    if not tables:
        raise ValueError("the runs share no step, span and modality, so there is nothing to contrast")
    return pd.concat(tables, ignore_index=True)


def contrast_summary(table: pd.DataFrame) -> str:
    """The largest difference of each place and modality between runs, at the last step."""
    means = table[(table["target"] == MEAN) & table["step"].isin([table["step"].max(), NO_STEP])]
    pairs = int(table.iloc[0]["pairs"])
    seeds = f"mean of {pairs} pairs of runs" if pairs > 1 else ONE_PAIR
    lines = [f"Mean AUROC, {table.iloc[0]['run']} (paired by leaf; {seeds})"]
    for (span, modality, probe), rows in means.groupby(["span", "modality", "probe"], sort=True):
        largest = rows.iloc[int(rows["value"].abs().argmax())]
        lines.append(
            f"  {span:5} {modality:11} {probe}: {estimate_text(largest, '.3f')} at {place_text(largest)}"
        )
    return "\n".join(lines)


def _rows(
    condition: Condition, sites: Sequence[str], target: str, each: np.ndarray, drawn: np.ndarray, n: int
) -> pd.DataFrame:
    """Rows of a difference at each site, from that of each pair and bootstrap draws of their mean."""
    lower, upper = over_runs(each, drawn, n, error_factor(condition))
    layers = [layer_of(site, encoder=ENCODER_LAYER) for site in sites]
    numbers = {"value": each.mean(axis=0), "lower": lower, "upper": upper, "n": n, "pairs": len(each)}
    labels = {**condition._asdict(), "target": target, "measure": "auroc_difference"}
    return pd.DataFrame({"site": list(sites), "layer": layers, **numbers}).assign(**labels)
