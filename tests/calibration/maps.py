"""Picture maps: limits of pointing, its chance level and differences, agreement and incompleteness."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pandas as pd

from analyses.picture_maps.leaf_maps import SHUFFLED
from analyses.picture_maps.rows import Shown, maps_table
from tests.calibration.check import Check, Limits

_TOKENS = 36


def _leaf(rng: np.random.Generator, at: int, seen: float) -> dict[str, np.ndarray]:
    """A picture with an object of some size, and maps of which `seen` is on it; leaves differ in how much."""
    size = rng.beta(2, 4)
    inside = np.clip(rng.permutation(np.linspace(0, 1, _TOKENS)) < size, 0, 1).astype(float)
    boxes = np.zeros((_TOKENS, 4))
    arrays = {"inside": inside, "boxes": boxes, "layers": np.array([3])}
    share = seen * rng.beta(1, 1)
    for prefix, on in (("", share), (SHUFFLED, 0.0)):
        for name in ("cut", "mean", "integrated"):
            arrays[prefix + name] = rng.gamma(0.5, 1.0, _TOKENS) - 0.3 + 2 * on * inside
        arrays[f"{prefix}heads.last"] = rng.dirichlet(np.full(_TOKENS, 0.3) + on * inside, (1, 2))
        arrays[f"{prefix}rollout.last"] = rng.dirichlet(np.full(_TOKENS, 0.5) + on * inside)
    arrays["ends"] = np.array([arrays["integrated"].sum() + rng.gamma(1, 0.2), 0.0])
    return arrays


@cache
def _table(seed: int, leaves: int) -> pd.DataFrame:
    rng = np.random.default_rng([seed, 51])
    names = [f"leaf{at:03}" for at in range(leaves)]
    maps = {model: {name: _leaf(rng, at, seen) for at, name in enumerate(names)}
            for model, seen in (("run", 1.0), ("placebo", 0.2))}  # fmt: skip
    for name in names:  # both models are shown the same picture
        maps["placebo"][name]["inside"] = maps["run"][name]["inside"]
    pictures = pd.DataFrame(
        {"leaf": names, "picture": names, "content_hash": names, "measured": True, "drawn": False}
    )
    return maps_table(Shown(pictures, "here"), maps, "hypernym", 1, 300, seed)


def _covers(leaves: int, measures: tuple[str, ...], seed: int) -> Limits:
    """The limits of some measures, the truth being their mean over worlds."""
    table = _table(seed, leaves)
    rows = table[table["measure"].isin(measures)]
    return Limits(*rows[["value", "lower", "upper"]].to_numpy(float).T)


CHECKS: tuple[Check, ...] = tuple(
    Check(
        f"maps_{name}_{leaves}",
        tuple(f"picture_maps.{measure}" for measure in measures),
        says,
        f"{leaves} leaves, a picture each, of {_TOKENS} patches; objects and leaves differ",
        "Leaves are drawn from many, and with them the one picture of each.",
        "coverage",
        partial(_covers, leaves, measures),
        200,
    )
    for leaves in (24, 60)
    for name, measures, says in (
        ("pointing", ("pointing", "area"), "pointing of two models, shuffled, their differences, and area"),
        ("agreement", ("agreement", "incomplete"), "agreement of maps, and what integrated gradients miss"),
    )
)
