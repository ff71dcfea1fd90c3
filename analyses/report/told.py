"""What evaluated runs answered about single pictures: where each picture stands, and when a model is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Shaped

from analyses.frame.section import Grid, cell_text
from analyses.inputs.answers import Answers
from analyses.inputs.conditions import Condition, conditions, grouped_by_condition
from analyses.inputs.intervals import Aligned, Rule, limits_text
from analyses.inputs.measures import Frame
from probing.stats import ClusterAUROC
from taxogen.answers.rows import labels_of
from taxogen.runs import closed
from taxogen.runs.run import Run
from taxogen.world.pictures import Pictures

NAMED, KIN, OTHER = (
    "names the picture rightly",
    "names another leaf with the hypernym",
    "names a leaf without it",
)
GROUPS = (NAMED, KIN, OTHER)


@dataclass(frozen=True, eq=False)
class Told:
    """The answers of a condition, and those of its first run picture by picture."""

    run: Run
    condition: Condition

    @property
    def answers(self) -> Answers:
        """Of the first run."""
        return self.condition.answers[0]

    @cached_property
    def pictures(self) -> Pictures:
        """The collection that the first run shows."""
        return closed.read(self.run).pictures

    @property
    def called(self) -> Shaped[np.ndarray, " pictures"]:
        """The name that the model gives each picture: of all leaves, or, where these were not compared, of a few."""
        return called(self.answers)

    @cached_property
    def labels(self) -> Bool[np.ndarray, "pictures hypernyms"]:
        """Whether each picture has each hypernym, by its name in this world."""
        return labels(self.answers)

    @cached_property
    def standing(self) -> Float[np.ndarray, "pictures hypernyms"]:
        """See `standing`."""
        return standing(self.answers.scores.image_scores, self.labels)


def told_of(runs: Sequence[Run]) -> list[Told]:
    """The answers of each condition of some runs.

    Raises:
        FileNotFoundError: a run was not evaluated; the command is named.
    """
    first = {name: members[0] for name, members in grouped_by_condition(runs).items()}
    return [Told(first[one.name], one) for one in conditions(runs)]


def called(answers: Answers) -> Shaped[np.ndarray, " pictures"]:
    """The name that a model gives each test picture."""
    return np.asarray(answers.naming if len(answers.naming) else answers.scores.image["named"], dtype=str)


def labels(answers: Answers) -> Bool[np.ndarray, "pictures hypernyms"]:
    """Whether each test picture has each hypernym, by its name in this world."""
    return labels_of(answers.scores.image, answers.taxonomy, answers.scores.hypernyms)


def standing(
    scores: Float[np.ndarray, "pictures hypernyms"], having: Bool[np.ndarray, "pictures hypernyms"]
) -> Float[np.ndarray, "pictures hypernyms"]:
    """The share of the other pictures without a hypernym whose read-out of it is lower; ties count half, chance is .5.

    Its mean over the pictures that have the hypernym is the AUROC. NaN where a read-out is undefined, or no other
    picture lacks the hypernym.
    """
    result = np.full(scores.shape, np.nan)
    for column, values in enumerate(scores.T):
        without = ~having[:, column]
        others = np.sort(values[without & ~np.isnan(values)])
        below = (np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / 2
        count = len(others) - without
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (below - 0.5 * without) / count
        result[:, column] = np.where((count > 0) & ~np.isnan(values), share, np.nan)
    return result


def group_of(answers: Answers, having: Bool[np.ndarray, "pictures hypernyms"]) -> Shaped[np.ndarray, "p h"]:
    """For each picture and hypernym whether the model names it rightly, by a leaf with that hypernym, or without."""
    names, hypernyms = called(answers), list(answers.scores.hypernyms)
    columns = [answers.taxonomy.hypernyms.index(name) for name in hypernyms]
    of_name = np.asarray(answers.taxonomy.labels(names.tolist()))[:, columns]
    right = names == answers.leaves
    return np.where(right[:, None], NAMED, np.where(of_name, KIN, OTHER))


def when_right(of: Sequence[Told]) -> Grid:
    """How far the pictures of a hypernym stand above those without, by the name that the model gives them."""
    frame, rule = Frame.of([told.condition for told in of]), Rule()
    rows = []
    for told in of:
        read = [(one, *one.read(told.condition.headline)) for one in told.condition.answers]
        for group in GROUPS:
            statistics, leaves, pictures = [], set(), 0
            for answers, values, having, clusters in read:
                inside = having & (group_of(answers, having) == group) & ~np.isnan(values)
                chosen = np.where(having & ~inside, np.nan, values)
                auroc = ClusterAUROC(chosen, having, clusters)
                statistics.append(Aligned(auroc, answers.scores.hypernyms, frame.leaves, frame.hypernyms))
                leaves |= set(clusters[inside.any(axis=1)])
                pictures += int(inside.any(axis=1).sum())
            found = rule.mean(statistics, len(leaves)) if pictures else None
            text = "–" if found is None else cell_text(found.__dict__)
            rows.append([told.condition.name, group, text, str(pictures), str(len(leaves))])
    runs = [len(told.condition.answers) for told in of]
    several = " All seeds together." if max(runs) > 1 else ""
    limits = limits_text(runs, rule.interval)
    caption = (
        "When is the model right? AUROC of the read-out of a hypernym, pictures that have it against all that do not "
        "(null .5, the mean over hypernyms; "
        f"{limits}; not corrected), by the name that the model gives the picture.{several}"
    )
    return Grid(["condition", "the model …", "AUROC", "pictures", "leaves (n)"], rows, caption)
