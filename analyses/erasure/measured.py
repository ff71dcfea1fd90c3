"""Measures of hypernyms under edits and their controls, and how they are estimated over leaves and over draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from analyses.erasure.edits import CONTROLS
from analyses.inputs.stimuli.natural import MEASURES as NATURAL
from probing.edits.placebos import over_clusters, over_draws
from probing.stats import ClusterAUROC, ClusterMean, Estimate, nan_mean

MEAN = "mean"
LEVELS = ("kl", *NATURAL)
"""Measures of how strong an edit is, and of how natural the edited states are: read as they are, not as changes."""

Edits = list[tuple[str, int]]
"""Edit and number of its draw."""


@dataclass(frozen=True)
class Measured:
    """A measure of each hypernym and, last, of their mean, under each edit.

    Attributes:
        targets: the hypernyms, then "mean".
        edits: edit and draw.
        value: of each edit and target.
        drawn: the same under bootstrap weights of leaves.
        leaves: how many each target rests on, the smaller side of a difference.
        n: all leaves.
    """

    targets: tuple[str, ...]
    edits: Edits
    value: Float[np.ndarray, "edits targets"]
    drawn: Float[np.ndarray, "draws edits targets"]
    leaves: Int[np.ndarray, " targets"]
    n: int

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        edits: Edits,
        statistic: ClusterMean | ClusterAUROC,
        weights: Float[np.ndarray, "draws leaves"],
        leaves: Int[np.ndarray, " hypernyms"],
    ) -> Measured:
        """That of a statistic whose columns are edits × hypernyms."""
        value = statistic.value.reshape(len(edits), len(names))
        drawn = statistic.at(weights).reshape(len(weights), len(edits), len(names))
        return cls(
            (*names, MEAN),
            edits,
            np.concatenate([value, nan_mean(value)[..., None]], -1),
            np.concatenate([drawn, nan_mean(drawn)[..., None]], -1),
            np.append(leaves, min(_leaves_of_mean(leaves), weights.shape[1])),
            weights.shape[1],
        )

    def minus(self, other: Measured) -> Measured:
        """The difference of two measures of the same edits."""
        return replace(self, value=self.value - other.value, drawn=self.drawn - other.drawn)

    @property
    def change(self) -> Measured:
        """By how much each edit changes the measure."""
        clean = self.edits.index(("none", 0))
        edited = [at for at in range(len(self.edits)) if at != clean]
        return replace(
            self,
            edits=[self.edits[at] for at in edited],
            value=self.value[edited] - self.value[clean],
            drawn=self.drawn[:, edited] - self.drawn[:, [clean]],
        )

    @property
    def kinds(self) -> list[str]:
        """The edits, each once."""
        return list(dict.fromkeys(edit for edit, _ in self.edits))

    def draws(self, edit: str) -> list[int]:
        """Where the draws of an edit stand."""
        return [at for at, (name, _) in enumerate(self.edits) if name == edit]

    def estimate(self, edit: str, target: int) -> Estimate:
        """A measure under an edit: of a control the mean over its draws, with limits over these as well."""
        at, m = self.draws(edit), int(self.leaves[target])
        values, drawn = self.value[at, target], self.drawn[:, at, target].mean(axis=1)
        if edit in CONTROLS:
            return over_draws(values, drawn, m, self.n)
        return over_clusters(values[0], drawn, m, self.n)

    def beyond(self, edit: str, target: int) -> Estimate:
        """A measure under an edit beyond the mean of both controls."""
        (at,) = self.draws(edit)
        pairs = np.array([self.draws(control) for control in CONTROLS])
        values = self.value[at, target] - self.value[pairs, target].mean(axis=0)
        drawn = self.drawn[:, at, target] - self.drawn[:, pairs, target].mean(axis=(1, 2))
        return over_draws(values, drawn, int(self.leaves[target]), self.n)

    def sets(self, edit: str, control: str, targets: Sequence[int]) -> Float[np.ndarray, "targets sets"]:
        """The value under an edit, then under each draw of a control."""
        return self.value[np.ix_([*self.draws(edit), *self.draws(control)], targets)].T


def _leaves_of_mean(leaves: Int[np.ndarray, " hypernyms"]) -> int:
    """As many leaves as have the degrees of freedom of a mean over hypernyms (Satterthwaite 1946); 1 if one has 1."""
    m = leaves[leaves > 0].astype(float)
    if not len(m) or (m < 2).any():
        return 1
    return int(1 + (1 / m).sum() ** 2 / (1 / (m**2 * (m - 1))).sum())


def erasure_measures(part: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"]) -> dict[str, Measured]:
    """Every measure of each hypernym under every edit at a place.

    The gap is how much higher the hypernym's log-odds are in pictures under it than in others (nats), the AUROC how
    well they separate the two (chance .5); other hypernyms and the leaf are read (nats) off and under the hypernym. How
    strong an edit is and how natural the states are (`LEVELS`) is a mean over all pictures.
    """
    names = list(dict.fromkeys(part["hypernym"]))
    edits: Edits = list(dict.fromkeys(zip(part["edit"], part["draw"])))
    leaves = np.unique(part["leaf"].to_numpy().astype(str))

    def columns(name: str) -> Float[np.ndarray, "leaves columns"]:
        return _columns(part, name, leaves, [(edit, draw, one) for edit, draw in edits for one in names])

    member, target = columns("member").astype(bool), columns("target")

    def measured(statistic: ClusterMean | ClusterAUROC, chosen: Sequence[np.ndarray]) -> Measured:
        smaller = np.min([side[:, : len(names)].sum(axis=0) for side in chosen], axis=0)
        return Measured.of(names, edits, statistic, weights, smaller)

    def means(values: np.ndarray, chosen: Bool[np.ndarray, "leaves columns"]) -> Measured:
        chosen = chosen & ~np.isnan(values)
        return measured(ClusterMean(np.where(chosen, values, np.nan), leaves), [chosen])

    sides = {"off": ~member, "under": member}
    gap = means(target, member).minus(means(target, ~member))
    auroc = measured(ClusterAUROC(target, member, leaves), [member, ~member])
    measures = {"gap": replace(gap, leaves=auroc.leaves), "auroc": auroc}
    read_outs = {"other": "other", "leaf": "leaf_margin"}
    for name, column in ((name, column) for name, column in read_outs.items() if column in part):
        values = columns(column)
        measures |= {f"{name}_{side}": means(values, chosen) for side, chosen in sides.items()}
    everywhere = np.ones_like(member)
    return measures | {name: means(columns(name), everywhere) for name in LEVELS if name in part}


def steering_measures(
    part: pd.DataFrame, weights: Float[np.ndarray, "draws leaves"], leaves: np.ndarray
) -> dict[float, dict[str, Measured]]:
    """Dose → read-out → its change (of `LEVELS`, the value) in pictures off each hypernym by every direction."""
    names = sorted(set(part["hypernym"]))
    edited = part[part["edit"] != "none"]
    changes: dict[float, dict[str, Measured]] = {}
    for dose, of_dose in edited.groupby("dose", sort=False):
        edits: Edits = list(dict.fromkeys(zip(of_dose["edit"], of_dose["draw"])))
        wanted = [(edit, draw, one) for edit, draw in edits for one in names]
        of_each = changes.setdefault(float(dose), {})  # pyright: ignore[reportArgumentType]
        for measure in (name for name in ("target", "other", "leaf_margin") if name in part):
            clean = _columns(
                part[part["edit"] == "none"], measure, leaves, [("none", 0, one) for one in names]
            )
            change = _columns(of_dose, measure, leaves, wanted) - np.tile(clean, len(edits))
            defined = (~np.isnan(change[:, : len(names)])).sum(axis=0)
            of_each[measure] = Measured.of(names, edits, ClusterMean(change, leaves), weights, defined)
        for measure in (name for name in LEVELS if name in part):
            level = _columns(of_dose, measure, leaves, wanted)
            defined = (~np.isnan(level[:, : len(names)])).sum(axis=0)
            of_each[measure] = Measured.of(names, edits, ClusterMean(level, leaves), weights, defined)
    return changes


def _columns(
    part: pd.DataFrame, name: str, leaves: np.ndarray, wanted: Sequence[tuple[str, int, str]]
) -> Float[np.ndarray, "leaves columns"]:
    """A column of the parts as leaves × (edit, draw, hypernym)."""
    table = part.set_index(["leaf", "edit", "draw", "hypernym"])[name].unstack(["edit", "draw", "hypernym"])
    return table.reindex(index=leaves)[list(wanted)].to_numpy()
