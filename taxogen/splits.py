"""Splits: which pictures train, validate and test; by picture, leaf concept or source."""

from __future__ import annotations

import numpy as np
import pandas as pd

from taxogen.seeding import stream

SPLITS = ("train", "validation", "test")
SHARES = (0.70, 0.05, 0.25)
RULES = ("seeded", "study", "leaf", "source")


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
        source: whole groups of pictures, by the column `group` (style_group or source).

    Shares are cut with integer truncation, the study's way: of n pictures the first int(.70 n) train, up to
    int(.75 n) validate, the rest test (12 → 8/1/3). Files with the same bytes never stand on two sides: with
    `duplicates="together"` (default) all take the split of the first, in order of names; with "refuse" they
    are an error. The result depends on no order of the rows.

    Raises:
        KeyError: unknown rule, `duplicates` or column.
        ValueError: shares do not add up; a leaf has fewer than 2 pictures, or none to train or to test on.
    """
    _check(table, rule, shares, group, duplicates)
    table = table.sort_values("picture", kind="stable").reset_index(drop=True)
    if rule in ("seeded", "study"):
        split = _inside_leaves(table, seed if rule == "seeded" else None, shares)
    else:
        split = _whole_groups(table, "leaf" if rule == "leaf" else group, seed, shares)
    split = _settle_duplicates(table, split, duplicates)
    result = table.assign(split=split)
    if rule != "leaf":
        _check_every_leaf(result, rule)
    return result


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


def _whole_groups(
    table: pd.DataFrame, column: str, seed: int, shares: tuple[float, float, float]
) -> np.ndarray:
    """Whole leaves by their number; whole sources to the side that lacks most pictures."""
    names = np.array(sorted(set(table[column])), dtype=object)
    names = names[stream(seed, "split", column).permutation(len(names))]
    if column == "leaf":
        side = dict(zip(names, np.repeat(SPLITS, cut(len(names), shares)), strict=True))
    else:
        sizes = table[column].value_counts()
        wanted = np.array(shares) * len(table)
        side = {}
        for name in names:
            place = int(np.argmax(wanted))
            side[name] = SPLITS[place]
            wanted[place] -= sizes[name]
    return np.array([side[name] for name in table[column]], dtype=object)


def _settle_duplicates(table: pd.DataFrame, split: np.ndarray, duplicates: str) -> np.ndarray:
    sides = pd.Series(split).groupby(table["content_hash"])
    torn = sides.transform("nunique").to_numpy() > 1
    if not torn.any():
        return split
    if duplicates == "refuse":
        shown = table["picture"][torn].tolist()
        raise ValueError(
            f"{len(shown)} pictures have the same bytes as a picture on the other side of the split: "
            f"{shown[:6]}; remove the copies or use duplicates='together'"
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


def _check_every_leaf(result: pd.DataFrame, rule: str) -> None:
    for side in ("train", "test"):
        covered = set(np.asarray(result["leaf"])[np.asarray(result["split"] == side)])
        if bare := sorted(set(result["leaf"]) - covered):
            raise ValueError(
                f"split rule {rule!r} leaves {len(bare)} leaf concepts without a picture to {side} on: "
                f"{bare[:10]}; drop them, add pictures, or use another seed or rule"
            )
