"""Completion read-outs: how likely each candidate continues a prompt, and how much the subject adds to that.

The read-out is log P(answer | picture) minus its mean over pictures of the training split (a sample of different
leaves): the contribution of the picture beside that of the prompt. Of a name it is log P minus the mean over
neutral subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from probing.stats.seeding import stream
from taxogen.answers.readout import Choose, Readout, log_probs
from taxogen.answers.scores import ABOUT
from taxogen.questions import prompts

BASELINE_PICTURES = {"hypernym": 64, "leaf": 16}  # fewer for names: all of them are scored for each
BEAM = 10
COVERED, MOST = 0.99, 64
"""Names are scored whole until their first tokens have this share of the probability of all, at most so many names."""


class Completions(Readout):
    """A trained model asked to complete prompts."""

    format = "completion"
    about = ABOUT
    decisions = ("prevalence",)

    def texts(self, prompt: str, name: str = "") -> prompts.Segments:
        """The texts of a prompt about a leaf's name (without one, about a picture), its answer left open."""
        return prompts.segments(prompt, leaf=name, modality="text" if name else "image")

    def hypernyms_of_pictures(
        self, pictures: Sequence[str], prompt: str
    ) -> Float[np.ndarray, "pictures hypernyms"]:
        """Read-out of every hypernym for every picture."""
        hypernyms = self._hypernyms(prompt)
        rows = [self.picture_row(prompt, picture) for picture in pictures]
        baseline = [self.picture_row(prompt, p) for p in self._baseline[: BASELINE_PICTURES["hypernym"]]]
        scores = log_probs(self.vlm, rows, self.features, hypernyms, what="hypernyms of pictures")
        expected = log_probs(self.vlm, baseline, self.features, hypernyms, what="hypernyms of baseline")
        return scores - expected.mean(0)

    def hypernyms_of_names(self, names: Sequence[str], prompt: str) -> Float[np.ndarray, "names hypernyms"]:
        """Read-out of every hypernym for every name in the picture's place."""
        hypernyms = self._hypernyms(prompt)
        rows = [self.name_row(prompt, name) for name in names]
        neutral = [self.name_row(prompt, subject) for subject in prompts.NEUTRAL]
        scores = log_probs(self.vlm, rows, self.features, hypernyms, what="hypernyms of names")
        return scores - log_probs(self.vlm, neutral, self.features, hypernyms, what="neutral").mean(0)

    def names_of_pictures(
        self, pictures: Sequence[str], prompt: str, which: Bool[np.ndarray, "pictures leaves"]
    ) -> Float[np.ndarray, "pictures leaves"]:
        """Read-out of the chosen names of leaf concepts, NaN for the others."""
        return self._names_of_pictures(pictures, prompt, which)

    def _names_of_pictures(
        self, pictures: Sequence[str], prompt: str, which: np.ndarray | Choose
    ) -> Float[np.ndarray, "pictures leaves"]:
        names = self._names(prompt)
        rows = [self.picture_row(prompt, picture) for picture in pictures]
        scores = log_probs(self.vlm, rows, self.features, names, which, what="names of pictures")
        return scores - self._baseline_of_names(prompt, names)

    def best_names(self, pictures: Sequence[str], prompt: str) -> Int[np.ndarray, " pictures"]:
        """The leaf (its place in the taxonomy) with the highest read-out of all, for each picture.

        The `BEAM` leaves whose first token has the highest read-out are compared by their whole name.
        """
        names = self._names(prompt)
        begun = [name[:1] for name in names]
        expected = self._baseline_of_names(prompt, begun)

        def nearest(first: Float[np.ndarray, "rows leaves"]) -> Bool[np.ndarray, "rows leaves"]:
            near = np.argsort(expected - first, axis=1, kind="stable")[:, :BEAM]
            first_few = np.zeros(first.shape, bool)
            np.put_along_axis(first_few, near, True, axis=1)
            return first_few

        return np.nanargmax(self._names_of_pictures(pictures, prompt, nearest), axis=1)

    def names_given(
        self, pictures: Sequence[str], prompt: str, right: Int[np.ndarray, " pictures"]
    ) -> tuple[Float[np.ndarray, "pictures leaves"], Float[np.ndarray, " pictures"]]:
        """Log-probability of each leaf's name, in nats, NaN where its first token is not `likely`; of the right one.

        The right name, whose place is given, is always scored. It stands among the others only where its first token is
        likely: a name that is there because it is right would tell what is shown.
        """
        names = self._names(prompt)
        rows = [self.picture_row(prompt, picture) for picture in pictures]
        begun = [name[:1] for name in names]
        first = log_probs(self.vlm, rows, self.features, begun, what="first tokens of names")
        which = likely(first, np.array([name[0] for name in names]))
        own = (np.arange(len(rows)), right)
        scored = which.copy()
        scored[own] = True
        found = log_probs(self.vlm, rows, self.features, names, scored, what="names of pictures")
        return np.where(which, found, np.nan), found[own]

    @cached_property
    def _baseline(self) -> list[str]:
        """A seeded sample of training pictures, at most one per leaf."""
        frame = self.run.manifest("train").where(task="leaf", modality="image").frame.astype(str)
        order = stream(self.run.config.seed, "baseline pictures").permutation(len(frame))
        return frame.iloc[order].drop_duplicates("leaf")["picture"].tolist()

    def _baseline_of_names(
        self, prompt: str, names: Sequence[tuple[int, ...]]
    ) -> Float[np.ndarray, " names"]:
        key = (prompt, tuple(names))
        if key not in self._expected:
            rows = [self.picture_row(prompt, p) for p in self._baseline[: BASELINE_PICTURES["leaf"]]]
            self._expected[key] = log_probs(
                self.vlm, rows, self.features, names, what="names of baseline"
            ).mean(0)
        return self._expected[key]

    @cached_property
    def _expected(self) -> dict[tuple[str, tuple[tuple[int, ...], ...]], Float[np.ndarray, " names"]]:
        """Of prompts and names, what pictures of other leaves expect: asked for twice, in scoring and in naming."""
        return {}

    def _hypernyms(self, prompt: str) -> list[tuple[int, ...]]:
        return [
            self.vlm.answer(prompts.segments(prompt, hypernym=name)) for name in self.run.taxonomy.hypernyms
        ]

    def _names(self, prompt: str) -> list[tuple[int, ...]]:
        return [self.vlm.answer(prompts.segments(prompt, leaf=leaf)) for leaf in self.run.taxonomy.leaves]


def likely(
    first: Float[np.ndarray, "rows names"],
    tokens: Int[np.ndarray, " names"],
    covered: float = COVERED,
    most: int = MOST,
) -> Bool[np.ndarray, "rows names"]:
    """The names whose first tokens are the likeliest: `covered` of what all first tokens have, at most `most` names.

    Args:
        first: log-probability of the first token of each name.
        tokens: that token; names with the same one are scored together.
        covered: the share of the probability of all first tokens.
        most: names.
    """
    kinds, kind = np.unique(tokens, return_inverse=True)
    mass = np.zeros((len(first), len(kinds)))
    mass[:, kind] = np.exp(first)
    order = np.argsort(-mass, axis=1, kind="stable")
    below = np.cumsum(np.take_along_axis(mass, order, 1), axis=1) - np.take_along_axis(mass, order, 1)
    wanted = np.zeros(mass.shape, bool)
    np.put_along_axis(wanted, order, below < covered * mass.sum(axis=1, keepdims=True), axis=1)
    place = np.argsort(np.argsort(-first, axis=1, kind="stable"), axis=1)
    return wanted[:, kind] & (place < most)
