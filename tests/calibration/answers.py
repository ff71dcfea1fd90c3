"""Worlds of answers: read-outs of runs of several seeds about pictures of leaves, in two conditions."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from analyses.inputs.answers import Answers
from analyses.inputs.conditions import Condition
from taxogen.answers.evaluate import Scores
from taxogen.questions import ablation
from tests.calibration.worlds import members, spectrum, taxonomy

WIDTH = 12


class Sides(NamedTuple):
    """Conditions of one world, on the same leaves, such as within and across."""

    first: Condition
    second: Condition


class Ways(NamedTuple):
    """How a world is made.

    Attributes:
        effect: how far a true hypernym is read out above a false one, in standard deviations of a leaf.
        seeds: standard deviation of it over seeds.
        redrawn: whether hypernyms are drawn anew in every world.
        runs: number of seeds.
    """

    effect: float = 1.5
    seeds: float = 0.0
    redrawn: bool = True
    runs: int = 1


def _hypernyms(rng: np.random.Generator, ways: Ways) -> tuple[np.ndarray, np.ndarray]:
    """How well each hypernym is read out, and its direction in the states of leaves."""
    kinds = members().shape[1]
    directions = rng.normal(size=(WIDTH, kinds)) * spectrum(WIDTH)[:, None]
    effects = ways.effect + 0.5 * (ways.effect > 0) * rng.normal(size=kinds)
    return effects, directions / np.linalg.norm(directions, axis=0)


def _leaves(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The state of each leaf, and what is peculiar to it and each hypernym."""
    n, kinds = members().shape
    return rng.normal(size=(n, WIDTH)), 0.7 * rng.normal(size=(n, kinds))


def _answers(rng: np.random.Generator, seed: int, effects, directions, leaves, counts, ways: Ways) -> Answers:
    """The answers of one run: read-outs, and whether it names each picture rightly, among few and among all."""
    tree, labels = taxonomy(), members()
    states, own = leaves
    moved = ways.seeds * rng.normal()
    level = labels * (effects + moved) + 0.8 * states @ directions + own
    level += 0.4 * rng.normal(size=labels.shape)
    leaf = np.repeat(np.arange(len(labels)), counts)
    values = level[leaf] + 0.7 * rng.normal(size=(len(leaf), labels.shape[1]))
    names = np.array(tree.leaves)
    rows = [str(number) for number in range(len(leaf))]
    table = pd.DataFrame({"item_id": rows, "picture": rows, "leaf": names[leaf], "shown_leaf": names[leaf]})
    right = rng.random(len(leaf)) < 1 / (1 + np.exp(-1.2 * states[leaf, 0] - 2 * moved))
    naming = np.where(right, names[leaf], names[(leaf + 1) % len(names)])
    text = labels + 0.1 * rng.normal(size=labels.shape)
    scores = Scores(table, pd.DataFrame({"leaf": names}), tree.hypernyms, values, text, right, 20)
    removal = ablation.plan(tree, "full")
    return Answers(seed, scores, tree, removal, removal.effective, naming=tuple(naming))


@cache
def sides(seed: int, ways: Ways) -> Sides:
    """Two conditions that share leaves and, in part, hypernyms; the second reads them out less well."""
    rng = np.random.default_rng([seed, 5])
    effects, directions = _hypernyms(rng if ways.redrawn else np.random.default_rng(0), ways)
    counts, leaves = rng.integers(1, 4, len(members())), _leaves(rng)
    other = tuple(0.6 * one + 0.8 * fresh for one, fresh in zip(leaves, _leaves(rng)))
    weaker = 0.5 * effects
    made = []
    for name, of_side, strength in (("within", leaves, effects), ("across", other, weaker)):
        answers = [
            _answers(rng, number, strength, directions, of_side, counts, ways) for number in range(ways.runs)
        ]
        made.append(Condition(name, {"shuffle": name}, tuple(answers)))
    return Sides(*made)
