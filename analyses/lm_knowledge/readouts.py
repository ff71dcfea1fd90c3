"""Read-outs of a language model in words alone: every hypernym for the name of every leaf of a list."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float

from analyses.frame.parts import tracked
from analyses.inputs.conditions import Condition, condition_of, conditions
from analyses.inputs.published.released import HEIGHTS, taxonomy_of
from probing.store import MismatchError
from taxogen.answers import READOUTS
from taxogen.models import lms
from taxogen.models.projectors import Projector
from taxogen.models.vlm import Vlm, answer_tokens
from taxogen.questions import prompts
from taxogen.runs.bench import own_lm
from taxogen.runs.run import Run
from taxogen.world.taxonomy import Taxonomy

PROMPTS = {name: form.prompts["hypernym"] for name, form in prompts.FORMATS.items()}
"""The templates that are asked by default, by read-out."""


@dataclass(frozen=True)
class LeafList:
    """Leaves under hypernyms, and how high each hypernym stands above them."""

    name: str
    taxonomy: Taxonomy
    heights: Mapping[str, int]

    @classmethod
    def of(cls, taxonomy: Taxonomy, name: str) -> LeafList:
        """The list of a taxonomy, whose graph says how high a hypernym stands."""
        return cls(name, taxonomy, {node: taxonomy.height(node) for node in taxonomy.hypernyms})

    @classmethod
    def read(cls, path: Path | None) -> LeafList:
        """A list on disk: a table (leaf, hypernym), or a JSON object of leaf → hypernyms; by default the bundled one.

        In a JSON object no hypernym stands under another. There the study's grouping says how high one stands.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is neither, or no taxonomy.
        """
        if path is None:
            with resources.as_file(resources.files("taxogen") / "data" / "taxonomy.csv") as bundled:
                return cls.of(Taxonomy.read(bundled), "pictograms")
        if path.suffix != ".json":
            return cls.of(Taxonomy.read(path), path.stem)
        if not path.is_file():
            raise FileNotFoundError(
                f"No list of leaves at {path}: give a JSON file (leaf → hypernyms) or a table"
            )
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not all(isinstance(names, list) for names in found.values()):
            raise ValueError(
                f"{path} is not a JSON object of leaf → list of hypernyms; a table has columns leaf, hypernym"
            )
        taxonomy = taxonomy_of(found)
        return cls(path.stem, taxonomy, {name: HEIGHTS.get(name, 1) for name in taxonomy.hypernyms})


@dataclass(frozen=True)
class Knowledge:
    """Scores of one language model for one list by one read-out.

    Attributes:
        about: lm, init, seed of the init (−1 where nothing is random) and readout, as columns of tables.
        leaves: the list.
        scores: nats, by template: log P(hypernym | name) less its mean over neutral subjects, or the logit of Yes
            less that of No.
    """

    about: Mapping[str, Any]
    leaves: LeafList
    scores: Mapping[str, Float[np.ndarray, "leaves hypernyms"]]

    @property
    def mean(self) -> Float[np.ndarray, "leaves hypernyms"]:
        """The mean over templates."""
        return np.mean(list(self.scores.values()), axis=0)


def ask(
    lm: lms.LM, leaves: LeafList, readout: str, templates: Sequence[str] = (), chat: bool = False
) -> Knowledge:
    """Every hypernym read out for every leaf's name, by each template.

    Raises:
        KeyError: unknown read-out or template, or a template of another kind of question.
        ValueError: the tokenizer cannot distinguish the answers of this read-out; others are named.
    """
    if readout not in READOUTS:
        raise KeyError(f"read-out {readout!r} was asked for; known: {', '.join(READOUTS)}")
    templates = tuple(templates) or PROMPTS[readout]
    for name in templates:
        form = prompts.template(name)
        if form.task != "hypernym" or form.format != readout:
            fitting = ", ".join(prompts.names("hypernym", readout))
            raise KeyError(f"template {name!r} was asked for by read-out {readout!r}; it takes: {fitting}")
    # Names need no picture: a projector that is never called, and a world that is a taxonomy.
    vlm = Vlm(lm, Projector("flat-linear", (1, 1), (1, lm.width), 1, 1.0), chat)
    asker = READOUTS[readout](cast(Run, _World(leaves.taxonomy)), vlm, torch.empty(0), {})
    if prompts.FORMATS[readout].answers:
        try:
            answer_tokens(vlm, readout)
        except ValueError as refusal:
            others = " or ".join(f"--readout {name}" for name in READOUTS if name != readout)
            raise ValueError(f"{str(refusal).partition(': ')[0]}: give {others}") from refusal
    scores = {name: asker.hypernyms_of_names(leaves.taxonomy.leaves, name) for name in templates}
    about = {"lm": lm.name, "init": lm.init, "lm_seed": lm.seed, "readout": readout}
    return Knowledge(about, leaves, scores)


@dataclass(frozen=True)
class _World:
    """The part of a run that a question about names needs."""

    taxonomy: Taxonomy


def of_runs(
    runs: Sequence[Run], readouts: Sequence[str], templates: Sequence[str] = (), chat: bool = False
) -> tuple[list[Knowledge], dict[int, list[Condition]]]:
    """The knowledge of the runs' language models about the runs' leaves, and which conditions go with which.

    Of random inits that of the first run's seed is asked.

    Raises:
        MismatchError: runs of one condition show different leaves.
    """
    places: dict[tuple, int] = {}
    known: list[Knowledge] = []
    found: dict[int, list[Condition]] = {}
    for condition in conditions(runs):
        members = [run for run in runs if condition_of(run, runs) == condition.name]
        if len({run.taxonomy for run in members}) > 1:
            raise MismatchError(
                f"the runs of {condition.name} show different leaves ({', '.join(run.name for run in members)}): "
                "what is known of one list cannot be compared with answers about another; give them apart"
            )
        config = members[0].config
        key = (config.model.vlm or config.model.lm, config.model.init, members[0].taxonomy)
        if key not in places:
            places[key] = len(known)
            lm = own_lm(members[0])
            leaves = LeafList.of(members[0].taxonomy, config.data.pictures)
            asking = tracked(readouts, f"{lm.name} in words", "read-outs")
            known += [ask_fitting(lm, leaves, readout, templates, chat) for readout in asking]
        for place in range(places[key], places[key] + len(readouts)):
            found.setdefault(place, []).append(condition)
    return known, found


def ask_fitting(
    lm: lms.LM, leaves: LeafList, readout: str, templates: Sequence[str], chat: bool
) -> Knowledge:
    """Templates that were named go to the read-out that they belong to."""
    fitting = [name for name in templates if prompts.template(name).format == readout]
    return ask(lm, leaves, readout, fitting, chat and bool(prompts.FORMATS[readout].answers))
