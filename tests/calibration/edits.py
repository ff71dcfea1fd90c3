"""Checks of knock-out, erasure and steering: an edit beside placebos or controls whose draws all leaves share."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from analyses.erasure.edits import CONTROLS
from analyses.erasure.rows import erasure_table, steering_table
from analyses.knockout.rows import knockout_table
from probing.edits.placebos import rank_p
from probing.stats import draw_weights, q_values
from tests.calibration.check import Check, Limits

RATIOS = (0.13, 1.0, 4.6)
"""SD between draws in standard errors over leaves: the range that trained runs show."""
WINDOWS = ((0, 9), (10, 19), (20, 29), (0, 29))
LEAVES, OFF, DRAWS, CELLS = 50, 30, 19, 3
LOSS = 0.5

weights = cache(partial(draw_weights, draws=200))
"""Bootstrap weights of so many leaves, the same in all worlds."""


def losses(
    rng: np.random.Generator, shape: tuple[int, int, int], ratio: float, spared: float | None
) -> Float[np.ndarray, "sets cells leaves"]:
    """What each set of edges (or label, or direction) costs each leaf in each window (or layer, or dose).

    A leaf's loss has an SD of 1, half of its variance common to all sets; sets differ by an SD of `ratio` / √leaves,
    skewed and correlated over cells. The first is one of them or, where `spared` is given, costs so much more than the
    mean of all.
    """
    sets, cells, leaves = shape
    logs = 0.5 * (rng.normal(size=(sets, 1)) + rng.normal(size=(sets, cells)))
    of_set = (np.exp(logs) - np.exp(0.25)) / (np.exp(0.25) * np.sqrt(np.exp(0.5) - 1))
    if spared is not None:
        of_set[0] = spared * np.sqrt(leaves) / ratio
    of_leaf = rng.normal(size=(1, cells, leaves)) + rng.normal(size=shape)
    return ratio / np.sqrt(leaves) * of_set[..., None] + np.sqrt(0.5) * of_leaf


def knockout(seed: int, ratio: float, loss: float | None) -> pd.DataFrame:
    """The table of a path that costs `loss` more than the mean set in each window or, None, is one more random set."""
    rng = np.random.default_rng([seed, round(100 * ratio)])
    shape = (2 + DRAWS, len(WINDOWS), LEAVES)
    lost = 1 + losses(rng, (1 + DRAWS, *shape[1:]), ratio, loss)
    margin = rng.normal(1.5, 1, LEAVES) - np.concatenate([np.zeros((1, *shape[1:])), lost])
    at, cell, leaf = (index.ravel() for index in np.indices(shape))
    first, last = np.array(WINDOWS)[cell].T
    table = pd.DataFrame({"leaf": leaf.astype(str), "margin": margin.ravel(), "first": first, "last": last})
    table["top1"] = (table["margin"] > 0).astype(float)
    edits = np.array(["none", "knocked out", *["placebo"] * DRAWS])
    table = table.assign(edit=edits[at], draw=np.maximum(at - 2, 0), task="hypernym")
    table["path"] = np.where(at == 0, "", "slot → last")
    return knockout_table(table, weights(LEAVES), seed)


def edited(
    seed: int, ratio: float, loss: float | None, sizes: tuple[int, ...], steered: bool
) -> pd.DataFrame:
    """The table of erasing, or steering towards, hypernyms of these sizes: `loss` beyond controls, or one more of them.

    Draws of the controls of erasure are common to all hypernyms; of steering each hypernym has its own.
    """
    rng = np.random.default_rng([seed, round(100 * ratio), steered])
    names, of_leaf = np.arange(len(sizes)), np.repeat([*range(len(sizes)), -1], [*sizes, OFF])
    draws = 4 if steered and len(sizes) > 1 else DRAWS
    member: Bool[np.ndarray, "hypernyms leaves"] = of_leaf == names[:, None]
    shape = (1 + 2 * draws, CELLS, len(of_leaf))
    lost = np.stack([losses(rng, shape, ratio * _scale(side, steered), loss) for side in member])
    if not steered:
        first = int(loss is not None)
        common = losses(rng, shape, ratio * _scale(member[0], steered), None)
        lost[:, first:] = (lost + common)[:, first:] / np.sqrt(2)
    lost = np.concatenate([np.zeros((len(names), 1, *shape[1:])), lost], axis=1)
    lost = -lost if steered else lost
    name, at, cell, leaf = (index.ravel() for index in np.indices(lost.shape))
    under = member[name, leaf]
    clean = rng.normal(size=(3, *member.shape))[:, name, leaf]
    edits = np.array(["none", "mass_mean" if steered else "erased", *np.repeat(CONTROLS, draws)])
    table = pd.DataFrame(
        {
            "leaf": leaf.astype(str), "member": under, "hypernym": name.astype(str), "span": "slot",
            "edit": edits[at], "draw": np.array([0, 0, *range(draws), *range(draws)])[at],
            "layer": 3 if steered else cell, "dose": 2.0 * (cell + 1),
            "target": clean[0] + 2 * under - lost.ravel() * (under | steered),
            "other": clean[1] - lost.ravel(), "leaf_margin": clean[2] - lost.ravel(),
        }
    )  # fmt: skip
    control = table["edit"].isin(CONTROLS)
    table = table.assign(
        matched=np.where(control, "length" if steered else "rank", ""),
        beside=np.where(control & steered, "mass_mean", ""),
        reached=True,
        kl=np.exp(clean[1] - lost.ravel()),
    )
    if not steered:
        return erasure_table(table, weights(len(of_leaf)), seed)
    once = (table["edit"] != "none") | (cell == 0)
    return steering_table(table[once & ~under], weights(int((~member.all(0)).sum())), seed)


def _scale(member: Bool[np.ndarray, " leaves"], steered: bool) -> float:
    """Square root of all leaves per leaf that a read-out rests on."""
    return 1.0 if steered else float(np.sqrt(len(member) / member.sum()))


def _limits(table: pd.DataFrame, measures: str, truth: dict[str, float] | None = None) -> Limits:
    """The limits of all rows of the measures; `truth` of edits, or their mean over worlds."""
    rows = table[table["measure"].str.fullmatch(measures) & table["lower"].notna()]
    known = None if truth is None else rows["edit"].map(truth).to_numpy(float)
    value, lower, upper = (rows[name].to_numpy(float) for name in ("value", "lower", "upper"))
    return Limits(value, lower, upper, known)


def _rejected(table: pd.DataFrame, measures: str) -> np.ndarray:
    """Whether each p is at most .05 and, for each hypernym and measure, whether any of the corrected ones is."""
    rows = table[table["measure"].str.fullmatch(measures)]
    corrected = rows["measure"].str.endswith("_corrected")
    least = rows[corrected].groupby(["measure", "target"])["value"].min()
    p = np.concatenate([rows.loc[~corrected, "value"], least]).astype(float)
    return np.where(np.isnan(p), np.nan, p <= 0.05)


def _ratio(seed: int) -> float:
    return RATIOS[seed % len(RATIOS)]


_PATH_COSTS = {"knocked out": -1 - LOSS, "placebo": -1.0, "knocked out − placebo": -LOSS}
_ERASER_COSTS = {"erased": -LOSS, "random": 0.0, "shuffled": 0.0, "erased − controls": -LOSS}
_DIRECTION_GIVES = {"mass_mean": LOSS, "random": 0.0, "shuffled": 0.0, "mass_mean − controls": LOSS}
_SIZES = (6, 12, 20)


def _knockout_change(seed: int) -> Limits:
    return _limits(knockout(seed, _ratio(seed), LOSS), "margin_change", _PATH_COSTS)


def _knockout_levels(seed: int) -> Limits:
    return _limits(knockout(seed, 1.0, LOSS), "margin|top1|top1_change")


def _knockout_p(seed: int, measures: str) -> np.ndarray:
    return _rejected(knockout(seed, _ratio(seed), None), measures)


def _erasure_change(seed: int, targets: tuple[str, ...]) -> Limits:
    table = edited(seed, _ratio(seed), LOSS, _SIZES, False)
    return _limits(
        table[table["target"].isin(targets)], "gap_change|(other|leaf)_(off|under)_change", _ERASER_COSTS
    )


def _erasure_levels(seed: int) -> Limits:
    return _limits(edited(seed, 1.0, LOSS, _SIZES, False), "auroc|auroc_change|gap|(other|leaf)_(off|under)")


def _erasure_p(seed: int, measures: str) -> np.ndarray:
    return _rejected(edited(seed, _ratio(seed), None, _SIZES, False), measures)


def _discovered(seed: int) -> np.ndarray:
    """Whether any of three hypernyms at three layers has a q of at most .05: with 199 draws it could."""
    rng = np.random.default_rng([seed, 17])
    ratio, cells, draws = _ratio(seed), 3, 199
    lost = losses(rng, (1 + 2 * draws, 3 * cells, LEAVES), ratio, None).mean(-1)
    of_controls = [lost[[0, *range(first, first + draws)]] for first in (1, 1 + draws)]
    p = np.max([rank_p(one[None], seed, corrected=False) for one in of_controls], axis=0)
    return np.array([(q_values(p) <= 0.05).any()], float)


def _steering_change(seed: int) -> Limits:
    return _limits(edited(seed, _ratio(seed), LOSS, _SIZES, True), ".*_change", _DIRECTION_GIVES)


def _steering_p(seed: int) -> np.ndarray:
    several, single = (edited(seed, _ratio(seed), None, sizes, True) for sizes in (_SIZES, (12,)))
    mean, one = several[several["target"] == "mean"], single[single["target"] == "0"]
    return _rejected(pd.concat([mean, one]), "target_change_p|target_change_p_corrected")


_DRAWN = "draws differ by an SD of .13, 1 and 4.6 standard errors over leaves, skewed and correlated over {}"
_PATH = f"{LEAVES} leaves, {DRAWS} placebos, three windows and that of all layers; {_DRAWN.format('windows')}"
_ERASED = f"hypernyms of 6, 12 and 20 leaves and {OFF} other, {DRAWS} draws of each control, three layers; "
_ERASED += _DRAWN.format("layers")
_STEERED = (
    f"hypernyms of 6, 12 and 20 leaves and {OFF} other, 4 draws of each control for each, three doses; "
)
_STEERED += _DRAWN.format("doses")
_INSTEAD = "; a draw in the place of the {}"
_OVER = (
    "Leaves are drawn from many, and so are placebos and controls; the edit itself is a fixed one. Limits add the "
    "variance over leaves and that between draws over their number, each with its Student's t; of a single edit they "
    "are the percentile limits over leaves, widened for few of them."
)
_LEVEL = (
    " Near a bound limits are too narrow: a rate at which all leaves agree, an AUROC near 1 of a hypernym of 6 or 12 "
    "leaves (alone, these cover .87 to .92)."
)
_RANK = (
    "An edit that is nothing special could as well be any of the draws: its rank among them is exact, whatever the "
    "leaves are and however much draws differ. The larger p of both controls is printed."
)
_TIED = "ties count against a finding"
_BOTH = "a draw of one control must also exceed all draws of the other"


def _p(measure: str) -> tuple[str, str]:
    return f"{measure}_p", f"{measure}_p_corrected"


CHECKS: tuple[Check, ...] = (
    Check(
        "knockout_change",
        ("knockout.margin_change",),
        "change of log-odds with a path blocked, with placebos, and beyond these",
        _PATH,
        _OVER,
        "coverage",
        _knockout_change,
        400,
    ),
    Check(
        "knockout_levels",
        ("knockout.margin", "knockout.top1", "knockout.top1_change"),
        "log-odds and top-1 with a path blocked and with placebos, change of top-1",
        _PATH,
        _OVER + _LEVEL,
        "coverage",
        _knockout_levels,
        300,
    ),
    Check(
        "knockout_p",
        _p("knockout.margin_change"),
        "p of what a path costs in log-odds, alone and corrected over windows",
        _PATH + _INSTEAD.format("path"),
        _RANK,
        "false positives",
        partial(_knockout_p, measures="margin_change_p|margin_change_p_corrected"),
        600,
    ),
    Check(
        "knockout_top1_p",
        _p("knockout.top1_change"),
        "p of what a path costs in top-1",
        _PATH + _INSTEAD.format("path"),
        _RANK,
        "false positives",
        partial(_knockout_p, measures="top1_change_p|top1_change_p_corrected"),
        300,
        _TIED,
    ),
    Check(
        "erasure_change",
        ("erasure.gap_change", "erasure.other_*_change", "erasure.leaf_*_change"),
        "change by erasure, by controls, and beyond these, of a hypernym and of the mean",
        _ERASED,
        _OVER,
        "coverage",
        partial(_erasure_change, targets=("0", "1", "mean")),
        300,
    ),
    Check(
        "erasure_levels",
        (
            *("erasure.auroc", "erasure.auroc_change", "erasure.gap", "erasure.other_off"),
            *("erasure.other_under", "erasure.leaf_off", "erasure.leaf_under"),
        ),
        "gap, AUROC and other read-outs under edits, change of AUROC",
        _ERASED,
        _OVER + _LEVEL,
        "coverage",
        _erasure_levels,
        120,
    ),
    Check(
        "erasure_p",
        ("erasure.*_change_p", "erasure.*_change_p_corrected"),
        "p of what erasure costs, alone and corrected over layers",
        _ERASED + _INSTEAD.format("eraser"),
        _RANK,
        "false positives",
        partial(_erasure_p, measures="(gap|auroc|other_off|leaf_under)_change_p(_corrected)?"),
        300,
        _BOTH,
    ),
    Check(
        "edits_q",
        ("erasure.*_change_q", "steering.target_change_q"),
        "q of single hypernyms under erasure or steering, any of them",
        "three hypernyms at three layers, 199 draws of each control; "
        + _DRAWN.format("hypernyms and layers")
        + _INSTEAD.format("edit"),
        "p of a hypernym is an exact rank among draws; Benjamini–Hochberg over hypernyms, layers (and doses), which "
        "depend on each other positively. Where nothing is to be found, any discovery is a false one.",
        "false positives",
        _discovered,
        600,
        _BOTH,
    ),
    Check(
        "steering_change",
        ("steering.*_change",),
        "change by steering, by controls, and beyond these, of a hypernym and of the mean",
        _STEERED,
        _OVER,
        "coverage",
        _steering_change,
        150,
    ),
    Check(
        "steering_p",
        _p("steering.target_change"),
        "p of how far a direction steers, of the mean (4 draws each) and of one hypernym (19), alone and corrected",
        _STEERED + _INSTEAD.format("direction"),
        _RANK,
        "false positives",
        _steering_p,
        300,
        _BOTH,
    ),
)
