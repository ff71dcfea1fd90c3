"""Toy conditions whose answers follow the names that they give, or what is shown, by a planted share."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analyses.inputs.answers import Answers
from analyses.inputs.conditions import Condition
from analyses.mediation.naming import Naming
from taxogen.answers.evaluate import Scores
from taxogen.questions import ablation
from taxogen.world.taxonomy import Taxonomy

LEAVES = [f"leaf{number:03}" for number in range(120)]
KINDS = 6
TAXONOMY = Taxonomy(tuple((leaf, f"kind{number % KINDS}") for number, leaf in enumerate(LEAVES)))
FULL = ablation.plan(TAXONOMY, "full")
WORDS = 2.0 * np.asarray(TAXONOMY.labels(LEAVES)) + 0.3 * np.random.default_rng(5).normal(size=(120, KINDS))
PICTURES = 4


@dataclass(frozen=True)
class Planted:
    """How a toy model names pictures and answers.

    Attributes:
        named: share of pictures whose likeliest name is the right one; others get that of any leaf.
        by_name: nats of the answer for each nat of what the names answer in words.
        past: nats by which the picture itself speaks for its hypernyms.
    """

    named: float
    by_name: float = 0.0
    past: float = 0.0

    def naming(self, seed: int, leaves=LEAVES) -> Naming:
        """The names of every picture, drawn."""
        rng, right = np.random.default_rng(seed), np.repeat(np.arange(len(leaves)), PICTURES)
        given = np.where(
            rng.random(len(right)) < self.named, right, rng.integers(len(leaves), size=len(right))
        )
        mass = rng.dirichlet(np.full(len(leaves), 0.05), len(right)) * 0.3
        mass[np.arange(len(right)), given] += 0.7
        return Naming(mass, tuple(leaves))

    def answer(self, naming: Naming, noise) -> np.ndarray:
        """The read-outs of every picture with these names."""
        cascade = np.log(naming.probability @ np.exp(WORDS))
        content = np.repeat(np.asarray(TAXONOMY.labels(LEAVES)), PICTURES, axis=0)
        return self.by_name * cascade + self.past * content + noise


def noise(seed: int, size: float = 1.0) -> np.ndarray:
    """What no name and no content explains."""
    return size * np.random.default_rng(seed).normal(size=(len(LEAVES) * PICTURES, KINDS))


def condition(name: str, planted: Planted, seeds=(0, 1), draw=0, **about):
    """A condition of toy runs, and its naming by name and seed."""
    about = {"init": "pretrained", "shuffle": "none", "evidence": "ablation full", "other": "", **about}
    about |= {"lm": "lm", "encoder": "encoder"}
    naming = {(name, seed): planted.naming(1000 * draw + seed) for seed in seeds}
    answers = [
        answers_of(planted.answer(naming[name, seed], noise(7 + 1000 * draw + seed)), seed) for seed in seeds
    ]
    return Condition(name, about, tuple(answers)), naming


def answers_of(values: np.ndarray, seed: int, words=WORDS, taxonomy=TAXONOMY) -> Answers:
    """The answers of a toy run with these read-outs."""
    leaves = np.repeat(LEAVES, PICTURES)
    names = [f"{leaf}/{number}" for number, leaf in enumerate(leaves)]
    table = pd.DataFrame({"item_id": names, "picture": names, "leaf": leaves, "shown_leaf": leaves})
    right = np.ones(len(leaves), bool)
    scores = Scores(table, pd.DataFrame({"leaf": LEAVES}), taxonomy.hypernyms, values, words, right, 4)
    return Answers(seed, scores, taxonomy, FULL, FULL.effective)
