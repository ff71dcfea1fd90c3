"""The report section about a table of evidence: figures, where each kind begins, sentences, and what is missing."""

from __future__ import annotations

import pandas as pd

from analyses.emergence.curves import HALF, ONSET
from analyses.emergence.evidence import CURVE, MISSING
from analyses.emergence.sentences import PLACES, of_last_step, sentences
from analyses.emergence.side_by_side import file_name
from analyses.frame.section import Block, Grid, Lines, Shown, number_text
from analyses.frame.tables import layer_text


def of_evidence(table: pd.DataFrame) -> list[Block]:
    """The blocks of the section: figures, where each kind begins, sentences, and commands for what is missing."""
    conditions = [str(name) for name in dict.fromkeys(table["condition"])]
    shown = [
        Shown(
            file_name(name),
            f"All evidence about layers side by side, {name}: where each kind begins, beside its controls.",
        )
        for name in conditions
        if ((table["condition"] == name) & (table["measure"] == CURVE)).any()
    ]
    missing = table[table["measure"] == MISSING].drop_duplicates(["condition", "kind"])
    commands = missing[["condition", "kind", "note"]].astype(str).to_numpy().tolist()
    caption = (
        "Kinds of evidence that are not there, with the commands that make them in the folder of the runs."
    )
    asked = [Grid(["condition", "kind", "command"], commands, caption, folded=True)] if commands else []
    return [*shown, _grid(table), Lines("\n".join(sentences(table))), *asked]


def _grid(table: pd.DataFrame) -> Grid:
    """Where each kind of evidence begins at the last step, and is half as large as at its most."""
    lines = []
    for condition, rows in table.groupby("condition", sort=False):
        own = of_last_step(rows)
        own = own[own["control"] == ""]
        half = own[own["measure"] == HALF].set_index(["span", "kind"])
        for one in own[own["measure"] == ONSET].to_dict("records"):
            rise = half.loc[(one["span"], one["kind"])].to_dict()
            begun = pd.notna(one["value"])
            cells = [str(condition), PLACES.get(one["span"], one["span"]), one["kind"], one["about"]]
            cells += [layer_text(one), number_text(one["share"])]
            lines.append([*cells, layer_text(rise) if begun else "–", str(one["n"])])
    header = ["condition", "place", "kind", "about", "onset", "share of depth", "half-rise", "n"]
    caption = (
        "Onset: the first block from which the lower limit, corrected over blocks, stays above the null (of causes: at "
        "which the stretch with the largest effect begins). Half-rise: from there at least half of the largest value "
        "is kept. [95 % interval over leaf concepts, and seeds where there are several]."
    )
    return Grid(header, lines, caption)
