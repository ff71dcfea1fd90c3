"""Rows of the `mediation` analysis: read-outs, answers by own name, effects, contrasts at matched naming."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analyses.frame.section import number_text
from analyses.inputs.conditions import Condition, contrasted
from analyses.inputs.measures import Frame
from analyses.mediation.effects import (
    OF_DISTRIBUTIONS,
    VARIATIONS,
    against,
    compared,
    effects,
    matched,
    readouts,
)
from analyses.mediation.intervals import Intervals
from analyses.mediation.naming import Naming
from analyses.mediation.plane import Snapshots, plane_rows
from analyses.mediation.sides import Side
from probing.stats import bounds_text
from probing.stats.mediation import Combined
from probing.store import MismatchError

TEXTS = ("condition", "contrast", "scored", "readout", "against", "pictures", "varied", "measure")
NUMBERS = ("at", "step", "value", "lower", "upper", "n", "rows", "runs")
Namings = Mapping[tuple[str, int], Naming]
Row = dict[str, Any]


def mediation_table(
    conditions: Sequence[Condition],
    pairs: Sequence[tuple[Condition, Condition]],
    naming: Namings,
    snapshots: Snapshots,
    caliper: float,
    intervals: Intervals,
) -> pd.DataFrame:
    """The long table; all numbers have a 95 % interval over leaf concepts, hypernyms and seeds.

    Measures: auroc of a `readout`, or of the model's answers `against` labels of other leaves; gain, naming (share of
    pictures whose likeliest name is right; naming by read-out where names are stored ones, which are chosen by their
    read-out) and right_name (its log-probability, nats); of a contrast the natural
    effects (`analyses.mediation.effects`), direct and indirect again under each assumption (`varied`, `at`), and
    matched, the difference at equal naming, with what is left of the difference in naming (imbalance), and named
    exactly, that on pictures of which each side gives the right name; through training naming and auroc at each step,
    and the gap at equal naming. `n` counts leaves (named exactly: by both), `rows` pictures or matched pairs over all
    seeds.

    Args:
        conditions: that are reported.
        pairs: which are contrasted.
        naming: by condition and seed, in the order of the rows of scores.
        snapshots: by condition and seed; empty for none.
        caliper: of matching, in nats.
        intervals: how limits are made.
    """
    frame = Frame.of(conditions)
    rows: list[Row] = []
    for condition in conditions:
        rows += condition_rows(condition, naming, frame, intervals)
    for first, second in pairs:
        rows += contrast_rows((first, second), naming, frame, caliper, intervals)
    if snapshots:
        rows += plane_rows(conditions, pairs, snapshots, frame, intervals)
    common = {"target": "mean", "analysis": "mediation", "split": "test", "seed": intervals.seed}
    empty = dict.fromkeys(TEXTS, "") | dict.fromkeys(NUMBERS, float("nan"))
    return pd.DataFrame([{**empty, **row, **common} for row in rows])


def chosen_pairs(conditions: Sequence[Condition], contrast: str) -> list[tuple[Condition, Condition]]:
    """The two conditions that were named, "A,B", or by default those that differ in one thing; of shared seeds.

    Raises:
        KeyError: one is not a condition of these runs.
        MismatchError: the two share no seed or no leaf.
    """
    if not contrast:
        return contrasted(conditions)
    by_name = {condition.name: condition for condition in conditions}
    words = contrast.split(",")
    splits = [(",".join(words[:at]).strip(), ",".join(words[at:]).strip()) for at in range(1, len(words))]
    named = [pair for pair in splits if set(pair) <= set(by_name) and len(set(pair)) == 2]
    if not named:
        raise KeyError(
            f"--contrast {contrast!r} was asked for; give two of these conditions as A,B: {'; '.join(by_name)}"
        )
    first, second = (by_name[name] for name in named[0])
    seeds = sorted(set(first.seeds) & set(second.seeds))
    if not seeds:
        raise MismatchError(
            f"{first.name} has the seeds {list(first.seeds)} and {second.name} {list(second.seeds)}: a contrast pairs "
            "runs of one seed; give runs of a seed that both have"
        )
    pair = first.of_seeds(seeds), second.of_seeds(seeds)
    if not set(pair[0].answers[0].taxonomy.leaves) & set(pair[1].answers[0].taxonomy.leaves):
        raise MismatchError(f"{first.name} and {second.name} share no leaf; give runs about the same leaves")
    return [pair]


def condition_rows(
    condition: Condition, naming: Namings, frame: Frame, intervals: Intervals
) -> Iterator[Row]:
    """Rows of one condition."""
    part = replace(condition.headline, leaves="all")
    sides = _sides(condition, naming, frame, condition)
    about = {"condition": condition.name, "scored": part.scored, "pictures": "all"}
    counts = _counts([_scored(side) for side in sides], sides)
    for name in (of_sides := [readouts(side) for side in sides])[0]:
        least = -1.0 if "−" in name else 0.0
        numbers = intervals.mean([one[name] for one in of_sides], least, counts["n"])
        yield about | counts | {"measure": "auroc", "readout": name} | numbers
    single = {"gain": [side.aligned(side.gain()) for side in sides]}
    kind = "naming" if sides[0].naming.whole else "naming by read-out"
    single |= {kind: [side.over_leaves(side.naming.best == side.leaves) for side in sides]}
    single |= (
        {"right_name": [side.over_leaves(side.right) for side in sides]} if sides[0].naming.whole else {}
    )
    for name, statistics in single.items():
        yield about | counts | {"measure": name} | intervals.mean(statistics, None, counts["n"])
    for exactly, pictures in ((False, "all"), (True, "named exactly")):
        used = [(side.naming.best == side.leaves) | (not exactly) for side in sides]
        counts = _counts(used, sides)
        if not counts["n"]:
            continue
        for name in (of_sides := [against(side, exactly) for side in sides])[0]:
            least = -1.0 if "−" in name else 0.0
            numbers = intervals.mean([one[name] for one in of_sides], least, counts["n"])
            yield about | counts | {"pictures": pictures, "measure": "auroc", "against": name} | numbers


def contrast_rows(
    pair: tuple[Condition, Condition], naming: Namings, frame: Frame, caliper: float, intervals: Intervals
) -> Iterator[Row]:
    """Rows of the difference of two conditions with the same seeds."""
    first, second = pair
    both = list(zip(*(_sides(one, naming, frame, first) for one in pair), strict=True))
    about = {
        "contrast": f"{first.name}_minus_{second.name}",
        "scored": first.headline.scored,
        "pictures": "all",
    }
    alike = [compared(one, other)[0] for one, other in both]
    counts = _counts([_scored(one) for one in alike], alike)
    of_seeds = [effects(one, other) for one, other in both]
    for name in of_seeds[0]:
        numbers = intervals.mean([one[name] for one in of_seeds], -1.0, counts["n"])
        yield about | counts | {"measure": name} | numbers
    for (varied, at), assumed in VARIATIONS.items():
        if not both[0][0].naming.whole and varied in OF_DISTRIBUTIONS:
            continue
        of_seeds = [effects(one, other, assumed) for one, other in both]
        for name in ("direct", "indirect"):
            numbers = intervals.mean([one[name] for one in of_seeds], -1.0, counts["n"])
            yield about | counts | {"measure": name, "varied": varied, "at": at} | numbers
    yield from (about | row for row in _matched_rows(both, caliper, intervals))


def _matched_rows(both: Sequence[tuple[Side, Side]], caliper: float, intervals: Intervals) -> Iterator[Row]:
    """The difference on pictures named exactly, and at matched naming: within half, once and twice the caliper."""
    exact = [_named_by_both(pair) for pair in both]
    leaves = [leaf for pair, rows in zip(both, exact) for leaf in pair[0].leaves[rows[0]]]
    if leaves:
        gaps = [
            Combined([(sign, side.auroc(np.where(own[:, None], side.values, np.nan)))
                      for sign, side, own in zip((1.0, -1.0), pair, rows)])
            for pair, rows in zip(both, exact, strict=True)
        ]  # fmt: skip
        count = int(sum(own.sum() for rows in exact for own in rows))
        common = {"pictures": "named exactly", "measure": "named exactly", "rows": count}
        yield common | intervals.mean(gaps, -1.0, len(set(leaves)))
    whole = all(side.naming.whole for pair in both for side in pair)
    for width in (caliper / 2, caliper, 2 * caliper) if whole else (0.0,):
        of_seeds = [matched(one, other, width) for one, other in both]
        rows = [pairs for _, pairs in of_seeds]
        leaves = {leaf for (one, _), pairs in zip(both, rows) for leaf in one.leaves[pairs[:, 0]]}
        common = {"pictures": "matched", "at": width, "rows": sum(map(len, rows))}
        if not leaves:
            continue
        gaps = [Combined([(1.0, kept[0]), (-1.0, kept[1])]) for kept, _ in of_seeds]
        yield common | {"measure": "matched"} | intervals.mean(gaps, -1.0, len(leaves))
        unlike = [_unlike(one, other, pairs) for (one, other), pairs in zip(both, rows, strict=True)]
        yield common | {"measure": "imbalance"} | intervals.mean(unlike, None, len(leaves))


def _named_by_both(pair: tuple[Side, Side]) -> list[np.ndarray]:
    """Of each side the pictures that it names exactly, of leaves of which the other does so as well."""
    exact = [side.naming.best == side.leaves for side in pair]
    one, other = (side.leaves[rows] for side, rows in zip(pair, exact, strict=True))
    leaves = np.intersect1d(one, other)
    return [rows & np.isin(side.leaves, leaves) for side, rows in zip(pair, exact, strict=True)]


def _scored(side: Side) -> np.ndarray:
    """The pictures with a read-out."""
    return np.asarray(np.isfinite(side.values).any(axis=1))


def _unlike(first: Side, second: Side, pairs: np.ndarray):
    """The mean difference in log-probability of the right name over matched pairs."""
    values = np.full(len(first.leaves), np.nan)
    values[pairs[:, 0]] = first.right[pairs[:, 0]] - second.right[pairs[:, 1]]
    return first.over_leaves(values)


def _sides(condition: Condition, naming: Namings, frame: Frame, leading: Condition) -> list[Side]:
    part = replace(leading.headline, leaves="all")
    return [Side.of(one, naming[condition.name, one.seed], part, frame) for one in condition.answers]


def _counts(used: Sequence[np.ndarray], sides: Sequence[Side]) -> dict[str, int]:
    """Leaves and pictures that a number rests on."""
    leaves = {leaf for rows, side in zip(used, sides, strict=True) for leaf in side.leaves[rows]}
    return {"n": len(leaves), "rows": int(sum(rows.sum() for rows in used))}


def summary(table: pd.DataFrame) -> str:
    """The read-outs, answers by own name, effects and matched contrasts as lines a person can read."""
    lines = [f"{'':64}{'value':>7}  95 % interval      n leaves  pictures"]
    others = ["direct_if_first", "indirect_if_second"]
    shown = table[(table["varied"] == "") & ~table["measure"].isin(others)]
    for row in shown[shown["step"].isna()].to_dict("records"):
        name = " ".join(filter(None, (row["condition"] or row["contrast"], _what(row))))
        rows = "" if pd.isna(row["rows"]) else f"{row['rows']:.0f}"
        value, limits = number_text(row["value"], 3), bounds_text(row["lower"], row["upper"])
        lines.append(f"{name.replace('_minus_', ' − '):63} {value:>7}  {limits:17} {row['n']:6.0f} {rows:>9}")
    return "\n".join(lines)


def _what(row: Mapping[Any, Any]) -> str:
    words = [row["measure"], row["readout"], f"by {row['against']}" if row["against"] else ""]
    words += [f"within {row['at']:g} nats"] if row["pictures"] == "matched" else []
    words += [f"{row['at']:.2f}"] if row["measure"].startswith("gap") else []
    words += ["(named exactly)"] if row["pictures"] == "named exactly" else []
    return " ".join(filter(None, words))
