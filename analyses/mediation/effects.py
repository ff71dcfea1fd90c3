"""Effects: of a difference between two conditions, how much goes by way of the names that they give.

The outcome is the AUROC of a read-out r of hypernyms. The mediator is the cascade c: what the names that a model gives
the picture would answer in words (`Side.cascade`). In each condition r = d + g · c, where d, the direct part, is what
is left. The gain g is the slope of r on c among pictures of one leaf: what these share, their content, has no part in
it. A cell takes d and g from one condition and the names in c, or the words, from the other. Natural effects are
differences of cells (`probing.stats.mediation.natural_effects`). Names are exchanged between pictures that two worlds
call alike: the same picture where there is one, else pictures of the leaf in turn.

Assumed is that c acts on r linearly, on the scale of log-probabilities and with one gain; that among pictures of one
leaf nothing but the name moves c and r together (sequential ignorability given the leaf: what makes one crow look like
a trout must not also make it look like a fish past its name, or g is too high); that the names read by the naming
question are those by which a hypernym is answered (error in them makes g too low); and that exchanging names leaves d
as it is. `VARIATIONS` lets go of them one at a time.

Source: Pearl 2001, Proc. UAI; Imai, Keele & Tingley 2010, Psychol. Methods 15(4). Departure: the outcome is an area
under a curve of many rows, and content is taken out by fixed effects in place of measured covariates.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Int

from analyses.inputs.intervals import Aligned
from analyses.mediation.sides import AS_READ, Assumed, Side
from probing.stats import ClusterStatistic
from probing.stats.mediation import Cell, Combined, WithSlope, matched_pairs, natural_effects

VARIATIONS: dict[tuple[str, float], Assumed] = {
    **{("temperature", at): Assumed(temperature=at) for at in (0.5, 2.0)},
    **{("top names", float(at)): Assumed(top=at) for at in (1, 3)},
    **{("reliability", at): Assumed(reliability=at) for at in (0.9, 0.7, 0.5, 0.3)},
    ("content left in", 1.0): Assumed(within=False),
}
"""Other assumptions about the names, by what is varied and to which value."""
OF_DISTRIBUTIONS = ("temperature", "top names")
"""Variations that change nothing where each picture has one name."""
SAME_WORDS = 1e-3
"""By how many nats one language model's read-outs of a name may differ, scored in batches of other sizes."""
TURNS = 2
"""Pictures of a leaf in the other world, at most, whose names a picture is given in turn."""


def effects(first: Side, second: Side, assumed: Assumed = AS_READ) -> dict[str, Combined]:
    """The natural effects of first minus second, by name; each has a column for every hypernym of the frame.

    `state` (other names) and `meaning` (other words for a name) are there where the language models differ in words.
    """
    return natural_effects(cells(first, second, assumed))


def cells(first: Side, second: Side, assumed: Assumed = AS_READ) -> dict[Cell, ClusterStatistic]:
    """AUROC with direct part, names and words of either side, both `compared`; see `natural_effects`."""
    first, second = compared(first, second)
    found: dict[Cell, ClusterStatistic] = {}
    apart = _differ_in_words(first, second)
    for direct, own, other in ((1, first, second), (0, second, first)):
        sides = {direct: own, 1 - direct: other}
        for names, words in product((0, 1), repeat=2):
            if (names, words) == (direct, direct):
                found[direct, names, words] = own.auroc(own.values)
            elif apart or names == words:
                found[direct, names, words] = _exchanged(own, sides[names], sides[words], assumed)
    return found


def compared(first: Side, second: Side) -> tuple[Side, Side]:
    """Both sides with the leaves and names that both have, and with the pictures whose names can be exchanged.

    All cells of a side rest on the same pictures: one that is given a name which the other world lacks has no read-out,
    nor one whose partner is.
    """
    shared = first.names & second.names
    one, other = first.among(shared), second.among(shared)
    return one.of_rows(_exchangeable(one, other)), other.of_rows(_exchangeable(other, one))


def _exchangeable(own: Side, other: Side) -> Bool[np.ndarray, " rows"]:
    """Whether each picture has partners in all turns that are given a name."""
    given = np.isfinite(other.naming.probability.sum(axis=1))
    return np.all([(rows >= 0) & given[rows] for rows in partners(own, other)], axis=0)


def _differ_in_words(first: Side, second: Side) -> bool:
    """Whether language models answer otherwise about the names and hypernyms that both have.

    One model's read-outs differ by less than `SAME_WORDS` where they were scored in other company.
    """
    leaves = sorted(first.names & second.names)
    columns = [name for name in first.hypernyms if name in second.hypernyms]
    tables = [side.words.loc[leaves, columns].to_numpy() for side in (first, second)]
    return not np.allclose(*tables, rtol=0, atol=SAME_WORDS, equal_nan=True)


def _exchanged(own: Side, names_of: Side, words_of: Side, assumed: Assumed) -> ClusterStatistic:
    """AUROC of a side's read-outs with the names, the words or both of another side in its cascade."""
    gain, before = own.gain(assumed), own.cascade(assumed)
    after = own.cascade(assumed, names_of, words_of)
    turns = [np.arange(len(before))] if names_of is own else partners(own, names_of)
    moves = [np.where((rows >= 0)[:, None], after[rows], np.nan) - before for rows in turns]
    return Combined([(1 / len(turns), _moved(own, gain, moved)) for moved in moves])


def _moved(own: Side, gain: ClusterStatistic, moved: Float[np.ndarray, "rows k"]) -> ClusterStatistic:
    """AUROC of a side's read-outs and the gain times a move of its cascade; draws carry the error of the gain."""
    slope = float(gain.value[0])
    step = max(0.1 * abs(slope), 0.01)
    above, below = (own.auroc_alone(own.values + g * moved) for g in (slope + step, slope - step))
    gradient = np.nan_to_num((above - below) / (2 * step))
    return WithSlope(own.auroc(own.values + slope * moved), own.aligned(gain), gradient)


def partners(own: Side, other: Side) -> list[Int[np.ndarray, " rows"]]:
    """For each picture one of the other side that is called alike, −1 for none; once in each of a few turns.

    A picture that both have is its own partner.
    """
    same = {(picture, leaf): row for row, (picture, leaf) in enumerate(zip(other.pictures, other.leaves))}
    of_leaf = {leaf: np.flatnonzero(other.leaves == leaf) for leaf in np.unique(other.leaves)}
    itself = np.array([same.get(pair, -1) for pair in zip(own.pictures, own.leaves)])
    if (itself >= 0).all():
        return [itself]
    place = np.zeros(len(itself), int)
    for leaf in np.unique(own.leaves):
        rows = np.flatnonzero(own.leaves == leaf)
        place[rows] = np.arange(len(rows))
    turns = min(TURNS, max(map(len, of_leaf.values())))
    return [
        np.array([
            itself[row] if itself[row] >= 0 else _in_turn(of_leaf.get(leaf), place[row] + turn)
            for row, leaf in enumerate(own.leaves)
        ])
        for turn in range(turns)
    ]  # fmt: skip


def _in_turn(rows: np.ndarray | None, place: int) -> int:
    return -1 if rows is None else int(rows[place % len(rows)])


def matched(first: Side, second: Side, caliper: float) -> tuple[list[Aligned], Int[np.ndarray, "pairs 2"]]:
    """AUROC of each side on pictures that it and the other name equally well, and the pairs of rows.

    Pairs are called alike, are the same picture where both sides have it, and differ in the log-probability of the
    right name by at most the caliper, in nats; where each picture has one name, both are right or both wrong.
    """
    caliper = caliper if first.naming.whole and second.naming.whole else 0.0
    pairs = np.array(list(_pairs(first, second, caliper)), int).reshape(-1, 2)
    kept = []
    for side, rows in zip((first, second), pairs.T, strict=True):
        own = np.full(side.values.shape, np.nan)
        own[rows] = side.values[rows]
        kept.append(side.auroc(own))
    return kept, pairs


def _pairs(first: Side, second: Side, caliper: float) -> Iterator[tuple[int, int]]:
    itself = {(picture, leaf): row for row, (picture, leaf) in enumerate(zip(second.pictures, second.leaves))}
    for leaf in np.intersect1d(first.leaves, second.leaves):
        rows, others = np.flatnonzero(first.leaves == leaf), np.flatnonzero(second.leaves == leaf)
        shared = {
            row: itself[first.pictures[row], leaf] for row in rows if (first.pictures[row], leaf) in itself
        }
        for row, same in shared.items():
            if abs(first.right[row] - second.right[same]) <= caliper:
                yield int(row), int(same)
        rows, others = np.setdiff1d(rows, list(shared)), np.setdiff1d(others, list(shared.values()))
        for one, two in matched_pairs(first.right[rows], second.right[others], caliper):
            yield int(rows[one]), int(others[two])


def against(side: Side, exactly: bool) -> dict[str, ClusterStatistic]:
    """AUROC of the model's read-outs by what the labels are the hypernyms of: called, own name, shown; of own − shown.

    With `exactly`, on the pictures whose likeliest name is the right one.
    """
    best = side.naming.best
    rows = best == side.leaves if exactly else np.ones(len(best), bool)
    values = np.where(rows[:, None], side.values, np.nan)
    kinds = {"called": side.leaves, "own name": best, "shown": side.shown}
    known = np.isin(side.shown, side.answers.taxonomy.leaves)
    kinds = kinds if known.all() else {"called": side.leaves, "own name": best}
    found: dict[str, ClusterStatistic] = {name: side.auroc(values, leaves) for name, leaves in kinds.items()}
    if "shown" in found:
        found["own name − shown"] = Combined([(1.0, found["own name"]), (-1.0, found["shown"])])
    return found


def readouts(side: Side) -> dict[str, ClusterStatistic]:
    """AUROC, by what pictures are called, of the model, and in words of its names, its likeliest and the right one.

    Then of the direct part, and the model less its names.
    """
    cascade, first = side.cascade(), side.cascade(Assumed(top=1))
    gold = side.words.loc[side.leaves].to_numpy()
    found: dict[str, ClusterStatistic] = {
        "model": side.auroc(side.values),
        "names": side.auroc(cascade),
        "name": side.auroc(first),
        "right name": side.auroc(gold),
        "direct part": _moved(side, side.gain(), -cascade),
    }
    found["model − names"] = Combined([(1.0, found["model"]), (-1.0, found["names"])])
    return found
