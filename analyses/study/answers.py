"""Answers of runs as the stored tables have them: conditions, in the types that statistics of answers take."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analyses.inputs.answers import Answers
from analyses.inputs.conditions import Condition
from analyses.study.ranks import readouts
from analyses.study.tables import Tables
from taxogen.answers.baselines import other_pictures
from taxogen.answers.scores import Scores
from taxogen.questions import ablation
from taxogen.runs import config
from taxogen.runs.config import Config
from taxogen.world.taxonomy import Taxonomy


@dataclass(frozen=True, eq=False)
class Stored:
    """One finished run as the tables have it."""

    row: Mapping[str, Any]
    answers: Answers
    top1: np.ndarray

    @cached_property
    def config(self) -> Config:
        """Its settings."""
        return config.from_dict(json.loads(self.row["config"]))


def stored_runs(tables: Tables) -> dict[str, Stored]:
    """Every finished run by name."""
    pictures = {str(name): rows for name, rows in tables.pictures.groupby("run")}
    shared = {str(key): rows for key, rows in tables.readouts.groupby("readout")}
    taxonomies = {
        str(key): Taxonomy(tuple(zip(rows["node"], rows["hypernym"])))
        for key, rows in tables.taxonomies.groupby("taxonomy")
    }
    rows: list[dict[str, Any]] = tables.runs.to_dict("records")  # pyright: ignore[reportAssignmentType]
    return {
        row["run"]: _stored(row, pictures[row["run"]], shared, taxonomies[row["taxonomy"]]) for row in rows
    }


def condition_of(name: str, runs: Sequence[Stored]) -> Condition:
    """A condition of the runs of several seeds."""
    ordered = sorted(runs, key=lambda run: run.answers.seed)
    about = {"shuffle": ordered[0].config.data.shuffle}
    return Condition(name, about, tuple(run.answers for run in ordered))


def of_leaves(answers: Answers, leaves: Collection[str]) -> Answers:
    """The answers about pictures of some leaves, without baselines."""
    keep = np.isin(answers.leaves, list(leaves))
    if keep.all():
        return answers
    scores = answers.scores
    rows = replace(
        scores,
        image=scores.image[keep].reset_index(drop=True),
        image_scores=scores.raw[keep],
        leaf_correct=scores.leaf_correct[keep],
    )
    return replace(answers, scores=rows, baselines={}, naming=list(np.asarray(answers.naming)[keep]))


def _stored(
    row: Mapping[str, Any], pictures: pd.DataFrame, shared: Mapping[str, pd.DataFrame], taxonomy: Taxonomy
) -> Stored:
    settings = config.from_dict(json.loads(row["config"]))
    data, seed = settings.data, settings.seed
    leaves, named = (pictures[name].to_numpy(str) for name in ("leaf", "named_leaf"))
    words = shared[row["words"]]
    of_words, read = _values(words), _values(pictures)
    place = {leaf: at for at, leaf in enumerate(words["leaf"])}
    thresholds = np.asarray(row["thresholds"], dtype=float)
    scores = Scores(
        pictures[["picture", "leaf", "shown_leaf"]].reset_index(drop=True),
        words[["leaf"]].reset_index(drop=True),
        tuple(row["hypernyms"]),
        read,
        of_words,
        pictures["leaf_correct"].to_numpy(),
        int(row["leaf_choices"]),
        about=row["about"],
        thresholds=thresholds if len(thresholds) else None,
    )
    options = {"fraction": data.fraction, "rule": data.rule or None, "held_out": data.held_out}
    baselines = {
        "blind": read[other_pictures(leaves, seed)],
        "gold": of_words[[place[leaf] for leaf in leaves]],
        "cascade": of_words[[place[leaf] for leaf in named]],
        **{name: _values(shared[row[name]]) for name in ("probe", "probe_held_out")},
    }
    removal = ablation.plan(taxonomy, data.ablation, **options, seed=seed)
    answers = Answers(seed, scores, taxonomy, removal, float(row["effective"]), baselines, named.tolist())
    return Stored(row, answers, pictures["top1"].to_numpy(float))


def _values(table: pd.DataFrame) -> np.ndarray:
    return readouts(np.stack(table["ranks"].to_list()))
