"""Screening: attributions of every cell, how they rank beside true patches of a few, and the grid of the best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from analyses.frame.parts import tracked
from analyses.patching.grid import PatchGrid
from analyses.patching.outcomes import joined
from analyses.patching.rows import screen_rows
from probing.stats.seeding import stream


def screen(grid: PatchGrid, top: int, sampled: int) -> tuple[pd.DataFrame, PatchGrid]:
    """The table of every cell's attribution beside a random sample of true effects; the grid of the best cells.

    Args:
        grid: the whole one.
        top: how many cells to go on with, by the size of their mean attribution.
        sampled: how many cells to compare with true patches.
    """
    question = grid.options.questions[0]
    chunks = [
        grid.part("attributed", question, first, grid.attributed)
        for first in tracked(range(0, len(grid.pairs), grid.options.chunk), "attributions", "parts")
    ]
    attribution = joined(chunks)["attribution"]
    rng = stream(grid.options.seed, "screened sample")
    sample = sorted(rng.choice(len(grid.cells), min(sampled, len(grid.cells)), replace=False).tolist())
    only = replace(grid.options, kinds=(), questions=(question,))
    outcomes = replace(grid, cells=[grid.cells[i] for i in sample], options=only).run("sample")[question]
    effect = outcomes["log_odds"][0] - outcomes["base"]
    table = screen_rows(attribution, effect, sample, grid.pairs, grid.cells, grid.options)
    best = np.argsort(-np.abs(attribution.mean(1)), kind="stable")[:top]
    return table, replace(grid, cells=[grid.cells[i] for i in sorted(best.tolist())])
