"""Naming: how likely a model finds each leaf's name for each test picture; scored by the model, kept as parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import cast

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

from analyses.frame.parts import Parts
from analyses.inputs.answers import Answers
from analyses.inputs.subject import Subject
from probing.stats import divide
from probing.store import MismatchError
from taxogen.answers.completion import MOST, Completions
from taxogen.answers.evaluate import asked_pictures, templates_of
from taxogen.runs.flags import note
from taxogen.runs.prepare import few_per_leaf
from taxogen.runs.run import Run
from taxogen.stages.train import load_projector

NAME, HYPERNYM, RIGHT = "name: ", "hypernym: ", "right name"
"""Of a part: prefixes of log-probabilities of leaves' names and of read-outs of hypernyms; column of the right name."""
FORMAT = 2
"""Of parts: since 2 the columns of names leave out a right name that is there because it is right."""


@dataclass(frozen=True, eq=False)
class Naming:
    """The names that a model gives its test pictures.

    Attributes:
        probability: of each leaf's name for each picture; rows sum to 1, names too unlikely to be scored have 0, the
            right one among them. A row is NaN where no name counts (`among`).
        leaves: the names, in the order of the columns, sorted.
        whole: whether it is a distribution; else each picture has one name with probability 1.
        right: log-probability of the right name on the scale of the others, where it was scored for itself.
    """

    probability: Float[np.ndarray, "pictures leaves"]
    leaves: tuple[str, ...]
    whole: bool = True
    right: Float[np.ndarray, " pictures"] | None = None

    @classmethod
    def of_part(cls, part: pd.DataFrame) -> Naming:
        """That of the pictures of a part (`scored_parts`)."""
        columns = [name for name in part.columns if name.startswith(NAME)]
        logs = part[columns].to_numpy(np.float64)
        highest = np.nanmax(logs, axis=1, keepdims=True)
        mass = np.where(np.isnan(logs), 0.0, np.exp(logs - highest))
        right = part[RIGHT].to_numpy(np.float64) - highest[:, 0] - np.log(mass.sum(axis=1))
        return cls(_shares(mass), tuple(name.removeprefix(NAME) for name in columns), right=right)

    @classmethod
    def of_names(cls, names: Sequence[str], leaves: Sequence[str]) -> Naming:
        """One name for each picture."""
        given = np.equal.outer(np.asarray(names, str), np.asarray(leaves, str))
        return cls(given.astype(float), tuple(leaves), whole=False)

    @property
    def best(self) -> Shaped[np.ndarray, " pictures"]:
        """The likeliest name of each picture."""
        return np.array(self.leaves)[self.probability.argmax(axis=1)]

    def of_right(self, right: Shaped[np.ndarray, " pictures"]) -> Float[np.ndarray, " pictures"]:
        """Log-probability of the right name, in nats; where each picture has one name, 0 if it is right, else −1."""
        if self.right is not None:
            return self.right
        columns = np.searchsorted(np.array(self.leaves), right)
        given = self.probability[np.arange(len(right)), columns]
        return np.log(np.maximum(given, np.finfo(float).tiny)) if self.whole else given - 1.0

    def changed(self, temperature: float = 1.0, top: int = 0) -> Naming:
        """The distribution sharper (below 1) or flatter (above 1), or of its `top` likeliest names."""
        mass = self.probability ** (1 / temperature)
        if top:
            place = np.argsort(np.argsort(-mass, axis=1, kind="stable"), axis=1)
            mass = np.where(place < top, mass, 0.0)
        return Naming(_shares(mass), self.leaves, self.whole)

    def among(self, leaves: Collection[str]) -> Naming:
        """The distribution over the names of some leaves; NaN for pictures that have none of these names."""
        columns = np.isin(np.array(self.leaves), list(leaves))
        chosen = tuple(np.array(self.leaves)[columns].tolist())
        return replace(self, probability=_shares(self.probability[:, columns]), leaves=chosen)


def _shares(mass: Float[np.ndarray, "rows names"]) -> Float[np.ndarray, "rows names"]:
    """Each row divided by its sum; NaN where that is 0."""
    return divide(mass, mass.sum(axis=1, keepdims=True))


def stored_naming(answers: Answers) -> Naming:
    """The one name for each picture that `evaluate` stored (baselines.h5)."""
    return Naming.of_names(answers.naming, answers.taxonomy.leaves)


def scored_naming(run: Run, answers: Answers) -> Naming:
    """The distribution over all names after the last step, for every picture that was evaluated."""
    last = run.record["steps"]
    return Naming.of_part(in_order(scored_parts(run, [last], 0, hypernyms=False)[last], answers))


def in_order(part: pd.DataFrame, answers: Answers) -> pd.DataFrame:
    """A part's rows in the order of the run's scores.

    Raises:
        MismatchError: names were scored for other pictures than the run was evaluated on.
    """
    pictures = answers.scores.image["picture"].tolist()
    if missing := set(pictures).symmetric_difference(part["picture"]):
        raise MismatchError(
            f"names were scored for {len(part)} pictures and hypernyms for {len(pictures)}, which differ in "
            f"{len(missing)}; evaluate the run again"
        )
    return part.set_index("picture", drop=False).loc[pictures].reset_index(drop=True)


def scored_parts(
    run: Run, steps: Sequence[int], pictures: int, hypernyms: bool = True
) -> dict[int, pd.DataFrame]:
    """Step → picture, leaf, log-probability of each leaf's name, NaN for names too unlikely, and of the right one.

    The model is loaded only where a part is missing; each is kept as soon as it is done.

    Args:
        run: a run of completions that was trained to its end.
        steps: after which the projector was saved.
        pictures: of each leaf, a seeded draw; 0 for all that were evaluated.
        hypernyms: whether the read-outs of hypernyms are columns as well.
    """
    subject = cache(lambda: Subject.of(run))
    templates = templates_of(run)
    tables = {}
    for step in steps:
        settings = {
            "format": FORMAT,
            "pictures": pictures,
            "hypernyms": hypernyms,
            "templates": templates,
            "makers": run.makers(step),
        }
        parts = Parts.of(run.folder("analyses", "mediation"), settings)
        name = f"step-{step:06d}"
        if parts.missing([name]):
            _say_what_it_costs(run, step, pictures, hypernyms)
        make = partial(_scored, subject, step, pictures, hypernyms)
        tables[step] = parts.collect([name], make, f"{run.name}, step {step}")
    return tables


def _scored(
    subject: Callable[[], Subject], step: int, pictures: int, hypernyms: bool, _: str
) -> pd.DataFrame:
    run, bench = subject().run, subject().bench
    load_projector(bench.vlm.projector, run.require_snapshot(step))
    frame, leaves = few_pictures(run, pictures), run.taxonomy.leaves
    readout = Completions(run, bench.vlm, bench.features, bench.picture_index)
    prompts, shown = templates_of(run), frame["picture"].tolist()
    right = np.searchsorted(np.array(leaves), frame["leaf"].to_numpy(str))
    columns: dict[str, np.ndarray] = {}
    if hypernyms:
        read = np.mean([readout.hypernyms_of_pictures(shown, one) for one in prompts["hypernym"]], axis=0)
        columns |= _columns(HYPERNYM, run.taxonomy.hypernyms, read)
    names, of_right = readout.names_given(shown, prompts["leaf"][0], right)
    columns |= _columns(NAME, leaves, names)
    columns[RIGHT] = of_right.astype(np.float32)
    return pd.concat([frame[["picture", "leaf"]], pd.DataFrame(columns)], axis=1)


def _columns(prefix: str, names: Sequence[str], values: np.ndarray) -> Mapping[str, np.ndarray]:
    return {prefix + name: column.astype(np.float32) for name, column in zip(names, values.T, strict=True)}


def few_pictures(run: Run, pictures: int) -> pd.DataFrame:
    """The evaluated pictures of a run, or some of each leaf."""
    frame = asked_pictures(run)
    chosen = few_per_leaf(frame, pictures, run.config.seed)
    return cast(pd.DataFrame, frame[frame["picture"].isin(chosen["picture"])].reset_index(drop=True))


def _say_what_it_costs(run: Run, step: int, pictures: int, hypernyms: bool) -> None:
    count = len(few_pictures(run, pictures))
    often = "3 times" if hypernyms else "twice"
    text = f"{run.name} after step {step} is to name {count} pictures: each is read {often}, and at most {MOST} names"
    note(f"mediation: {text}")
