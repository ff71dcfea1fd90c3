"""Lenses: intervals of evidence for words, the first layer detected, and which of leaf and hypernym comes first."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from analyses.inputs.span_states import fold_of_leaves
from analyses.lens.parts import LensInputs, look
from analyses.lens.rows import BEYOND, lens_table
from analyses.lens.tokens import MODALITIES, SPANS, Tokens
from analyses.lens.words import TARGETS, Words, words_of
from probing.sites import EMBED
from probing.stats import draw_weights
from tests.calibration.check import Check, Limits
from tests.calibration.worlds import members, spectrum, taxonomy

_LAYERS, _WIDTH, _SAMPLE, _OTHER_WORDS = 10, 24, 150, 1000
_MIDDLE, _FINAL = "blocks.4.hook_resid_post", "blocks.9.hook_resid_post"


@cache
def _words() -> dict[str, Words]:
    """A token for each leaf, and behind them one for each hypernym."""
    tree = taxonomy()
    token_of = {
        "leaf": {name: at for at, name in enumerate(tree.leaves)},
        "hypernym": {name: len(tree.leaves) + at for at, name in enumerate(tree.hypernyms)},
    }
    subject = SimpleNamespace(
        candidates=lambda target: SimpleNamespace(token_of=token_of[target]),
        run=SimpleNamespace(taxonomy=tree),
    )
    return {target: words_of(subject, target, tree.leaves, 0) for target in TARGETS}  # pyright: ignore


@cache
def _fold() -> dict[str, int]:
    leaves = np.array(taxonomy().leaves)
    return dict(zip(leaves.tolist(), fold_of_leaves(taxonomy(), leaves, 2, 0).tolist()))


class _Lens(SimpleNamespace):
    """An output embedding without a norm before it."""

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden @ self.head.weight.T


def _looked(seed: int) -> pd.DataFrame:
    """Pictures of new leaves, with words of their own, seen through both lenses and by cosine.

    Hypernyms, their words and the way from one layer to the next are those of one model.
    """
    model, rng = np.random.default_rng(0), np.random.default_rng(1 + seed)
    leaves = np.array(taxonomy().leaves)
    kinds, turn = model.normal(size=(members().shape[1], _WIDTH)), model.normal(size=(_WIDTH, _WIDTH))
    vocabulary = model.normal(size=(_OTHER_WORDS, _WIDTH)) + 0.3
    names = rng.normal(size=(len(leaves), _WIDTH)) + rng.normal(size=(len(leaves), 1)) * np.ones(_WIDTH) / 3
    row = np.repeat(np.arange(len(leaves)), 2)
    own = 0.25 * names + 0.25 * members() @ kinds + rng.normal(size=names.shape) * spectrum(_WIDTH)
    final = own[row] + 0.3 * rng.normal(size=(len(row), _WIDTH)) + 0.3
    middle = final @ turn / np.sqrt(_WIDTH) + 0.5 * rng.normal(size=final.shape)
    states = {EMBED: final, _MIDDLE: middle, _FINAL: final}
    slot = np.tile([True, False], len(leaves))
    tokens = Tokens(
        {site: torch.tensor(x, dtype=torch.float32) for site, x in states.items()},
        row,
        leaves,
        dict(zip(SPANS, (slot, ~slot, ~slot))),
    )
    head = torch.tensor(np.concatenate([names, kinds, vocabulary]), dtype=torch.float32)
    lens = _Lens(head=SimpleNamespace(weight=head))
    sample = frozenset(rng.choice(leaves, _SAMPLE, replace=False).tolist())
    image = MODALITIES[0]
    inputs = LensInputs({image: tokens}, _words(), tuple(leaves.tolist()), sample, _fold(), _FINAL, lens)  # pyright: ignore
    parts = pd.concat([look(inputs, site) for site in (EMBED, _MIDDLE)], ignore_index=True)
    return lens_table(parts, draw_weights(_SAMPLE, 300, seed), seed)


@cache
def _table(seed: int) -> pd.DataFrame:
    return _looked(seed)


def _seen(lens: str, measures: tuple[str, ...], beyond: bool, seed: int) -> Limits:
    """Limits of some measures through one lens, of own and of others' words or of their difference."""
    table = _table(seed)
    rows = table[(table["lens"] == lens) & table["measure"].isin(measures) & (table["site"] != "all")]
    difference = rows["words"].eq(BEYOND)
    rows = rows[difference if beyond else ~difference]
    value, lower, upper = (np.asarray(rows[side], float) for side in ("value", "lower", "upper"))
    return Limits(value, lower, upper)


def _rising(
    seed: int, rise: Callable[[str, Float[np.ndarray, " layers"]], Float[np.ndarray, " layers"]]
) -> pd.DataFrame:
    """The table of curves of two targets that rise along the layers, by leaves that differ in how much."""
    rng, leaves = np.random.default_rng(seed), np.array(taxonomy().leaves[:_SAMPLE])
    parts = []
    for target in TARGETS:
        common, strength = rng.normal(0, 2, len(leaves)), rng.gamma(2, 0.5, len(leaves))
        noise = rng.normal(size=(_LAYERS, len(leaves)))
        for layer in range(1, _LAYERS):
            noise[layer] = 0.9 * noise[layer - 1] + np.sqrt(0.19) * noise[layer]
        height = rise(target, np.arange(_LAYERS, dtype=float))
        for layer in range(_LAYERS):
            for words, extra in (("own", height[layer] * strength + noise[layer]), ("other", 0.0)):
                parts.append(
                    pd.DataFrame({"leaf": leaves, "evidence": common + extra, "log10_rank": 3 - extra / 2,
                                  "modality": "image", "span": "last", "lens": "logit", "target": target,
                                  "words": words, "site": f"blocks.{layer}.hook_resid_post"})
                )  # fmt: skip
    return lens_table(pd.concat(parts, ignore_index=True), draw_weights(len(leaves), 300, seed), seed)


_STEP = {"leaf": 3, "hypernym": 6}


def _step(seed: int) -> Limits:
    """First layers detected, and their difference, where words rise at once."""
    rows = _rising(seed, lambda target, layer: 2.0 * (layer >= _STEP[target]))
    rows = rows[rows["measure"] == "onset"]
    truth = {**_STEP, "hypernym − leaf": _STEP["hypernym"] - _STEP["leaf"]}
    value, lower, upper = (np.asarray(rows[side], float) for side in ("value", "lower", "upper"))
    return Limits(value, lower, upper, np.array([truth[target] for target in rows["target"]], float))


def _nothing(seed: int) -> np.ndarray:
    """Whether a layer is detected where no words rise, for leaf and hypernym."""
    rows = _rising(seed, lambda target, layer: 0.0 * layer)
    rows = rows[(rows["measure"] == "onset") & rows["target"].isin(TARGETS)]
    return np.isfinite(rows["value"].to_numpy(float))


_LEAVES = (
    "Leaves are drawn, with their words; hypernyms, their words and the model stay. Translators are fitted on the "
    "leaves of the other of two folds. Limits of own and of others' words are wider than the bootstrap's, by 1.2, "
    "through a tuned lens by 1.5; those of the difference are the bootstrap's."
)
_WIDER = "ranks, and words of one leaf only, depend less on what leaves share than log-probabilities do"
_ALL = ("log_prob", "log10_rank")


def _view(name: str, lens: str, beyond: bool, measures: tuple[str, ...] = _ALL) -> Check:
    said = "own beyond other words" if beyond else "own words, words of others"
    return Check(
        f"lens_{name}",
        tuple(f"lens.{measure}" for measure in measures),
        f"{' and '.join(measures)} of {said}, {lens}" + ("" if lens == "cosine" else " lens"),
        f"{_SAMPLE} of 351 leaves, two layers, words of unlike frequency",
        _LEAVES,
        "coverage",
        partial(_seen, lens, measures, beyond),
        200,
        conservative="" if beyond else _WIDER,
    )


CHECKS: tuple[Check, ...] = (
    _view("logit", "logit", False),
    _view("logit_beyond", "logit", True),
    _view("tuned", "tuned", False),
    _view("tuned_beyond", "tuned", True),
    _view("cosine", "cosine", False, ("cosine",)),
    _view("cosine_beyond", "cosine", True, ("cosine",)),
    Check(
        "lens_onset_step",
        ("lens.onset",),
        "first layer detected of leaf and hypernym, and their difference",
        "150 leaves; words rise at once, at layers 3 and 6 of 10",
        "Words rise at once. Where they rise slowly the first layer detected is later the fewer leaves there are.",
        "coverage",
        _step,
        300,
        conservative="layers are whole numbers",
    ),
    Check(
        "lens_onset_nothing",
        ("lens.onset",),
        "a first layer is detected",
        "150 leaves, no word rises at any of 10 layers",
        "The last layer must hold, so that bands over all layers are more than is needed.",
        "false positives",
        _nothing,
        300,
        conservative="the last layer alone decides, by a band that is right for ten",
    ),
)
