"""Outcomes at one place as pairs × edits: means over pairs with their intervals, and over draws of controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

from analyses.inputs.stimuli.natural import MEASURES as NATURAL
from probing.stats import DyadMean, Estimate, draw_weights, studentised_interval
from probing.stats.limits import half_width

PAIR = ["fold", "base", "source", "up", "down"]
EDIT = ["method", "trained", "rank", "edit", "draw"]
SHARES = frozenset({"accuracy", "top_1", "other", "leaf", "unnatural"})
"""Outcomes whose mean is a share of pairs, or of orders: no limit of it lies beyond 0 and 1."""
OUTCOMES = ("accuracy", "top_1", "log_odds", "other", "leaf", "moved", *NATURAL)
Own = tuple[str, str, int]
"""Method, what it was trained on, and rank."""


@dataclass(frozen=True)
class At:
    """Outcomes of pairs under edits.

    Attributes:
        wide: rows are pairs, columns outcomes × edits.
        draws: of the bootstrap.
        seed: of it.
    """

    wide: pd.DataFrame
    draws: int
    seed: int

    @classmethod
    def of(cls, part: pd.DataFrame, draws: int, seed: int) -> At:
        """Those of the long outcomes at a place; `effect` is the change of the log-odds."""
        values = [name for name in OUTCOMES if name in part]
        wide = part.set_index(PAIR + EDIT)[values].unstack(EDIT)
        none = wide["log_odds"]["", "", 0, "none", 0].to_numpy()[:, None]
        effect = pd.concat({"effect": wide["log_odds"] - none}, axis=1)
        return cls(pd.concat([wide, effect], axis=1), draws, seed)

    @property
    def ends(self) -> Shaped[np.ndarray, "pairs 2"]:
        """The hypernyms in which the leaves of each pair differ."""
        return np.stack([self.wide.index.get_level_values(name) for name in ("up", "down")], axis=1)

    @property
    def subspaces(self) -> list[Own]:
        """Every subspace that is exchanged."""
        return [(m, t, r) for m, t, r, edit, _ in self.wide["effect"].columns if edit == "swap"]

    def means(self, outcome: str, edits: Sequence[str]) -> Iterator[tuple[tuple, Estimate, int]]:
        """Means over pairs under some edits, without draws: (method, trained, rank, edit), estimate, and hypernyms."""
        chosen = [edit for edit in self._edits(outcome) if edit[3] in edits]
        values = self.wide[[(outcome, *edit) for edit in chosen]].to_numpy(float)
        if not chosen or np.isnan(values).all(0).any():
            return
        numbers, hypernyms = self._estimates(values, share=outcome in SHARES)
        for edit, number in zip(chosen, numbers):
            yield edit[:4], number, hypernyms

    def combined(self, outcome: str, own: Own, weights: Mapping[str, float]) -> tuple[Estimate, int]:
        """The mean over pairs of a sum of edits of one subspace, each with a weight; and hypernyms."""
        total = sum(weight * self.wide[outcome][*own, edit, 0] for edit, weight in weights.items())
        (number,), hypernyms = self._estimates(np.asarray(total, float)[:, None])
        return number, hypernyms

    def drawn(self, outcome: str, controls: Sequence[str]) -> Iterator[tuple[tuple, Estimate]]:
        """Means over pairs and draws of controls, with limits over hypernyms and draws."""
        columns = [edit for edit in self._edits(outcome) if edit[3] in controls]
        for own in dict.fromkeys(edit[:4] for edit in columns):
            values = self.wide[outcome][[edit for edit in columns if edit[:4] == own]].to_numpy(float)
            if not np.isnan(values).all(0).any():
                yield own, self._over_draws(values)

    def beyond(self, outcome: str, own: Own, control: str) -> Estimate:
        """A swap beyond the mean over the draws of a control."""
        swap = self.wide[outcome][*own, "swap", 0].to_numpy(float)[:, None]
        return self._over_draws(swap - self.wide[outcome][self.draws_of(own, control)].to_numpy(float))

    def sets(self, outcome: str, own: Own, control: str) -> Float[np.ndarray, " sets"]:
        """The mean under a swap, then under each draw of a control."""
        columns = [(*own, "swap", 0), *self.draws_of(own, control)]
        return self.wide[outcome][columns].to_numpy(float).mean(0)

    def draws_of(self, own: Own, control: str) -> list[tuple]:
        """The draws of a control of a subspace; random ones of its rank are shared by all."""
        wanted = ("", "", own[2], control) if control == "random" else (*own, control)
        return [edit for edit in self.wide["effect"].columns if edit[:4] == wanted]

    def _edits(self, outcome: str) -> list[tuple]:
        """The edits under which an outcome was measured; none where it was not."""
        return list(self.wide[outcome].columns) if outcome in self.wide else []

    def _estimates(
        self, values: Float[np.ndarray, "pairs k"], share: bool = False
    ) -> tuple[list[Estimate], int]:
        mean = DyadMean(values, self.ends)
        hypernyms = len(mean.clusters)
        weights = draw_weights(hypernyms, self.draws, self.seed)
        limits = studentised_interval(
            mean.value, mean.error, mean.at(weights), mean.errors(weights), hypernyms
        )
        numbers = np.stack([mean.value, *(np.clip(limits, 0, 1) if share else limits)], axis=1).tolist()
        return [Estimate(*number, n=mean.n) for number in numbers], hypernyms

    def _over_draws(self, values: Float[np.ndarray, "pairs draws"]) -> Estimate:
        """The mean over pairs and draws, with limits over hypernyms and over draws, each with its own Student's t.

        The standard error over hypernyms is that of dyads: in bootstrap draws, which count a pair by the product of
        the weights of its hypernyms, what is peculiar to a pair varies by √3 too much.
        """
        each, together = DyadMean(values, self.ends), DyadMean(values.mean(axis=1), self.ends)
        (mean,), (error,), hypernyms, draws = (
            together.value, together.error, len(together.clusters), values.shape[1],
        )  # fmt: skip
        if hypernyms < 3 or draws < 2:
            return Estimate(float(mean), np.nan, np.nan, together.n)
        # A degree of freedom for each side of pairs, as in `studentised_interval`.
        over_hypernyms = error**2 * hypernyms / (hypernyms - 2), hypernyms - 2
        half = float(half_width([over_hypernyms, (each.value.var(ddof=1) / draws, draws - 1)]))
        return Estimate(float(mean), float(mean) - half, float(mean) + half, together.n)
