"""Residual states of a span, token by token, in many pictures: erasers and directions are fitted on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import nn

from analyses.frame.parts import tracked
from analyses.inputs.subject import Subject
from probing.edits.erasure import Eraser, Whitening, leace, random_eraser
from probing.hooks import record
from probing.hooks.layouts import layout_of
from probing.patching.cells import Cell
from probing.patching.runs import forward
from probing.probes.splits import grouped_folds
from probing.sites import Site
from probing.stats.seeding import stream
from taxogen.world.taxonomy import Taxonomy

BATCH = 64


def post(layer: int) -> str:
    """The residual stream behind a layer."""
    return f"blocks.{layer}.hook_resid_post"


@dataclass(frozen=True)
class SpanAtLayer:
    """A span behind a layer: where states are edited or exchanged."""

    layer: int
    span: str

    @property
    def name(self) -> str:
        """The name of its part on disk."""
        return f"{self.span}-{self.layer:03d}"

    @property
    def cell(self) -> Cell:
        """What patches replace there."""
        return Cell((Site("hook_resid_post", self.layer),), self.span)

    @classmethod
    def parse(cls, name: str) -> SpanAtLayer:
        """The inverse of `name`."""
        span, layer = name.rsplit("-", 1)
        return cls(int(layer), span)


def layers_of(model: nn.Module, layers: Sequence[int], default: Callable[[int], Sequence[int]]) -> list[int]:
    """The layers that are asked for or, where none is, those that are the default of a model of some depth.

    Raises:
        KeyError: the model has no such layer.
    """
    depth = len(layout_of(model).blocks)
    if unknown := [layer for layer in layers if not 0 <= layer < depth]:
        raise KeyError(f"layer {unknown[0]} was asked for; this model has layers 0 to {depth - 1}")
    return list(layers or default(depth))


@dataclass(frozen=True)
class SpanStates:
    """States [pictures, tokens, width] by (layer, span), the leaf of each picture and the fold that holds it out."""

    values: Mapping[tuple[int, str], Float[np.ndarray, "n k d"]]
    leaves: np.ndarray
    fold: Int[np.ndarray, " n"]

    def train(self, fold: int, layer: int, span: str) -> tuple[Float[np.ndarray, "n k d"], np.ndarray]:
        """States and leaves of all folds but one: what is fitted for the leaves of that fold is fitted on these."""
        others = self.fold != fold
        return self.values[layer, span][others].astype(np.float64), self.leaves[others]


def fold_of_leaves(taxonomy: Taxonomy, leaves: np.ndarray, folds: int, seed: int) -> Int[np.ndarray, " n"]:
    """The fold that holds out each leaf, hypernyms spread over the folds; the same for every question of a run."""
    return grouped_folds(leaves, taxonomy.labels(leaves.tolist()), folds, seed)


@torch.no_grad()
def span_states(
    subject: Subject,
    task: str,
    shown: pd.DataFrame,
    layers: Sequence[int],
    spans: Sequence[str],
    fold: Int[np.ndarray, " n"],
) -> SpanStates:
    """The states of some spans behind some layers when a task's question is put about each picture."""
    batches: dict[tuple[int, str], list[np.ndarray]] = {
        (layer, span): [] for layer in layers for span in spans
    }
    model = subject.bench.vlm.model
    starts = range(0, len(shown), BATCH)
    for start in tracked(starts, f"states, {task}", "batches"):
        rows = subject.rows_of(task, shown.iloc[start : start + BATCH])
        with record(model, [post(layer) for layer in layers]) as seen:
            forward(model, rows)
        for layer, span in batches:
            value = seen[post(layer)][:, list(rows.positions(span))]
            batches[layer, span].append(value.float().cpu().numpy())
    values = {key: np.concatenate(states) for key, states in batches.items()}
    return SpanStates(values, shown["leaf"].to_numpy().astype(str), fold)


@dataclass(frozen=True)
class SpanEraser:
    """An eraser shared by the tokens of a span, each of which keeps a mean of its own."""

    means: Float[np.ndarray, "k d"]
    eraser: Eraser

    def __call__(self, states: Float[np.ndarray, "n k d"]) -> Float[np.ndarray, "n k d"]:
        """The states without what is erased."""
        return self.eraser(states - self.means) + self.means


@dataclass(frozen=True)
class SpanWhitening:
    """The tokens of a span, each about its own mean, whitened together."""

    means: Float[np.ndarray, "k d"]
    centred: Float[np.ndarray, "n d"]
    whitening: Whitening
    tokens: int

    @classmethod
    def of(cls, states: Float[np.ndarray, "n k d"], shrinkage: float) -> SpanWhitening:
        """That of these (training) states."""
        means = states.mean(0)
        centred = (states - means).reshape(-1, states.shape[-1])
        return cls(means, centred, Whitening.of(centred, shrinkage), states.shape[1])

    def erase(self, labels: Bool[np.ndarray, " n"]) -> SpanEraser:
        """LEACE of a yes/no concept of the pictures."""
        z = np.repeat(labels.astype(np.float64), self.tokens)[:, None]
        return SpanEraser(self.means, leace(self.whitening, self.centred, z))

    def erase_randomly(self, rank: int, seed: int) -> SpanEraser:
        """The erasure of a random subspace."""
        return SpanEraser(self.means, random_eraser(self.whitening, rank, seed))


def exchanged(
    labels_of: Mapping[str, bool], fold_of: Mapping[str, int], *names: str, seed: int
) -> dict[str, bool]:
    """The same number of leaves of each fold under a concept that means nothing: labels exchanged among leaves."""
    labels: dict[str, bool] = {}
    for fold in sorted(set(fold_of.values())):
        leaves = sorted(leaf for leaf in labels_of if fold_of[leaf] == fold)
        order = stream(seed, "exchanged labels", str(fold), *names).permutation(len(leaves))
        labels |= {leaf: labels_of[leaves[at]] for leaf, at in zip(leaves, order)}
    return labels
