"""What the study says, and whether it holds here: a line for each claim, made from tables of scores and contrasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analyses.expected.verdicts import FAILS, HOLDS, UNDECIDED, above, together, within
from analyses.inputs.intervals import ONE_SEED
from analyses.study.contrasts import SIZE

_REMOVED = "; all hypernym questions removed"
NAMES = {"auroc": "hypernym AUROC", "leaf_naming": "leaf naming", SIZE: "AUROC from words to pictures"}


@dataclass(frozen=True)
class Claim:
    """A statement about contrasts of one kind.

    Attributes:
        key: of the contrasts (`analyses.study.contrasts.Pair`); of claims about one condition, its label in `full`.
        text: the statement.
        measure: of the contrasts.
        kind: above: every difference is above 0. alike: it is within the bounds of equivalence (their 95 % interval is:
            two one-sided tests at .025). above_chance, at_chance: of one condition.
        beside: a measure that is told too, such as naming, which could explain the difference.
        without: whether the statement is about runs without any evidence for a hypernym; of others it is not decided.
    """

    key: str
    text: str
    measure: str = "auroc"
    kind: str = "above"
    beside: str = ""
    without: bool = False


CLAIMS = (
    Claim(
        "pretrained",
        "A pretrained language model needs no evidence for a hypernym",
        kind="above_chance",
        without=True,
    ),
    Claim(
        "random",
        "A randomly initialised one tells no hypernym without evidence",
        kind="at_chance",
        without=True,
    ),
    Claim(
        "full.init",
        "Pretraining is what generalises, without any evidence",
        beside="leaf_naming",
        without=True,
    ),
    Claim(
        "full.embeddings",
        "It is more than the pretrained table of embeddings",
        beside="leaf_naming",
        without=True,
    ),
    Claim("random.init", "Pretraining helps at every share of evidence that is removed"),
    Claim(
        "random.level",
        "Removing all evidence costs nothing, compared with removing least",
        kind="alike",
        without=True,
    ),
    Claim("systematic.init", "Pretraining helps at every length of the list of removed hypernyms"),
    Claim("systematic.level", "The length of that list does not matter", kind="alike"),
    Claim("shuffle.coherence", "Hypernyms have to be coherent: within exceeds across", beside="leaf_naming"),
    Claim(
        "shuffle.coherent", "Coherence is enough: exchanged categories exceed across", beside="leaf_naming"
    ),
    Claim(
        "shuffle.truth",
        "Truth adds to coherence: no shuffle exceeds exchanged categories",
        beside="leaf_naming",
    ),
    Claim("shuffle.dose", "More coherence gives a higher score: the largest dose exceeds the smallest"),
    Claim("encoder", "The image encoder does not matter", kind="alike", beside="leaf_naming"),
    Claim(
        "projector",
        "Nor does a projector of each patch or of the whole picture",
        kind="alike",
        beside="leaf_naming",
    ),
    Claim("format", "Nor do the words of the question", kind="alike", beside="leaf_naming"),
    Claim("full.init", "Words' hypernyms are read in pictures where the model is pretrained", measure=SIZE),
    Claim("shuffle.coherence", "… and where names are coherent: within exceeds across", measure=SIZE),
    Claim("encoder", "… as much behind either encoder", measure=SIZE, kind="alike"),
)


@dataclass(frozen=True)
class Verdict:
    """A claim with what the tables say about it."""

    claim: Claim
    outcome: str
    because: str

    def __str__(self) -> str:
        return f"{self.claim.text}: {self.outcome}. {self.because}"


def verdicts(
    scores: pd.DataFrame, contrasts: pd.DataFrame, full: Mapping[str, str], bound: float
) -> list[Verdict]:
    """A verdict for each claim.

    Args:
        scores: rows of conditions (`Study.scores`).
        contrasts: rows of pairs (`analyses.study.contrasts.table`).
        full: label → condition of the group without any evidence.
        bound: of equivalence in AUROC; NaN where the plan states none.
    """
    return [
        _of_condition(claim, scores, full, bound)
        if claim.kind.endswith("chance")
        else _of_pairs(claim, contrasts, bound)
        for claim in CLAIMS
    ]


def _of_condition(claim: Claim, scores: pd.DataFrame, full: Mapping[str, str], bound: float) -> Verdict:
    condition = full.get(claim.key, "")
    if not condition:
        return Verdict(claim, UNDECIDED, f"The plan has no condition {claim.key!r} in a group `full`.")
    rows = scores[
        (scores["condition"] == condition) & (scores["measure"] == "auroc") & (scores["baseline"] == "")
    ]
    if rows.empty:
        return Verdict(claim, UNDECIDED, f"No run of {condition} is finished.")
    (row,) = rows.to_dict("records")
    if row["effective"] < 1:
        return Verdict(claim, UNDECIDED, _with_evidence(condition, row["effective"]))
    limits = row["lower"] - 0.5, row["upper"] - 0.5
    outcome = (_above if claim.kind == "above_chance" else _alike)(*limits, bound)
    text = (
        f"{NAMES['auroc']} of {condition} {_interval(row, '.3f')} ({_basis(row)}); chance is .500{_REMOVED}"
    )
    return Verdict(claim, outcome, f"{text}{_tail(claim, outcome, bound)}.")


def _of_pairs(claim: Claim, contrasts: pd.DataFrame, bound: float) -> Verdict:
    rows = contrasts[(contrasts["key"] == claim.key) & (contrasts["measure"] == claim.measure)]
    if rows.empty:
        return Verdict(claim, UNDECIDED, f"The plan has no contrast {claim.key!r}.")
    missing = rows[rows["value"].isna()]
    if len(missing) == len(rows):
        lacking = "probes of " if claim.measure == SIZE else ""
        pairs = "; ".join(f"{row.first} and {row.second}" for row in missing.itertuples())
        return Verdict(claim, UNDECIDED, f"No {lacking}finished runs of one seed of {pairs}.")
    known = rows[rows["value"].notna()]
    if claim.without and (known["effective"] < 1).any():
        least = min(known.to_dict("records"), key=lambda row: row["effective"])
        return Verdict(claim, UNDECIDED, _with_evidence(least["first"], least["effective"]))
    judge = _above if claim.kind == "above" else _alike
    each = [judge(lower, upper, bound) for lower, upper in zip(known["lower"], known["upper"])]
    each += [UNDECIDED] * len(missing)
    outcome = together(each)
    text = f"{_differences(known)}{_REMOVED if claim.without else ''}{_tail(claim, outcome, bound)}"
    apart = (known["lower"] > 0) | (known["upper"] < 0)
    if claim.kind == "alike" and outcome == UNDECIDED and apart.any():
        text += "; they differ" + ("" if np.isnan(bound) else ", but whether by more than the bounds is open")
    if claim.beside:
        other = contrasts[(contrasts["key"] == claim.key) & (contrasts["measure"] == claim.beside)]
        other = other[other["value"].notna()]
        text += f". Beside it, {_differences(other)}" if len(other) else ""
    if len(missing):
        text += f". Not finished: {', '.join(missing['label'])}"
    return Verdict(claim, outcome, f"{text}.")


def _with_evidence(condition: str, share: float) -> str:
    return f"Of the hypernym questions {condition} was trained without {share:.1%} only."


def _above(lower: float, upper: float, bound: float) -> str:
    """Above 0; not above it, or by less than counts as a difference; or neither."""
    outcome = above(lower, upper)
    return FAILS if outcome == UNDECIDED and _alike(lower, upper, bound) == HOLDS else outcome


def _alike(lower: float, upper: float, bound: float) -> str:
    """Within the bounds, outside of them, or neither, as where a number is NaN."""
    return within(lower, upper, -bound, bound)


def _tail(claim: Claim, outcome: str, bound: float) -> str:
    if claim.kind in ("alike", "at_chance") and np.isnan(bound):
        return "; the plan states no bounds of equivalence"
    if claim.kind in ("alike", "at_chance") or (outcome == FAILS and not np.isnan(bound)):
        return f"; bounds of equivalence ±{bound:g}, stated in the plan"
    return ""


def _differences(rows: pd.DataFrame) -> str:
    """The numbers of some rows of one measure, on what they rest said once where it is the same."""
    records = rows.to_dict("records")
    bases = [_basis(row) for row in records]
    same = len(set(bases)) == 1
    each = [
        f"{row['label']}: {_interval(row, '+.3f')}" + ("" if same else f" ({basis})")
        for row, basis in zip(records, bases)
    ]
    return f"{NAMES[records[0]['measure']]} {'; '.join(each)}" + (f" ({bases[0]})" if same else "")


def _interval(row: Mapping[Any, Any], form: str) -> str:
    return f"{row['value']:{form}} [{row['lower']:{form}}, {row['upper']:{form}}]"


def _basis(row: Mapping[Any, Any]) -> str:
    of = "leaf concepts" if row["measure"] != SIZE else "hypernyms"
    return f"n = {int(row['n'])} {of}, {seeds_text(str(row['seeds']))}"


def seeds_text(seeds: str) -> str:
    """The seeds that a number rests on, in words."""
    each: Sequence[str] = seeds.split(",")
    if len(each) == 1:
        return f"seed {seeds}, {ONE_SEED}"
    return f"seeds {', '.join(each)}"
