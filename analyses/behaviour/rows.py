"""Rows of the `behaviour` analysis: scores, baselines and contrasts of conditions, each with an interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from analyses.frame.parts import tracked
from analyses.frame.section import number_text
from analyses.inputs.answers import Part
from analyses.inputs.conditions import Condition, contrasted
from analyses.inputs.intervals import Rule, seeds_text
from analyses.inputs.measures import HYPERNYM_MEASURES, LEAF_MEASURES, Frame, Measured, chance, measured
from probing.stats import DRAWS, Estimate, bounds_text

RATES = tuple(name for name in HYPERNYM_MEASURES if name != "auroc")  # these need a Yes or No
SHORT = ("auroc", "macro_f1")  # of baselines, and of the leaves that are named correctly
TEXT = ("auroc", "top1")


def behaviour_table(
    of: Sequence[Condition], draws: int = DRAWS, seed: int = 0, interval: str = "hierarchical"
) -> pd.DataFrame:
    """The long table of scores, baselines and contrasts, each with a 95 % interval.

    Target `mean` averages over hypernyms and seeds. Its interval and that of a contrast are over leaf concepts,
    hypernyms and seeds (`probing.stats.hierarchical`), or the study's (`interval="study"`). That of a single hypernym
    is over leaves and seeds. With one run, differences between seeds are not included. `n` counts leaf concepts,
    under the study's rule values. `scored`, `leaves`, `baseline` and `modality` say what a number rests on
    (`analyses.inputs.answers.Part`); `headline` marks what the condition's ablation says to look at.
    """
    statistics = _Statistics(of, Rule(interval, draws, seed))
    asked: list[partial[Iterator[dict[str, Any]]]] = [
        partial(statistics.condition, condition, part, measure)
        for condition in of
        for part, measures in _parts(condition)
        for measure in measures
    ]
    asked += [
        partial(statistics.contrast, *pair, part, measure)
        for pair in contrasted(of)
        for part, measures in _contrast_parts(*pair)
        for measure in measures
    ]
    rows = [row for rows_of in tracked(asked, "behaviour", "numbers") for row in rows_of()]
    return pd.DataFrame(rows).assign(analysis="behaviour", interval=interval, split="test", seed=seed)


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """The headline rows: those that each condition's ablation and shuffle call for, without the baselines."""
    return table[table["headline"].astype(bool)]


def several_fractions(table: pd.DataFrame) -> bool:
    """Whether the conditions differ in the share of evidence that was really removed."""
    return table.loc[table["contrast"] == "", "effective"].nunique() > 1


def summary(table: pd.DataFrame) -> str:
    """The table's means as lines a person can read; the baselines below the scores."""
    means = table[(table["target"] == "mean") & (table["contrast"] == "")]
    means = pd.concat([means[means["headline"]], means[means["baseline"] != ""]])
    differences = table[table["headline"] | (table["leaves"] == "both_named")]
    differences = differences[differences["contrast"] != ""]
    lines = [f"{'':48}{'measure':20}{'value':>7}  95 % interval      n{seeds_text(means['runs'])}"]
    for row in pd.concat([means, differences]).to_dict("records"):
        about = row["baseline"] or row["modality"] + ", leaves both name" * (row["leaves"] == "both_named")
        name = f"{row['contrast'] or row['condition']} ({about})"
        value, limits = number_text(row["value"], 3), bounds_text(row["lower"], row["upper"])
        lines.append(f"{name:47} {row['measure']:20}{value:>7}  {limits:14}{row['n']:7d}")
    return "\n".join(lines)


class _Statistics:
    """The statistics of all conditions, each made once, and the table rows that are made from them."""

    def __init__(self, of: Sequence[Condition], rule: Rule):
        self.rule, self.frame = rule, Frame.of(of)
        self._made: dict[Any, Measured | None] = {}

    def condition(self, condition: Condition, part: Part, measure: str) -> Iterator[dict[str, Any]]:
        """Rows of a measure of a part of a condition."""
        found = self._measured(condition, part, measure)
        if found is None:
            return
        common = _common(condition, part, measure, condition.headline) | {
            "chance": chance(condition, part, measure)
        }
        yield common | _numbers("mean", self.rule.mean(found.statistics, found.n))
        if measure in HYPERNYM_MEASURES and not part.baseline:
            each = self.rule.each(found.statistics, found.counted.sum(axis=0), found.fewest)
            for hypernym, one in zip(self.frame.hypernyms, each, strict=True):
                yield common | _numbers(hypernym, one)

    def contrast(
        self, first: Condition, second: Condition, part: Part, measure: str
    ) -> Iterator[dict[str, Any]]:
        """The row of the difference of two conditions that have the same seeds."""
        about = {"contrast": f"{first.name}_minus_{second.name}", "chance": 0.0}
        matched = "named" in (first.headline.leaves, second.headline.leaves)
        main = replace(first.headline, leaves="both_named" if matched else "all")
        sides = [
            self._measured(one, part, measure, other) for one, other in ((first, second), (second, first))
        ]
        if sides[0] is None or sides[1] is None:
            return
        n = int((sides[0].counted & sides[1].counted).any(axis=1).sum())
        found = self.rule.contrast(sides[0].statistics, sides[1].statistics, n)
        yield _common(first, part, measure, main) | about | _numbers("mean", found)

    def _measured(
        self, condition: Condition, part: Part, measure: str, partner: Condition | None = None
    ) -> Measured | None:
        partner = partner if part.leaves == "both_named" else None
        key = (condition.name, condition.seeds, part, measure, partner and partner.name)
        if key not in self._made:
            self._made[key] = measured(condition, part, measure, self.frame, partner)
        return self._made[key]


def _parts(condition: Condition) -> Iterator[tuple[Part, Sequence[str]]]:
    """Every part of a condition's answers with the measures that are made of it."""
    main = replace(condition.headline, leaves="all")
    for name in condition.answers[0].pairs:
        leaf = LEAF_MEASURES if name == main.scored else ()
        yield replace(main, scored=name), (*HYPERNYM_MEASURES, "top1", *leaf)
    for decision in condition.answers[0].decisions[1:]:
        yield replace(main, decision=decision), RATES
    yield replace(main, leaves="named"), SHORT
    yield Part("text", main.scored), TEXT
    for name in dict.fromkeys(["majority", *condition.answers[0].baselines]):
        yield Part(scored=main.scored, baseline=name), SHORT


def _contrast_parts(first: Condition, second: Condition) -> Iterator[tuple[Part, Sequence[str]]]:
    main = replace(first.headline, leaves="all")
    yield main, (*HYPERNYM_MEASURES, "top1", *LEAF_MEASURES)
    if first.about["shuffle"] != second.about["shuffle"]:
        yield replace(main, leaves="both_named"), SHORT
    else:
        yield Part("text", main.scored), TEXT


def _common(condition: Condition, part: Part, measure: str, main: Part) -> dict[str, Any]:
    """The labels of a row; `main` is the part to look at, and leaf measures, which rest on no hypernym, always are."""
    same = part.leaves == main.leaves or part.modality == "text"
    same &= part.modality == "text" or measure not in RATES or part.decision == main.decision
    leading = measure in LEAF_MEASURES or (part.scored == main.scored and same)
    about = {name: condition.about[name] for name in condition.about if name not in ("evidence", "other")}
    return {
        "condition": condition.name,
        "contrast": "",
        **about,
        "ablation": condition.about["evidence"].removeprefix("ablation "),
        "runs": len(condition.answers),
        **part.__dict__,
        "decision": part.decision if measure in RATES else "",
        "measure": measure,
        "headline": leading and not part.baseline,
    }


def _numbers(target: str, found: Estimate) -> dict[str, Any]:
    return {"target": target, **found.__dict__}
