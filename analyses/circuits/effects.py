"""Effects on every leaf, for pooling: contributions of heads and MLPs, and losses by routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analyses.circuits.halves import MODALITIES, TASK
from analyses.circuits.routes import Route
from analyses.circuits.search import Arrays
from analyses.inputs.effects import Effects, leaf_units
from probing.patching.circuits import HeadOrMLP
from taxogen.world.taxonomy import Taxonomy


def circuits_effects(
    searches: Mapping[tuple[str, int], Arrays],
    paths: Mapping[tuple[str, int], Arrays],
    names: Sequence[str],
    routes: Sequence[Route],
    taxonomy: Taxonomy,
) -> Effects:
    """The contribution of each head and MLP and the loss by each route, in nats, on the leaves of both halves.

    Args:
        searches: (modality, half) → `contributions` [names, leaves] and `leaves`.
        paths: likewise `losses` [routes, leaves].
        names: of heads and MLPs.
        routes: of paths.
        taxonomy: of the leaves.
    """
    cells: list[dict[str, str]] = []
    values: list[np.ndarray] = []
    leaves: list[str] = []
    for modality in MODALITIES:
        labels = {"target": TASK, "state": "clean", "modality": modality}
        for of, name in ((searches, "contributions"), (paths, "losses")):
            halves = [of[modality, half] for half in (0, 1)]
            own = np.concatenate([one["leaves"] for one in halves]).astype(str)
            values.append(np.concatenate([one[name] for one in halves], axis=1)[:, np.argsort(own)])
            leaves = leaves or sorted(own.tolist())
            assert leaves == sorted(own.tolist())
        cells += [{**labels, "measure": "contribution", "site": name, "head": _head(name)} for name in names]
        cells += [
            {**labels, "measure": "loss", "site": "all", "span": route.path}
            | {"sender": route.of, "receiver": route.to}
            for route in routes
        ]
    return Effects(pd.DataFrame(cells).fillna(""), leaf_units(leaves, taxonomy), np.concatenate(values))


def _head(name: str) -> str:
    part = HeadOrMLP.parse(name)
    return "MLP" if part.head is None else str(part.head)
