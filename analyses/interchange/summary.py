"""The summary of an interchange table: each subspace at its best layer, beside its controls; illusions; angles."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from analyses.frame.tables import estimate_text
from analyses.inputs.stimuli.natural import warnings
from analyses.interchange.exchanged import ANGLES, SPECTRUM
from probing.edits.placebos import FEWEST

_signed = partial(estimate_text, form="+.2f")


def summary(table: pd.DataFrame) -> str:
    """The table in a few lines a span."""
    first = table.iloc[0]
    own = table[table["treatment"] == ""]
    lines = [f"Interchange {first['direction']}, {', '.join(table['run'].unique())}:"]
    for span, rows in own.groupby("span", sort=False):
        effects = rows[(rows["measure"] == "effect") & (rows["edit"] == "swap")]
        whole = _best(rows[(rows["measure"] == "effect") & (rows["edit"] == "whole")])
        lines.append(
            f"  {span}: the whole state {_signed(whole)} nats behind block {whole['layer']:.0f}, "
            f"{_percent(rows, whole)} prefer the source's hypernym; n = {whole['n']} pairs between "
            f"{whole['hypernyms']} hypernyms"
        )
        for _, one in effects.groupby(["method", "trained", "rank"], sort=False):  # pyright: ignore
            lines.append(f"    {_subspace(rows, _best(one))}")
        lines += [f"    {line}" for line in _angles(rows)]
        swaps = rows["edit"] == "swap"
        kinds = rows["method"] + " of " + rows["trained"] + ", rank " + rows["rank"].astype(str)
        named = rows.assign(kind=kinds.where(swaps, "the whole state"))
        lines += [f"  {line}" for line in warnings(named[swaps | (rows["edit"] == "whole")], "kind")]
    notes = table.loc[table["edit"] == "none", "note"].unique()
    lines += [f"  less than the defaults: {note}" for note in notes if note]
    return "\n".join(lines)


def _subspace(rows: pd.DataFrame, best: dict[str, Any]) -> str:
    at = rows[(rows["layer"] == best["layer"]) & (rows["trained"] == best["trained"])]
    at = at[(at["method"] == best["method"]) & (at["rank"] == best["rank"])]
    p = at[at["measure"] == "effect_p_corrected"].set_index("edit")["value"].dropna()
    ranked = ", ".join(f"{control} {value:.2g}" for control, value in p.items())
    ranked = f"p corrected: {ranked}" if ranked else f"no p with fewer than {FEWEST} draws"
    flagged = float(at.loc[at["measure"] == "flagged", "value"].iloc[0])
    illusion = "; too few hypernyms to look for an illusion" if np.isnan(flagged) else ""
    return (
        f"{best['method']} of {best['trained']}, rank {best['rank']}: most behind block {best['layer']:.0f}, "
        f"{_signed(best)} nats, {_percent(rows, best)} prefer the source's; {ranked}"
        + ("; an illusion: neither part does it alone" if flagged > 0 else illusion)
    )


def _angles(rows: pd.DataFrame) -> list[str]:
    overlaps = rows[rows["measure"] == "overlap"]
    lines = []
    for (method, rank), one in overlaps.groupby(["method", "rank"], sort=False):  # pyright: ignore
        best = _best(one[one["edit"] == ANGLES])
        null = one[(one["edit"] == SPECTRUM) & (one["layer"] == best["layer"])]["value"].iloc[0]
        p = rows[
            (rows["measure"] == "overlap_p_corrected") & (rows["method"] == method) & (rows["rank"] == rank)
        ]
        p = p[p["layer"] == best["layer"]]["value"].iloc[0]
        said = f"p = {p:.2g} beside exchanged labels, corrected"
        said = said if np.isfinite(p) else f"no p with fewer than {FEWEST} draws of exchanged labels"
        lines.append(
            f"words ↔ pictures, {method}, rank {rank}: overlap {best['value']:.3f} behind block {best['layer']:.0f} "
            f"(random {null:.3f}; {said})"
        )
    return lines


def _best(rows: pd.DataFrame) -> dict[str, Any]:
    return max(rows.to_dict("records"), key=lambda row: row["value"])  # pyright: ignore[reportReturnType]


def _percent(rows: pd.DataFrame, best: dict[str, Any]) -> str:
    same = rows[(rows["measure"] == "accuracy") & (rows["target"] == "hypernym")]
    for name in ("layer", "method", "trained", "rank", "edit"):
        same = same[same[name] == best[name]]
    return f"{same['value'].iloc[0]:.0%}"
