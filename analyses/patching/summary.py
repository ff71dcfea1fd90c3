"""The summary of a patching table: the difference of the two runs, the best cell of each span, the cells that count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analyses.frame.tables import estimate_text
from analyses.inputs.stimuli.natural import warnings


def summary(table: pd.DataFrame) -> str:
    """The table in about ten lines."""
    first = table.iloc[0]
    lines = [f"Patching {first['direction']}, {first['mode']}, {', '.join(table['run'].unique())}:"]
    for target, rows in table[table["split"] == "all"].groupby("target", sort=False):
        for gap in rows[rows["measure"] == "gap"].to_dict("records"):
            lines.append(
                f"  {target}: the two runs differ by {estimate_text(gap)} nats, "
                f"n = {gap['n']} leaf pairs between {gap['hypernyms']} hypernyms"
            )
        clean = rows[(rows["measure"] == "effect") & (rows["state"] == "clean")]
        counted = rows[(rows["measure"] == "counts") & (rows["value"] > 0)]
        for span, cells in clean.groupby("span", sort=False):
            layers = counted.loc[counted["span"] == span, "layers"].tolist()
            lines.append(
                f"  {target:8} {span:5} {_best(cells)}; counts at {len(layers)} of {len(cells)} cells"
            )
            lines[-1] += f": blocks {', '.join(layers)}" if layers else ""
    far = table[(table["split"] == "all") & (table["target"] == first["target"])]
    lines += warnings(far.assign(state=far["state"].replace({"clean": "the clean run's state"})), "state")
    for ranks in table[table["measure"] == "rank_agreement"].to_dict("records"):
        lines.append(
            f"  attribution ranks cells as patches do: {estimate_text(ranks)} over {ranks['n']} cells"
        )
    return "\n".join(lines)


def _best(cells: pd.DataFrame) -> str:
    """The cell of the largest effect, in words."""
    best: Mapping[Any, Any] = max(cells.to_dict("records"), key=lambda row: row["value"])
    head = f" head {best['head']}" if best["head"] else ""
    return f"most at {best['site']}{head}: {estimate_text(best, '+.2f')} nats"
