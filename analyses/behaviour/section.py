"""The `behaviour` section of a report: figures, all mean scores, and every hypernym's AUROC."""

from __future__ import annotations

import pandas as pd

from analyses.behaviour.rows import headline
from analyses.frame.section import Block, Grid, Shown, cell_text, number_text
from analyses.inputs.intervals import seeds_text
from analyses.inputs.measures import MEASURES

_ASKED = {"image": "pictures", "text": "names"}


def section(table: pd.DataFrame) -> list[Block]:
    """The blocks of a table of behaviour."""
    lines = headline(table)
    means = lines[(lines["target"] == "mean") & (lines["contrast"] == "")]
    choices = means.loc[means["measure"] == "leaf_naming", "chance"]
    return [
        Shown(
            "behaviour",
            "Mean over hypernyms of the AUROC with which the read-out (log-probability of the hypernym after the "
            "picture, minus its mean over training pictures) separates pictures that have the hypernym from those "
            f"that do not; and the share of pictures named rightly among {round(1 / choices.iloc[0])} leaves. In a "
            "shuffled world the right answers are those of the name that the picture has there.",
        ),
        _scores(means),
        Shown("baselines", "The same scores beside baselines on the same rows."),
        _hypernyms(lines),
    ]


def _scores(means: pd.DataFrame) -> Grid:
    """Means over hypernyms: a row for each measure and modality, a column for each condition."""
    names = list(dict.fromkeys(means["condition"]))
    rows = []
    for (modality, measure), cells in means.groupby(["modality", "measure"], sort=False):
        of = {cell["condition"]: cell for cell in cells.to_dict("records")}
        chance = number_text(cells["chance"].iloc[0], 3)
        scores = [cell_text(of[name], 3) if name in of else "–" for name in names]
        rows.append([MEASURES[str(measure)], _ASKED[str(modality)], chance, *scores])
    runs = int(means["runs"].max())
    seeds = f", {runs} seeds" if runs > 1 else ""
    caption = (
        f"All scores with 95 % intervals, n = {int(means['n'].max())} leaf concepts{seeds}{seeds_text(means['runs'])}. "
        "“Names” is the same question about the leaf's name in words: the ceiling."
    )
    return Grid(["measure", "asked about", "chance", *names], rows, caption)


def _hypernyms(lines: pd.DataFrame) -> Grid:
    """AUROC of each hypernym in each condition, the best of the first condition on top."""
    rows = lines[
        (lines["measure"] == "auroc")
        & (lines["modality"] == "image")
        & (lines["target"] != "mean")
        & (lines["contrast"] == "")
    ]
    names = list(dict.fromkeys(rows["condition"]))
    cells = {(row["target"], row["condition"]): row for row in rows.to_dict("records")}
    targets = sorted({target for target, _ in cells})
    targets.sort(key=lambda target: -cells[target, names[0]]["value"] if (target, names[0]) in cells else 1)
    grid = [
        [target, *(cell_text(cells[target, name]) if (target, name) in cells else "–" for name in names)]
        for target in targets
    ]
    caption = (
        "Every hypernym: AUROC [95 % interval]; chance .5. A dash: all or none of the test leaves have it."
    )
    return Grid(["hypernym", *names], grid, caption, folded=True)
