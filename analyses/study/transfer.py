"""Transfer from words to pictures, condition by condition: curves, the first layer detected, and its size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analyses.emergence.seeds import seed_rows
from analyses.frame.tables import layer_text
from analyses.inputs.intervals import within
from analyses.inputs.probe_curves import Condition as Curve
from analyses.inputs.probe_curves import Draws
from analyses.study.collecting import TRANSFER
from analyses.study.tables import Tables
from probing.probes.evaluate import Series
from probing.stats import estimate_text
from probing.stats.hierarchical import table_interval
from probing.stats.limits import half_width

PLACES = ("cue", "last", "slot")
"""Where the transfer is shown: at the first of these that was probed."""
_NORMAL = 1.96
_SHOWN = ("selectivity", "onset", "half_rise")


def curves(tables: Tables, plan: pd.DataFrame) -> pd.DataFrame:
    """Rows of each condition by layer, and of the first layer detected and the half-rise: means over seeds.

    Of a condition with one probed run these are that run's own, and limits leave out how seeds differ.
    """
    rows = tables.numbers[tables.numbers["run"].isin(plan["run"])]
    rows = rows[(rows["analysis"] == "layer_probes") & (rows["modality"] == TRANSFER)]
    span = next((one for one in PLACES if (rows["span"] == one).any()), "")
    rows = rows[(rows["span"] == span) & rows["measure"].isin(_SHOWN)]
    found = []
    for condition, runs in _probed(tables, plan).items():
        if len(runs) == 1:
            found.append(rows[rows["run"] == runs[0]].assign(condition=condition))
        else:
            fewest = int(tables.draws.loc[tables.draws["run"].isin(runs), "deviations"].map(len).min())
            means = seed_rows({condition: [_draws_of(tables, run, fewest) for run in runs]})
            found.append(means[(means["span"] == span) & means["measure"].isin(_SHOWN)])
        found[-1] = found[-1].assign(seeds=_seeds(plan, runs))
    columns = ["condition", "seeds", "span", "layer", "site", "measure", "value", "lower", "upper", "n"]
    return pd.concat(found)[columns].reset_index(drop=True) if found else pd.DataFrame(columns=columns)


def cohesion(tables: Tables, plan: pd.DataFrame) -> pd.DataFrame:
    """Cohesion of hypernyms in pictures by layer: means over seeds of each condition.

    Limits add the variance over leaves, taken from those of a run (seeds share the leaves, so that it does not average
    out), and that between seeds; those of a single seed are the run's own.
    """
    rows = tables.numbers[tables.numbers["run"].isin(plan["run"])]
    rows = rows[(rows["analysis"] == "cohesion") & (rows["modality"] == "image") & rows["layer"].notna()]
    rows = rows[rows["measure"] == "cohesion"]
    span = next((one for one in PLACES if (rows["span"] == one).any()), "")
    rows = rows[(rows["span"] == span) & rows["site"].str.endswith("hook_resid_post")]
    unique = plan.drop_duplicates("run").set_index("run")
    rows = rows.assign(condition=unique["condition"].reindex(rows["run"]).to_numpy())
    found = []
    for (condition, layer), own in rows.groupby(["condition", "layer"], sort=False):
        lower, upper = (float(own[side].mean()) for side in ("lower", "upper"))
        value, runs = float(own["value"].mean()), len(own)
        if runs > 1:
            of_leaves = ((upper - lower) / 2 / _NORMAL) ** 2
            parts = [(of_leaves, own["n"].min() - 1), (float(own["value"].var()) / runs, runs - 1)]
            lower, upper = value - float(half_width(parts)), value + float(half_width(parts))
        numbers = {"value": value, "lower": lower, "upper": upper, "n": int(own["n"].min())}
        found.append(
            {"condition": condition, "layer": layer, **numbers, "seeds": _seeds(plan, list(own["run"]))}
        )
    return pd.DataFrame(found, columns=["condition", "layer", "value", "lower", "upper", "n", "seeds"])


def sizes(tables: Tables, plan: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Of each probed condition the AUROC of the transfer over the last third of the blocks: seeds × hypernyms."""
    rows = tables.numbers[(tables.numbers["measure"] == "size") & tables.numbers["run"].isin(plan["run"])]
    span = next((one for one in PLACES if (rows["span"] == one).any()), "")
    rows = rows[rows["span"] == span]
    unique = plan.drop_duplicates("run").set_index("run")
    rows = rows.assign(condition=unique["condition"].reindex(rows["run"]).to_numpy())
    rows["run_seed"] = unique["seed"].reindex(rows["run"]).to_numpy()
    return {
        str(name): own.pivot_table(index="run_seed", columns="target", values="value", sort=True)
        for name, own in rows.groupby("condition", sort=False)
    }


def size_rows(of_condition: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The size of each condition, with limits over hypernyms and seeds, and its standard deviation between seeds."""
    rows = [
        {"condition": name, **_interval(table, 0.0), "spread": table.mean(axis=1).std()}
        for name, table in of_condition.items()
    ]
    return pd.DataFrame(rows, columns=["condition", "value", "lower", "upper", "n", "seeds", "spread"])


def lines(rows: pd.DataFrame) -> list[str]:
    """A line for each condition: where the transfer is detected first and half risen, its size, and its spread."""
    found = []
    for condition, own in rows[rows["measure"].isin((*_SHOWN[1:], "size"))].groupby("condition", sort=False):
        of = {str(row["measure"]): row for row in own.to_dict("records")}
        blocks = [
            f"{words} {layer_text(of[name])}"
            for name, words in zip(_SHOWN[1:], ("first block", "half-rise"), strict=True)
            if name in of
        ]
        if size := of.get("size"):
            blocks += [f"size {estimate_text(size['value'], size['lower'], size['upper'])}"]
            blocks += [f"sd between seeds {size['spread']:.3f}"] if size["spread"] == size["spread"] else []
        found.append(f"    {condition}: {'; '.join(blocks)}")
    return (
        ["transfer of words to pictures (size: AUROC over the last third of the blocks):", *found]
        if found
        else []
    )


def size_contrast(first: pd.DataFrame | None, second: pd.DataFrame | None) -> dict[str, Any] | None:
    """The difference of two sizes at the seeds and hypernyms that both have."""
    if first is None or second is None:
        return None
    difference = first - second
    difference = difference.dropna(how="all").dropna(axis=1, how="all")
    return _interval(difference, -1.0) if difference.size else None


def _interval(table: pd.DataFrame, least: float) -> dict[str, Any]:
    estimate = within(table_interval(table.to_numpy(float)), least)
    return {**estimate.__dict__, "seeds": ",".join(map(str, table.index))}


def _probed(tables: Tables, plan: pd.DataFrame) -> dict[str, list[str]]:
    """The runs of each condition that were probed."""
    probed = set(tables.draws["run"])
    unique = plan.drop_duplicates("run")
    of_condition: dict[str, list[str]] = {}
    for condition, run in zip(unique["condition"], unique["run"]):
        if run in probed:
            of_condition.setdefault(condition, []).append(run)
    return of_condition


def _seeds(plan: pd.DataFrame, runs: Sequence[str]) -> str:
    seeds = plan.drop_duplicates("run").set_index("run")["seed"]
    return ",".join(str(seeds[run]) for run in runs)


def _draws_of(tables: Tables, run: str, most: int) -> Draws:
    """The first stored draws of a run in the type that means over seeds are made of; versions store more or fewer."""
    leaves = tables.runs.set_index("run")["probed_leaves"][run]
    rows = tables.draws[tables.draws["run"] == run]
    found: dict[Curve, tuple[tuple[str, ...], Series]] = {}
    for key, own in rows.groupby(["step", "span", "modality", "probe"], sort=False):
        step, span, modality, probe = map(str, key)
        value = own["value"].to_numpy(float)
        deviations = np.stack([one[:most] for one in own["deviations"]]).astype(float)
        drawn = value + (deviations * own["scale"].to_numpy(float)[:, None]).T
        # Means over seeds are made of both; the AUROC itself is not shown, and its draws are not stored.
        series = Series(value, drawn, value, drawn, np.empty((0, len(own))))
        found[Curve(int(step), span, modality, probe)] = tuple(own["site"]), series
    return Draws(tuple(leaves), found)
