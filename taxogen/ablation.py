"""Ablations of data: which hypernym evidence is taken out of training, and how much that really is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

from taxogen.manifest import Manifest
from taxogen.nouns import spoken
from taxogen.seeding import stream
from taxogen.taxonomy import Taxonomy

RULES = {
    "none": ("none",),
    "full": ("holdout", "study"),
    "random": ("pair", "leaf"),
    "systematic": ("holdout", "leaf"),
}
"""The rules of each kind of ablation, the default first."""


@dataclass(frozen=True, eq=False)
class Removal:
    """What loses its evidence.

    Attributes:
        kind, rule, fraction, seed: as asked; `fraction` is nominal, see `effective`.
        taxonomy: the world it was drawn from; the order of leaves and hypernyms below.
        pairs: whether a leaf (row) loses its questions about a hypernym (column); for rule "pair" only pairs in
            which the leaf has the hypernym, negatives then go in proportion (`keeps`).
        hypernyms: those whose evidence is gone completely, sorted; these are "held-out hypernyms". Empty under
            the study's rules (leaf, study), which leave evidence for all of them.
    """

    kind: str
    rule: str
    fraction: float
    seed: int
    taxonomy: Taxonomy
    pairs: Bool[np.ndarray, "leaves hypernyms"]
    hypernyms: tuple[str, ...]

    @property
    def effective(self) -> float:
        """The share of true leaf–hypernym pairs that lose their evidence, in [0, 1]."""
        true = self.taxonomy.labels(self.taxonomy.leaves)
        return float((self.pairs & true).sum() / true.sum())

    @property
    def leaves(self) -> tuple[str, ...]:
        """The leaves that lose all their hypernym questions, sorted."""
        true = self.taxonomy.labels(self.taxonomy.leaves)
        gone = (self.pairs | ~true).all(axis=1)
        return tuple(leaf for leaf, all_gone in zip(self.taxonomy.leaves, gone, strict=True) if all_gone)

    @property
    def scored(self) -> Bool[np.ndarray, "leaves hypernyms"]:
        """Which (leaf called, hypernym) pairs a held-out score rests on: removed true pairs, and the false pairs
        of the hypernyms that have one. Everything else is a seen score."""
        true = self.taxonomy.labels(self.taxonomy.leaves)
        removed = self.pairs & true
        return removed | (~true & removed.any(axis=0))

    def keeps(self, frame: pd.DataFrame) -> Bool[np.ndarray, " rows"]:
        """Whether each row of a manifest's frame stays in training.

        Rows of the leaf task stay, unless they name a held-out hypernym: THINGS has a leaf called "bird".
        """
        keep = ~naming(frame, self.hypernyms)
        rows = np.flatnonzero((frame["task"] == "hypernym").to_numpy())
        leaf = _positions(frame["leaf"].iloc[rows], self.taxonomy.leaves, "leaf")
        hypernym = _positions(frame["hypernym"].iloc[rows], self.taxonomy.hypernyms, "hypernym")
        keep[rows] &= ~self.pairs[leaf, hypernym]
        if self.rule == "pair":
            true = self.taxonomy.labels(self.taxonomy.leaves)[leaf, hypernym]
            self._balance(keep, rows, leaf, hypernym, true)
        return keep

    def _balance(
        self, keep: np.ndarray, rows: np.ndarray, leaf: np.ndarray, hypernym: np.ndarray, true: np.ndarray
    ):
        """Takes out as large a share of each hypernym's negatives as of its positives: nested, leaf by leaf."""
        for column, name in enumerate(self.taxonomy.hypernyms):
            positives = rows[(hypernym == column) & true]
            negatives = (hypernym == column) & ~true
            if not len(positives) or not negatives.any():
                continue
            wanted = _half_up(negatives.sum() * keep[positives].mean())
            rank = stream(self.seed, "negatives", name).permutation(len(self.taxonomy.leaves))
            order = np.argsort(rank[leaf[negatives]], kind="stable")
            keep[rows[negatives][order[wanted:]]] = False


def plan(
    taxonomy: Taxonomy,
    kind: str = "none",
    *,
    fraction: float = 1.0,
    rule: str = "",
    seed: int = 0,
    hypernyms: Iterable[str] = (),
) -> Removal:
    """What an ablation removes. Draws are nested: a larger fraction removes all that a smaller one does.

    Kinds and rules (the first is the default):
        none: nothing.
        full, holdout: every question that names a hypernym, those about a leaf of the same name included.
        full, study: every question about a hypernym; a leaf of the same name is still asked about.
        random, pair: of each hypernym a share `fraction` of its leaves lose this hypernym's evidence.
        random, leaf: the study's code: max(1, int(n · fraction)) leaves of each hypernym are drawn, and a leaf
            that is drawn once loses its questions about all hypernyms. The effective share is much larger.
        systematic, holdout: every question that names one of `hypernyms` goes, positive and negative.
        systematic, leaf: what was published: all hypernym questions of every leaf that has a listed hypernym.
            The listed hypernyms stay in training as questions whose answer is always No.

    Args:
        taxonomy: the leaves and hypernyms of the world.
        kind: none, random, systematic or full.
        fraction: nominal share of leaves (random) or, where `hypernyms` is empty, of hypernyms (systematic).
        rule: empty for the default of the kind.
        seed: of the draws; one permutation per hypernym.
        hypernyms: for "systematic", the hypernyms held out instead of a draw.

    Raises:
        KeyError: unknown kind, rule or hypernym.
        ValueError: a fraction outside [0, 1], or hypernyms without "systematic".
    """
    rule, listed = _check(taxonomy, kind, fraction, rule, hypernyms)
    true = taxonomy.labels(taxonomy.leaves)
    if kind in ("none", "full"):
        pairs = np.full(true.shape, kind == "full")
    elif kind == "systematic":
        if not listed:
            order = stream(seed, "systematic").permutation(len(taxonomy.hypernyms))
            listed = [taxonomy.hypernyms[place] for place in order[: _half_up(fraction * len(order))]]
        columns = np.isin(taxonomy.hypernyms, listed)
        pairs = np.broadcast_to(
            columns if rule == "holdout" else (true & columns).any(axis=1)[:, None], true.shape
        )
    else:
        drawn = _draw_leaves(taxonomy, fraction, rule, seed)
        pairs = drawn if rule == "pair" else np.broadcast_to(drawn.any(axis=1)[:, None], true.shape)
    gone = (pairs | ~true).all(axis=0) & (rule in ("holdout", "pair"))
    held_out = tuple(name for name, all_gone in zip(taxonomy.hypernyms, gone, strict=True) if all_gone)
    return Removal(kind, rule, float(fraction), seed, taxonomy, np.array(pairs), held_out)


def ablate(
    manifest: Manifest,
    taxonomy: Taxonomy,
    kind: str = "none",
    *,
    fraction: float = 1.0,
    rule: str = "",
    seed: int = 0,
    hypernyms: Iterable[str] = (),
) -> Manifest:
    """The training items that stay, with the effective fraction removed, over all and per hypernym, in the provenance.

    See `plan` for kinds and rules. The result was checked for leaks.

    Raises:
        KeyError: unknown kind, rule, leaf or hypernym.
        ValueError: a fraction outside [0, 1], or evidence for a held-out hypernym is left.
    """
    removal = plan(taxonomy, kind, fraction=fraction, rule=rule, seed=seed, hypernyms=hypernyms)
    frame = manifest.frame
    keep = removal.keeps(frame)
    asked = (frame["task"] == "hypernym").to_numpy()
    per_hypernym = pd.Series(~keep[asked]).groupby(frame["hypernym"][asked].astype(str).to_numpy()).mean()
    result = manifest.with_step(
        frame.loc[keep],
        operation="ablate",
        kind=kind,
        rule=removal.rule,
        fraction=removal.fraction,
        seed=seed,
        held_out=list(removal.hypernyms),
        effective=float((~keep[asked]).mean()) if asked.any() else 0.0,
        effective_per_hypernym={str(name): float(value) for name, value in per_hypernym.items()},
    )
    check_no_leak(result, removal.hypernyms)
    _check_pairs(result, removal)
    return result


def naming(frame: pd.DataFrame, hypernyms: Iterable[str]) -> Bool[np.ndarray, " rows"]:
    """Whether each row names one of the hypernyms: as hypernym, answer, asked noun or leaf."""
    nouns = {spoken(name).lower() for name in hypernyms}
    found = np.zeros(len(frame), dtype=bool)
    for column in ("hypernym", "answer", "asked", "leaf"):
        named = [value for value in frame[column].unique() if value and spoken(value).lower() in nouns]
        found |= frame[column].isin(named).to_numpy()
    return found


def check_no_leak(train: Manifest, held_out: Iterable[str]) -> None:
    """Nothing, when no training item names a held-out hypernym (see `naming`).

    Raises:
        ValueError: some do; shows the first.
    """
    found = np.flatnonzero(naming(train.frame, held_out))
    if len(found):
        row = train.frame.iloc[found[0]]
        raise ValueError(
            f"{len(found)} training items name a held-out hypernym, for example item {row['item_id']} (leaf "
            f"{row['leaf']!r}, hypernym {row['hypernym']!r}, answer {row['answer']!r}); remove them with ablate()"
        )


def _check_pairs(train: Manifest, removal: Removal) -> None:
    """Nothing, when no training item asks about a pair whose evidence was removed."""
    left = train.frame[(train.frame["task"] == "hypernym").to_numpy()]
    leaf = _positions(left["leaf"], removal.taxonomy.leaves, "leaf")
    hypernym = _positions(left["hypernym"], removal.taxonomy.hypernyms, "hypernym")
    leaked = np.flatnonzero(removal.pairs[leaf, hypernym])
    if len(leaked):
        row = left.iloc[leaked[0]]
        raise ValueError(
            f"{len(leaked)} training items ask about a pair whose evidence was removed, for example item "
            f"{row['item_id']} ({row['leaf']}, {row['hypernym']}); ablate the manifest again"
        )


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


def _positions(values: pd.Series, known: tuple[str, ...], what: str) -> np.ndarray:
    """The position of each value among the known names."""
    place = {name: position for position, name in enumerate(known)}
    codes, found = pd.factorize(values)
    if unknown := sorted(set(found) - set(place)):
        raise KeyError(
            f"the manifest names {len(unknown)} {what}s that the taxonomy does not have: {unknown[:10]}"
        )
    return np.array([place[name] for name in found], dtype=np.int64)[codes] if len(found) else codes


def _half_up(value: float) -> int:
    return int(np.floor(value + 0.5 + 1e-9))


def _check(
    taxonomy: Taxonomy, kind: str, fraction: float, rule: str, hypernyms: Iterable[str]
) -> tuple[str, list[str]]:
    if kind not in RULES:
        raise KeyError(f"ablation {kind!r} was asked for; known: {', '.join(RULES)}")
    rule = rule or RULES[kind][0]
    if rule not in RULES[kind]:
        raise KeyError(f"rule {rule!r} was asked for; ablation {kind!r} has: {', '.join(RULES[kind])}")
    if not 0 <= fraction <= 1:
        raise ValueError(f"an ablation removes a fraction between 0 and 1, found {fraction}")
    listed = sorted(set(hypernyms))
    if listed and kind != "systematic":
        raise ValueError(f"hypernyms were listed for ablation {kind!r}; only 'systematic' takes a list")
    if unknown := sorted(set(listed) - set(taxonomy.hypernyms)):
        raise KeyError(f"hypernyms {unknown} are not in the taxonomy; known: {', '.join(taxonomy.hypernyms)}")
    return rule, listed
