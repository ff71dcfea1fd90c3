"""Realised coherence: how alike the pictures are that a run's names put under each hypernym, and what they show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from probing.categories.cohesion import bootstrap_cohesion
from probing.categories.leaf_sums import leaf_sums, mean_products
from probing.stats import nan_mean
from probing.store import records
from taxogen.models.features import FeatureRows
from taxogen.runs.prepare import World
from taxogen.runs.run import Run
from taxogen.world.taxonomy import Taxonomy

FILE = "coherence.json"
DIGITS = 6  # the last bits of cosines depend on the number of threads


def record(run: Run, world: World, features: FeatureRows) -> None:
    """Writes the realised coherence of a closed run, unless it is written.

    Args:
        run: closed.
        world: that of the run.
        features: of the pictures of its table, as the projector sees them.
    """
    if run.file(FILE).is_file():
        return
    data = run.config.data
    content = {
        "shuffle": data.shuffle,
        "dose": data.coherence if data.shuffle == "graded" else None,
        "left_out": list(world.left_out),
        **realised(world.taxonomy, world.leaf_map, features, world.table["leaf"].tolist()),
    }
    records.write_json(run.file(FILE), content, {"world": run.world["digest"]})


def read(run: Run) -> dict[str, Any]:
    """The realised coherence of a run, as it was recorded.

    Raises:
        FileNotFoundError: an older version prepared the run; the command that records it is named.
        DamagedError: the file is not as it was written.
    """
    path = run.file(FILE)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; `python -m taxogen prepare --run {run.path}` makes it")
    records.made_from(path)
    return json.loads(path.read_text(encoding="utf-8"))


def realised(
    taxonomy: Taxonomy, leaf_map: Mapping[str, str], features: FeatureRows, leaves: Sequence[str]
) -> dict[str, Any]:
    """The coherence of a world in which names were exchanged; `leaves` are the names of the pictures.

    Entries:
        inside: the share of leaves that keep a hypernym under their new name.
        coherence, n: the mean over hypernyms of within − between, and the number of leaves; chance is 0.
        hypernyms: a row each. `within` and `between` are mean cosines of the pictures of two leaves, both called by
            names of the hypernym, or one by a name that shares none with it (rule `centred` of
            `analyses.visual_coherence`, less the mean leaf). `true` is the share of its leaves that show it, `shown`
            the hypernym that most of them show (ties: the smaller), and `purity` their share.

    Cosines are None where there is no such pair, or where the features have no direction.
    """
    shown_under = {name: leaf for leaf, name in leaf_map.items()}
    names = [leaf for leaf in taxonomy.leaves if leaf in shown_under]
    called = taxonomy.labels(names)
    shown = taxonomy.labels([shown_under[name] for name in names])
    within, between = _cosines(called, features, leaves)
    shares = (called.T.astype(float) @ shown) / called.sum(axis=0)[:, None]
    rows = []
    for place, hypernym in enumerate(taxonomy.hypernyms):
        most = min(range(len(shares)), key=lambda at: (-shares[place, at], shown[:, at].sum(), at))
        rows.append(
            {"hypernym": hypernym, "leaves": int(called[:, place].sum())}
            | {"within": _rounded(within[place]), "between": _rounded(between[place])}
            | {"true": _rounded(shares[place, place])}
            | {"shown": taxonomy.hypernyms[most], "purity": _rounded(shares[place, most])}
        )
    return {
        "inside": _rounded((called & shown).any(axis=1).mean()),
        "coherence": _rounded(nan_mean(within - between)),
        "n": len(names),
        "hypernyms": rows,
    }


def _cosines(
    called: Bool[np.ndarray, "leaves hypernyms"], features: FeatureRows, leaves: Sequence[str]
) -> tuple[Float[np.ndarray, " hypernyms"], Float[np.ndarray, " hypernyms"]]:
    """Mean cosines within and between; NaN where they are not defined."""
    try:
        sums = [leaf_sums(_flat(features), np.array(leaves))]
        sums.append(leaf_sums(_flat(features), np.array(leaves), sums[0].centre, unit=True))
    except ValueError:  # a picture like the mean leaf: nothing but the coherence hangs on it
        undefined = np.full(called.shape[1], np.nan)
        return undefined, undefined
    each_once = np.ones((1, len(called)))
    within, between = bootstrap_cohesion(mean_products(sums[1])[None], called, each_once)
    return within[0, 0], between[0, 0]


def _flat(features: FeatureRows):
    """The features of each picture as one row, some pictures at a time."""
    return (part.reshape(len(part), -1) for part in features.parts())


def _rounded(value: Any) -> float | None:
    return round(float(value), DIGITS) if np.isfinite(value) else None
