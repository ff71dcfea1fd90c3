"""Ablations of data: which hypernym evidence is taken out of training, and how much that really is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from probing.stats.seeding import stream
from taxogen.questions.leaks import check_no_leak, check_no_pair, naming
from taxogen.questions.manifest import Manifest
from taxogen.world.taxonomy import Taxonomy

__all__ = ["RULES", "Removal", "ablate", "check_no_leak", "plan"]

RULES = {
    "none": ("none",),
    "full": ("holdout", "study"),
    "random": ("pair", "leaf"),
    "systematic": ("holdout", "leaf"),
}
"""The rules of each kind of ablation, the default first."""
STUDY = {"none": "none", "full": "study", "random": "leaf", "systematic": "leaf"}
"""The rule of each kind as it was published; `study` is its name for every kind."""


@dataclass(frozen=True, eq=False)
class Removal:
    """What loses its evidence.

    Attributes:
        kind, rule, fraction, seed: as asked; `fraction` is nominal, see `effective`.
        taxonomy: the world it was drawn from; the order of leaves and hypernyms below.
        pairs: whether a leaf (row) loses its questions about a hypernym (column); for rule "pair" only pairs
            in which the leaf has the hypernym, negatives then go in proportion (`keeps`).
        hypernyms: the held-out hypernyms: those whose evidence is gone completely, sorted. Empty under the
            study's rules (leaf, study), which leave evidence for all of them.
    """

    kind: str
    rule: str
    fraction: float
    seed: int
    taxonomy: Taxonomy
    pairs: Bool[np.ndarray, "leaves hypernyms"]
    hypernyms: tuple[str, ...]

    @cached_property
    def true(self) -> Bool[np.ndarray, "leaves hypernyms"]:
        """Whether a leaf (row) has a hypernym (column)."""
        return np.asarray(self.taxonomy.labels(self.taxonomy.leaves), dtype=bool)

    @property
    def effective(self) -> float:
        """The share of true leaf–hypernym pairs that lose their evidence, in [0, 1]."""
        return float((self.pairs & self.true).sum() / self.true.sum())

    @property
    def leaves(self) -> tuple[str, ...]:
        """The leaves that lose all their hypernym questions, sorted."""
        gone = np.asarray((self.pairs | ~self.true).all(axis=1))
        return tuple(np.array(self.taxonomy.leaves, dtype=object)[gone])

    @property
    def scored(self) -> Bool[np.ndarray, "leaves hypernyms"]:
        """Which pairs of a leaf's name and a hypernym a held-out score rests on.

        These are the removed true pairs, and the false pairs of the hypernyms that have one.
        """
        removed = self.pairs & self.true
        return removed | (~self.true & removed.any(axis=0))

    def keeps(self, frame: pd.DataFrame) -> Bool[np.ndarray, " rows"]:
        """Whether each row of a manifest's frame stays in training.

        Rows of the leaf task stay, unless they name a held-out hypernym: THINGS has leaves called "bird" and
        "candy bar".

        Raises:
            KeyError: a leaf or hypernym of the frame is not in the taxonomy.
        """
        keep = ~naming(frame, self.hypernyms)
        rows = np.flatnonzero(frame["task"] == "hypernym")
        leaf = _positions(frame["leaf"], rows, self.taxonomy.leaves)
        hypernym = _positions(frame["hypernym"], rows, self.taxonomy.hypernyms)
        keep[rows] &= ~self.pairs[leaf, hypernym]
        if self.rule == "pair":
            for column in range(len(self.taxonomy.hypernyms)):
                of_hypernym = hypernym == column
                self._balance(keep, rows[of_hypernym], leaf[of_hypernym], column)
        return keep

    def _balance(self, keep: np.ndarray, rows: np.ndarray, leaf: np.ndarray, column: int) -> None:
        """Takes out as large a share of a hypernym's negatives as of its positives: nested, leaf by leaf."""
        true = self.true[leaf, column]
        negatives = rows[~true]
        if len(negatives) and true.any():
            wanted = _half_up(len(negatives) * keep[rows[true]].mean())
            name = self.taxonomy.hypernyms[column]
            rank = stream(self.seed, "negatives", name).permutation(len(self.taxonomy.leaves))
            order = np.argsort(rank[leaf[~true]], kind="stable")
            keep[negatives[order[wanted:]]] = False


def plan(
    taxonomy: Taxonomy,
    kind: str = "none",
    *,
    fraction: float = 1.0,
    rule: str | None = None,
    seed: int = 0,
    held_out: Iterable[str] = (),
) -> Removal:
    """The pairs that an ablation removes. Draws are nested: a larger fraction removes all pairs of a smaller one.

    Kinds and rules (the first is the default):
        none: nothing.
        full, holdout: every question that names a hypernym, as the name of a leaf (candy bar) does too.
        full, study: every question about a hypernym; leaves whose name gives it away are still asked about.
        random, pair: of each hypernym a share `fraction` of its leaves lose this hypernym's evidence.
        random, leaf: the study's code: max(1, int(n · fraction)) leaves of each hypernym are drawn, and a
            leaf drawn once loses its questions about all hypernyms. The effective share is much larger.
        systematic, holdout: every question that names a held-out hypernym goes, positive and negative.
        systematic, leaf: as published, all hypernym questions of every leaf that has a listed hypernym.
            The listed hypernyms stay in training as questions whose answer is always No.

    Args:
        taxonomy: the leaves and hypernyms of the world.
        kind: none, random, systematic or full.
        fraction: nominal share of leaves (random) or, without `held_out`, of hypernyms (systematic).
        rule: the kind's default unless given; "study" is the published rule of every kind.
        seed: of the draws; one permutation per hypernym.
        held_out: for "systematic", the hypernyms, instead of a draw.

    Raises:
        KeyError: unknown kind, rule or hypernym.
        ValueError: a fraction outside [0, 1], or `held_out` without "systematic".
    """
    rule, listed = _check(taxonomy, kind, fraction, rule, held_out)
    true = np.asarray(taxonomy.labels(taxonomy.leaves), dtype=bool)
    pairs = np.full(true.shape, kind == "full")
    if kind == "systematic":
        columns = np.isin(taxonomy.hypernyms, listed or _draw_hypernyms(taxonomy, fraction, seed))
        pairs |= columns if rule == "holdout" else (true & columns).any(axis=1, keepdims=True)
    elif kind == "random":
        drawn = _draw_leaves(taxonomy, fraction, rule, seed)
        pairs |= drawn if rule == "pair" else drawn.any(axis=1, keepdims=True)
    gone = np.asarray((pairs | ~true).all(axis=0) & (rule in ("holdout", "pair")))
    names = tuple(np.array(taxonomy.hypernyms, dtype=object)[gone])
    return Removal(kind, rule, float(fraction), seed, taxonomy, pairs, names)


def ablate(manifest: Manifest, taxonomy: Taxonomy, kind: str = "none", **options: Any) -> Manifest:
    """The training items that stay; the provenance holds the share that was removed, over all and per hypernym.

    Args:
        manifest: training items.
        taxonomy: the hypernyms of each leaf.
        kind: none, random, systematic or full.
        **options: fraction, rule, seed, held_out, as for `plan`.

    Raises:
        KeyError: unknown kind, rule, leaf or hypernym.
        ValueError: a fraction outside [0, 1] or one that removes nothing, or evidence that was to go is left.
    """
    removal = plan(taxonomy, kind, **options)
    frame = manifest.frame
    keep = removal.keeps(frame)
    questions = np.flatnonzero(frame["task"] == "hypernym")
    removed = pd.Series(1.0 - keep[questions])
    removes = removal.hypernyms or removal.leaves or removal.pairs.any()
    if kind != "none" and removal.fraction > 0 and not removes:
        raise ValueError(
            f"a {kind} ablation of a fraction of {removal.fraction:g} removes nothing: give a larger data.fraction, or "
            "use data.ablation=none"
        )
    by_hypernym = removed.groupby(np.asarray(frame["hypernym"], dtype=object)[questions], sort=True)
    result = manifest.with_step(
        frame.loc[keep],
        operation="ablate",
        kind=kind,
        rule=removal.rule,
        fraction=removal.fraction,
        seed=removal.seed,
        held_out=list(removal.hypernyms),
        leaf_items_removed=int((~keep).sum() - removed.sum()),
        effective=float(removed.mean()) if len(questions) else 0.0,
        effective_per_hypernym={str(name): float(share.mean()) for name, share in by_hypernym},
    )
    check_no_leak(result, removal.hypernyms)
    leaf, hypernym = np.nonzero(removal.pairs)
    check_no_pair(result, ((taxonomy.leaves[x], taxonomy.hypernyms[y]) for x, y in zip(leaf, hypernym)))
    return result


def _draw_hypernyms(taxonomy: Taxonomy, fraction: float, seed: int) -> list[str]:
    order = stream(seed, "systematic").permutation(len(taxonomy.hypernyms))
    return [taxonomy.hypernyms[place] for place in order[: _half_up(fraction * len(order))]]


def _draw_leaves(
    taxonomy: Taxonomy, fraction: float, rule: str, seed: int
) -> Bool[np.ndarray, "leaves hypernyms"]:
    place = {leaf: row for row, leaf in enumerate(taxonomy.leaves)}
    drawn = np.zeros((len(taxonomy.leaves), len(taxonomy.hypernyms)), dtype=bool)
    for column, hypernym in enumerate(taxonomy.hypernyms):
        leaves = taxonomy.leaves_of(hypernym)
        order = stream(seed, "ablation", hypernym).permutation(len(leaves))
        count = _half_up(len(leaves) * fraction)
        if rule == "leaf" and fraction > 0:
            count = max(1, int(len(leaves) * fraction))
        drawn[[place[leaves[index]] for index in order[:count]], column] = True
    return drawn


def _positions(column: Any, rows: np.ndarray, known: tuple[str, ...]) -> np.ndarray:
    """The position among the known names of the value in each of the rows."""
    place = {name: position for position, name in enumerate(known)}
    codes, names = pd.factorize(np.asarray(column, dtype=object)[rows])
    if unknown := sorted(set(names) - set(place)):
        raise KeyError(
            f"{len(unknown)} names of the manifest ({column.name}) are not in the taxonomy: {unknown[:10]}; "
            "use the taxonomy that the manifest was made with"
        )
    return np.array([place[name] for name in names], dtype=np.int64)[codes]


def _half_up(value: float) -> int:
    return int(np.floor(value + 0.5 + 1e-9))


def _check(
    taxonomy: Taxonomy, kind: str, fraction: float, rule: str | None, held_out: Iterable[str]
) -> tuple[str, list[str]]:
    if kind not in RULES:
        raise KeyError(f"ablation {kind!r} was asked for; known: {', '.join(RULES)}")
    rule = STUDY[kind] if rule == "study" else rule or RULES[kind][0]
    if rule not in RULES[kind]:
        raise KeyError(f"rule {rule!r} was asked for; ablation {kind!r} has: {', '.join(RULES[kind])}")
    if not 0 <= fraction <= 1:
        raise ValueError(f"an ablation removes a fraction between 0 and 1, found {fraction}")
    listed = sorted(set(held_out))
    if listed and kind != "systematic":
        raise ValueError(f"held_out was given with ablation {kind!r}; only 'systematic' takes a list")
    if unknown := sorted(set(listed) - set(taxonomy.hypernyms)):
        raise KeyError(f"hypernyms {unknown} are not in the taxonomy; known: {', '.join(taxonomy.hypernyms)}")
    return rule, listed
