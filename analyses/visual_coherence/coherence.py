"""Visual coherence of hypernyms: mean cosines of pictures inside and between them, of one run and over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

from analyses.frame.command_line import EXTENT, Resampling, option
from analyses.inputs.encoder import EncoderRows
from probing.categories.cohesion import bootstrap_cohesion, cohesion
from probing.categories.leaf_sums import leaf_sums, mean_products
from probing.stats import Estimate
from probing.stats.hierarchical import leaf_weights, mean_over
from taxogen.models.features import FeatureRows
from taxogen.world.taxonomy import Taxonomy

RULES = {
    "centred": "as the projector sees them, less the mean leaf; pairs of different leaves",
    "uncentred": "as the projector sees them; pairs of different leaves",
    "study": "as the encoder gives them; all pairs of pictures, those of one leaf included",
}
"""The rules by which cosines are averaged. `study` is that of the published study and has no between."""
PART = 2**28
"""Bytes of features, as float32, that are summed at a time."""


@dataclass(frozen=True, eq=False)
class Shown:
    """Encoder features of the pictures that a run shows.

    Attributes:
        seen: what enters the projector: standardised on training pictures, all tokens in one row.
        raw: the encoder's features, mean over tokens.
        leaves: what each picture is called in the run's world.
    """

    seen: Float[np.ndarray, "n d"] | FeatureRows
    raw: Float[np.ndarray, "n width"]
    leaves: Shaped[np.ndarray, " n"]

    @classmethod
    def of(cls, rows: EncoderRows) -> Shown:
        """Those of all pictures of a run."""
        return cls(rows.standardised, rows.pooled, rows.leaves)

    @property
    def rows(self) -> Float[np.ndarray, "n d"] | Iterator[Float[np.ndarray, "part d"]]:
        """What enters the projector: all of it, or some pictures at a time."""
        if isinstance(self.seen, np.ndarray):
            return self.seen
        pictures = min(2048, max(1, PART * len(self.seen) // self.seen.nbytes))
        return (part.reshape(len(part), -1) for part in self.seen.parts(pictures))


@dataclass(frozen=True, kw_only=True)
class Options(Resampling):
    """How coherence is measured and tested.

    Attributes:
        rules: by which cosines are averaged (default: all)
        permutations: of leaves among hypernyms.
    """

    rules: tuple[str, ...] = option(tuple(RULES), flag="--rule", choices=tuple(sorted(RULES)), role=EXTENT)
    permutations: int = 999


DEFAULT = Options()


@dataclass(frozen=True, eq=False)
class Coherence:
    """Mean cosines of one run, per hypernym of the taxonomy; with draws under resampled leaves.

    `p` (per hypernym) and `p_mean` are one-sided for closer inside, `null` the mean difference under leaves that are
    exchanged among hypernyms, those of about as many pictures with each other. NaN where a hypernym has fewer
    than two leaves or none outside; the study's rule has no between and no null.
    """

    hypernyms: tuple[str, ...]
    leaves: Bool[np.ndarray, "leaves hypernyms"]
    within: Float[np.ndarray, " hypernyms"]
    between: Float[np.ndarray, " hypernyms"]
    drawn: dict[str, Float[np.ndarray, "draws hypernyms"]]
    p: Float[np.ndarray, " hypernyms"]
    p_mean: float
    null: Float[np.ndarray, " permutations"]

    @property
    def value(self) -> Float[np.ndarray, " hypernyms"]:
        """The number compared with scores: within less between, or within alone under the study's rule."""
        return self.within if np.isnan(self.between).all() else self.within - self.between

    def kinds(
        self,
    ) -> dict[str, tuple[Float[np.ndarray, " hypernyms"], Float[np.ndarray, "draws hypernyms"]]]:
        """The numbers by name: value and draws of within, between and coherence."""
        within, between = self.drawn["within"], self.drawn["between"]
        if np.isnan(self.between).all():
            return {"within": (self.within, within), "coherence": (self.within, within)}
        return {
            "within": (self.within, within),
            "between": (self.between, between),
            "coherence": (self.within - self.between, within - between),
        }


def known_rules(rules: Sequence[str]) -> None:
    """Refuses unknown rules.

    Raises:
        KeyError: one is unknown.
    """
    if unknown := [rule for rule in rules if rule not in RULES]:
        raise KeyError(f"rule {unknown[0]!r} was asked for; known: {', '.join(RULES)}")


def coherence(shown: Shown, taxonomy: Taxonomy, rule: str, options: Options = DEFAULT) -> Coherence:
    """The visual coherence of every hypernym in one run.

    Raises:
        KeyError: unknown rule.
    """
    known_rules((rule,))
    leaves = np.unique(shown.leaves)
    members = np.asarray(taxonomy.labels(leaves.tolist()))
    weights = leaf_weights(len(leaves), options.draws, options.seed)
    if rule == "study":
        return _of_all_pairs(shown, taxonomy, members, weights)
    centre = leaf_sums(shown.rows, shown.leaves).centre if rule == "centred" else None
    sums = leaf_sums(shown.rows, shown.leaves, centre, unit=True)
    pairs = mean_products(sums)[None]
    counts = np.asarray(sums.counts).astype(int)
    found = cohesion(pairs, members, options.permutations, options.seed, counts=counts)
    within, between = bootstrap_cohesion(pairs, members, weights)
    return Coherence(
        taxonomy.hypernyms, members, found.within[0], found.between[0],
        {"within": within[:, 0], "between": between[:, 0]},
        found.p_category[0], float(found.p[0]), found.null[:, 0],
    )  # fmt: skip


def over_seeds(found: Sequence[Coherence]) -> dict[str, dict[str, Estimate]]:
    """By number (within, between, coherence) and target (each hypernym, mean) the estimate over runs of several seeds.

    The interval of a hypernym is over leaves and seeds; that of the mean over hypernyms is over hypernyms as well. n
    counts the leaves of the hypernym, or all.
    """
    names, counts = found[0].hypernyms, found[0].leaves.sum(axis=0)
    made: dict[str, dict[str, Estimate]] = {}
    for kind in found[0].kinds():
        values = np.stack([one.kinds()[kind][0] for one in found])
        drawn = np.stack([one.kinds()[kind][1] for one in found], axis=1)
        made[kind] = {
            name: mean_over(values[:, [k]], drawn[:, :, [k]], int(counts[k]), over=("seed",))
            for k, name in enumerate(names)
        }
        made[kind]["mean"] = mean_over(values, drawn, len(found[0].leaves), over=("hypernym", "seed"))
    return made


def _of_all_pairs(shown: Shown, taxonomy: Taxonomy, members: np.ndarray, weights: np.ndarray) -> Coherence:
    """The study's rule: all pairs of different pictures under a hypernym, whatever their leaves; raw, uncentred.

    In a draw a leaf that comes twice makes no pairs with its copy.
    """
    sums = leaf_sums(shown.raw, shown.leaves, unit=True)
    own = (sums.total * sums.total).sum(axis=1)
    products, counts = sums.total @ sums.total.T, sums.counts
    within = np.full((len(weights) + 1, members.shape[1]), np.nan)
    for column, inside in enumerate(members.T):
        if inside.sum() < 2:
            continue
        w = np.concatenate([np.ones((1, int(inside.sum()))), weights[:, inside]])
        total = ((w @ products[np.ix_(inside, inside)]) * w).sum(1) - w**2 @ own[inside]
        pairs = (w @ counts[inside]) ** 2 - w**2 @ counts[inside] ** 2
        total += w @ (own[inside] - counts[inside])
        pairs += w @ (counts[inside] * (counts[inside] - 1))
        within[:, column] = np.where(pairs > 0, total / np.where(pairs > 0, pairs, 1), np.nan)
    nothing = np.full(members.shape[1], np.nan)
    return Coherence(
        taxonomy.hypernyms, members, within[0], nothing,
        {"within": within[1:], "between": np.full(within[1:].shape, np.nan)},
        nothing, float("nan"), np.full(1, np.nan),
    )  # fmt: skip
