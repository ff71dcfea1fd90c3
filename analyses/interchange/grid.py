"""ExchangeGrid: leaves, folds, pairs and places at which subspaces are made and tested, and what is run once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from analyses.inputs.span_states import SpanAtLayer, fold_of_leaves, layers_of
from analyses.inputs.stimuli import Stimuli, pictures_of
from analyses.inputs.subject import Subject
from analyses.interchange.options import PAIRS, Options, largest_rank, with_ranks
from analyses.interchange.pairs import Exchange, exchanges
from analyses.interchange.sides import Bases, source_states
from probing.edits.naturalness import Naturalness
from probing.hooks.layouts import layout_of
from probing.patching import EACH, Alignment
from probing.stats.seeding import stream
from probing.store import MismatchError

HYPERNYM = "hypernym"


@dataclass(frozen=True)
class ExchangeGrid:
    """Leaves with a picture, what is above each, and the fold that holds each out.

    Attributes:
        stimuli: the model and its prompts.
        options: what is exchanged.
        leaves: sorted.
        names: hypernyms that can be read.
        labels: which leaf is under which of them.
        tokens: by which each leaf's name is read.
        fold: of each leaf.
        pairs: fold → those that are tested.
        places: spans behind layers, at which states are exchanged.
    """

    stimuli: Stimuli
    options: Options
    leaves: tuple[str, ...]
    names: tuple[str, ...]
    labels: Bool[np.ndarray, "leaves hypernyms"]
    tokens: Int[np.ndarray, " leaves"]
    fold: Int[np.ndarray, " leaves"]
    pairs: dict[int, list[Exchange]]
    places: Sequence[SpanAtLayer]
    _once: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    @classmethod
    def of(cls, subject: Subject, options: Options, like: ExchangeGrid | None = None) -> ExchangeGrid:
        """That of a subject; with another run's, at the same places and between the same pairs.

        Raises:
            KeyError: the model has no such layer.
            ValueError: a fold has too few pairs, there are too few leaves for the folds, or a rank is too large.
            MismatchError: the other run is of another world, or its model has another number of layers.
        """
        pictures = pictures_of(subject.run, options.seed)
        leaves, names = tuple(sorted(pictures)), subject.candidates(HYPERNYM).names
        taxonomy, token_of = subject.run.taxonomy, subject.candidates("leaf").token_of
        labels = subject.own(HYPERNYM, np.array(leaves))
        fold = fold_of_leaves(taxonomy, np.array(leaves), options.folds, options.seed)
        tokens = np.array([token_of[leaf] for leaf in leaves])
        alignments = {span: Alignment("mean") if span == "slot" else EACH for span in options.spans}
        stimuli = Stimuli(subject, pictures, alignments)
        places = places_of(subject, options) if like is None else like.places
        grid = cls(stimuli, options, leaves, names, labels, tokens, fold, {}, places)
        return grid.prepared() if like is None else grid.matched(like)

    def prepared(self) -> ExchangeGrid:
        """The same with the ranks and pairs that are asked for, or the default ones as far as leaves go."""
        width = self.stimuli.model.get_input_embeddings().weight.shape[1]  # pyright: ignore[reportCallIssue]
        options = with_ranks(self.options, largest_rank(self.labels, self.fold, self.options, width))
        options = replace(options, pairs=options.pairs or PAIRS)
        return replace(self, options=options, pairs=self.tested_pairs())

    def matched(self, like: ExchangeGrid) -> ExchangeGrid:
        """The same with the ranks and pairs of another run's, whose world is the same."""
        worlds = [
            {
                "number of layers": len(layout_of(one.stimuli.model).blocks),
                "taxonomy": one.stimuli.subject.run.taxonomy,
                "leaves with a test picture": one.leaves,
                "hypernyms that can be read": one.names,
                "folds": one.fold.tolist(),
            }
            for one in (self, like)
        ]
        if unlike := [what for what in worlds[0] if worlds[0][what] != worlds[1][what]]:
            own, other = (one.stimuli.subject.run.path for one in (self, like))
            raise MismatchError(
                f"{own} was given as --placebo-run, and differs from {other} in {', '.join(unlike)}; give a run of the "
                "same world, whose language model has as many layers"
            )
        return replace(self, options=like.options, pairs=like.pairs)

    def tested_pairs(self) -> dict[int, list[Exchange]]:
        """The pairs of each fold that is tested; base and source are both held out by it."""
        tested, wanted = range(self.options.tested or self.options.folds), self.options.pairs or PAIRS
        pairs: dict[int, list[Exchange]] = {}
        for fold in tested:
            count = wanted // len(tested) + (fold < wanted % len(tested))
            pairs[fold] = self.draw(self.fold == fold, self.labels, count, "tested")
            if len(pairs[fold]) < (count if self.options.pairs else 1) or not count:
                raise ValueError(
                    f"{wanted} pairs of leaves were asked for, {count} of fold {fold}, whose "
                    f"{int((self.fold == fold).sum())} leaves make {len(pairs[fold])} that differ in a hypernym that "
                    f"can be read: give another number with --pairs (one for each of {len(tested)} folds at least)"
                )
        return pairs

    def draw(
        self,
        which: Bool[np.ndarray, " leaves"],
        labels: Bool[np.ndarray, "leaves h"],
        count: int,
        *drawn: str,
    ) -> list[Exchange]:
        """Pairs among some leaves, by labels of them all."""
        rows = np.flatnonzero(which)
        leaves = [self.leaves[row] for row in rows]
        return exchanges(
            leaves, labels[rows], self.names, self.tokens[rows], count, self.options.seed, *drawn
        )

    def trained_on(self, fold: int, draw: int = 0) -> Bool[np.ndarray, "leaves h"]:
        """Labels of the leaves of all other folds, none of the fold's; of a draw, exchanged among them all.

        A draw is one over the folds: a leaf has the labels of the leaf that the draw says, or, where that one is of the
        fold, of the next that it leads to.
        """
        others, labels = np.flatnonzero(self.fold != fold), np.zeros_like(self.labels)
        origin = np.arange(len(self.fold))
        if draw:
            origin = stream(self.options.seed, "arbitrary labels", str(draw)).permutation(len(self.fold))
        for leaf in others:
            source = origin[leaf]
            while self.fold[source] == fold:
                source = origin[source]
            labels[leaf] = self.labels[source]
        return labels

    def states(self, task: str, modality: str) -> dict[SpanAtLayer, Float[np.ndarray, "leaves n d"]]:
        """States of all leaves at all places."""
        key = ("states", task, modality)
        if key not in self._once:
            self._once[key] = source_states(self.stimuli, task, modality, self.leaves, self.places)
        return self._once[key]

    def natural(self, place: SpanAtLayer) -> Naturalness:
        """The states of all leaves in the base's modality, among which exchanged ones are ranked, fitted once."""
        key = ("natural", place)
        if key not in self._once:
            states = self.states(HYPERNYM, self.options.modalities[1])[place]
            self._once[key] = Naturalness.fit(states, np.array(self.leaves), self.fold)
        return self._once[key]

    def bases(self, task: str, modality: str, pairs: Sequence[Exchange], fold: int) -> Bases:
        """The runs of the bases of some pairs; those of one fold's are run once."""
        leaves = tuple(pair.base for pair in pairs)
        key = ("bases", fold, task, modality, leaves)
        if key not in self._once:
            for other in [one for one in self._once if one[0] == "bases" and one[1] != fold]:
                del self._once[other]  # a pass with all its layers is large
            self._once[key] = Bases.of(self.stimuli, task, modality, leaves)
        return self._once[key]

    def difference(
        self, task: str, source: str, bases: Bases, pairs: Sequence[Exchange], place: SpanAtLayer
    ) -> Float[np.ndarray, "pairs n d"]:
        """By how much the state of each pair's source, in one modality, differs from that of its base."""
        rows = [self.leaves.index(pair.source) for pair in pairs]
        return self.states(task, source)[place][rows] - bases.states(place)


def places_of(subject: Subject, options: Options) -> list[SpanAtLayer]:
    """Every span × layer at which states are exchanged.

    Raises:
        KeyError: the model has no such layer.
    """

    def spaced(depth: int) -> list[int]:
        return np.unique(np.linspace(depth // 2, depth - 1, 4)[:-1].round().astype(int)).tolist()

    layers = layers_of(subject.bench.vlm.model, options.layers, spaced)
    return [SpanAtLayer(layer, span) for span in options.spans for layer in layers]
