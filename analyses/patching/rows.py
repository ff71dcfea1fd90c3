"""Rows of a patching table: effects of patches and placebos in every cell, restored fractions, cells that count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped

from analyses.frame import tables
from analyses.inputs.stimuli.natural import MEASURES
from analyses.inputs.stimuli.pairs import Pair
from analyses.patching.options import Options
from analyses.patching.outcomes import CHANGES, Outcomes
from probing.patching import Cell, excess, rank_agreement
from probing.stats import DyadMean, Estimate, draw_weights, estimate_text, ratio_limits, studentised_interval

EXTRA = ("direction", "mode", "layers", "head", "state", "note", "hypernyms")
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
    """The long table of a grid: question (target) × cell × state, with intervals over hypernyms.

    `effect` is the change, in nats, of the log-odds of the answer that the state comes with against that of the
    run it is put into; `restored_fraction` the mean effect over the mean difference of the two runs (for noising
    `lost_fraction`), NaN with a note where they do not differ. `excess` is the effect over that of a placebo,
    `excess_band` its lower limit for all cells at once, `counts` is 1 where that is above 0 for every placebo and
    for the own state. `kl` is the divergence of the answers over the candidates, `up`, `down`, `shared` and
    `other` are changes of the log-probability of the state's own hypernym, of the patched run's, of those both
    have and of those neither has. `own_by_hooks` and `own_restarted` are the largest changes of any answer by a
    run's own state. With `--natural`, `mahalanobis_percentile` and `neighbour_percentile` say how far patched states
    lie among natural ones of their site and span, `unnatural` is the share of pairs over the 99th.

    n counts pairs, `hypernyms` the hypernyms in which they differ: what pairs of one hypernym share, on whichever side
    it stands, is drawn again with it (see `probing.stats.DyadMean`).
    """
    near = np.array([pair.near for pair in pairs])
    records: list[Record] = []
    for question, outcomes in results.items():
        of = _Records(question, cells, _ends(pairs), options)
        twin = (random_init or {}).get(question)
        effects = effects_by_state(outcomes, options, twin)
        gaps = dict.fromkeys(effects, outcomes["donor"] - outcomes["base"])
        if twin is not None:
            gaps[RANDOM_INIT] = twin["donor"] - twin["base"]
        records += of.runs(outcomes)
        for kind, effect in effects.items():
            records += of.effects(kind, effect, gaps[kind])
        for split, members in (("near", near), ("far", ~near)):
            records += of.means("effect", effects["clean"], "clean", split, members)
        for name in ("kl", *CHANGES, *MEASURES):
            for k, kind in enumerate(options.kinds if name in outcomes else ()):
                records += of.means(name, outcomes[name][k], kind)
        records += of.excesses(effects)
        records += of.own(outcomes)
    return _table(records, options)


def effects_by_state(
    outcomes: Outcomes, options: Options, random_init: Outcomes | None = None
) -> dict[str, Float[np.ndarray, "cells pairs"]]:
    """Changes of the log-odds, in nats, by the state that is put in; last those of the random-init run."""
    effects = {kind: outcomes["log_odds"][k] - outcomes["base"] for k, kind in enumerate(options.kinds)}
    if random_init is not None:
        effects[RANDOM_INIT] = random_init["log_odds"][0] - random_init["base"]
    return effects


def cell_labels(cell: Cell) -> dict[str, str]:
    """What a cell is in the columns of a table."""
    layers = cell.layers
    return {
        "layers": str(layers[0]) if len(layers) == 1 else f"{layers[0]}-{layers[-1]}",
        "head": "" if cell.head is None else str(cell.head),
        "site": str(cell.sites[-1]),
        "span": cell.span,
    }


def _ends(pairs: Sequence[Pair]) -> Shaped[np.ndarray, "pairs 2"]:
    """The hypernyms in which the leaves of each pair differ."""
    return np.array([(pair.up, pair.down) for pair in pairs])


@dataclass(frozen=True)
class _Records:
    """Makes the rows of one question; a row of numbers is a cell, a column a pair."""

    target: str
    cells: Sequence[Cell]
    ends: Shaped[np.ndarray, "pairs 2"]
    options: Options

    def runs(self, outcomes: Outcomes) -> list[Record]:
        """The log-odds of the two runs of each pair, for the answer that the state comes with."""
        records = []
        for measure, values in (
            ("log_odds_of_source", outcomes["donor"]),
            ("log_odds_of_patched_run", outcomes["base"]),
            ("gap", outcomes["donor"] - outcomes["base"]),
        ):
            (number,), counts = self._numbers(DyadMean(values, self.ends))
            records.append(tables.row(measure, number, site="all", target=self.target, split="all", **counts))
        return records

    def effects(self, state: str, effect: Float[np.ndarray, "cells pairs"], gap: np.ndarray) -> list[Record]:
        """Effects and their fractions of the difference of the two runs."""
        numbers, counts = self._numbers(DyadMean(effect.T, self.ends))
        (width,), _ = self._numbers(DyadMean(gap, self.ends))
        shares, note = ratio_limits(effect.T, gap, self.ends, self.options.draws, self.options.seed), ""
        if width.lower <= 0 <= width.upper:
            shares = np.full((3, len(self.cells)), np.nan)
            number = estimate_text(width.value, width.lower, width.upper, ".3g")
            note = f"clean and corrupted do not differ: {number} nats"
        records = []
        for cell, number, share in zip(self.cells, numbers, np.transpose(shares).tolist()):
            fraction = Estimate(*share, n=number.n)
            records.append(self._row("effect", number, cell, state, **counts))
            records.append(self._row(FRACTION[self.options.mode], fraction, cell, state, note=note, **counts))
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
        numbers, counts = self._numbers(DyadMean(values[:, defined].T, self.ends[defined]))
        return [
            self._row(measure, number, cell, state, split=split, **counts)
            for cell, number in zip(self.cells, numbers)
        ]

    def _numbers(self, mean: DyadMean) -> tuple[list[Estimate], dict[str, int]]:
        """The means with their intervals, and how many hypernyms these are over."""
        hypernyms = len(mean.clusters)
        weights = draw_weights(hypernyms, self.options.draws, self.options.seed)
        limits = studentised_interval(
            mean.value, mean.error, mean.at(weights), mean.errors(weights), hypernyms
        )
        numbers = [Estimate(*number, n=mean.n) for number in np.stack([mean.value, *limits], axis=1).tolist()]
        return numbers, {"hypernyms": hypernyms}

    def excesses(self, effects: Mapping[str, Float[np.ndarray, "cells pairs"]]) -> list[Record]:
        """The excess of effects over each placebo, and which cells count."""
        records: list[Record] = []
        counts, counted, n = np.ones(len(self.cells), bool), {}, len(self.ends)
        placebos = {OWN: 0.0, **{kind: effects[kind] for kind in effects if kind != "clean"}}
        for kind, placebo in placebos.items():
            over = excess(effects["clean"], placebo, self.ends, self.options.draws, self.options.seed)
            if kind in BEATEN[self.target]:
                counts &= over.beats
            counted = {"hypernyms": over.clusters}
            for c, cell in enumerate(self.cells):
                number = Estimate(over.value[c], over.lower[c], over.upper[c], n)
                records.append(self._row("excess", number, cell, kind, **counted))
                records.append(self._row("excess_band", float(over.band[c]), cell, kind, n=n, **counted))
        note = "beats " + ", ".join(kind for kind in placebos if kind in BEATEN[self.target])
        return records + [
            self._row("counts", float(c), cell, "clean", n=n, note=note, **counted)
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
        self, measure: str, number: Estimate | float, cell: Cell, state: str, n: int = 0, **labels: Any
    ) -> Record:
        labels = {"target": self.target, "split": "all", "state": state} | labels
        return tables.row(measure, number, n, **labels, **cell_labels(cell))


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
    of = _Records(target, cells, _ends(pairs), options)
    agreement = rank_agreement(attribution[list(sample)], effect, options.draws, options.seed)
    labels: Record = {"site": "all", "target": target, "split": "all", "state": "clean"}
    note = f"Spearman over {len(sample)} cells drawn at random; {options.integrated or 'no'} steps of integration"
    ranks = tables.row("rank_agreement", agreement, **labels, note=note)
    return _table([*of.means("attribution", attribution, "clean"), ranks], options)


def _table(records: Sequence[Record], options: Options) -> pd.DataFrame:
    fixed = {"direction": options.direction, "mode": options.mode}
    blank = dict.fromkeys((*EXTRA, "span"), "") | {"hypernyms": 0}
    return tables.table([{**blank, **record, **fixed} for record in records], "patching", options.seed, EXTRA)
