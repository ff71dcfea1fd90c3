"""Interchange: limits of effects, accuracies and illusions; p beside each control; overlaps of subspaces."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pandas as pd
from jaxtyping import Float

from analyses.inputs.span_states import SpanAtLayer, fold_of_leaves
from analyses.interchange.exchanged import angles
from analyses.interchange.fitted import subspaces
from analyses.interchange.grid import HYPERNYM, ExchangeGrid
from analyses.interchange.options import Options
from analyses.interchange.pairs import Exchange, exchanges
from analyses.interchange.rows import CONTROLS, interchange_table
from tests.calibration.check import Check, Limits
from tests.calibration.edits import RATIOS, losses
from tests.calibration.worlds import members, spectrum, taxonomy

_LAYERS, _PAIRS, _DRAWS, _EFFECT = (10, 15, 20), 60, 19, 1.0
_SINGLES = {"swap": _EFFECT, "whole": 2.0, "complement": 0.5, "read": _EFFECT / 2, "unread": _EFFECT / 2}
"""Edit → its mean effect, in standard deviations of a pair's."""
_UP, _DOWN = 0.1, 0.2
"""Shares of the variance that pairs of one hypernym of the source, of the base, have in common."""


@cache
def _fold() -> np.ndarray:
    return fold_of_leaves(taxonomy(), np.array(taxonomy().leaves), 3, 0)


@cache
def _pairs() -> tuple[Exchange, ...]:
    """The pairs of one fold of three, as the analysis draws them."""
    rows = np.flatnonzero(_fold() == 0)
    leaves = [taxonomy().leaves[row] for row in rows]
    return tuple(exchanges(leaves, members()[rows], taxonomy().hypernyms, rows, _PAIRS, 0, "tested"))


@cache
def _ends() -> np.ndarray:
    names = [[pair.up for pair in _pairs()], [pair.down for pair in _pairs()]]
    return np.unique(names, return_inverse=True)[1].reshape(2, -1)


def _shared(rng: np.random.Generator, edits: int) -> Float[np.ndarray, "edits layers pairs"]:
    """What pairs of one hypernym have in common; half of it in all edits alike."""
    up, down = _ends()
    total = np.zeros((edits, len(_LAYERS), _PAIRS))
    for share, end in ((_UP, up), (_DOWN, down)):
        shape = (len(_LAYERS), max(up.max(), down.max()) + 1)
        common, own = rng.normal(size=(1, *shape)), rng.normal(size=(edits, *shape))
        total += np.sqrt(share / 2) * (common + own)[..., end]
    return total


def _effects(rng: np.random.Generator, ratio: float, planted: bool) -> dict[tuple[str, int], np.ndarray]:
    """(edit, draw) → the change of the log-odds of every pair at every layer; a swap is a draw where none is planted.

    Draws of all controls are of one kind: each has an effect of its own on all pairs, of `ratio` standard errors.
    """
    drawn = [(name, draw) for name in CONTROLS for draw in range(1, _DRAWS + 1)]
    names = [("swap", 0), *drawn]
    of = losses(rng, (len(names), len(_LAYERS), _PAIRS), ratio, _EFFECT if planted else None)
    found = dict(
        zip(names, np.sqrt(1 - _UP - _DOWN) * (of - _EFFECT * planted * _first(of)) + _shared(rng, len(of)))
    )
    found["swap", 0] += _EFFECT * planted
    rest = [name for name in _SINGLES if name != "swap"]
    single = losses(rng, (len(rest), len(_LAYERS), _PAIRS), 1e-9, None)
    for name, value in zip(rest, np.sqrt(1 - _UP - _DOWN) * single + _shared(rng, len(rest))):
        found[name, 0] = value + _SINGLES[name]
    return found


def _first(of: np.ndarray) -> np.ndarray:
    return (np.arange(len(of)) == 0)[:, None, None]


@cache
def _table(seed: int, planted: bool) -> pd.DataFrame:
    rng, ratio = np.random.default_rng([seed, 21, planted]), RATIOS[seed % len(RATIOS)]
    effects = _effects(rng, ratio, planted)
    base = rng.normal(-0.5, 1, _PAIRS)
    shared = rng.random(_PAIRS) < 0.5
    parts = [_part(rng, layer, "none", 0, base, shared) for layer in _LAYERS]
    for (edit, draw), change in effects.items():
        parts += [
            _part(rng, layer, edit, draw, base + change[at], shared) for at, layer in enumerate(_LAYERS)
        ]
    options = Options(
        draws=200, seed=seed, controls=_DRAWS, ranks=(1,), methods=("means",), trained=("pictures",)
    )
    return interchange_table(pd.concat(parts, ignore_index=True), {}, options)


def _part(
    rng: np.random.Generator, layer: int, edit: str, draw: int, log_odds: np.ndarray, shared: np.ndarray
) -> pd.DataFrame:
    """Outcomes of all pairs under one edit; what must stay depends on the leaf as the log-odds do."""
    own = edit not in ("none", "whole", "random")
    return pd.DataFrame(
        {
            "layer": layer, "span": "last", "fold": 0, "edit": edit, "draw": draw,
            "method": "means" if own else "", "trained": "pictures" if own else "",
            "rank": 1 if own or edit == "random" else 0,
            "base": [pair.base for pair in _pairs()], "source": [pair.source for pair in _pairs()],
            "up": [pair.up for pair in _pairs()], "down": [pair.down for pair in _pairs()],
            "log_odds": log_odds, "accuracy": (log_odds > 0).astype(float),
            "top_1": (log_odds > 0.7).astype(float),
            "other": np.where(shared, 1 / (1 + np.exp(-1.5 - 0.3 * log_odds - 0.5 * rng.normal(size=_PAIRS))), np.nan),
            "leaf": np.where(draw > 0, np.nan, (log_odds + rng.normal(size=_PAIRS) < 0.5).astype(float)),
            "moved": np.exp(-1.5 + 0.4 * log_odds + 0.4 * rng.normal(size=_PAIRS)),
        }
    )  # fmt: skip


def _covers(measures: tuple[str, ...], seed: int) -> Limits:
    """Limits of some measures, of which the truth is their mean over worlds."""
    table = _table(seed, True)
    rows = table[table["measure"].isin(measures) & table["lower"].notna() & (table["edit"] != "none")]
    value, lower, upper = rows[["value", "lower", "upper"]].to_numpy(float).T
    return Limits(value, lower, upper)


def _flagged(seed: int) -> np.ndarray:
    table = _table(seed, True)
    return table.loc[table["measure"] == "flagged", "value"].to_numpy(float)


def _p(seed: int) -> np.ndarray:
    """Whether a swap that is one more draw is found: at each layer beside each control, and at any layer corrected."""
    table = _table(seed, False)
    alone = table.loc[table["measure"] == "effect_p", "value"].to_numpy(float) <= 0.05
    least = (
        table[table["measure"] == "effect_p_corrected"].groupby("edit")["value"].min().to_numpy(float) <= 0.05
    )
    return np.concatenate([alone, least]).astype(float)


_LEAVES, _WIDTH, _FOLDS = 150, 16, 3


def _grid(seed: int) -> ExchangeGrid:
    """Words and pictures whose states lie along one spectrum, and whose hypernyms lie along unrelated directions."""
    rng = np.random.default_rng([seed, 22])
    rows = rng.choice(len(members()), _LEAVES, replace=False)
    labels = members()[rows]
    labels = labels[:, (labels.sum(0) > 5)]
    places = [SpanAtLayer(layer, "last") for layer in _LAYERS[:2]]
    states = {
        ("states", HYPERNYM, modality): {place: _states(rng, labels) for place in places}
        for modality in ("image", "text")
    }
    options = Options(
        seed=seed,
        ranks=(1,),
        methods=("means",),
        trained=("pictures", "words"),
        controls=_DRAWS,
        folds=_FOLDS,
    )
    leaves = tuple(taxonomy().leaves[row] for row in rows)
    names = tuple(f"kind {at}" for at in range(labels.shape[1]))
    fold = rng.permutation(np.arange(_LEAVES) % _FOLDS)
    grid: ExchangeGrid = ExchangeGrid(None, options, leaves, names, labels, rows, fold, {}, places, states)  # pyright: ignore
    return grid


def _states(rng: np.random.Generator, labels: np.ndarray) -> Float[np.ndarray, "leaves 1 width"]:
    directions = rng.normal(size=(labels.shape[1], _WIDTH))
    return ((rng.normal(size=(len(labels), _WIDTH)) + labels @ directions / 3) * spectrum(_WIDTH))[:, None]


def _overlaps(seed: int) -> np.ndarray:
    """Whether subspaces of words and of pictures are found to overlap, over three folds."""
    grid, parts = _grid(seed), []
    for place in grid.places:
        for fold in range(_FOLDS):
            made = subspaces(grid, place, fold)
            parts.append(
                angles(grid, place, fold, made).assign(layer=place.layer, span=place.span, fold=fold)
            )
    parts = pd.concat(parts, ignore_index=True).assign(base=np.nan)
    table = interchange_table(parts, {}, grid.options)
    rows = table[table["measure"].isin(["overlap_p", "overlap_p_corrected"])]
    return rows.groupby(["measure", "edit", "layer"])["value"].first().to_numpy(float) <= 0.05


_WORLD = (
    f"{_PAIRS} pairs of one fold, three layers; pairs of one hypernym share .1 (source) and .2 (base) of the variance; "
    f"{_DRAWS} draws of each control, which differ by an SD of .13, 1 and 4.6 standard errors"
)
_HYPERNYMS = (
    "Pairs are drawn again with the hypernyms in which they differ; limits beyond a control, and of it, hold over its "
    "draws as well. The subspace is taken as it was fitted."
)


def _cover(name: str, measures: tuple[str, ...], says: str, conservative: str = "") -> Check:
    return Check(
        f"interchange_{name}",
        tuple(f"interchange.{measure}" for measure in measures),
        says,
        _WORLD,
        _HYPERNYMS,
        "coverage",
        partial(_covers, measures),
        200,
        conservative,
    )


CHECKS: tuple[Check, ...] = (
    _cover("effect", ("effect",), "effect of a subspace, its parts, the whole state, and each control"),
    _cover("shares", ("accuracy", "top_1"), "accuracy and top-1 under edits"),
    _cover("moved", ("moved",), "share of the difference that is exchanged"),
    _cover("excess", ("effect_excess", "accuracy_excess"), "effect and accuracy beyond each control"),
    _cover("illusion", ("illusion",), "half the effect less that of a part alone"),
    Check(
        "interchange_flagged",
        ("interchange.flagged",),
        "an illusion is flagged",
        f"{_WORLD}; each part does half",
        _HYPERNYMS,
        "false positives",
        _flagged,
        200,
        "both parts must do less than half, and the subspace something, each by its own interval",
    ),
    Check(
        "interchange_p",
        ("interchange.effect_p", "interchange.effect_p_corrected"),
        "p of a subspace beside each control, alone and corrected over layers",
        f"{_WORLD}; one more draw in the place of the subspace",
        "A subspace that is nothing special could as well be any of the draws: its rank among them is exact.",
        "false positives",
        _p,
        280,
    ),
    Check(
        "interchange_overlap",
        ("interchange.overlap_p", "interchange.overlap_p_corrected"),
        "p that subspaces of words and of pictures overlap, at a layer, and corrected over layers",
        f"{_LEAVES} leaves, {_WIDTH} dimensions, two layers, three folds; means of words and pictures, fitted anew, "
        "along one spectrum and unrelated directions",
        "Labels are exchanged among leaves, in words and pictures alike: subspaces of these are made as the others "
        "are. Beside random subspaces in the spectrum of the states, which have no p, the rank would be .05 or less in "
        ".26 to .34 of such worlds.",
        "false positives",
        _overlaps,
        100,
    ),
)
