"""Splits: which pictures train, validate and test; by picture, leaf concept or source."""

from __future__ import annotations

import numpy as np
import pandas as pd

from probing.stats.seeding import stream

SPLITS = ("train", "validation", "test")
SHARES = (0.70, 0.05, 0.25)
RULES = ("seeded", "study", "leaf", "source")
ATTEMPTS = 100


def split_pictures(
    table: pd.DataFrame,
    rule: str = "seeded",
    *,
    seed: int = 0,
    shares: tuple[float, float, float] = SHARES,
    group: str = "style_group",
    duplicates: str = "together",
) -> pd.DataFrame:
    """The table of pictures, sorted by picture, with a column `split`: train, validation or test.

    Rules:
        seeded: inside each leaf, in a seeded order; the default.
        study: inside each leaf, in the order of sorted names, as the study; no seed.
        leaf: whole leaf concepts.
        source: whole groups of pictures, by the column `group` (style_group or source), one after the other
            to the side that lacks most pictures; the first seeded order that leaves every leaf something to
            train and to test on.

    Shares are cut with integer truncation, the study's way: of n pictures the first int(.70 n) train, up to
    int(.75 n) validate, the rest test (12 → 8/1/3). Files with the same bytes never stand on two sides: with
    `duplicates="together"` (default) all take the split of the first, in order of names; with "refuse", and
    always where leaves or sources are held out whole, they are an error. No order of the rows matters.

    Raises:
        KeyError: unknown rule, `duplicates` or column.
        ValueError: shares do not add up; a leaf has fewer than 2 pictures, or none to train or to test on.
    """
    _check(table, rule, shares, group, duplicates)
    table = table.sort_values("picture", kind="stable").reset_index(drop=True)
    if rule == "source":
        split = _whole_sources(table, group, seed, shares)
    elif rule == "leaf":
        split = _whole_leaves(table, seed, shares)
    else:
        split = _inside_leaves(table, seed if rule == "seeded" else None, shares)
    inside = rule in ("seeded", "study")
    split = _settle_duplicates(table, split, duplicates if inside else "refuse")
    if inside and (bare := _bare_leaves(table, split)):
        raise ValueError(_bare_message(rule, bare))
    return table.assign(split=split)


def cut(n: int, shares: tuple[float, float, float] = SHARES) -> tuple[int, int, int]:
    """How many of n train, validate and test."""
    train, validation = int(n * shares[0]), int(n * (shares[0] + shares[1]))
    return train, validation - train, n - validation


def _inside_leaves(table: pd.DataFrame, seed: int | None, shares: tuple[float, float, float]) -> np.ndarray:
    split = np.empty(len(table), dtype=object)
    for leaf, rows in sorted(table.groupby("leaf", sort=True).indices.items()):
        order = rows if seed is None else rows[stream(seed, "split", str(leaf)).permutation(len(rows))]
        split[order] = np.repeat(SPLITS, cut(len(rows), shares))
    return split


def _whole_leaves(table: pd.DataFrame, seed: int, shares: tuple[float, float, float]) -> np.ndarray:
    names = np.array(sorted(set(table["leaf"])), dtype=object)
    names = names[stream(seed, "split", "leaf").permutation(len(names))]
    side = dict(zip(names, np.repeat(SPLITS, cut(len(names), shares)), strict=True))
    return np.array([side[name] for name in table["leaf"]], dtype=object)


def _whole_sources(
    table: pd.DataFrame, group: str, seed: int, shares: tuple[float, float, float]
) -> np.ndarray:
    names = np.array(sorted(set(table[group])), dtype=object)
    sizes, bare = table[group].value_counts(), []
    for attempt in range(ATTEMPTS):
        wanted, side = np.array(shares) * len(table), {}
        for name in names[stream(seed, "split", group, str(attempt)).permutation(len(names))]:
            place = int(np.argmax(wanted))
            side[name] = SPLITS[place]
            wanted[place] -= sizes[name]
        split = np.array([side[name] for name in table[group]], dtype=object)
        bare = _bare_leaves(table, split)
        if not bare:
            return split
    raise ValueError(_bare_message("source", bare))


def _bare_leaves(table: pd.DataFrame, split: np.ndarray) -> list[str]:
    """The leaves that have no picture to train or none to test on."""
    leaves = np.asarray(table["leaf"], dtype=object)
    return sorted(set(leaves) - (set(leaves[split == "train"]) & set(leaves[split == "test"])))


def _bare_message(rule: str, bare: list[str]) -> str:
    return (
        f"split rule {rule!r} leaves {len(bare)} leaf concepts without a picture to train or to test on: "
        f"{bare[:10]}; drop them, add pictures, or use another seed or rule"
    )


def _settle_duplicates(table: pd.DataFrame, split: np.ndarray, duplicates: str) -> np.ndarray:
    sides = pd.Series(split).groupby(table["content_hash"])
    torn = sides.transform("nunique").to_numpy() > 1
    if not torn.any():
        return split
    if duplicates == "refuse":
        shown = table["picture"][torn].tolist()
        raise ValueError(
            f"{len(shown)} pictures have the same bytes as a picture on the other side of the split: "
            f"{shown[:6]}; remove the copies, or split inside leaves with duplicates='together'"
        )
    return sides.transform("first").to_numpy(dtype=object)


def _check(
    table: pd.DataFrame, rule: str, shares: tuple[float, float, float], group: str, duplicates: str
) -> None:
    if rule not in RULES:
        raise KeyError(f"split rule {rule!r} was asked for; known: {', '.join(RULES)}")
    if duplicates not in ("together", "refuse"):
        raise KeyError(f"duplicates={duplicates!r} was asked for; known: together, refuse")
    needed = {"picture", "leaf", "content_hash"} | ({group} if rule == "source" else set())
    if missing := sorted(needed - set(table.columns)):
        raise KeyError(f"the table of pictures has no column {missing}; it has {', '.join(table.columns)}")
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(
            f"shares of train, validation and test must be three numbers that add up to 1: {shares}"
        )
    if repeated := sorted(set(table.loc[table["picture"].duplicated(), "picture"])):
        raise ValueError(f"pictures occur more than once in the table: {repeated[:6]}; keep one row each")
    counts = table["leaf"].value_counts()
    if few := sorted(str(leaf) for leaf, count in counts.items() if count < 2):
        raise ValueError(
            f"{len(few)} leaf concepts have fewer than 2 pictures, so none is left to test on: {few[:10]}; "
            "add pictures or drop these leaves"
        )
