"""Rows of a patching table: effects of patches and placebos in every cell, restored fractions, cells that count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped

from analyses.frame import tables
from analyses.patching.options import Options
from analyses.patching.outcomes import CHANGES, Outcomes
from analyses.patching.pairs import Pair
from probing.patching import Cell, excess, rank_agreement
from probing.stats import ClusterMean, Estimate, draw_weights, estimate, interval

EXTRA = ("direction", "mode", "layers", "head", "state", "note")
OWN, RANDOM_INIT = "own", "random_init"
BEATEN = {
    "hypernym": (OWN, "stranger", "random", RANDOM_INIT),
    "leaf": (OWN, "sibling", "stranger", "random", RANDOM_INIT),
}
"""What a cell must beat to count, for each question. A sibling shares the hypernym: it bears on the leaf alone."""

FRACTION = {"denoising": "restored_fraction", "noising": "lost_fraction"}
Record = dict[str, Any]
"""A row of a long table."""


def patching_table(
    results: Mapping[str, Outcomes],
    pairs: Sequence[Pair],
    cells: Sequence[Cell],
    options: Options,
    random_init: Mapping[str, Outcomes] | None = None,
) -> pd.DataFrame:
    """The long table of a grid: question (target) × cell × state, with intervals over clean leaves.

    `effect` is the change, in nats, of the log-odds of the answer that the state comes with against that of the
    run it is put into; `restored_fraction` the mean effect over the mean difference of the two runs (for noising
    `lost_fraction`), NaN with a note where they do not differ. `excess` is the effect over that of a placebo,
    `excess_band` its lower limit for all cells at once, `counts` is 1 where that is above 0 for every placebo and
    for the own state. `kl` is the divergence of the answers over the candidates, `up`, `down`, `shared` and
    `other` are changes of the log-probability of the state's own hypernym, of the patched run's, of those both
    have and of those neither has. `own_by_hooks` and `own_restarted` are the largest changes of any answer by a
    run's own state.
    """
    clusters, near = np.array([pair.clean for pair in pairs]), np.array([pair.near for pair in pairs])
    records: list[Record] = []
    for question, outcomes in results.items():
        of = _Records(question, cells, clusters, options)
        effects = {kind: outcomes["log_odds"][k] - outcomes["base"] for k, kind in enumerate(options.kinds)}
        gaps = dict.fromkeys(effects, outcomes["donor"] - outcomes["base"])
        if random_init and question in random_init:
            twin = random_init[question]
            effects[RANDOM_INIT] = twin["log_odds"][0] - twin["base"]
            gaps[RANDOM_INIT] = twin["donor"] - twin["base"]
        records += of.runs(outcomes)
        for kind, effect in effects.items():
            records += of.effects(kind, effect, gaps[kind])
        for split, members in (("near", near), ("far", ~near)):
            records += of.means("effect", effects["clean"], "clean", split, members)
        for name in ("kl", *CHANGES):
            for k, kind in enumerate(options.kinds if name in outcomes else ()):
                records += of.means(name, outcomes[name][k], kind)
        records += of.excesses(effects)
        records += of.own(outcomes)
    return _table(records, options)


@dataclass(frozen=True)
class _Records:
    """Makes the rows of one question; a row of numbers is a cell, a column a pair."""

    target: str
    cells: Sequence[Cell]
    clusters: Shaped[np.ndarray, " pairs"]
    options: Options

    @cached_property
    def _weights(self) -> Float[np.ndarray, "draws clusters"]:
        return self._drawn(len(np.unique(self.clusters)))

    def _drawn(self, clusters: int) -> Float[np.ndarray, "draws clusters"]:
        return draw_weights(clusters, self.options.draws, self.options.seed)

    def runs(self, outcomes: Outcomes) -> list[Record]:
        """The log-odds of the two runs of each pair, for the answer that the state comes with."""
        records = []
        for measure, values in (
            ("log_odds_of_source", outcomes["donor"]),
            ("log_odds_of_patched_run", outcomes["base"]),
            ("gap", outcomes["donor"] - outcomes["base"]),
        ):
            mean = ClusterMean(values, self.clusters)
            number = estimate(mean.value[0], mean.at(self._weights)[:, 0], len(mean.clusters))
            records.append(tables.row(measure, number, site="all", target=self.target, split="all"))
        return records

    def effects(self, state: str, effect: Float[np.ndarray, "cells pairs"], gap: np.ndarray) -> list[Record]:
        """Effects and their fractions of the difference of the two runs."""
        mean, whole = ClusterMean(effect.T, self.clusters), ClusterMean(gap, self.clusters)
        n, drawn = len(mean.clusters), mean.at(self._weights)
        width, widths = whole.value[0], whole.at(self._weights)[:, 0]
        low, high = interval(widths)
        same = bool(low <= 0 <= high)
        note = f"clean and corrupted do not differ: {width:.3g} [{low:.3g}, {high:.3g}] nats" if same else ""
        records = []
        for c, cell in enumerate(self.cells):
            value, draws = mean.value[c], drawn[:, c]
            share = (
                Estimate(np.nan, np.nan, np.nan, n) if same else estimate(value / width, draws / widths, n)
            )
            records.append(self._row("effect", estimate(value, draws, n), cell, state))
            records.append(self._row(FRACTION[self.options.mode], share, cell, state, note=note))
        return records

    def means(
        self,
        measure: str,
        values: Float[np.ndarray, "cells pairs"],
        state: str,
        split: str = "all",
        members: Bool[np.ndarray, " pairs"] | None = None,
    ) -> list[Record]:
        """Means over pairs, of `members` if given; pairs without a number are left out, and not counted."""
        defined = ~np.isnan(values).all(0)
        defined = defined if members is None else defined & members
        if not defined.any():
            return []
        mean = ClusterMean(values[:, defined].T, self.clusters[defined])
        n = len(mean.clusters)
        drawn = mean.at(self._drawn(n))
        return [
            self._row(measure, estimate(mean.value[c], drawn[:, c], n), cell, state, split=split)
            for c, cell in enumerate(self.cells)
        ]

    def excesses(self, effects: Mapping[str, Float[np.ndarray, "cells pairs"]]) -> list[Record]:
        """The excess of effects over each placebo, and which cells count."""
        records: list[Record] = []
        counts = np.ones(len(self.cells), bool)
        placebos = {OWN: 0.0, **{kind: effects[kind] for kind in effects if kind != "clean"}}
        for kind, placebo in placebos.items():
            over = excess(effects["clean"], placebo, self.clusters, self.options.draws, self.options.seed)
            if kind in BEATEN[self.target]:
                counts &= over.beats
            for c, cell in enumerate(self.cells):
                number = Estimate(over.value[c], over.lower[c], over.upper[c], over.n)
                records.append(self._row("excess", number, cell, kind))
                records.append(self._row("excess_band", float(over.band[c]), cell, kind, n=over.n))
        note = "beats " + ", ".join(kind for kind in placebos if kind in BEATEN[self.target])
        n = len(np.unique(self.clusters))
        return records + [
            self._row("counts", float(c), cell, "clean", n=n, note=note)
            for c, cell in zip(counts, self.cells)
        ]

    def own(self, outcomes: Outcomes) -> list[Record]:
        """Changes by a run's own state, put back in two ways."""
        return [
            self._row(measure, float(value), cell, OWN, n=2)
            for measure, values in zip(("own_by_hooks", "own_restarted"), outcomes.get("own", ()))
            for value, cell in zip(values, self.cells)
        ]

    def _row(
        self, measure: str, number: Estimate | float, cell: Cell, state: str, n: int = 0, **labels: str
    ) -> Record:
        layers = cell.layers
        labels = {"target": self.target, "split": "all", "state": state} | labels
        labels["layers"] = str(layers[0]) if len(layers) == 1 else f"{layers[0]}-{layers[-1]}"
        labels["head"] = "" if cell.head is None else str(cell.head)
        return tables.row(measure, number, n, **labels, site=str(cell.sites[-1]), span=cell.span)


def screen_rows(
    attribution: Float[np.ndarray, "cells pairs"],
    effect: Float[np.ndarray, "sample pairs"],
    sample: Sequence[int],
    pairs: Sequence[Pair],
    cells: Sequence[Cell],
    options: Options,
) -> pd.DataFrame:
    """Attributions of every cell, and how they rank beside true effects of a sample of cells."""
    target = options.questions[0]
    of = _Records(target, cells, np.array([pair.clean for pair in pairs]), options)
    agreement = rank_agreement(attribution[list(sample)], effect, options.seed)
    labels: Record = {"site": "all", "target": target, "split": "all", "state": "clean"}
    note = f"Spearman over {len(sample)} cells drawn at random; {options.integrated or 'no'} steps of integration"
    ranks = tables.row("rank_agreement", agreement, **labels, note=note)
    return _table([*of.means("attribution", attribution, "clean"), ranks], options)


def _table(records: Sequence[Record], options: Options) -> pd.DataFrame:
    fixed = {"direction": options.direction, "mode": options.mode}
    blank = dict.fromkeys((*EXTRA, "span"), "")
    return tables.table([{**blank, **record, **fixed} for record in records], "patching", options.seed, EXTRA)
