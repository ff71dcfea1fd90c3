"""Sentences about a table of evidence: each says no more than the corrected intervals in the table support."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analyses.emergence.agreement import ALL, BEFORE, CLOSE, SPREAD, WITHIN
from analyses.emergence.curves import END, HALF, ONSET
from analyses.emergence.evidence import CURVE, MISSING
from analyses.frame.drawing import readable
from analyses.frame.tables import CAUSES, NO_STEP, block_limits_text, block_text
from analyses.inputs.intervals import ONE_SEED
from probing.stats import bounds_text

LEVEL = 0.95
PLACES = {
    "slot": "at the picture's slot",
    "cue": "at the cue",
    "last": "at the last token",
    "": "at all tokens",
}
_STATES = {
    "random_norm": "random change of equal norm",
    "arbitrary": "arbitrary labels",
    "stranger": "a leaf of another hypernym",
    "sibling": "another leaf of the same hypernym",
}
"""Controls of interchange and patching in words; the others have them in the table."""
_NAMES = {ONSET: "onsets", HALF: "half-rises"}
Row = Mapping[Any, Any]


def sentences(table: pd.DataFrame) -> list[str]:
    """What the evidence of each condition supports, place by place; then what was not asked."""
    lines: list[str] = []
    for condition, rows in table.groupby("condition", sort=False):
        lines += [f"{readable(str(condition), ' · ')}: {line}" for line in of_condition(rows)]
    return lines


def of_condition(rows: pd.DataFrame) -> Iterator[str]:
    """The same of one condition, without its name."""
    current = of_last_step(rows)
    for place, own in current[current["measure"] != MISSING].groupby("span", sort=False):
        where = PLACES.get(str(place), f"at {place}")
        yield from (f"{where}: {line}" for line in _of_place(own))
    if rows["seeds"].max() == 1:
        yield f"one seed: {ONE_SEED}"
    missing = dict.fromkeys(rows.loc[rows["measure"] == MISSING, "kind"].astype(str))
    partly = {kind: kind in set(_stem(rows.loc[rows["measure"] == CURVE, "kind"])) for kind in missing}
    for of_some, text in ((True, "not of all seeds"), (False, "not asked, or not as the runs are now")):
        if kinds := [kind for kind in missing if partly[kind] == of_some]:
            yield f"{text}: {'; '.join(kinds)}"


def _stem(kinds: pd.Series) -> pd.Series:
    """Kinds without the path of attention that they are of."""
    return kinds.astype(str).str.replace(r", \w+ → .*$", "", regex=True)


def of_last_step(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the last step of a condition, and of no step."""
    return rows[(rows["step"] == rows["step"].max()) | (rows["step"] == NO_STEP)]


def _of_place(rows: pd.DataFrame) -> Iterator[str]:
    onsets = rows[(rows["measure"] == ONSET) & (rows["control"] == "")]
    ends = rows[(rows["measure"] == END) & (rows["control"] == "")].set_index("kind")
    begun = onsets[onsets["value"].notna()].sort_values("value").to_dict("records")
    if begun:
        yield "; ".join(_begins(one, ends) for one in begun)
    if never := onsets.loc[onsets["value"].isna(), "kind"].tolist():
        yield f"nothing is detected by {_listed('; '.join(never))}"
    alone = rows.loc[(rows["measure"] == CURVE) & (rows["control"] == ""), "kind"].drop_duplicates()
    if lone := alone[~alone.isin(onsets["kind"])].tolist():
        yield f"{_listed('; '.join(lone))}: one block alone, so that nothing can be told to begin there"
    controls = rows[(rows["measure"] == ONSET) & (rows["control"] != "")]
    if seen := [
        f"{_STATES.get(one['control'], one['control'])} of {one['kind']}"
        for one in controls[controls["value"].notna()].to_dict("records")
    ]:
        yield f"controls are detected too: {_listed('; '.join(seen))}"
    for name in (ONSET, HALF):
        yield from _agreement(rows[rows["of"] == name], name)


def _begins(one: Row, ends: pd.DataFrame) -> str:
    """Where a kind of evidence begins; of causes also where it ends."""
    text = f"{one['kind']} from {_place(one['value'])}{block_limits_text(one)}"
    if one["about"] == CAUSES and one["kind"] in ends.index:
        text += f" to {_place(ends['value'].to_dict()[one['kind']])}"
    return text


def _place(value: float) -> str:
    return "the input" if value == -1 else f"block {block_text(value)}"


def _agreement(rows: pd.DataFrame, name: str) -> Iterator[str]:
    shares = rows[(rows["measure"] == WITHIN) & (rows["about"] == ALL)].set_index("kind")
    for one in rows[(rows["measure"] == SPREAD) & (rows["about"] == ALL)].to_dict("records"):
        yield (
            f"{_NAMES[name]} of {_listed(one['kind'])} are spread over {blocks(one)}; "
            f"{verdict(shares.loc[one['kind']].to_dict())}"
        )
        shares = shares.drop(one["kind"])
    for kinds, share in shares.iterrows():
        yield f"{_NAMES[name]} of {_listed(str(kinds))}, some of which are known by an interval alone: {verdict(share)}"
    before = rows[(rows["measure"] == BEFORE) & (rows["lower"] > 0)]
    later: dict[str, list[str]] = {}
    for one in before.to_dict("records"):
        first, second = one["kind"].split("; ")
        later.setdefault(first, []).append(f"{second} by {blocks(one)}")
    for first, others in later.items():
        yield f"the {_NAMES[name][:-1]} of {first} is before that of {_listed('; '.join(others))}"


def blocks(one: Row | pd.Series) -> str:
    """A number of blocks with its limits."""
    unit = "block" if one["value"] == 1 else "blocks"
    return f"{one['value']:g} {unit} {bounds_text(one['lower'], one['upper'], 'g')}"


def verdict(share: Row | pd.Series) -> str:
    """Whether places lie within two blocks, as far as the share of draws in which they do, or its bounds, allow."""
    known = share["lower"] == share["upper"]
    odds = f"{share['lower']:.2f}" if known else f"between {share['lower']:.2f} and {share['upper']:.2f}"
    if share["lower"] >= LEVEL:
        return f"they lie within {CLOSE} blocks (probability {odds})"
    if share["upper"] <= 1 - LEVEL:
        return f"they do not lie within {CLOSE} blocks (probability {odds})"
    return f"whether they lie within {CLOSE} blocks is open (probability {odds})"


def _listed(kinds: str) -> str:
    """Names that semicolons separate, in a sentence; those with commas of their own keep the semicolons."""
    names = kinds.split("; ")
    pause = "; " if any(", " in name for name in names) else ", "
    return names[0] if len(names) == 1 else f"{pause.join(names[:-1])} and {names[-1]}"
