"""The `mediation` section of a report: figures, the effects of every contrast, and answers by own name and content."""

from __future__ import annotations

import pandas as pd

from analyses.frame.section import Block, Grid, Shown, cell_text
from analyses.inputs.intervals import limits_text
from analyses.mediation.figures import EFFECTS


def section(table: pd.DataFrame) -> list[Block]:
    """The blocks of a table of mediation."""
    blocks: list[Block] = [
        Shown(
            "readouts",
            "How well hypernyms are told by the model's answer, by the names that it gives the picture, answered in "
            "words (the language model's read-out for each name, weighted by its probability), and by what is left "
            "of the answer once these are taken out. Beside it the model's answers by the hypernyms of what the "
            "picture is called, of the name that the model gives it, and of what is shown.",
        ),
        _answers(table),
    ]
    if (table["contrast"] != "").any():
        blocks += [
            Shown(
                "effects",
                "Natural effects: the difference if only the names were exchanged (by way of the name), and if all "
                "but the names were (past the name); they add to the whole. Below, the difference on pictures that "
                "both name equally well.",
            ),
            _effects(table),
            Shown(
                "sensitivity",
                "How the effects move if names were read with error, and under other assumptions.",
            ),
        ]
    if table["step"].notna().any():
        blocks.append(Shown("plane", "Hypernyms against naming while the projector learns."))
    return blocks


def _answers(table: pd.DataFrame) -> Grid:
    """AUROC of the model's answers by own name and by content."""
    rows = table[(table["against"] != "") & table["step"].isna()]
    cells = {(one["condition"], one["pictures"], one["against"]): one for one in rows.to_dict("records")}
    kinds = list(dict.fromkeys(rows["against"]))
    lines = [
        [
            condition,
            pictures,
            f"{own['rows'].iloc[0]:.0f}",
            *(
                cell_text(cells[condition, pictures, kind], 3)
                if (condition, pictures, kind) in cells
                else "–"
                for kind in kinds
            ),
        ]
        for (condition, pictures), own in rows.groupby(["condition", "pictures"], sort=False)
    ]
    caption = f"AUROC of the model's answers by the hypernyms of each, {_interval(rows)}; chance .5."
    return Grid(["condition", "pictures", "n", *kinds], lines, caption)


def _effects(table: pd.DataFrame) -> Grid:
    """The effects of every contrast."""
    rows = table[(table["contrast"] != "") & (table["varied"] == "") & table["measure"].isin(list(EFFECTS))]
    lines = [
        [
            row["contrast"].replace("_minus_", " − "),
            EFFECTS[row["measure"]] + (f", ±{row['at']:g} nats" if row["measure"] == "matched" else ""),
            cell_text(row, 3),
            f"{row['n']:.0f}",
            f"{row['rows']:.0f}",
        ]
        for row in rows.to_dict("records")
    ]
    caption = (
        f"Differences in hypernym AUROC, {_interval(rows)}. What is assumed is in the docstring of "
        "`analyses.mediation.effects`."
    )
    return Grid(["contrast", "part", "difference", "leaves", "pictures or pairs"], lines, caption)


def _interval(rows: pd.DataFrame) -> str:
    return f"n = {int(rows['n'].max())} leaf concepts; intervals: {limits_text(rows['runs'])}"
