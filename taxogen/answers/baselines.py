"""Baselines beside the score: read-outs of the same test rows by rules that need no generalization of the model.

The score of a run is to be compared with them, on the same rows and with the same intervals. A random-init
language model, the last of the baselines, is a run of its own (`model.init=random`).
"""

from __future__ import annotations

import logging
from functools import partial
from typing import cast

import h5py
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from probing.probes.linear import fit_ridge
from probing.probes.splits import grouped_folds
from probing.stats.seeding import stream
from probing.store import MismatchError, records
from probing.store.records import DamagedError
from taxogen.answers import Readout
from taxogen.answers.evaluate import best_names, readout_of
from taxogen.answers.scores import Scores
from taxogen.models import ranks
from taxogen.runs.bench import Bench
from taxogen.runs.run import Run
from taxogen.world.taxonomy import Taxonomy

log = logging.getLogger("taxogen")
FILE = "baselines.h5"
FOLDS = 5
ABOUT = {
    "majority": "log-odds of the hypernym among training pictures: the same for every picture",
    "blind": "the model's read-out of a picture of another leaf concept, seeded",
    "gold": "the read-out of the language model for the leaf's name in the same prompt: the ceiling",
    "cascade": "the read-out of the language model for the name that the model gives the picture",
    "probe": "ridge on encoder features of training pictures with their hypernyms: leaf concepts seen",
    "probe_held_out": "ridge on encoder features of training pictures of other leaf concepts",
}
"""Every baseline by name. Scores are nats, of the two probes the linear probability minus one half."""


def baselines(
    run: Run, bench: Bench | None = None, readout: Readout | None = None
) -> dict[str, Float[np.ndarray, "rows hypernyms"]]:
    """Read-outs of each baseline (`ABOUT`): rows as in `Scores.read(run).image`, columns as in `.hypernyms`.

    They are read from `baselines.h5`; with a bench they are made and written where they are not there yet, damaged,
    or of other scores; `readout` then is what asks its model, if there is one already.

    Raises:
        FileNotFoundError: they were not made and no bench is given; the command is named.
        DamagedError, MismatchError: the file is damaged or of other scores, and no bench is given.
    """
    path = run.file(FILE)
    if bench is not None and not ranks.by_first(lambda: fits(run)):
        _make(run, bench, readout or readout_of(run, bench))
    _require(run)
    with h5py.File(path) as stored:
        return {name: cast(h5py.Dataset, stored[name])[:] for name in ABOUT}


def fits(run: Run) -> bool:
    """Whether the baselines are there, whole, and beside the scores that the run has now."""
    try:
        _require(run)
    except FileNotFoundError:
        return False
    except (DamagedError, MismatchError) as fault:
        log.warning("%s; it is made again", fault)
        return False
    return True


def _require(run: Run) -> None:
    path, remedy = run.file(FILE), f"`python -m taxogen evaluate --run {run.path}` makes it"
    if not path.is_file():
        raise FileNotFoundError(f"the run {run.path} has no {FILE}; {remedy}")
    made_from = run.require_made_here(path, f"{remedy} again")
    if made_from is not None and made_from["scores"] != records.sha256(run.file("scores.h5")):
        raise MismatchError(f"{path} stands beside other scores than scores.h5 holds now; {remedy} again")


def named_leaves(run: Run) -> list[str]:
    """For each row of the scores, the leaf that the model calls its picture, out of all: what `cascade` rests on.

    Raises:
        FileNotFoundError: there are no baselines; the command that makes them is named.
    """
    baselines(run)
    with h5py.File(run.file(FILE)) as stored:
        return list(cast(h5py.Dataset, stored["named_leaf"]).asstr()[:])


def _make(run: Run, bench: Bench, readout: Readout) -> None:
    scores, table, taxonomy = Scores.read(run), bench.world.table, run.taxonomy
    leaves = np.asarray(scores.image["leaf"], dtype=str)
    place = {leaf: row for row, leaf in enumerate(scores.text["leaf"])}
    named = best_names(readout)
    rows = [bench.picture_index[picture] for picture in scores.image["picture"]]
    pooled = torch.cat([torch.from_numpy(part).mean(1) for part in bench.features.parts()]).numpy()
    known, held_out = probe_scores(pooled, table, rows, taxonomy, run.config.seed)
    readouts = {
        "majority": majority(table, taxonomy, len(leaves)),
        "blind": scores.raw[other_pictures(leaves, run.config.seed)],
        "gold": scores.text_scores[[place[leaf] for leaf in leaves]],
        "cascade": scores.text_scores[[place[leaf] for leaf in named]],
        "probe": known,
        "probe_held_out": held_out,
    }
    makers = {**run.makers(), "scores": records.sha256(run.file("scores.h5"))}
    fill = partial(_fill, readouts=readouts, named=named, scores=scores)
    ranks.by_first(lambda: records.write(run.file(FILE), fill, makers))


def _fill(path, readouts: dict[str, np.ndarray], named: list[str], scores: Scores) -> None:
    with h5py.File(path, "w", track_order=True) as out:
        text = h5py.string_dtype()
        out.create_dataset("hypernyms", data=list(scores.hypernyms), dtype=text)
        out.create_dataset("item_id", data=scores.image["item_id"].tolist(), dtype=text)
        out.create_dataset("named_leaf", data=named, dtype=text)
        for name, about in ABOUT.items():
            out.create_dataset(name, data=readouts[name].astype(np.float32)).attrs["about"] = about


def majority(table: pd.DataFrame, taxonomy: Taxonomy, rows: int) -> Float[np.ndarray, "rows hypernyms"]:
    """Log-odds of each hypernym among training pictures, alike in every row; half a picture added to each side."""
    member = taxonomy.labels(table.loc[table["split"] == "train", "leaf"].tolist())
    yes = np.asarray(member).sum(0) + 0.5
    return np.tile(np.log(yes / (len(member) + 1 - yes)), (rows, 1))


def other_pictures(leaves: np.ndarray, seed: int) -> Int[np.ndarray, " rows"]:
    """For each row one of another leaf concept: the leaves stand in a seeded ring, and each borrows from the next."""
    names = np.unique(leaves)
    ring = names[stream(seed, "blind").permutation(len(names))]
    following = dict(zip(ring, np.roll(ring, -1), strict=True))
    rows_of = {name: np.flatnonzero(leaves == name) for name in names}
    other = np.empty(len(leaves), dtype=np.int64)
    for name, own in rows_of.items():
        other[own] = np.resize(rows_of[following[name]], len(own))
    return other


def probe_scores(
    features: Float[np.ndarray, "pictures width"],
    table: pd.DataFrame,
    rows: list[int],
    taxonomy: Taxonomy,
    seed: int,
) -> tuple[Float[np.ndarray, "rows hypernyms"], Float[np.ndarray, "rows hypernyms"]]:
    """Scores of test rows by linear probes fitted to training pictures: of all leaves, and of other leaves only.

    The second kind comes from five folds over leaf concepts: no probe has seen a picture of the leaf that it scores.
    Penalties follow from leave-one-leaf-out errors on training pictures.
    """
    leaves, train = table["leaf"].to_numpy(str), np.flatnonzero(table["split"] == "train")
    labels = np.asarray(taxonomy.labels(leaves.tolist()), dtype=np.float64)

    def scores(training: np.ndarray, tested: np.ndarray) -> np.ndarray:
        probes = fit_ridge(features[training], labels[training], leaves[training])
        # A fold lacks just the positives it holds: its own base rate would rank them low.
        return probes.scores(features[tested]) - probes.intercept + labels[train].mean(0) - 0.5

    tested = np.asarray(rows)
    held_out = np.empty((len(tested), labels.shape[1]))
    folds = grouped_folds(leaves, labels > 0, min(FOLDS, len(set(leaves))), seed)
    for fold in np.unique(folds):
        in_fold = folds[tested] == fold
        held_out[in_fold] = scores(train[folds[train] != fold], tested[in_fold])
    return scores(train, tested), held_out
