"""Negatives: the yes/no questions whose answer is No. Random, hard, or the study's unbalanced draw."""

from __future__ import annotations

import numpy as np
import pandas as pd

from probing.stats.seeding import stream
from taxogen.world.taxonomy import Taxonomy

RULES = ("random", "hard", "study")


def draw_hypernym_negatives(
    positives: pd.DataFrame, pictures: pd.DataFrame, taxonomy: Taxonomy, rule: str, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The positives that stay, and the negatives: pictures asked about a hypernym that they do not have.

    Rules:
        random: of each hypernym as many negatives as positives, from all pictures without it.
        hard: the same numbers, from the nearest pictures without it: those under the smallest hypernym that
            contains this one, then the next larger, and so on.
        study: of each picture as many negatives as positives, about hypernyms drawn at random. Balanced over
            all but not per hypernym: a frequent hypernym is mostly answered Yes, a rare one mostly No.

    Where a hypernym has more pictures than remain without it, its positives are drawn down to that number.
    """
    _check(rule)
    if rule == "study":
        return positives, _per_picture(positives, pictures, taxonomy, seed)
    member = taxonomy.labels(pictures["leaf"].tolist())
    yes, no = [], []
    for column, hypernym in enumerate(taxonomy.hypernyms):
        have = positives[positives["hypernym"] == hypernym]
        rng = stream(seed, "negatives", rule, hypernym)
        without = np.flatnonzero(~member[:, column])
        order = rng.permutation(without)
        if rule == "hard":
            order = order[
                np.argsort(_distance(taxonomy, hypernym, np.asarray(pictures["leaf"]))[order], kind="stable")
            ]
        chosen = np.sort(rng.permutation(len(have))[: len(order)])
        yes.append(have.iloc[chosen])
        no.append(pictures.iloc[order[: len(have)]].assign(hypernym=hypernym, asked=""))
    return pd.concat(yes), pd.concat(no)


def draw_leaf_negatives(
    positives: pd.DataFrame, pictures: pd.DataFrame, taxonomy: Taxonomy, rule: str, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The positives asked about their own leaf, and one negative each, asked about another.

    Rules: "random" and "study" draw the other leaf from all; "hard" from those that share most hypernyms.
    """
    _check(rule)
    present = np.array(sorted(set(pictures["leaf"])), dtype=object)
    if len(present) < 2:
        raise ValueError(f"negatives about leaves need at least 2 leaves, found {list(present)}")
    labels = taxonomy.labels(present.tolist()).astype(np.int64)
    near = labels @ labels.T
    nouns = np.empty(len(pictures), dtype=object)
    for row, leaf in enumerate(present):
        others = np.flatnonzero(np.arange(len(present)) != row)
        if rule == "hard":
            others = others[near[row, others] == near[row, others].max()]
        places = np.flatnonzero((pictures["leaf"] == leaf).to_numpy())
        nouns[places] = present[stream(seed, "leaf negatives", rule, str(leaf)).choice(others, len(places))]
    return positives.assign(asked=positives["leaf"]), pictures.assign(hypernym="", asked=nouns)


def _per_picture(
    positives: pd.DataFrame, pictures: pd.DataFrame, taxonomy: Taxonomy, seed: int
) -> pd.DataFrame:
    member = taxonomy.labels(pictures["leaf"].tolist())
    keys = np.array(
        [stream(seed, "study", picture).random(member.shape[1]) for picture in pictures["picture"]]
    )
    order = np.argsort(np.where(member, 2.0, keys), axis=1)
    wanted = np.minimum(member.sum(1), (~member).sum(1))
    row = np.repeat(np.arange(len(pictures)), wanted)
    column = np.concatenate([order[index, :count] for index, count in enumerate(wanted)])
    return pictures.iloc[row].assign(hypernym=np.array(taxonomy.hypernyms, dtype=object)[column], asked="")


def _distance(taxonomy: Taxonomy, hypernym: str, leaves: np.ndarray) -> np.ndarray:
    """The number of leaves under the smallest hypernym above both `hypernym` and this leaf."""
    inside = set(taxonomy.leaves_of(hypernym))
    around = {}
    for above in taxonomy.hypernyms:
        members = taxonomy.leaves_of(above)
        if inside < set(members):
            for leaf in members:
                around[leaf] = min(around.get(leaf, len(members)), len(members))
    return np.array([around.get(leaf, len(taxonomy.leaves) + 1) for leaf in leaves])


def _check(rule: str) -> None:
    if rule not in RULES:
        raise KeyError(f"negatives {rule!r} were asked for; known: {', '.join(RULES)}")
