"""An alignment table in about ten lines, and what layer probes of the same run add to it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analyses.frame import registry
from analyses.frame.drawing import panels
from analyses.frame.stores import RunOrStores
from analyses.frame.tables import estimate_text, layer_text
from analyses.inputs import leaf_rows
from analyses.inputs.references import TWIN
from analyses.text_alignment.figures import on_diagonal
from analyses.text_alignment.rows import measure_of

UNIT = "unit rows"
"""The treatment under which rows that are massive in pictures and words at once do not pass for likeness."""


def summary(table: pd.DataFrame) -> str:
    """Where pictures are most like each reference, from which layer on, and where treatments disagree."""
    measure = measure_of(table)
    rows = _last_whole(table)
    standard = rows[rows["treatment"] == panels.treatment_of(table)]
    unit = on_diagonal(rows[(rows["treatment"] == UNIT) & (rows["measure"] == "p_corrected")])
    lines = [f"Pictures against words, {', '.join(table['run'].unique())} ({measure}, leaf means):"]
    for (span, reference), place in standard.groupby(["span", "reference"], sort=False):
        place = on_diagonal(place)
        values = place[place["measure"] == measure].to_dict("records")
        p = place[place["measure"] == "p_corrected"]
        best = max(values, key=lambda row: row["value"])
        lines.append(
            f"  {span:6} {reference:18} best at {best['site']}: {estimate_text(best)}, "
            f"n = {best['n']} leaves; above its null at "
            f"{(p['value'] < 0.05).sum()} of {len(p)} sites"
            + _also(p, unit[(unit["span"] == span) & (unit["reference"] == reference)])
        )
    confirmed = _unit_onsets(rows)
    lines += [_onset_line(one, half, confirmed.get(one["span"])) for one, half in _onsets(standard)]
    if unit.empty:
        lines.append(
            f"  rows that are massive in pictures and words at once may be why: not compared with {UNIT} "
            f"(--treatment '{UNIT}')"
        )
    twin = on_diagonal(rows[(rows["measure"] == measure) & (rows["reference"] == TWIN)])
    return "\n".join([*lines, *leaf_rows.disagreements(twin, ("raw", UNIT))])


def probe_lines(table: pd.DataFrame, probes: Mapping[str, float]) -> list[str]:
    """Whether pictures become like the word, also with unit rows, before probes tell the hypernym, where probes do.

    `probes` has the layer of a place (`span`) from which they do.
    """
    standard = _last_whole(table)
    standard = standard[standard["treatment"] == panels.treatment_of(table)]
    lines = []
    confirmed = _unit_onsets(_last_whole(table))
    for one, _ in _onsets(standard):
        probe = probes.get(one["span"], np.nan)
        layer = np.maximum(one["value"], confirmed.get(str(one["span"]), -np.inf))
        if np.isfinite(layer) and np.isfinite(probe):
            order = "before" if layer < probe else "after" if layer > probe else "at"
            lines.append(
                f"  {one['span']}: like the word {order} the hypernym probe's onset at block {probe:.0f}"
            )
    return lines


def probe_onsets(run: RunOrStores) -> dict[str, float]:
    """The layer from which probes tell hypernyms of pictures at each place, where layer probes were run.

    Raises:
        DamagedError: their table is not as it was written.
        MismatchError: it was made from another projector, world, captures or stores than there are now.
    """
    layer_probes = registry.load("layer_probes")
    if not layer_probes.table_path(run).is_file():
        return {}
    rows = layer_probes.table(run)
    own = (rows["measure"] == "onset") & (rows["modality"] == "image") & (rows["target"] == "mean")
    rows = rows[own & (rows["probe"] == "ridge")]
    rows = rows[rows["step"] == rows["step"].max()]
    return {str(span): float(value) for span, value in zip(rows["span"], rows["value"])}


def _last_whole(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the last step over all leaves."""
    return table[(table["step"] == table["step"].max()) & (table["split"] == "")]


def _onsets(rows: pd.DataFrame) -> list[tuple[dict, dict]]:
    """The onset and the half rise of each place, against the same prompt."""
    twin = rows[rows["reference"] == TWIN]
    onsets, halves = (twin[twin["measure"] == name].to_dict("records") for name in ("onset", "half_rise"))
    half_of = {row["span"]: row for row in halves}
    return [(row, half_of[row["span"]]) for row in onsets]


def _unit_onsets(rows: pd.DataFrame) -> dict[str, float]:
    """The onset of each place with rows at unit length, NaN where there is none; empty if these were not compared."""
    return {one["span"]: one["value"] for one, _ in _onsets(rows[rows["treatment"] == UNIT])}


def _also(p: pd.DataFrame, unit: pd.DataFrame) -> str:
    """At how many of the sites that are above their null rows at unit length are so too."""
    if unit.empty or p["treatment"].iloc[0] == UNIT:
        return ""
    above = p.loc[p["value"] < 0.05, ["site", "other_site"]]
    both = above.merge(unit[unit["value"] < 0.05], on=["site", "other_site"])
    return f", at {len(both)} of these with {UNIT} too" if len(above) else ""


def _onset_line(onset: dict, half: dict, confirmed: float | None) -> str:
    """From which layer on pictures are like the word, also with rows at unit length if these were compared."""
    if not np.isfinite(onset["value"]):
        return f"  {onset['span']}: never like the word to the last block"
    text = (
        f"  {onset['span']}: above chance from block {layer_text(onset)} on (first detected), "
        f"half its best from {layer_text(half)}"
    )
    if confirmed is None or onset["treatment"] == UNIT:
        return text
    if np.isfinite(confirmed):
        return f"{text}; with {UNIT} {confirmed:.0f}"
    return f"{text}; NOT CONFIRMED with {UNIT}, where no block is detected: massive rows may be why"
