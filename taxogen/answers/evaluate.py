"""Evaluate: how likely a trained model finds every hypernym for every test picture; raw scores go to `scores.h5`.

Beside the read-outs of pictures stands the ceiling, the same prompt with the leaf's name. The read-out
depends on the format of the questions: see `taxogen.answers.READOUTS`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from probing.stats.seeding import stream
from probing.store import MismatchError
from probing.store.records import DamagedError
from taxogen.answers import READOUTS, Readout, calibration, words
from taxogen.answers.rows import named_leaves
from taxogen.answers.scores import Scores, candidates
from taxogen.questions.items import prompts_of
from taxogen.runs.bench import Bench
from taxogen.runs.prepare import few_per_leaf
from taxogen.runs.run import Run

log = logging.getLogger("taxogen")

__all__ = ["Scores", "best_names", "candidates", "evaluate"]


def readout_of(run: Run, bench: Bench) -> Readout:
    """What asks a trained run as its questions ask; `bench` has its model, and may be of other settings `evaluate`."""
    return READOUTS[run.config.data.task](run, bench.vlm, bench.features, bench.picture_index)


def evaluate(readout: Readout) -> Scores:
    """Scores every hypernym for every test picture and every leaf's name, and names the leaf among a few choices.

    With several templates the scores are the mean of their read-outs; each stands beside it.
    """
    run = readout.run
    templates = templates_of(run)
    frame = asked_pictures(run)
    shown, leaves = frame["picture"].tolist(), run.taxonomy.leaves
    image = {name: readout.hypernyms_of_pictures(shown, name) for name in templates["hypernym"]}
    text = {name: words.hypernyms_of_names(readout, leaves, name) for name in templates["hypernym"]}
    choices = min(run.config.evaluate.leaf_choices, len(leaves))
    offered = leaf_choices(frame, leaves, choices, run.config.seed)
    named = sum(readout.names_of_pictures(shown, name, offered) for name in templates["leaf"])
    place = {leaf: at for at, leaf in enumerate(leaves)}
    best = np.nanargmax(named, 1)
    correct = best == frame["leaf"].map(place).to_numpy()
    several = len(templates["hypernym"]) > 1
    return Scores(
        image=frame.assign(named=[leaves[at] for at in best]),
        text=pd.DataFrame({"leaf": leaves}),
        hypernyms=run.taxonomy.hypernyms,
        image_scores=np.mean(list(image.values()), axis=0),
        text_scores=np.mean(list(text.values()), axis=0),
        leaf_correct=correct,
        leaf_choices=choices,
        counted=_matched(run, np.asarray(frame["leaf"], dtype=str), correct),
        about=readout.about,
        asked=_wanted(run),
        apart={name: (image[name], text[name]) for name in image} if several else {},
        thresholds=_thresholds(run, readout, templates["hypernym"]) if readout.calibrates() else None,
    )


def fits(run: Run) -> bool:
    """Whether the run's scores are there, whole, its own, and answer what its config asks for now.

    That is templates, choices and pictures.
    """
    try:
        return run.file("scores.h5").exists() and Scores.read(run).asked in ("", _wanted(run))
    except (DamagedError, MismatchError) as fault:
        log.warning("%s; it is made again", fault)
        return False


def _wanted(run: Run) -> str:
    wanted = run.config.evaluate
    return json.dumps([wanted.templates, wanted.leaf_choices, wanted.pictures_per_leaf])


def best_names(readout: Readout) -> list[str]:
    """For each test picture the leaf that the model calls it: of all leaves, where its read-out can (`best_names`).

    Otherwise of its choices (`evaluate.leaf_choices`). The right leaf is always among them, so that there what rests
    on the names is an upper bound.
    """
    run = readout.run
    prompt, *_ = templates_of(run)["leaf"]
    best = readout.best_names(asked_pictures(run)["picture"].tolist(), prompt)
    if best is None:
        return Scores.read(run).image["named"].tolist()
    return [run.taxonomy.leaves[at] for at in best]


def asked_pictures(run: Run, manifest: str = "test") -> pd.DataFrame:
    """item_id, picture, leaf and shown_leaf of each picture that is scored; of several questions, of the first."""
    wanted, most = (
        run.config.evaluate.pictures_per_leaf,
        run.world.get("scored_at_most", 0) if run.closed else 0,
    )
    if most and not 0 < wanted <= most:
        raise ValueError(
            f"evaluate.pictures_per_leaf={wanted} was asked for; an older version prepared {run.path} with {most} test "
            "pictures a leaf: ask for that or fewer"
        )
    frame = run.manifest(manifest).where(modality="image").frame.astype(str).drop_duplicates("picture")
    few = few_per_leaf(frame, wanted, run.config.seed)
    chosen = frame[frame["picture"].isin(few["picture"])]
    return chosen[["item_id", "picture", "leaf", "shown_leaf"]].reset_index(drop=True)


def leaf_choices(
    frame: pd.DataFrame, leaves: Sequence[str], count: int, seed: int
) -> Bool[np.ndarray, "pictures leaves"]:
    """Which leaves each picture's name is chosen from: the right one and random others."""
    place = {leaf: at for at, leaf in enumerate(leaves)}
    offered = np.zeros((len(frame), len(leaves)), bool)
    for at, item in enumerate(frame.itertuples()):
        others = stream(seed, "leaf choices", str(item.picture)).permutation(len(leaves))
        offered[at, [other for other in others if other != place[str(item.leaf)]][: count - 1]] = True
        offered[at, place[str(item.leaf)]] = True
    return offered


def templates_of(run: Run) -> dict[str, tuple[str, ...]]:
    """The templates of the test questions: those of `evaluate.templates`, else the first of training for each task."""
    data = run.config.data
    first = {kind: names[:1] for kind, names in prompts_of(data.task, data.templates).items()}
    return prompts_of(data.task, run.config.evaluate.templates, first)


def _thresholds(run: Run, readout: Readout, prompts: Sequence[str]) -> Float[np.ndarray, " hypernyms"] | None:
    """Where Yes begins for each hypernym, fit on validation pictures; None where there are none."""
    if not run.file("validation.csv").exists():
        return None
    frame = asked_pictures(run, "validation")
    shown = frame["picture"].tolist()
    scores = np.mean([readout.hypernyms_of_pictures(shown, name) for name in prompts], axis=0)
    return calibration.thresholds(scores, run.taxonomy.labels(frame["leaf"].tolist()))


def _matched(run: Run, leaves: np.ndarray, correct: np.ndarray) -> Bool[np.ndarray, " pictures"]:
    """Which rows count: all, or in an across-matched world those of leaves that the model names correctly."""
    if not run.config.data.shuffle.endswith("-matched"):
        return np.ones(len(leaves), bool)
    return np.isin(leaves, named_leaves(leaves.tolist(), correct))
