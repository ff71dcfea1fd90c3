"""Directions of a run's layer probes, of pictures and of words, along which it can be steered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import h5py
import numpy as np

from analyses.erasure.steering import DIRECTIONS, Direction
from analyses.frame import registry
from analyses.frame.provenance import Stored
from analyses.inputs.span_states import SpanAtLayer, post
from taxogen.runs.run import Run

FILE = "analyses/layer_probes/directions.h5"
"""Where the directions of a run's layer probes lie in the run."""
Directions = dict[tuple[str, int, str], dict[str, Direction]]
"""(kind, layer, span) → hypernym → direction."""


def check_directions(run: Run, kinds: Sequence[str]) -> None:
    """Nothing, when the run has directions of these kinds.

    Raises:
        KeyError: an unknown kind.
        FileNotFoundError: a probe's direction was asked for, and the run was not probed.
        DamagedError: the file of directions is not as it was written.
        MismatchError: it was made from another projector, world or captures than the run has now.
    """
    if unknown := [kind for kind in kinds if kind not in DIRECTIONS]:
        raise KeyError(f"direction {unknown[0]!r} was asked for; known: {', '.join(DIRECTIONS)}")
    of_probes = [kind for kind in kinds if kind != "mass_mean"]
    if of_probes and not _file(run).is_file():
        raise FileNotFoundError(
            f"{_file(run)} is missing, and directions {of_probes} come from it; `python -m analyses.layer_probes --run "
            f"{run.path}` makes it, or steer with --direction mass_mean alone"
        )
    if of_probes:
        Stored(registry.load("layer_probes"), _file(run), [run]).require()


def read_directions(
    run: Run, step: int, kinds: Sequence[str], places: Sequence[SpanAtLayer], hypernyms: Sequence[str]
) -> Directions:
    """Directions of the run's layer probes at every place; none where only those of mass_mean were asked for.

    They are means over the folds of the probes, so that every leaf has had a part in them.

    Raises:
        KeyError: that step, span or site was not probed, or a hypernym was not.
    """
    of_probes = [kind for kind in kinds if kind != "mass_mean"]
    if not of_probes:
        return {}
    directions: Directions = {}
    with h5py.File(_file(run)) as file:
        targets = [str(name) for name in cast(Sequence, file.attrs["targets"])]
        if unprobed := [name for name in hypernyms if name not in targets]:
            raise KeyError(f"{_file(run)} has no direction of {unprobed[0]!r}; it has {', '.join(targets)}")
        for place in places:
            for kind in of_probes:
                group = f"image/{step}" if kind == "probe" else "text/none"
                name = f"{group}/{place.span}/{post(place.layer)}"
                if name not in file:
                    raise KeyError(
                        f"{_file(run)} has no directions {name}; probe that step, span and site with `python -m "
                        f"analyses.layer_probes --run {run.path} --step {step} --span {place.span}`"
                    )
                values = cast(h5py.Dataset, file[name])[:]
                directions[kind, place.layer, place.span] = dict(zip(targets, values.astype(np.float64)))
    return directions


def _file(run: Run) -> Path:
    return run.path / FILE
