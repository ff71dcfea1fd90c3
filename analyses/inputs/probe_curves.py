"""Curves of a probed run, and their bootstrap draws on disk, from which means over runs take their limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import h5py
import numpy as np

from analyses.frame.tables import NO_STEP
from analyses.inputs.categories import MEAN
from probing.probes.evaluate import Series
from probing.stats import OUT_OF_FOLD, OUT_OF_FOLD_PARTLY

FILE = "draws.h5"
ENCODER_LAYER = -2.0
"""The layer of the image encoder's features: one before the input of the language model, which is −1."""


class Condition(NamedTuple):
    """What was trained and tested where: the table columns that the sites of one curve share."""

    step: int
    span: str
    modality: str
    probe: str


Curves = dict[Condition, tuple[tuple[str, ...], dict[str, Series]]]
"""Condition → its sites in forward order, and the series along them of each subset of targets."""


def error_factor(condition: Condition) -> float:
    """By what the standard error over leaves of a mean curve is multiplied (see `probing.stats.limits`)."""
    return OUT_OF_FOLD_PARTLY if "→" in condition.modality else OUT_OF_FOLD


@dataclass(frozen=True)
class Draws:
    """The curves of means over all targets of a run, each with its bootstrap draws.

    Attributes:
        leaves: the leaf concepts that were drawn.
        curves: condition → its sites in forward order, and the series along them; without controls of its own.
    """

    leaves: tuple[str, ...]
    curves: Mapping[Condition, tuple[tuple[str, ...], Series]]


def write_draws(path: Path, leaves: Sequence[str], curves: Curves, run: str) -> None:
    """Writes modality/step/span/probe → AUROC and selectivity at each site, and how far each draw is from them.

    Deviations are float16, exact to a two-thousandth of themselves: a curve of 32 sites in 1,000 draws takes .12 MB.
    """
    with h5py.File(path, "w") as file:
        file.attrs.update(
            run=run, what="AUROC, and AUROC above control, of means over targets; draws less value"
        )
        file["leaves"] = list(leaves)
        for condition, (sites, series) in curves.items():
            if MEAN not in series:
                continue
            one = series[MEAN]
            values = np.stack([one.auroc, one.selectivity])
            draws = np.stack([one.auroc_draws, one.selectivity_draws])
            group = file.create_group(_place(condition))
            group.attrs["sites"] = list(sites)
            group["value"] = values
            deviation = (draws - values[:, None]).astype(np.float16)
            group.create_dataset("deviation", data=deviation, compression="gzip", shuffle=True)


def read_draws(path: Path) -> Draws:
    """The draws that `write_draws` wrote."""
    curves = {}
    with h5py.File(path) as file:
        for name, group in _groups(file):
            value, deviation = np.asarray(group["value"]), np.asarray(group["deviation"], dtype=np.float64)
            auroc, selectivity = value[:, None] + deviation
            series = Series(value[0], auroc, value[1], selectivity, np.empty((0, value.shape[1])))
            curves[_condition(name)] = tuple(np.asarray(group.attrs["sites"]).tolist()), series
        leaves = np.asarray(cast(h5py.Dataset, file["leaves"]).asstr()[:])
        return Draws(tuple(leaves.tolist()), curves)


def _groups(file: h5py.File) -> list[tuple[str, h5py.Group]]:
    """Every curve of a file: its place and its group."""
    groups: list[tuple[str, h5py.Group]] = []

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Group) and "value" in item:
            groups.append((name, item))

    file.visititems(add)
    return groups


def _place(condition: Condition) -> str:
    step = "none" if condition.step == NO_STEP else condition.step
    return f"{condition.modality}/{step}/{condition.span}/{condition.probe}"


def _condition(place: str) -> Condition:
    modality, step, span, probe = place.split("/")
    return Condition(NO_STEP if step == "none" else int(step), span, modality, probe)
