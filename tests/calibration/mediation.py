"""Mediation: limits of read-outs, of natural effects by way of the name and past it, and of matched contrasts."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pandas as pd

from analyses.inputs.answers import Answers
from analyses.inputs.conditions import Condition
from analyses.mediation.intervals import Intervals
from analyses.mediation.naming import Naming
from analyses.mediation.rows import mediation_table
from taxogen.answers.evaluate import Scores
from taxogen.questions import ablation
from taxogen.world.taxonomy import Taxonomy
from tests.calibration.check import Check, Limits

_LEAVES, _KINDS, _PICTURES = 80, 8, 3
_NAMES = np.array([f"leaf{number:03}" for number in range(_LEAVES)])
_TAXONOMY = Taxonomy(tuple((leaf, f"kind{number % _KINDS}") for number, leaf in enumerate(_NAMES.tolist())))
_LABELS = np.asarray(_TAXONOMY.labels(_NAMES.tolist()))
_ROWS = np.repeat(np.arange(_LEAVES), _PICTURES)
_TAKEN = ablation.plan(_TAXONOMY, "full")


def _side(
    rng: np.random.Generator,
    name: str,
    words: np.ndarray,
    content: np.ndarray,
    ways: tuple[float, float, float],
    runs: int,
) -> tuple[Condition, dict[tuple[str, int], Naming]]:
    """A condition whose models name a share of the pictures rightly, and answer by the name and by the content."""
    named, by_name, past = ways
    leaves, answers, naming = _NAMES[_ROWS], [], {}
    table = pd.DataFrame({"leaf": leaves, "shown_leaf": leaves}).assign(
        picture=[f"{leaf}/{at}" for at, leaf in enumerate(leaves)]
    )
    table["item_id"] = table["picture"]
    easy, apart = rng.normal(size=_LEAVES), float(runs > 1)  # limits of one seed hold for that seed
    for seed in range(runs):
        chance = 1 / (
            1 + np.exp(-(np.log(named / (1 - named)) + 0.7 * easy[_ROWS] + 0.3 * apart * rng.normal()))
        )
        given = np.where(rng.random(len(_ROWS)) < chance, _ROWS, rng.integers(_LEAVES, size=len(_ROWS)))
        mass = 0.4 * rng.dirichlet(np.full(_LEAVES, 0.3), len(_ROWS))
        mass[np.arange(len(_ROWS)), given] += 0.6
        naming[name, seed] = Naming(mass, tuple(_NAMES.tolist()))
        cascade = np.log(mass @ np.exp(words))
        noise = rng.normal(size=(len(_ROWS), _KINDS)) + 0.5 * rng.normal(size=(_LEAVES, _KINDS))[_ROWS]
        values = by_name * cascade + (past + 0.2 * apart * rng.normal()) * content[_ROWS] + noise
        scores = Scores(
            table,
            pd.DataFrame({"leaf": _NAMES}),
            _TAXONOMY.hypernyms,
            values,
            words,
            np.ones(len(_ROWS), bool),
            4,
        )
        answers.append(Answers(seed, scores, _TAXONOMY, _TAKEN, _TAKEN.effective))
    about = {
        "init": name,
        "shuffle": "none",
        "evidence": "ablation full",
        "other": "",
        "lm": "lm",
        "encoder": "encoder",
    }
    return Condition(name, about, tuple(answers)), naming


@cache
def _table(seed: int, runs: int) -> pd.DataFrame:
    """Two conditions of one language model about the same leaves: one names better and sees more past the name."""
    rng = np.random.default_rng([seed, 61])
    words = 1.2 * _LABELS + 0.5 * rng.normal(size=_LABELS.shape)
    strength = np.maximum(0, 0.6 + 0.4 * rng.normal(size=(_LEAVES, 1)) + 0.2 * rng.normal(size=(1, _KINDS)))
    content = _LABELS * strength
    one, of_one = _side(rng, "a", words, content, (0.7, 0.5, 1.0), runs)
    two, of_two = _side(rng, "b", words, content, (0.4, 0.5, 0.5), runs)
    return mediation_table([one, two], [(one, two)], of_one | of_two, {}, 0.5, Intervals(60, seed))


def _covers(runs: int, measures: tuple[str, ...], seed: int) -> Limits:
    """The limits of some measures, under the first assumptions, the truth being their mean over worlds."""
    table = _table(seed, runs)
    rows = table[table["measure"].isin(measures) & (table["varied"] == "") & (table["against"] == "")]
    return Limits(*rows[["value", "lower", "upper"]].to_numpy(float).T)


_EFFECTS = (
    "total",
    "direct",
    "indirect",
    "direct_if_second",
    "direct_if_first",
    "indirect_if_second",
    "indirect_if_first",
)
_PARTS = {
    "levels": (("auroc", "gain", "naming", "right_name"), "AUROC of read-outs, gain, naming, right name"),
    "effects": (_EFFECTS, "natural effects of a contrast: total, by way of the name, and past it"),
    "matched": (
        ("matched", "named exactly", "imbalance"),
        "contrasts at equal naming, and what is left of its difference",
    ),
}

CHECKS: tuple[Check, ...] = tuple(
    Check(
        f"mediation_{name}_{runs}",
        tuple(f"mediation.{measure}" for measure in measures),
        says,
        f"{_LEAVES} leaves of {_PICTURES} pictures under {_KINDS} hypernyms, {runs} seed{'s' * (runs > 1)} of two "
        "conditions",
        "Leaves are drawn from many, hypernyms and seeds too. What is asked is what other leaves would give under the "
        "same assumptions about names, not whether these are right. Near a bound limits are too narrow: an AUROC of "
        "words of .999 was covered in .55 of worlds.",
        "coverage",
        partial(_covers, runs, measures),
        100 if runs == 1 else 40,
        "what is peculiar to a picture counts among leaves, hypernyms and seeds",
    )
    for runs in (1, 3)
    for name, (measures, says) in _PARTS.items()
)
