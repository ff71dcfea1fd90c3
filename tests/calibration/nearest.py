"""Nearest words of the contextual lens: shares beside banks in which words are exchanged, and their p."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from analyses.lens.contextual import KINDS, SHUFFLES
from analyses.lens.neighbours import neighbour_rows
from probing.stats import draw_weights
from tests.calibration.check import Check, Limits

_LEAVES, _TOKENS, _LAYERS = 150, 4, 4
_CHANCES = np.array([0.02, 0.06, 0.3, 0.12, 0.5])
"""Of a nearest word of each kind, where words are exchanged."""


def _bank(rng: np.random.Generator, planted: float, of_bank: np.random.Generator) -> np.ndarray:
    """The shares of each leaf and layer: a bank has chances of its own, and leaves differ in how far it is theirs."""
    chance = np.exp(np.log(_CHANCES) + 0.2 * of_bank.normal(size=(_LAYERS, len(KINDS))))
    own = planted * rng.beta(0.5, 1.5, (_LEAVES, _LAYERS, 1)) * np.array([1.0, 0.6, 0, 0, 0])
    leaf = rng.gamma(2, 0.5, (_LEAVES, 1, len(KINDS)))
    each = own * 2 + chance * leaf
    each = each / each.sum(-1, keepdims=True)
    return rng.multinomial(_TOKENS, each) / _TOKENS


@cache
def _table(seed: int, planted: float) -> pd.DataFrame:
    rng, frames = np.random.default_rng([seed, 71]), []
    for draw in range(-1, SHUFFLES):
        fixed = draw < 0 and planted > 0  # limits hold for the bank that there is
        shares = _bank(rng, planted if draw < 0 else 0.0, np.random.default_rng(0) if fixed else rng)
        for layer in range(_LAYERS):
            frame = pd.DataFrame(shares[:, layer], columns=list(KINDS))
            frames.append(
                frame.assign(leaf=np.arange(_LEAVES), draw=draw, site=f"blocks.{layer}.hook_resid_post")
            )
    parts = pd.concat(frames, ignore_index=True).assign(modality="image", span="slot", near="same layer")
    return pd.DataFrame(neighbour_rows(parts, draw_weights(_LEAVES, 300, seed)))


def _shares(seed: int) -> Limits:
    table = _table(seed, 0.3)
    rows = table[table["measure"] == "nearest"]
    return Limits(*rows[["value", "lower", "upper"]].to_numpy(float).T)


def _p(seed: int) -> np.ndarray:
    table = _table(seed, 0.0)
    alone = table.loc[table["measure"] == "nearest_p", "value"].to_numpy(float) <= 0.05
    least = (
        table[table["measure"] == "nearest_p_corrected"].groupby("target")["value"].min().to_numpy(float)
        <= 0.05
    )
    return np.concatenate([alone, least]).astype(float)


_WORLD = (
    f"{_LEAVES} leaves of {_TOKENS} tokens, {_LAYERS} layers, {SHUFFLES} banks in which words are exchanged"
)

CHECKS: tuple[Check, ...] = (
    Check(
        "lens_nearest",
        ("lens.nearest",),
        "share of tokens whose nearest word is of a kind, with words exchanged, and beyond these",
        _WORLD,
        "Leaves are drawn from many, and so are shuffled banks; the bank itself is a fixed one.",
        "coverage",
        _shares,
        200,
    ),
    Check(
        "lens_nearest_p",
        ("lens.nearest_p", "lens.nearest_p_corrected"),
        "p of own names and hypernyms as nearest words, alone and corrected over layers",
        f"{_WORLD}; one more of them in the place of the bank",
        "Where words say nothing of states the bank could as well be one in which words are exchanged.",
        "false positives",
        _p,
        400,
    ),
)
